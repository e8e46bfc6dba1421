"""The grain of speckle is that of the training scans."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from tiny import tiny_config

from dnnlib.errors import ConfigError
from dnnlib.pictures import encode_png
from stylegan_oct.data.archive import ArchiveWriter
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.model import load_generator
from stylegan_oct.training.speckle import calibrate_speckle, measure_grain
from stylegan_oct.training.state import create_state


def scans(path: Path, down: float, across: float, *, structure: bool = True, count: int = 8) -> ArchiveDataset:
    """Write noise filtered by (a, 1, a) in both directions, with a bright band that is no noise."""
    rng = np.random.default_rng(0)
    with ArchiveWriter(path, resolution=64, channels=1, classes=("A",), source="scans") as writer:
        for _ in range(count):
            noise = rng.normal(size=(64, 64))
            for axis, tap in ((0, down), (1, across)):
                noise = correlate1d(noise, [tap, 1.0, tap], axis=axis, mode="wrap")
            picture = 90 + 12 * noise + np.linspace(0, 40, 64)[None]
            if structure:
                picture[28:36] = 240
                picture[:, :6] = 0
            writer.add_image("train", encode_png(picture.clip(0, 255).astype(np.uint8)), 0, {})
    return ArchiveDataset(path)


@pytest.mark.parametrize(("down", "across"), [(0.0, 0.0), (0.25, 0.0), (0.05, 0.3), (0.3, 0.3)])
def test_the_taps_are_those_of_the_noise(tmp_path: Path, down: float, across: float) -> None:
    grain = measure_grain(scans(tmp_path / "a.zip", down, across))
    assert grain.shape == (1, 1, 3, 3) and float(grain.square().sum()) == pytest.approx(1)
    found = grain[0, 0] / grain[0, 0, 1, 1]
    assert float(found[0, 1]) == pytest.approx(down, abs=0.06) and float(found[1, 0]) == pytest.approx(across, abs=0.06)
    assert torch.equal(found, found.flip(0)) and torch.equal(found, found.flip(1))


def test_pictures_of_one_grey_give_white_noise(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "a.zip", resolution=64, channels=1, classes=("A",), source="scans") as writer:
        writer.add_image("train", encode_png(np.full((64, 64), 7, np.uint8)), 0, {})
    grain = measure_grain(ArchiveDataset(tmp_path / "a.zip"))
    assert float(grain[0, 0, 1, 1]) == 1 and float(grain.abs().sum()) == 1


def test_both_generators_take_it_over_and_no_optimiser_moves_it(tmp_path: Path) -> None:
    scans(tmp_path / "a.zip", 0.2, 0.2)
    state = create_state(tiny_config(tmp_path / "a.zip", G__speckle=True), torch.device("cpu"), "scans")
    grain = torch.arange(9.0).reshape(1, 1, 3, 3)
    state.set_grain(grain)
    for network in (state.G, state.G_ema):
        assert torch.equal(network.synthesis.b64.speckle.grain, grain)
    assert not any("grain" in name for name, _ in state.G.named_parameters())


def test_the_strength_of_the_speckle_is_brought_to_that_of_the_scans(tmp_path: Path) -> None:
    dataset = scans(tmp_path / "a.zip", 0.2, 0.2)
    state = create_state(tiny_config(tmp_path / "a.zip", G__speckle=True), torch.device("cpu"), "scans")
    state.set_grain(measure_grain(dataset))
    with torch.no_grad():
        for name, parameter in state.G_ema.named_parameters():
            if "torgb.weight" in name:
                parameter.mul_(0.02)  # pictures that are nearly flat but for the speckle
    G = load_generator(state.save(tmp_path / "checkpoints", {}))
    first = calibrate_speckle(G, dataset)
    assert first > 1.05
    assert calibrate_speckle(G, dataset) == pytest.approx(1, abs=0.02)


def test_what_has_no_speckle_is_not_calibrated(tmp_path: Path) -> None:
    dataset = scans(tmp_path / "a.zip", 0.2, 0.2)
    state = create_state(tiny_config(tmp_path / "a.zip"), torch.device("cpu"), "scans")
    with pytest.raises(ConfigError, match="no speckle layer"):
        calibrate_speckle(load_generator(state.save(tmp_path / "checkpoints", {})), dataset)
