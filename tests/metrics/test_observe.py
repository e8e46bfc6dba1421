from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import write_archive
from torch import Tensor

from dnnlib.pictures import encode_png
from stylegan_oct.data.archive import ArchiveWriter
from stylegan_oct.metrics.observe import observe
from stylegan_oct.metrics.pictures import ArchivePictures, spread_labels


class MeanGrey:
    identity, dim = "mean-grey", 1

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, pixels: Tensor) -> Tensor:
        self.seen += len(pixels)
        return pixels.float().mean(dim=(1, 2, 3))[:, None]


@pytest.fixture
def pictures(tmp_path: Path) -> ArchivePictures:
    return ArchivePictures(write_archive(tmp_path / "scans.zip"))


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_rows_are_those_of_the_pictures_whatever_the_batch(pictures: ArchivePictures, tmp_path: Path,
                                                           batch: int) -> None:
    rows = observe(pictures, [MeanGrey()], tmp_path / "seen", batch=batch)["mean-grey"]
    expected = [pictures.archive.read_pixels(name).mean() for name in pictures.names]
    np.testing.assert_allclose(rows[:, 0], expected, rtol=1e-6)


def test_what_was_seen_once_is_not_looked_at_again(pictures: ArchivePictures, tmp_path: Path) -> None:
    observer = MeanGrey()
    first = observe(pictures, [observer], tmp_path / "seen")["mean-grey"]
    again = observe(pictures, [observer], tmp_path / "seen")["mean-grey"]
    assert observer.seen == len(pictures)
    np.testing.assert_array_equal(first, again)


def test_an_interrupted_pass_leaves_no_rows_that_look_finished(pictures: ArchivePictures, tmp_path: Path) -> None:
    class Stops(MeanGrey):
        def __call__(self, pixels: Tensor) -> Tensor:
            if self.seen:
                raise KeyboardInterrupt
            return super().__call__(pixels)

    with pytest.raises(KeyboardInterrupt):
        observe(pictures, [Stops()], tmp_path / "seen", batch=1)
    observer = MeanGrey()
    rows = observe(pictures, [observer], tmp_path / "seen")["mean-grey"]
    assert observer.seen == len(pictures) and np.isfinite(rows).all() and (rows > 0).all()


def test_spread_labels_hold_their_shares_in_every_stretch() -> None:
    labels = spread_labels([10, 30, 0, 60])
    assert np.bincount(labels, minlength=4).tolist() == [10, 30, 0, 60]
    for part in np.split(labels, 10):
        assert abs((part == 1).sum() - 3) <= 1 and abs((part == 3).sum() - 6) <= 1


def test_pictures_have_channels_first(pictures: ArchivePictures) -> None:
    pixels = pictures.read([0, 2])
    assert pixels.dtype == torch.uint8 and pixels.shape == (2, 1, 8, 8)


def test_a_patient_has_the_same_number_in_every_split(tmp_path: Path) -> None:
    path = tmp_path / "scans.zip"
    with ArchiveWriter(path, resolution=8, channels=1, classes=("A",), source="scans") as writer:
        for i, (split, patient) in enumerate([("train", "p"), ("train", "q"), ("val", "q"), ("val", None)]):
            png = encode_png(np.full((8, 8), i, np.uint8))
            writer.add_image(split, png, 0, {"patient": patient} if patient else {})
    train, val = (ArchivePictures(path, [split]).groups for split in ("train", "val"))
    assert train[1] == val[0]
    assert len({*train, *val}) == 3
