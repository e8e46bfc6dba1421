"""A command's --batch reaches all that draws in it, and pictures that lie in a library are not drawn again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from generator_file import write_generator
from torch import Tensor

from stylegan_oct.features.detector import load_detector
from stylegan_oct.latent.library import Library, write_library
from stylegan_oct.latent.projection import encoder as encoders
from stylegan_oct.latent.projection.starts import LibraryStarts
from stylegan_oct.model import OctGenerator
from stylegan_oct.networks.synthesis import SynthesisNetwork
from tools.__main__ import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generator")
    G = write_generator(path)
    write_library(path / "library.zip", G, count=64)
    return path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many pictures each call of a synthesis network drew."""
    sizes: list[int] = []
    forward = SynthesisNetwork.forward

    def counted(self: SynthesisNetwork, ws: Tensor, **options: object) -> Tensor:
        sizes.append(len(ws))
        return forward(self, ws, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(SynthesisNetwork, "forward", counted)
    yield sizes


@pytest.mark.parametrize("args", [
    ["generate", "--seeds", "0-9"], ["library", "--count", "10"], ["walk", "--frames", "5", "--format", "png"],
    ["biomarkers", "--seeds", "0-4"],
    ["traverse", "--class", "CNV", "--seeds", "0-4", "--columns", "3", "--video", "gif", "--seconds", "0.2"],
    ["export", "--per-class", "7", "--oracle", "none", "--allow-unreviewed"],
    ["train-encoder", "--steps", "1"],
    ["project", "--library", "{folder}/library.zip", "--compare", "4", "--steps", "2"],
    ["evaluate", "--data", "{folder}/tiny.zip", "--count", "8", "--only", "fidelity", "--detector", "lite0"]])
def test_a_batch_that_is_asked_for_is_never_passed(args: list[str], folder: Path, drawn: list[int],
                                                   tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / {"library": "library.zip", "train-encoder": "encoder.safetensors"}.get(args[0], "out")
    result = CliRunner().invoke(main, [*(arg.format(folder=folder) for arg in args), "--batch", "3", "-c",
                                       str(folder / "G_ema.safetensors"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert 1 < max(drawn) <= 3


def test_projections_start_from_pictures_that_are_read(folder: Path, drawn: list[int]) -> None:
    starts = LibraryStarts(Library(folder / "library.zip"))
    near = starts.shortlist(starts.pixels([4]), int(starts.labels[4]))
    assert near[0, 0] == 4 and not drawn
    assert torch.equal(starts.pixels(near[0].tolist())[:1], starts.pixels([4]))


def test_a_generator_says_what_a_picture_takes(folder: Path) -> None:
    from stylegan_oct.model import load_generator

    G: OctGenerator = load_generator(folder / "G_ema.safetensors")
    assert 0 < G.layers.widest <= G.layers.total < 10**6


@pytest.mark.parametrize("resolution", [32, 128])
def test_an_encoder_looks_at_pictures_of_any_size(resolution: int, tmp_path: Path) -> None:
    G, detector = write_generator(tmp_path, resolution=resolution), load_detector("lite0")
    encoder, distances = encoders.train_encoder(G, detector, steps=1, batch=1)
    assert len(distances) == 1
    encoders.save_encoder(tmp_path / "encoder.safetensors", encoder, G)
    again = encoders.load_encoder(tmp_path / "encoder.safetensors", G, detector)
    pixels, labels = torch.zeros(2, 1, resolution, resolution, dtype=torch.uint8), torch.tensor([0, 1])
    torch.testing.assert_close(again(pixels, labels), encoder(pixels, labels))


def test_a_step_of_the_encoder_is_the_same_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    G, detector = write_generator(tmp_path), load_detector("lite0")
    found = []
    for pieces in (4, 1):
        monkeypatch.setattr(encoders, "at_once", lambda *_, pieces=pieces: pieces)
        found.append(encoders.train_encoder(G, detector, steps=2, batch=4)[1])
    assert found[0] == pytest.approx(found[1], rel=1e-3)
