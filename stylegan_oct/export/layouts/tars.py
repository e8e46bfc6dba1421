"""Tar files whose bytes depend on their members alone."""

import contextlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from dnnlib.errors import DataError
from dnnlib.files import atomic_path
from dnnlib.stored import brief, brief_error

LARGEST = 64 * 2**20  # bytes of a picture
# What a tar can fail with where the bytes are not what they should be.
BAD_TAR = (tarfile.TarError, OSError, EOFError, ValueError, KeyError, IndexError, OverflowError, MemoryError)


class Tar:
    """A tar under a temporary name, which takes its place when the `with` block ends well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._path))
            self._tar = stack.enter_context(tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT))
            self._stack = stack.pop_all()
        return self

    def add(self, name: str, data: bytes) -> None:
        """Add a file, without time and owner."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)


def read_tar(path: Path) -> Iterator[bytes]:
    """Yield the files of a tar in order.

    Raises:
        DataError: it is damaged.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                yield read_member(tar, info)
    except BAD_TAR as error:
        raise DataError(f"{path} is damaged ({brief_error(error)}). Remove the export's folder and export "
                        "anew.") from error


def read_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    """Return a file of a tar, as `Tar` writes them: plain and whole.

    Raises:
        BAD_TAR: it is something else, such as a link or a file with holes, or longer than LARGEST.
    """
    stream = tar.extractfile(info) if info.isreg() and not info.issparse() and info.size <= LARGEST else None
    if stream is None:
        raise ValueError(f"{brief(info.name)} is no plain file of at most {LARGEST} bytes")
    return stream.read()
