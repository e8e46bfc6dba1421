"""Pictures decoded once."""

import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import write_archive

from dnnlib.errors import DataError
from dnnlib.text import format_bytes
from stylegan_oct.data import cache
from stylegan_oct.data.archive import Archive
from stylegan_oct.data.cache import cache_path, decoded_pixels
from stylegan_oct.data.dataset import ArchiveDataset


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_items_are_those_of_the_archive(tmp_path: Path, channels: int, mirror: bool) -> None:
    path = write_archive(tmp_path / "a.zip", channels=channels)
    plain, cached = (ArchiveDataset(path, mirror=mirror, cached=each) for each in (False, True))
    assert cached.is_cached and not plain.is_cached and len(plain) == len(cached) == 12 * (1 + mirror)
    for i in range(len(plain)):
        assert torch.equal(plain[i][0], cached[i][0]) and plain[i][1] == cached[i][1]


def test_the_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    archive = Archive(write_archive(tmp_path / "a.zip"))
    decoded_pixels(archive, "train")
    made = cache_path(archive, "train").stat()
    decoded_pixels(archive, "train")
    assert cache_path(archive, "train").stat().st_mtime_ns == made.st_mtime_ns
    assert stat.S_IMODE(made.st_mode) == 0o600


def test_another_archive_of_the_name_has_a_file_of_its_own_and_the_earlier_one_goes(tmp_path: Path) -> None:
    first = Archive(write_archive(tmp_path / "a.zip"))
    decoded_pixels(first, "train")
    decoded_pixels(first, "val")
    earlier = cache_path(first, "train")
    second = Archive(write_archive(tmp_path / "a.zip", count=20))
    pixels = decoded_pixels(second, "train")
    assert pixels is not None and len(pixels) == 20 and not earlier.exists() and cache_path(first, "val").exists()


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(write_archive(tmp_path / "a.zip"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert decoded_pixels(archive, "train") is None
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    archive = Archive(write_archive(tmp_path / "a.zip"))
    tmp_path.chmod(0o500)
    assert decoded_pixels(archive, "train") is None


def test_a_failed_pass_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(write_archive(tmp_path / "a.zip"))
    read = archive.read_pixels

    def broken(name: str) -> np.ndarray:
        if name.endswith("7.png"):
            raise DataError(f"{name} cannot be decoded")
        return read(name)

    monkeypatch.setattr(archive, "read_pixels", broken)
    with pytest.raises(DataError, match="7.png"):
        decoded_pixels(archive, "train")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_rounds_of_any_length_decode_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "ROUND", 5)
    archive = Archive(write_archive(tmp_path / "a.zip", count=13))
    pixels = decoded_pixels(archive, "train")
    assert pixels is not None
    np.testing.assert_array_equal(pixels[:, 0], [archive.read_pixels(name) for name in archive.names("train")])


def test_sizes_are_short_to_read() -> None:
    assert [format_bytes(size) for size in (0, 999, 1000, 65_536, 12_345_678, 999_999_999, 5 * 10**12)] == [
        "0 bytes", "999 bytes", "1 kB", "66 kB", "12 MB", "1 GB", "5 TB"]
