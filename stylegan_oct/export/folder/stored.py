"""The pictures of an export as they lie there, in whatever layout, by their names in the manifest."""

import hashlib
import io
import math
import tarfile
import zipfile
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from dnnlib.arrays import LONGEST_HEADER, parse_array_header
from dnnlib.errors import ConfigError, DataError
from dnnlib.pictures import Picture
from dnnlib.stored import BAD_ZIP, is_inside, read_member
from stylegan_oct.data.archive import BAD_IMAGE, png_shape
from stylegan_oct.export.layouts import tars
from stylegan_oct.export.layouts.tars import BAD_TAR

DAMAGED = (*BAD_TAR, *BAD_ZIP, *BAD_IMAGE, ConfigError)
LARGEST_SIDE = 4096        # px
LARGEST_ARRAY = 4 * 2**30  # bytes of the pictures of a split in one array


class Stored:
    """Reads pictures of an export: images/train/CNV/NAME.png, train/000000.tar/NAME.png, FILE.npz/train_images/12.

    The file that holds many pictures stays open until another is asked for, or the `with` block ends.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._file: Path | None = None
        self._opened: tarfile.TarFile | zipfile.ZipFile | dict[str, Picture] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def sha256(self, name: str) -> str:
        """Return the hash of a PNG, or of the values of a picture that is stored as an array.

        Raises:
            DataError: it cannot be read.
        """
        found = self._read(name)
        return hashlib.sha256(found if isinstance(found, bytes) else found.tobytes()).hexdigest()

    def pixels(self, name: str) -> Picture:
        """Return a picture, uint8 [R, R] or [R, R, 3].

        Raises:
            DataError: it cannot be read.
        """
        found = self._read(name)
        try:
            if not isinstance(found, bytes):
                return found
            if png_shape(found)[0] > LARGEST_SIDE or png_shape(found)[1] > LARGEST_SIDE:
                raise ValueError("larger than any generator draws")
            return np.asarray(Image.open(io.BytesIO(found), formats=("PNG",)))
        except (*DAMAGED, DataError) as error:
            raise DataError("no picture that can be read") from error

    def _read(self, name: str) -> bytes | Picture:
        try:
            if not is_inside(name):
                raise ValueError("outside of the export")
            if (self._out / name).is_file():
                return _read_file(self._out / name)
            parts = name.split("/")
            depth = next(depth for depth in range(1, len(parts)) if self._out.joinpath(*parts[:depth]).is_file())
            return self._member(self._out.joinpath(*parts[:depth]), "/".join(parts[depth:]))
        except (*DAMAGED, StopIteration) as error:
            raise DataError("missing or damaged") from error

    def _member(self, file: Path, member: str) -> bytes | Picture:
        if file != self._file:
            self._close()
            self._opened, self._file = _open(file), file
        opened = self._opened
        if isinstance(opened, tarfile.TarFile):
            return tars.read_member(opened, opened.getmember(member))
        if isinstance(opened, zipfile.ZipFile):
            return read_member(opened, opened.getinfo(member), tars.LARGEST)
        array, _, row = member.partition("/")
        return np.asarray(opened[array][int(row)])

    def _close(self) -> None:
        if not isinstance(self._opened, dict):
            self._opened.close()
        self._opened, self._file = {}, None


def _open(file: Path) -> tarfile.TarFile | zipfile.ZipFile | dict[str, Picture]:
    if file.suffix == ".tar":
        return tarfile.open(file, "r:")
    if file.suffix == ".zip":
        return zipfile.ZipFile(file)
    with zipfile.ZipFile(file) as arrays:
        return {info.filename.removesuffix(".npy"): _array_of(arrays, info, file.stat().st_size)
                for info in arrays.infolist() if info.filename.endswith("_images.npy")}


def _array_of(arrays: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> Picture:
    """Return pictures of an npz, uint8 [N, R, R] or [N, R, R, 3]; those of this project are not compressed."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("compressed")
    raw = read_member(arrays, info, min(size, LARGEST_ARRAY))
    shape, kind, begin = parse_array_header(raw[:LONGEST_HEADER])
    if kind != np.uint8 or len(shape) not in (3, 4) or begin + math.prod(shape) != len(raw):
        raise ValueError(f"{kind} {shape}")
    return np.frombuffer(raw, np.uint8, offset=begin).reshape(shape)


def _read_file(path: Path) -> bytes:
    with open(path, "rb") as file:
        found = file.read(tars.LARGEST + 1)
    if len(found) > tars.LARGEST:
        raise ValueError(f"longer than {tars.LARGEST} bytes")
    return found
