"""Arrays of .npy files as numpy writes them, mapped into memory after their header was held against what it should be.

numpy itself evaluates the header as Python, and takes pickles and zips too.
"""

import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dnnlib.errors import ConfigError
from dnnlib.stored import brief

LONGEST_HEADER = 1024  # bytes
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(rb"\{'descr': '([<|][a-z]\d{1,2})', 'fortran_order': False, "
                     rb"'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \} *\n")

Header = tuple[tuple[int, ...], np.dtype[np.generic], int]


def parse_array_header(first: bytes) -> Header:
    """Return shape, kind and the place of the first number of a .npy file, from its first LONGEST_HEADER bytes.

    Raises:
        ConfigError: it is none, or of a kind that this project does not write.
    """
    end = 10 + int.from_bytes(first[8:10], "little")
    match = _HEADER.fullmatch(first[10:end]) if first[:8] == _MAGIC else None
    if match is None or match[1][1:] not in (b"u1", b"f4", b"f8", b"i8"):
        raise ConfigError(f"it begins with no header of an array; got {brief(first[:20])}.")
    shape = tuple(int(size) for size in match[2].replace(b" ", b"").split(b",") if size)
    return shape, np.dtype(match[1].decode()), end


def map_array(path: Path, shape: tuple[int | None, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """Return the array of a file, mapped for reading.

    Args:
        path: of the .npy file.
        shape: that it must have; None for a length that is free.
        dtype: that it must have.
    Raises:
        ConfigError: it is another array, or cut short.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        found, kind, begin = parse_array_header(file.read(LONGEST_HEADER))
        size = file.seek(0, 2)
    if len(found) != len(shape) or kind != np.dtype(dtype) or any(
            want not in (None, got) for want, got in zip(shape, found, strict=True)):
        raise ConfigError(f"it must be {np.dtype(dtype)} {list(shape)}; got {kind} {brief(list(found))}.")
    if begin + math.prod(found) * kind.itemsize != size:
        raise ConfigError(f"its header tells of {math.prod(found)} numbers; the file holds {size - begin} bytes of "
                          "them.")
    return np.memmap(path, kind, "r", begin, found) if math.prod(found) else np.zeros(found, kind)


def holds_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> bool:
    """Return whether a file is there and whole, and holds such an array."""
    try:
        map_array(path, shape, dtype)
    except (ConfigError, OSError):
        return False
    return True
