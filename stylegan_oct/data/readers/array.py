"""NumPy arrays, .npy and .npz; what would run code (pickled objects) is refused."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from stylegan_oct.data.files import Refusal
from stylegan_oct.data.readers.bscan import Volume
from stylegan_oct.data.readers.stack import MAX_BYTES, MAX_UNPACKED, check_bytes, check_kind, to_volume

MAGIC = b"\x93NUMPY"
MAX_RATIO = 200   # of unpacked to packed bytes; speckle shrinks to half at best, and what is black not so far


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever goes wrong into a line without words of the file."""
    try:
        yield
    except (Refusal, OSError):
        raise
    except Exception as error:  # headers are Python literals, and a damaged one raises many kinds
        raise Refusal(f"is no {what}, or damaged ({type(error).__name__} while reading it)") from None


def open_npy(path: Path, axes: str = "auto") -> Volume:
    """Return the B-scans of a .npy, [H, W] or by default [N, H, W]; nothing but the header is read yet.

    Raises:
        Refusal: the array is of another kind, or shorter than its header says.
    """
    return to_volume(_grey(map_npy(path), axes), _axes(axes))


def map_npy(path: Path) -> NDArray[Any]:
    """Return the array of a .npy, which stays in the file.

    Raises:
        Refusal: the array is of another kind, or shorter than its header says.
    """
    with open(path, "rb") as file, reading(".npy"):
        shape, fortran, dtype = read_header(file)
        size, start = check_bytes(shape, dtype.itemsize, MAX_BYTES), file.tell()
    if path.stat().st_size < start + size:
        raise Refusal(f"is cut short: its header says {' x '.join(map(str, shape))} values")
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the first axis runs fastest, and kind of the values that follow in an open .npy.

    Raises:
        Refusal: they are pickled or otherwise no brightness.
    """
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if not 1 <= len(shape) <= 4:
        raise Refusal(f"is an array with {len(shape)} axes; B-scans have 2, stacks of them 3")
    check_kind(dtype)
    return shape, fortran, dtype


def open_npz(path: Path, axes: str = "auto") -> Volume:
    """Return the B-scans of the one array with two or three axes in a .npz.

    Raises:
        Refusal: there is none, there are several, or it is damaged.
    """
    with reading(".npz"), zipfile.ZipFile(path) as file:
        heads = {info.filename: head_of(file, info)[0] for info in file.infolist() if info.filename.endswith(".npy")}
        found = [name for name, shape in heads.items() if len(shape) in (2, 3) and min(shape[-2:]) > 2]
        if len(found) != 1:
            raise Refusal(f"holds {len(found)} arrays that may be scans; one is wanted (sets with labels, such as "
                          "those of MedMNIST, are a source of convert)")
        return to_volume(_grey(load_member(file, found[0], MAX_UNPACKED), axes), _axes(axes))


def head_of(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, order and kind of an array of a .npz, and the bytes of its header; () where it is no brightness."""
    with file.open(info) as member:
        try:
            return *read_header(member), member.tell()
        except Refusal:
            return (), False, np.dtype("u1"), 0


def load_member(file: zipfile.ZipFile, name: str, limit: int) -> NDArray[Any]:
    """Return an array of a .npz.

    Raises:
        Refusal: it takes more bytes than the limit, or is shorter than its header says.
    """
    info = file.getinfo(name)
    shape, fortran, dtype, start = head_of(file, info)
    if not shape:
        raise Refusal("holds values of a kind that is not read; whole numbers of 8 or 16 bits and floats are")
    size = check_bytes(shape, dtype.itemsize, limit)
    check_ratio(info)
    with file.open(info) as member:
        member.read(start)
        data = member.read(size)  # zipfile unpacks no more than is asked for
    if len(data) < size:
        raise Refusal(f"is cut short: its header says {' x '.join(map(str, shape))} values")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def check_ratio(info: zipfile.ZipInfo) -> None:
    """Refuse a member that unpacks to far more than it is."""
    if info.flag_bits & 1:
        raise Refusal("is encrypted")
    if info.file_size > MAX_RATIO * max(info.compress_size, 2**12):
        raise Refusal("is a decompression bomb: it unpacks to far more than scans do")


def _grey(values: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return values without axes of one channel; refuse colours, unless the user says what the axes are."""
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim == 4 or (values.ndim == 3 and axes == "auto" and values.shape[2] in (3, 4)):
        raise Refusal(f"has a last axis of {values.shape[-1]} values, colours perhaps; store grey (or say with --axes "
                      "what its three axes are)")
    if values.ndim == 3 and axes == "auto" and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim < 2:
        raise Refusal("is an array with one axis; B-scans have 2, stacks of them 3")
    return values


def _axes(axes: str) -> str:
    return "nhw" if axes == "auto" else axes
