import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from generator_file import write_generator
from tiny import write_archive
from torch import Tensor

from dnnlib.errors import DataError
from dnnlib.pictures import encode_png
from stylegan_oct.data.archive import ArchiveWriter
from stylegan_oct.metrics.observers import observe as observe_module
from stylegan_oct.metrics.observers.observe import observe
from stylegan_oct.metrics.observers.pictures import (
    ArchivePictures,
    DrawnPictures,
    SomePictures,
    some_of_each,
    spread_labels,
)


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


class Killed(MeanGrey):
    """Looks at some batches, then the process ends without a farewell."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def __call__(self, pixels: Tensor) -> Tensor:
        if self.seen >= self.after:
            os._exit(9)
        return super().__call__(pixels)


def look_until_killed(pictures: ArchivePictures, folder: Path) -> None:
    observe_module.MARK_SEC = 0.0
    observe(pictures, [Killed(5)], folder, batch=1)


def test_a_killed_pass_leaves_nothing_finished_and_goes_on_where_it_stopped(pictures: ArchivePictures,
                                                                           tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=look_until_killed, args=(pictures, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == 9 and not list(tmp_path.glob("[!.]*.npy"))
    observer = MeanGrey()
    rows = observe(pictures, [observer], tmp_path, batch=1)["mean-grey"]
    assert observer.seen == len(pictures) - 5
    np.testing.assert_allclose(rows, observe(pictures, [MeanGrey()], tmp_path / "other")["mean-grey"])


def test_a_pass_with_other_batches_begins_anew(pictures: ArchivePictures, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    class Stops(MeanGrey):
        def __call__(self, pixels: Tensor) -> Tensor:
            if self.seen > 4:
                raise KeyboardInterrupt
            return super().__call__(pixels)

    monkeypatch.setattr(observe_module, "MARK_SEC", 0.0)
    with pytest.raises(KeyboardInterrupt):
        observe(pictures, [Stops()], tmp_path, batch=1)
    observer = MeanGrey()
    observe(pictures, [observer], tmp_path, batch=2)
    assert observer.seen == len(pictures)


def test_an_observer_that_is_new_looks_alone(pictures: ArchivePictures, tmp_path: Path) -> None:
    old, new = MeanGrey(), MeanGrey()
    new.identity = "new"
    observe(pictures, [old], tmp_path)
    found = observe(pictures, [old, new], tmp_path)
    assert old.seen == new.seen == len(pictures)
    np.testing.assert_array_equal(found["mean-grey"], found["new"])


def test_what_is_kept_is_for_the_owner_alone(pictures: ArchivePictures, tmp_path: Path) -> None:
    observe(pictures, [MeanGrey()], tmp_path / "seen")
    (path,) = (tmp_path / "seen").glob("*.npy")
    assert path.stat().st_mode & 0o077 == 0 and not list((tmp_path / "seen").glob(".tmp-*"))


def test_two_commands_at_once_do_not_disturb_each_other(pictures: ArchivePictures, tmp_path: Path) -> None:
    class Nested(MeanGrey):
        """Another command begins and ends while this one is at work."""

        def __call__(self, pixels: Tensor) -> Tensor:
            if not self.seen:
                observe(pictures, [MeanGrey()], tmp_path)
            return super().__call__(pixels)

    pictures_seen = observe(pictures, [Nested()], tmp_path, batch=2)["mean-grey"]
    np.testing.assert_allclose(pictures_seen, observe(pictures, [MeanGrey()], tmp_path / "other")["mean-grey"])


def test_a_file_that_is_cut_short_is_made_again(pictures: ArchivePictures, tmp_path: Path) -> None:
    observe(pictures, [MeanGrey()], tmp_path)
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes()[:150])
    observer = MeanGrey()
    observe(pictures, [observer], tmp_path)
    assert observer.seen == len(pictures)


def test_no_pictures_are_no_rows(pictures: ArchivePictures, tmp_path: Path) -> None:
    none = SomePictures(pictures, np.zeros(0, np.int64))
    assert observe(none, [MeanGrey()], tmp_path)["mean-grey"].shape == (0, 1)


def test_a_folder_that_cannot_be_written_is_told(pictures: ArchivePictures, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="Cannot write what was seen"):
        observe(pictures, [MeanGrey()], tmp_path / "file" / "seen")


def test_some_pictures_are_those_of_the_rows_with_shares_kept(tmp_path: Path) -> None:
    pictures = ArchivePictures(write_archive(tmp_path / "many.zip", count=60), ["train"])
    some = some_of_each(pictures, 20)
    assert len(some) == 20 and np.bincount(some.labels).tolist() == [10, 10]
    assert some.identity != pictures.identity and some_of_each(pictures, 60) is pictures
    place = int(np.flatnonzero((pictures.read(range(60)) == some.read([3])).all(dim=(1, 2, 3)))[0])
    assert pictures.labels[place] == some.labels[3] and pictures.groups[place] == some.groups[3]


def test_drawn_pictures_of_other_classes_have_another_identity(tmp_path: Path) -> None:
    G = write_generator(tmp_path)
    one, other = (DrawnPictures(G, np.array(labels)) for labels in ([0, 1, 0], [0, 0, 1]))
    assert one.identity != other.identity and one.identity == DrawnPictures(G, np.array([0, 1, 0])).identity
