"""Values in three axes, as arrays and research formats hold them, to B-scans."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stylegan_oct.data.files import Refusal
from stylegan_oct.data.readers.brightness import remarks, shows_nothing
from stylegan_oct.data.readers.bscan import BScan, Laterality, Volume, check_size
from stylegan_oct.data.readers.image import Deep, from_deep
from stylegan_oct.data.readers.scale import find_scale

MAX_UNPACKED = 512 * 2**20  # bytes that a compressed file may unpack to; one that is not is read a B-scan at a time
MAX_BYTES = 8 * 2**30       # of a file that is not compressed


@dataclass(frozen=True, eq=False)
class Stack:
    """Values of B-scans, in memory or in a file."""

    values: NDArray[Any]            # [N, H, W], whole numbers or floats
    mm: tuple[object, object]       # height and width of a pixel, as the file claims it; None where it does not
    notes: tuple[str, ...] = ()
    laterality: Laterality | None = None

    @cached_property
    def depth(self) -> int:
        """The least bits that hold all values, where these are whole numbers; 0 for others.

        Of the whole stack, so that its B-scans keep their relative brightness.
        """
        if self.values.dtype.itemsize == 1:
            return 8
        floats, top = self.values.dtype.kind == "f", 0
        for scan in self.values:
            if floats and not _is_whole(scan):
                return 0
            top = max(top, int(scan.max()))
        if floats and top <= 1:
            return 0
        return next((bits for bits in (8, 10, 12, 14, 16) if top < 2**bits), 16)

    def read(self, index: int) -> BScan:
        """Return a B-scan by its index, as `Volume` wants it."""
        values, notes = np.ascontiguousarray(self.values[index]), list(self.notes)
        if values.dtype.kind == "f" and self.depth:
            values = values.clip(-1, 65536).astype(np.int32)  # what lies beyond 0 to 65535 is refused below
        pixels, facts = from_deep(values, Deep(inverted=False, stored=0, least=self.depth))
        if shows_nothing(pixels):
            raise Refusal("shows nothing: all pixels have the same value")
        scale = find_scale([self.mm], *pixels.shape)
        notes += [*facts.get("notes", ()), *remarks(pixels), *([scale.note] if scale.note else [])]
        return BScan(pixels=pixels, number=index + 1, um_per_px_z=scale.z, um_per_px_x=scale.x,
                     laterality=self.laterality, notes=tuple(notes))


def to_volume(values: NDArray[Any], axes: str, mm: Sequence[object] = (None, None, None)) -> Volume:
    """Return the B-scans of values in the order of a file.

    Args:
        values: three axes, or two of a single B-scan, h and w in the order that `axes` gives them.
        axes: what each axis is, such as "nhw"; not "auto".
        mm: distance of neighbours along each axis in millimetres, None where it is not known.
    Raises:
        Refusal: the values are of a kind that is not read, or the sizes are none of B-scans.
    """
    mm = list(mm)
    if values.ndim == 2:
        at = axes.index("n")
        values, mm = np.expand_dims(values, at), [*mm[:at], None, *mm[at:]][:3]
    check_kind(values.dtype)
    n, h, w = (axes.index(letter) for letter in "nhw")
    stack = values.transpose(n, h, w)
    count, rows, columns = stack.shape
    if count < 1:
        raise Refusal("holds no B-scans")
    try:
        check_size(columns, rows)
    except Refusal as refusal:
        raise Refusal(f"holds {count} B-scans, if its axes are {axes} (--axes says it otherwise): each {refusal}") \
            from None
    notes = (_doubt(axes, (count, rows, columns), (mm[n], mm[h], mm[w])),)
    return Volume(count, Stack(stack, (mm[h], mm[w]), tuple(filter(None, notes))).read)


def check_kind(dtype: np.dtype[Any]) -> None:
    """Refuse values that are no brightness.

    Raises:
        Refusal: they are neither whole numbers nor floats.
    """
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        raise Refusal("holds values of a kind that is not read; whole numbers of 8 or 16 bits and floats are")


def check_bytes(shape: Sequence[int], itemsize: int, limit: int) -> int:
    """Return how many bytes values of a shape take.

    Raises:
        Refusal: they are more than the limit, or a size is none.
    """
    if min(shape) < 1:
        raise Refusal("is damaged, or empty: its header says sizes below 1")
    size = math.prod(shape) * itemsize
    if size > limit:
        raise Refusal(f"says that its values take {size >> 20} MiB, and {limit >> 20} MiB are the most")
    return size


def _is_whole(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all() and (values == np.rint(values)).all())


def _doubt(axes: str, sizes: tuple[int, int, int], mm: tuple[object, object, object]) -> str:
    """Return why the axes may be others, "" where nothing speaks for it."""
    count, rows, columns = sizes
    known = [float(size) if isinstance(size, int | float) and size > 0 else math.nan for size in mm]
    if known[0] < min(known[1:]):
        return f"looks cut the wrong way: taken as {axes}, the axis of the B-scans is sampled most finely (--axes)"
    if count > 2 * min(rows, columns) and rows != columns and not known[0] > known[1]:
        return (f"may be cut the wrong way: taken as {axes} it has {count} B-scans of only {columns} x {rows} pixels "
                "(--axes)")
    return ""
