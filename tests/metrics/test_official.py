import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from generator_file import write_generator
from torch import Tensor, nn

from dnnlib.errors import CheckpointError, ConfigError
from stylegan_oct.features.inception import Inception, InceptionDetector
from stylegan_oct.metrics.distances import official
from stylegan_oct.metrics.distances.official import (
    OfficialInception,
    OfficialVgg16,
    measure_official,
    resize_as_tensorflow,
)
from stylegan_oct.metrics.observers.pictures import ArchivePictures
from stylegan_oct.model import OctGenerator


class StandIn(nn.Module):
    """Has the interface of the published VGG16 program."""

    def forward(self, x: Tensor, resize_images: bool = True, return_features: bool = False,
                return_lpips: bool = False) -> Tensor:
        x = x.float() / 255
        if return_lpips:
            assert not resize_images
            return x.flatten(1)
        assert return_features
        return torch.nn.functional.adaptive_avg_pool2d(x, 8).flatten(1).repeat(1, 22)[:, :4096]


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "vgg16.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(StandIn()).save(str(file))
    return file


@pytest.fixture
def G(tmp_path: Path) -> OctGenerator:
    return write_generator(tmp_path)


@pytest.fixture
def real(G: OctGenerator, tmp_path: Path) -> ArchivePictures:
    return ArchivePictures(tmp_path / "tiny.zip", ["train"])


def test_missing_weights_are_named_in_one_line_and_nothing_is_drawn(
        G: OctGenerator, real: ArchivePictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STYLEGAN_OCT_WEIGHTS", raising=False)
    values = measure_official(G, real, cache=tmp_path / "seen")
    assert [value.metric for value in values] == ["fid50k_full", "kid50k_full", "pr50k3_full_precision",
                                                  "pr50k3_full_recall", "ppl2_wend"]
    for value in values:
        file = "pt_inception-2015-12-05-6726825d.pth" if "id" in value.metric else "vgg16.pt"
        assert math.isnan(value.value) and file in value.note and "\n" not in value.note
    assert not (tmp_path / "seen").exists()


def test_precision_recall_and_path_length_by_vgg16(
        G: OctGenerator, real: ArchivePictures, vgg16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "COUNT", 30)
    values = {value.metric: value for value in measure_official(
        G, real, cache=tmp_path / "seen", vgg16=vgg16, metrics=["pr50k3_full", "ppl2_wend"])}
    assert 0 <= values["pr50k3_full_precision"].value <= 1 and 0 <= values["pr50k3_full_recall"].value <= 1
    assert values["pr50k3_full_recall"].n == 30 and values["pr50k3_full_recall"].n_real == len(real)
    assert values["ppl2_wend"].value > 0 and values["ppl2_wend"].n == 30


def test_fid_and_kid_by_inception(G: OctGenerator, real: ArchivePictures, tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(OfficialInception):
        def __init__(self) -> None:
            self.identity, self.dim = "small", 3

        def __call__(self, pixels: Tensor) -> Tensor:
            return torch.stack([pixels.float().mean(dim=(1, 2, 3)), pixels.float().std(dim=(1, 2, 3)),
                                pixels[:, 0, 0, 0].float()], dim=1)

    monkeypatch.setattr(official, "COUNT", 40)
    monkeypatch.setattr(OfficialInception, "load", lambda *_: Small())
    fid, kid = measure_official(G, real, cache=tmp_path / "seen", metrics=["fid50k_full", "kid50k_full"])
    fake = np.load(next((tmp_path / "seen").glob("drawn-*-small.npy"))).astype(float)
    seen = np.load(next((tmp_path / "seen").glob("train-*-small.npy"))).astype(float)
    product = np.linalg.eigvals(np.cov(seen.T, bias=True) @ np.cov(fake.T, bias=True)).real
    expected = (np.square(seen.mean(0) - fake.mean(0)).sum() + np.var(seen, 0).sum() + np.var(fake, 0).sum()
                - 2 * np.sqrt(product.clip(0)).sum())
    assert fid.value == pytest.approx(expected, rel=1e-6) and (fid.n, fid.n_real) == (40, 12)
    assert "100 subsets of 12" in kid.note and kid.value > 0


def test_an_unknown_metric_is_answered_with_the_nearest(G: OctGenerator, real: ArchivePictures,
                                                        tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fid50k_full"):
        measure_official(G, real, cache=tmp_path, metrics=["fid50k"])


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vgg16.pt"
    file.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="no TorchScript program"):
        OfficialVgg16.load(file, torch.device("cpu"))


@pytest.mark.parametrize(("size", "side"), [((4, 6), 9), ((8, 8), 5), ((7, 7), 7)])
def test_pictures_are_resized_from_their_upper_left_corner(size: tuple[int, int], side: int) -> None:
    image = torch.rand(size, generator=torch.Generator().manual_seed(0))
    found = resize_as_tensorflow(image[None, None], side)[0, 0]
    expected = np.empty((side, side))
    for i in range(side):
        for j in range(side):
            y, x = i * size[0] / side, j * size[1] / side
            top, left = int(y), int(x)
            below, right = min(top + 1, size[0] - 1), min(left + 1, size[1] - 1)
            upper = (1 - x + left) * image[top, left] + (x - left) * image[top, right]
            lower = (1 - x + left) * image[below, left] + (x - left) * image[below, right]
            expected[i, j] = (1 - y + top) * upper + (y - top) * lower
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_official_inception_pools_2048_features_of_a_grey_picture() -> None:
    detector = InceptionDetector(Inception().requires_grad_(False), "0" * 64)
    found = OfficialInception(detector)(torch.zeros(1, 1, 16, 16, dtype=torch.uint8))
    assert found.shape == (1, 2048)
