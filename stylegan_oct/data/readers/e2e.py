"""Heidelberg .e2e files, by the format that eyepy describes.

eyepy's own reader takes in the patient's name with the index of the file. Here only the index is read, which holds
numbers, and then the parts that hold B-scans, their scales and the side of the eye.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

from stylegan_oct.data.readers.bscan import BScan, Laterality, Volume, to_laterality, to_um
from stylegan_oct.data.readers.heyex import display
from stylegan_oct.data.readers.image import MAX_PIXELS, MIN_SIDE
from stylegan_oct.data.sources import Refusal

SIDE, SCALES, IMAGE = 11, 10004, 1073741824  # kinds of parts
BSCAN = 35652097    # kind of image; the other is the view of the fundus
PART_HEADER = 60    # bytes
EMPTY = 1.99        # from this reflectivity on there is no value
UM_PER_DEGREE = 289.6  # on the retina of an eye of medium length; the file holds the angle alone


def open_e2e(path: Path) -> Volume:
    """Return the B-scans of all series of an .e2e, in the order of series and slice.

    Raises:
        Refusal: the file is damaged or holds no B-scans, or eyepy is missing.
    """
    try:
        from eyepy.io.he.e2e_format import e2e_format
    except ImportError:
        raise Refusal("needs eyepy; install it with: pip install 'stylegan-oct[heyex]'") from None
    parts: dict[tuple[int, int, int, int], dict[int, Any]] = defaultdict(dict)
    with open(path, "rb") as file:
        try:
            index = e2e_format.parse_stream(file)
        except Exception as error:  # construct raises many kinds, with words of the file
            raise Refusal(f"is no .e2e, or damaged ({type(error).__name__} while reading it)") from None
        for part in (part for chunk in index.chunks for part in chunk.folders):
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


def _read_e2e(path: Path, parts: dict[int, Any], side: Any, index: int) -> BScan:
    from eyepy.io.he.e2e_format import type10004_format, type1073741824_format
    try:
        image = type1073741824_format.parse(_content(path, parts[IMAGE]))
        scales = type10004_format.parse(_content(path, parts[SCALES])) if SCALES in parts else None
    except Exception as error:
        raise Refusal(f"is damaged ({type(error).__name__} while reading it)") from None
    values = image.data  # [H, W] float32
    if min(values.shape) < MIN_SIDE or values.size > MAX_PIXELS:
        raise Refusal(f"is {values.shape[1]} x {values.shape[0]} pixels")
    missing = ~(values <= EMPTY)
    um_z = to_um(scales.scale_y) if scales else None
    degrees = abs(scales.end_x - scales.start_x) if scales else 0.0
    um_x = to_um(degrees * UM_PER_DEGREE / 1000 / values.shape[1])
    return BScan(pixels=display(values, missing), missing=missing if missing.any() else None, number=index + 1,
                 um_per_px_z=um_z, um_per_px_x=um_x, laterality=_side(path, side))


def _side(path: Path, part: Any) -> Laterality | None:
    """Return the eye, which is a letter within a part of unknown content otherwise."""
    return to_laterality(_content(path, part)[14:15].decode("latin-1")) if part is not None else None


def _content(path: Path, part: Any) -> bytes:
    with open(path, "rb") as file:
        file.seek(part.start + PART_HEADER)
        return file.read(part.size)
