"""NIfTI-1, .nii and .nii.gz: of the header only sizes, kind of values, spacing and scaling are read.

Written from the description of the format, nifti1.h. Its fields for texts (descrip, aux_file, db_name, intent_name) and
its extensions, which may name a patient, are never read. The order of axes is that of the file: x runs fastest.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stylegan_oct.data.files import Refusal
from stylegan_oct.data.readers.bscan import Volume
from stylegan_oct.data.readers.stack import MAX_BYTES, MAX_UNPACKED, check_bytes, to_volume

HEADER = 348
TYPES = {2: "u1", 256: "i1", 512: "u2", 4: "i2", 768: "u4", 8: "i4", 16: "f4", 64: "f8"}
TO_MM = {1: 1000.0, 2: 1.0, 3: 0.001}   # of the units metre, millimetre and micrometre
UNITS = 0b111


def open_nifti(path: Path, axes: str = "auto") -> Volume:
    """Return the B-scans of a NIfTI-1 file; by default x goes along them, y down, and z from one to the next.

    Raises:
        Refusal: the header or the values are damaged, or of a kind that is not read.
    """
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            shape, dtype, spacing, start, linear = _header(file.read(HEADER))
            size = check_bytes(shape, dtype.itemsize, MAX_UNPACKED if packed else MAX_BYTES)
            values: NDArray[Any]
            if packed:
                file.read(start - HEADER)
                data = _read(file, size)
                values = np.frombuffer(data, dtype).reshape(shape, order="F")
            elif path.stat().st_size < start + size:
                raise Refusal(f"is cut short: its header says {' x '.join(map(str, shape))} values")
            else:
                values = np.memmap(path, dtype, "r", start, shape, "F")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise Refusal("is cut short or damaged: its values cannot be unpacked") from None
    return to_volume(_scaled(values, linear), "whn" if axes == "auto" else axes, spacing)


def _header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], tuple[object, ...], int, tuple[float, float]]:
    """Return sizes (x first), kind of the values, mm between them, where they begin, and slope and intercept."""
    order = next((order for order in "<>" if data[:4] == struct.pack(f"{order}i", HEADER)), None)
    if order is None or data[344:348] != b"n+1\0":
        raise Refusal("is no NIfTI-1 file in one piece (.nii), or damaged")
    dims = struct.unpack_from(f"{order}8h", data, 40)
    kind, _ = struct.unpack_from(f"{order}2h", data, 70)
    steps = struct.unpack_from(f"{order}8f", data, 76)
    offset, slope, intercept = struct.unpack_from(f"{order}3f", data, 108)
    shape = dims[1:1 + dims[0]] if 0 < dims[0] < 8 else ()
    shape = shape[:3] if all(size == 1 for size in shape[3:]) else shape
    if len(shape) not in (2, 3):
        raise Refusal(f"has {len(shape)} axes; B-scans have 2, stacks of them 3")
    if kind not in TYPES:
        raise Refusal("holds values of a kind that is not read; whole numbers of 8 or 16 bits and floats are, grey")
    if not HEADER <= offset < 2**24:
        raise Refusal("is damaged: its values do not begin behind its header")
    unit = TO_MM.get(data[123] & UNITS, 1.0)
    known = set(steps[1:1 + len(shape)]) != {1.0}  # 1 each is what libraries write where it is not known
    spacing = tuple(step * unit if known else None for step in steps[1:1 + len(shape)])
    return shape, np.dtype(order + TYPES[kind]), (*spacing, None)[:3], int(offset), (slope, intercept)


def _read(file: Any, size: int) -> bytes:
    """Return so many bytes, taking memory for what is there and not for what is said."""
    parts, left = [], size
    while left and (block := file.read(min(left, 2**22))):
        parts.append(block)
        left -= len(block)
    if left:
        raise Refusal("is cut short: there are fewer values than its header says")
    return b"".join(parts)


def _scaled(values: NDArray[Any], linear: tuple[float, float]) -> NDArray[Any]:
    """Refuse a scaling that would change the values; a slope of 0 is none."""
    slope, intercept = linear
    if slope == 0 or not math.isfinite(slope) or (slope, intercept) == (1.0, 0.0):
        return values
    raise Refusal("scales its values by a slope and an intercept, which is not read; store the values themselves")
