"""Arrays of .npy files, mapped into memory after their header has been held against what they should be."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dnnlib.errors import ConfigError
from dnnlib.stored import brief

LONGEST_HEADER = 10_000  # bytes
# What numpy fails with where a header is not what it should be; it evaluates a literal of Python.
_BAD = (ValueError, TypeError, KeyError, EOFError, SyntaxError, OverflowError, RecursionError, MemoryError)


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
        try:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"its version {version} is not 1.0")
            found, fortran, kind = np.lib.format.read_array_header_1_0(file, max_header_size=LONGEST_HEADER)
        except _BAD as error:
            raise ConfigError(f"it is no array ({brief(str(error))}).") from error
        fits = len(found) == len(shape) and all(want in (None, got) for want, got in zip(shape, found, strict=True))
        if not fits or kind != np.dtype(dtype) or fortran:
            raise ConfigError(f"it must be {np.dtype(dtype)} {list(shape)}; got {kind} {brief(list(found))}.")
        begin, size = file.tell(), file.seek(0, 2)
    if begin + math.prod(found) * kind.itemsize != size:
        raise ConfigError(f"its header tells of {math.prod(found)} numbers; the file holds {size - begin} bytes of "
                          "them.")
    if not math.prod(found):
        return np.zeros(found, kind)
    return np.memmap(path, kind, "r", begin, found)


def holds_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> bool:
    """Return whether a file is there and whole, and holds such an array."""
    try:
        map_array(path, shape, dtype)
    except (ConfigError, OSError):
        return False
    return True
