"""The generator that comes with the project."""

import json

import torch
from PIL import Image

import stylegan_oct
from stylegan_oct.classes import CLASSES
from stylegan_oct.model import DEMO, GENERATOR_FILE


def test_it_is_small_and_draws_every_class_without_being_asked_for() -> None:
    assert (DEMO / GENERATOR_FILE).stat().st_size <= 12e6
    G = stylegan_oct.load_generator()
    assert G.info.classes == CLASSES and G.info.resolution == 64 and G.info.data_source == "phantom"
    z = G.z(range(4))
    images = torch.stack([G(z, name) for name in CLASSES])  # [class, seed, 1, 64, 64]
    assert images.isfinite().all() and images.abs().max() < 3
    assert (images.std(dim=0) > 0).any() and (images.std(dim=1) > 0).any()  # classes and seeds make a difference


def test_in_bfloat16_it_draws_nearly_the_same() -> None:
    exact, half = (stylegan_oct.load_generator(precision=precision) for precision in ("fp32", "bf16"))
    z = exact.z(range(4))
    images, drawn = exact(z, "DME"), half(z, "DME")
    assert not torch.equal(drawn, images) and (drawn - images).square().mean().sqrt() < 0.02


def test_its_log_configuration_and_grid_lie_beside_it_and_name_no_place_of_a_computer() -> None:
    wanted = {"README.md", "config.json", "log.txt", "stats.jsonl", "samples.png"}
    assert wanted <= {path.name for path in DEMO.iterdir()}
    assert json.loads((DEMO / "config.json").read_text())["data"]["path"].startswith("data/")
    for name in ("config.json", "log.txt", "README.md"):
        assert "/home" not in (DEMO / name).read_text() and str(DEMO.parents[1]) not in (DEMO / name).read_text()
    with Image.open(DEMO / "samples.png") as image:
        assert image.text["synthetic"] == "true"
