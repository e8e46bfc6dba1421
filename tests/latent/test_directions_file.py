"""The file of directions: what comes back, and what is refused."""

import dataclasses
from pathlib import Path

import pytest
import torch
from generator_file import write_generator
from safetensors import safe_open
from safetensors.torch import save_file

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.latent.directions.file import (
    Direction,
    Readout,
    load_directions,
    pick,
    save_directions,
)
from stylegan_oct.model import OctGenerator

STEP = torch.arange(8.0)


@pytest.fixture(scope="module")
def G(tmp_path_factory: pytest.TempPathFactory) -> OctGenerator:
    return write_generator(tmp_path_factory.mktemp("G"))


def make(name: str = "pca1", readout: Readout | None = None) -> Direction:
    return Direction(name=name, kind="pca" if readout is None else "regression", class_name="DRUSEN", layers=(1, 2),
                     unit="one standard deviation of w along it", step=STEP, readout=readout, orthogonal_to=("class",))


def test_directions_come_back_in_their_order_with_everything(tmp_path: Path, G: OctGenerator) -> None:
    named = make("mean_thickness_um@1-2", Readout(weight=torch.ones(8), constant=250.0))
    save_directions(tmp_path / "d.safetensors", [named, make()], checkpoint_sha256=G.info.sha256)
    first, second = load_directions(tmp_path / "d.safetensors", G)
    assert torch.equal(first.step, STEP) and first.readout is not None and second.readout is None
    assert first.amount == 28.0 and second.amount == 0.0 and first.target == "mean_thickness_um"
    for loaded, saved in ((first, named), (second, make())):
        for field in dataclasses.fields(Direction):
            if field.name not in ("step", "readout"):
                assert getattr(loaded, field.name) == getattr(saved, field.name)


def test_the_file_is_safetensors_with_the_checkpoint_in_its_header(tmp_path: Path, G: OctGenerator) -> None:
    save_directions(tmp_path / "d.safetensors", [make()], checkpoint_sha256=G.info.sha256)
    with safe_open(tmp_path / "d.safetensors", "pt") as file:
        assert file.metadata()["checkpoint_sha256"] == G.info.sha256
        assert list(file.keys()) == ["pca1/step"]


def test_a_move_changes_its_layers_alone_and_each_sample_by_its_own_step(G: OctGenerator) -> None:
    ws = torch.randn(2, G.network.num_ws, 8)
    moved = make().move(ws, torch.tensor([0.5, -1.0]))
    difference = moved - ws
    assert (difference[:, [0, 3, 4, 5]] == 0).all()
    torch.testing.assert_close(difference[:, 1:3], torch.tensor([0.5, -1.0])[:, None, None] * STEP.expand(2, 2, 8))


def test_another_generator_another_kind_of_file_and_an_unknown_name_are_refused_in_a_line(
        tmp_path: Path, G: OctGenerator) -> None:
    save_directions(tmp_path / "d.safetensors", [make()], checkpoint_sha256=G.info.sha256)
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="another generator .*find directions anew"):
        load_directions(tmp_path / "d.safetensors", write_generator(tmp_path / "other", seed=1))
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    for name in ("x", "broken", "missing"):
        with pytest.raises(DataError, match="holds no directions"):
            load_directions(tmp_path / f"{name}.safetensors", G)
    with pytest.raises(ConfigError, match=r"no direction 'pca' *\..*pca1"):
        pick([make()], "pca")
