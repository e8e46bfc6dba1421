"""The grain and the strength of speckle are those of the training scans."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from tiny import tiny_config

from dnnlib.pictures import encode_png
from stylegan_oct.data.archive import ArchiveWriter
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.networks.synthesis import SPECKLE_LEVELS
from stylegan_oct.training.speckle import Speckle, measure_speckle
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
    grain = measure_speckle(scans(tmp_path / "a.zip", down, across)).grain
    assert grain.shape == (1, 1, 3, 3) and float(grain.square().sum()) == pytest.approx(1)
    found = grain[0, 0] / grain[0, 0, 1, 1]
    assert float(found[0, 1]) == pytest.approx(down, abs=0.06) and float(found[1, 0]) == pytest.approx(across, abs=0.06)
    assert torch.equal(found, found.flip(0)) and torch.equal(found, found.flip(1))


def test_the_strength_is_that_of_the_noise_at_each_brightness(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with ArchiveWriter(tmp_path / "a.zip", resolution=64, channels=1, classes=("A",), source="scans") as writer:
        for _ in range(8):
            noise = correlate1d(rng.normal(size=(64, 64)), np.array([0.2, 1, 0.2]) / 1.08**0.5, axis=1, mode="wrap")
            rows = np.repeat([40.0, 200.0], 32)[:, None] + np.linspace(-8, 8, 64)[None]  # two layers, edges, a slope
            rows[:, 10] += 50                                                            # the shadow of a vessel
            picture = rows + np.repeat([4.0, 12.0], 32)[:, None] * noise
            writer.add_image("train", encode_png(picture.clip(0, 255).astype(np.uint8)), 0, {})
    strength = measure_speckle(ArchiveDataset(tmp_path / "a.zip")).strength * 127.5
    levels = torch.linspace(0, 255, len(strength))
    dark, bright = (int((levels - grey).abs().argmin()) for grey in (40, 200))
    assert float(strength[dark]) == pytest.approx(4, rel=0.15)
    assert float(strength[bright]) == pytest.approx(12, rel=0.15)
    # Brightnesses that no scan has take over that of the nearest.
    assert strength[0] == strength[dark - 1] and strength[-1] == strength[bright + 1]


def test_pictures_of_one_grey_have_no_speckle(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "a.zip", resolution=64, channels=1, classes=("A",), source="scans") as writer:
        writer.add_image("train", encode_png(np.full((64, 64), 7, np.uint8)), 0, {})
    speckle = measure_speckle(ArchiveDataset(tmp_path / "a.zip"))
    assert float(speckle.grain[0, 0, 1, 1]) == 1 and float(speckle.grain.abs().sum()) == 1
    assert not speckle.strength.any()


def test_pictures_of_a_few_pixels_can_be_measured(tmp_path: Path) -> None:
    picture = np.eye(8, dtype=np.uint8)[..., None].repeat(3, axis=2) * 200
    with ArchiveWriter(tmp_path / "a.zip", resolution=8, channels=3, classes=(), source="scans") as writer:
        writer.add_image("train", encode_png(picture), None, {})
    speckle = measure_speckle(ArchiveDataset(tmp_path / "a.zip"))
    assert bool(speckle.grain.isfinite().all()) and bool(speckle.strength.isfinite().all())


def test_both_generators_take_it_over_and_no_optimiser_moves_it(tmp_path: Path) -> None:
    scans(tmp_path / "a.zip", 0.2, 0.2)
    state = create_state(tiny_config(tmp_path / "a.zip", G__speckle=True), torch.device("cpu"), "scans")
    speckle = Speckle(torch.arange(9.0).reshape(1, 1, 3, 3), torch.linspace(0, 1, SPECKLE_LEVELS))
    state.set_speckle(speckle)
    for network in (state.G, state.G_ema):
        layer = network.synthesis.b64.speckle
        assert torch.equal(layer.grain, speckle.grain) and torch.equal(layer.strength, speckle.strength)
        assert not any("speckle" in name for name, _ in network.named_parameters())
