"""The generators that come with the project."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stylegan_oct
from dnnlib.errors import CheckpointError
from stylegan_oct.classes import CLASSES
from stylegan_oct.features.oct import OctDetector
from stylegan_oct.latent.directions.file import file_beside, load_directions
from stylegan_oct.latent.directions.search import choose_direction
from stylegan_oct.latent.directions.traverse import rows_of_seeds, traverse
from stylegan_oct.model import BESIDE, GENERATOR_FILE, INCLUDED, find_generator, weights_beside

NAMES = sorted(path.parent.name for path in INCLUDED.glob(f"*/{GENERATOR_FILE}"))
MOST = {"demo64": 6e6, "demo256": 13e6}  # bytes of a folder


def test_both_sizes_are_there() -> None:
    assert set(NAMES) == MOST.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_enough_to_draw_every_class(name: str) -> None:
    G = stylegan_oct.load_generator(name)
    assert G.info.classes == CLASSES and name.endswith(str(G.info.resolution)) and G.info.data_source == "phantom"
    z = G.z(range(2))
    images = torch.stack([G(z, label) for label in CLASSES])  # [class, seed, 1, R, R]
    assert images.isfinite().all() and images.abs().max() < 3
    assert (images.std(dim=0) > 0).any() and (images.std(dim=1) > 0).any()  # classes and seeds make a difference


def test_without_a_name_one_of_them_draws() -> None:
    assert stylegan_oct.load_generator().info.path.parent.name in NAMES


def test_what_is_on_the_disk_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_generator(Path("demo64")) == INCLUDED / "demo64" / GENERATOR_FILE
    (tmp_path / "demo64").mkdir()
    with pytest.raises(CheckpointError, match="no generator in demo64.*demo256, demo64"):
        find_generator(Path("demo64"))
    for wrong in ("demo65", "../demo64", "x/demo64", str(tmp_path / "none")):
        with pytest.raises(CheckpointError, match="no generator in"):
            find_generator(Path(wrong))


def test_in_bfloat16_it_draws_nearly_the_same() -> None:
    exact, half = (stylegan_oct.load_generator("demo64", precision=precision) for precision in ("fp32", "bf16"))
    z = exact.z(range(4))
    images, drawn = exact(z, "DME"), half(z, "DME")
    assert not torch.equal(drawn, images) and (drawn - images).square().mean().sqrt() < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_what_belongs_to_it_lies_beside_it_and_names_no_place_of_a_computer(name: str) -> None:
    folder = INCLUDED / name
    wanted = {"README.md", "config.json", "log.txt", "stats.jsonl", "samples.png", "report.json", *BESIDE.values()}
    assert wanted <= {path.name for path in folder.iterdir()}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST[name]
    assert json.loads((folder / "config.json").read_text())["data"]["path"].startswith("data/")
    for file in ("config.json", "log.txt", "README.md", "report.json"):
        text = (folder / file).read_text()
        assert "/home" not in text and str(INCLUDED.parents[1]) not in text
    with Image.open(folder / "samples.png") as image:
        assert image.text["synthetic"] == "true"


@pytest.mark.parametrize("name", NAMES)
def test_its_judge_is_the_one_beside_it(name: str) -> None:
    info = stylegan_oct.load_generator(name).info
    file = weights_beside(info, "oct")
    assert file is not None and OctDetector.load(file).classes == CLASSES
    assert weights_beside(info, "lite0") is None


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("name", NAMES)
def test_its_directions_lie_beside_it_and_say_what_they_do(name: str, label: str) -> None:
    G = stylegan_oct.load_generator(name)
    file = file_beside(G, label)
    found = load_directions(file, G)
    told = json.loads(file.with_suffix(".json").read_text())
    assert told["checkpoint_sha256"] == G.info.sha256 and told["class"] == label
    measured = {one["name"]: one for one in told["directions"]}    # none where the effects were left for later
    assert list(measured) == [one.name for one in found][:len(measured)] and len(measured) in (0, len(found))
    assert {one.kind for one in found} == {"pca", "sefa", "boundary", "regression"}
    assert all(one.class_name == label and one.step.isfinite().all() for one in found)
    if measured:
        change = measured["mean_thickness_um"]["changes"]["mean_thickness_um"]
        assert change["per_step"] > change["half_width"] > 0 and measured["mean_thickness_um"]["r_predicted"] > 0.5


@pytest.mark.parametrize("name", NAMES)
def test_thickness_moves_along_its_direction_without_a_search(name: str) -> None:
    G = stylegan_oct.load_generator(name)
    direction = choose_direction(G, None, "mean_thickness_um", class_name="NORMAL")
    moved = traverse(G, direction, rows_of_seeds(G, range(4), "NORMAL"), np.array([-1.5, 0.0, 1.5]), batch=4)
    thickness = moved.values["mean_thickness_um"].mean(axis=0)
    assert thickness[0] < thickness[1] < thickness[2]
    assert thickness[2] - thickness[0] == pytest.approx(3 * direction.amount, rel=0.6)
