"""Heidelberg .e2e files, by the format that eyepy describes.

eyepy's own reader takes in the patient's name with the index of the file. Here only the index is read, which holds
numbers, and then the parts that hold B-scans, their scales and the side of the eye.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from stylegan_oct.data.files import Refusal
from stylegan_oct.data.readers.bscan import MAX_SIDE, BScan, Laterality, Volume, check_size, to_laterality
from stylegan_oct.data.readers.heyex import reflected

SIDE, SCALES, IMAGE = 11, 10004, 1073741824  # kinds of parts
BSCAN = 35652097    # kind of image; the other is the view of the fundus
PART_HEADER = 60    # bytes
PIXELS_AT = 20      # bytes of a part before its pixels, of 2 bytes each
MAX_PARTS = 4096    # of a chunk; devices write 512
MAX_PART_BYTES = 4 * MAX_SIDE**2
EMPTY = 1.99        # from this reflectivity on there is no value
UM_PER_DEGREE = 289.6  # on the retina of an eye of medium length; the file holds the angle alone


def open_e2e(path: Path) -> Volume:
    """Return the B-scans of all series of an .e2e, in the order of series and slice.

    Raises:
        Refusal: the file is damaged or holds no B-scans, or eyepy is missing.
    """
    try:
        from eyepy.io.he.e2e_format import chunk_format  # noqa: F401
    except ImportError:
        raise Refusal("needs eyepy; install it with: pip install 'stylegan-oct[heyex]'") from None
    parts: dict[tuple[int, int, int, int], dict[int, Any]] = defaultdict(dict)
    with open(path, "rb") as file:
        for part in _index(file):
            kind, where = int(part.type), (part.patient_id, part.study_id, part.series_id, part.slice_id)
            if kind == IMAGE:
                file.seek(part.start + PART_HEADER + 4)
                if file.read(4) == BSCAN.to_bytes(4, "little"):
                    parts[where][IMAGE] = part
            elif kind in (SIDE, SCALES):
                parts[where][kind] = part
    scans = sorted(where for where, found in parts.items() if IMAGE in found)
    if not scans:
        raise Refusal("is an .e2e without B-scans, or damaged")
    return Volume(len(scans), lambda i: _read_e2e(path, parts[scans[i]], parts[*scans[i][:3], -1].get(SIDE), i))


def _index(file: IO[bytes]) -> Iterator[Any]:
    """Yield the entries of all chunks, one chunk in memory at a time; each must lie behind the one before it."""
    from eyepy.io.he.e2e_format import chunk_format, header_format, version_format
    begin, size, first = 0, os.fstat(file.fileno()).st_size, True
    while first or begin < size:
        try:
            if first:
                version_format.parse_stream(file)
                header_format.parse_stream(file)
                begin = file.tell()
            file.seek(begin)
            if header_format.parse_stream(file).num_entries > MAX_PARTS:
                raise ValueError
            file.seek(begin)
            chunk = chunk_format.parse_stream(file)
            following = file.tell()
        except Exception as error:  # construct raises many kinds, with words of the file
            if first:
                raise Refusal(f"is no .e2e, or damaged ({type(error).__name__} while reading it)") from None
            return  # what follows the last chunk is none
        yield from chunk.folders
        if following <= begin:
            return
        begin, first = following, False


def _read_e2e(path: Path, parts: dict[int, Any], side: Any, index: int) -> BScan:
    from eyepy.io.he.e2e_format import type10004_format, type1073741824_format

    content = _content(path, parts[IMAGE])
    count, rows, columns = (int.from_bytes(content[at:at + 4], "little") for at in (8, 12, 16))
    check_size(columns, rows)
    if count != rows * columns or len(content) < PIXELS_AT + 2 * count:
        raise Refusal(f"is damaged or cut short: {columns} x {rows} pixels are said, and others are there")
    try:
        values = type1073741824_format.parse(content).data  # [H, W] float32
        scales = type10004_format.parse(_content(path, parts[SCALES])) if SCALES in parts else None
    except Exception as error:
        raise Refusal(f"is damaged ({type(error).__name__} while reading it)") from None
    mm_z = scales.scale_y if scales else None
    mm_x = abs(scales.end_x - scales.start_x) * UM_PER_DEGREE / 1000 / columns if scales else None
    return reflected(values, ~(values <= EMPTY), (mm_z, mm_x), index + 1, _side(path, side))


def _side(path: Path, part: Any) -> Laterality | None:
    """Return the eye, which is a letter within a part of unknown content otherwise."""
    return to_laterality(_content(path, part)[14:15].decode("latin-1")) if part is not None else None


def _content(path: Path, part: Any) -> bytes:
    with open(path, "rb") as file:
        file.seek(part.start + PART_HEADER)
        return file.read(min(part.size, MAX_PART_BYTES))
