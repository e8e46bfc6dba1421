"""The grain and the strength of speckle are those of the training scans."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from tiny import tiny_config

from dnnlib.pictures import encode_png
from stylegan_oct.data.archive import ArchiveWriter
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.networks.synthesis import CAMERAS, SPECKLE_LEVELS, SpeckleLayer
from stylegan_oct.training.speckle import Speckle, measure_speckle
from stylegan_oct.training.state import create_state
from torch_utils.images import to_uint8


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


def drawn_scans(path: Path, layer: SpeckleLayer, cameras: list[int]) -> ArchiveDataset:
    """Write scans drawn by a speckle layer: two layers of grey 40 and 200, edges, a slope, the shadow of a vessel."""
    grey = torch.tensor([40.0, 200.0]).repeat_interleave(32)[:, None] + torch.linspace(-6, 6, 64)
    grey[:, 10] += 50
    speckle = torch.tensor([[camera, 5 * number, 7 * number] for number, camera in enumerate(cameras)])
    drawn = layer(grey.expand(len(cameras), 1, 64, 64) / 127.5 - 1, noise_mode="const", speckle=speckle)
    with ArchiveWriter(path, resolution=64, channels=1, classes=("A",), source="scans") as writer:
        for picture in to_uint8(drawn)[:, 0].numpy():
            writer.add_image("train", encode_png(picture), 0, {})
    return ArchiveDataset(path)


DARK, BRIGHT = (round(grey / 255 * (SPECKLE_LEVELS - 1)) for grey in (40, 200))


def speckled() -> SpeckleLayer:
    torch.manual_seed(0)
    layer = SpeckleLayer(64)
    layer.camera_grain[:, 0, 1] = torch.tensor([0.2, 1, 0.2]) / 1.08**0.5
    layer.camera_strength.copy_(torch.linspace(0.01, 0.06, SPECKLE_LEVELS))
    return layer


def test_the_strength_is_that_of_the_noise_at_each_grey(tmp_path: Path) -> None:
    layer = speckled()
    found = measure_speckle(drawn_scans(tmp_path / "a.zip", layer, list(range(8)))).strength
    for level in (DARK, BRIGHT):
        assert float(found[level]) == pytest.approx(float(layer.camera_strength[0, level]), rel=0.2)
    # Greys that no scan has take over that of the nearest.
    assert found[0] == found[1] and found[-1] == found[-2]


def test_each_scan_is_a_camera_and_few_scans_serve_several_times(tmp_path: Path) -> None:
    layer = speckled()
    layer.camera_strength[1] *= 2
    layer.camera_grain[1] = torch.zeros(3, 3)
    layer.camera_grain[1, 0, 1, 1] = 1
    found = measure_speckle(drawn_scans(tmp_path / "a.zip", layer, [0, 1]))
    weak, strong = found.camera_strength[:CAMERAS // 2], found.camera_strength[CAMERAS // 2:]
    assert torch.equal(weak, weak[:1].expand_as(weak)) and torch.equal(strong, strong[:1].expand_as(strong))
    assert strong[0, BRIGHT] / weak[0, BRIGHT] == pytest.approx(2, rel=0.2)
    assert strong[0, 8] / weak[0, 8] == pytest.approx(2, rel=0.2), "no scan has this grey: as strong as its tissue"
    assert found.camera_grain[0, 0, 1, 2] > 0.1 > found.camera_grain[-1, 0, 1, 2].abs()


def test_pictures_of_one_grey_have_no_speckle(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "a.zip", resolution=64, channels=1, classes=("A",), source="scans") as writer:
        writer.add_image("train", encode_png(np.full((64, 64), 7, np.uint8)), 0, {})
    speckle = measure_speckle(ArchiveDataset(tmp_path / "a.zip"))
    assert float(speckle.grain[0, 0, 1, 1]) == 1 and float(speckle.grain.abs().sum()) == 1
    assert not speckle.strength.any() and not speckle.camera_strength.any()


def test_pictures_of_a_few_pixels_can_be_measured(tmp_path: Path) -> None:
    picture = np.eye(8, dtype=np.uint8)[..., None].repeat(3, axis=2) * 200
    with ArchiveWriter(tmp_path / "a.zip", resolution=8, channels=3, classes=(), source="scans") as writer:
        writer.add_image("train", encode_png(picture), None, {})
    speckle = measure_speckle(ArchiveDataset(tmp_path / "a.zip"))
    assert all(bool(getattr(speckle, field.name).isfinite().all()) for field in dataclasses.fields(speckle))


def test_both_generators_take_it_over_and_no_optimiser_moves_it(tmp_path: Path) -> None:
    scans(tmp_path / "a.zip", 0.2, 0.2)
    state = create_state(tiny_config(tmp_path / "a.zip", G__speckle=True), torch.device("cpu"), "scans")
    speckle = Speckle(torch.rand(1, 1, 3, 3), torch.rand(SPECKLE_LEVELS), torch.rand(CAMERAS, 1, 3, 3),
                      torch.rand(CAMERAS, SPECKLE_LEVELS))
    state.set_speckle(speckle)
    for network in (state.G, state.G_ema):
        layer = network.synthesis.b64.speckle
        assert all(torch.equal(getattr(layer, field.name), getattr(speckle, field.name))
                   for field in dataclasses.fields(speckle))
        assert not any("speckle" in name for name, _ in network.named_parameters())
