"""Topcon .fda and .fds, by the description of uocte: a list of parts with names, of which only four kinds are read.

The parts with the patient, the device and the dates are passed over by their lengths; of the one with the eye and the
date of the examination the first byte is read.
"""

import io
import math
import struct
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from stylegan_oct.data.files import Refusal
from stylegan_oct.data.readers.brightness import remarks, shows_nothing
from stylegan_oct.data.readers.bscan import MAX_SIDE, BScan, Laterality, Volume, check_size
from stylegan_oct.data.readers.image import Deep, from_deep
from stylegan_oct.data.readers.scale import find_scale
from stylegan_oct.data.readers.stack import MAX_BYTES, Stack, check_bytes

MAGIC = b"FOCT"
FIRST = 15            # bytes of the header
MAX_PARTS = 1000      # devices write some dozen
PLAIN = (b"@IMG_MOT_COMP_03", b"@IMG_SCAN_03")  # values of 16 bits
PACKED = b"@IMG_JPEG"                           # a JPEG or JPEG 2000 for each B-scan
EYE = (b"@CAPTURE_INFO_02", b"@CAPTURE_INFO")
EYES: Final[dict[int, Laterality]] = {0: "OD", 1: "OS"}
SCALES = {b"@PARAM_SCAN_04": 12, b"@PARAM_SCAN_02": 21}  # bytes before width (mm), length (mm), pixel in depth (um)
Part = tuple[int, int]  # where it begins, bytes


def open_topcon(path: Path) -> Volume:
    """Return the B-scans of a .fda or .fds.

    Raises:
        Refusal: it is none, damaged, or holds its values in a form that is not read.
    """
    with open(path, "rb", buffering=0) as file:  # a buffer would take in the patient's fields
        parts = _parts(file, path.stat().st_size)
        side = next((EYES.get(_read(file, *parts[name], 1)[0]) for name in EYE if name in parts), None)
        across, mm_z = next((_scale(file, parts[name], at) for name, at in SCALES.items() if name in parts),
                            (None, None))
        if PACKED in parts:
            head = struct.unpack("<B6I", _read(file, *parts[PACKED], 25))
            columns, rows, count = head[3:6]
            _check(columns, rows, count)
            mm = (mm_z, across / columns if across else None)
            pieces = _pieces(file, parts[PACKED], count)
            return Volume(count, partial(_read_packed, path, pieces, (rows, columns), mm, side))
        name = next((name for name in PLAIN if name in parts), None)
        if name is None:
            raise Refusal("is a Topcon file without B-scans in a form that is read (IMG_JPEG, IMG_MOT_COMP_03, "
                          "IMG_SCAN_03); export DICOM or pictures")
        _, columns, rows, bits, count, *_ = struct.unpack("<B4IBI", _read(file, *parts[name], 22))
    _check(columns, rows, count)
    start, length = parts[name]
    if bits != 16 or length < 22 + check_bytes((count, rows, columns), 2, MAX_BYTES):
        raise Refusal(f"is damaged: {count} B-scans of {columns} x {rows} pixels of 16 bits are said, others are there")
    stack = Stack(np.memmap(path, "<u2", "r", start + 22, (count, rows, columns)),
                  (mm_z, across / columns if across else None), laterality=side)
    return Volume(count, stack.read)


def _parts(file: FileIO, size: int) -> dict[bytes, Part]:
    """Return where the parts that are read begin, and their lengths."""
    parts: dict[bytes, Part] = {}
    wanted = {*PLAIN, PACKED, *EYE, *SCALES}
    if file.read(4) != MAGIC:
        raise Refusal("is no Topcon file, or damaged")
    at = FIRST
    for _ in range(MAX_PARTS):
        if at + 1 > size or not (length := _read(file, at, 1, 1)[0]):
            return parts
        name = _read(file, at + 1, length + 4, length + 4)
        (long,) = struct.unpack("<I", name[length:])
        at += 5 + length
        if at + long > size:
            raise Refusal("is cut short or damaged: a part of it is longer than the file")
        if name[:length] in wanted:
            parts.setdefault(name[:length], (at, long))
        at += long
    raise Refusal(f"is damaged: it has more than {MAX_PARTS} parts")


def _read(file: FileIO, start: int, length: int, count: int) -> bytes:
    file.seek(start)
    data = file.read(count) if count <= length else b""
    if len(data) < count:
        raise Refusal("is cut short or damaged")
    return data


def _scale(file: FileIO, part: Part, at: int) -> tuple[float | None, float | None]:
    """Return the mm that a B-scan spans across, and the mm of a pixel in depth."""
    across, _, um = struct.unpack("<3d", _read(file, part[0] + at, part[1] - at, 24))
    return (across if math.isfinite(across) else None), um / 1000


def _check(columns: int, rows: int, count: int) -> None:
    try:
        check_size(columns, rows)
    except Refusal as refusal:
        raise Refusal(f"is damaged: its sizes make no sense; a B-scan {refusal}") from None
    if count < 1:
        raise Refusal("holds no B-scans")


def _pieces(file: FileIO, part: Part, count: int) -> list[Part]:
    """Return where each compressed B-scan is, behind a number that says its length."""
    at, end, pieces = part[0] + 25, sum(part), []
    for _ in range(count):
        (length,) = struct.unpack("<I", _read(file, at, end - at, 4))
        if at + 4 + length > end or length > 2 * MAX_SIDE**2:
            raise Refusal("is cut short or damaged: a B-scan is longer than its part")
        pieces.append((at + 4, length))
        at += 4 + length
    return pieces


def _read_packed(path: Path, pieces: list[Part], shape: tuple[int, int], mm: tuple[float | None, float | None],
                 side: Laterality | None, index: int) -> BScan:
    with open(path, "rb", buffering=0) as file:
        data = _read(file, *pieces[index], pieces[index][1])
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG2000", "JPEG")) as image:
            if (image.height, image.width) != shape:
                raise Refusal("is damaged: a B-scan has another size than is said")
            values = np.asarray(image if image.mode in ("L", "I;16") else image.convert("L"))
    except Refusal:
        raise
    except Exception as error:  # decoders raise many kinds on damaged files
        raise Refusal(f"is damaged ({type(error).__name__} while reading it)") from None
    pixels, facts = from_deep(values, Deep(inverted=False, stored=0, least=16 if values.itemsize > 1 else 8))
    if shows_nothing(pixels):
        raise Refusal("shows nothing: all pixels have the same value")
    scale = find_scale([mm], *shape)
    notes = (*facts.get("notes", ()), *remarks(pixels), *([scale.note] if scale.note else []))
    return BScan(pixels=pixels, number=index + 1, um_per_px_z=scale.z, um_per_px_x=scale.x, laterality=side,
                 notes=notes)
