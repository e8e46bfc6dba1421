"""The pictures of an export as they lie there, in whatever layout, by their names in the manifest."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from dnnlib.errors import DataError
from dnnlib.pictures import Picture

DAMAGED = (OSError, SyntaxError, ValueError, KeyError, IndexError, EOFError, tarfile.TarError, zipfile.BadZipFile)


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
            return np.asarray(Image.open(io.BytesIO(found))) if isinstance(found, bytes) else found
        except DAMAGED as error:
            raise DataError("no picture that can be read") from error

    def _read(self, name: str) -> bytes | Picture:
        try:
            if (self._out / name).is_file():
                return (self._out / name).read_bytes()
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
            stream = opened.extractfile(member)
            if stream is None:
                raise KeyError(member)
            return stream.read()
        if isinstance(opened, zipfile.ZipFile):
            return opened.read(member)
        array, _, row = member.partition("/")
        return np.asarray(opened[array][int(row)])

    def _close(self) -> None:
        if not isinstance(self._opened, dict):
            self._opened.close()
        self._opened, self._file = {}, None


def _open(file: Path) -> tarfile.TarFile | zipfile.ZipFile | dict[str, Picture]:
    if file.suffix == ".tar":
        return tarfile.open(file)
    if file.suffix == ".zip":
        return zipfile.ZipFile(file)
    with np.load(file) as arrays:
        return {name: arrays[name] for name in arrays}
