"""Exports of the Heidelberg Eye Explorer: .vol and .xml. Names, numbers and dates of patients are never read from a
.vol, and never kept of an .xml.
"""

import struct
from collections.abc import Callable
from functools import partial
from io import FileIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from dnnlib.files import Finder
from stylegan_oct.data.files import MAX_FILE_BYTES, FolderFiles, Refusal
from stylegan_oct.data.readers.brightness import remarks, shows_nothing
from stylegan_oct.data.readers.bscan import BScan, Laterality, Volume, check_size, to_laterality
from stylegan_oct.data.readers.image import decode
from stylegan_oct.data.readers.scale import find_scale

HEADER = 2048           # bytes of the header of a .vol
GEOMETRY = "<3i3d2i"    # at byte 12: columns, B-scans, rows; mm per column, between B-scans, per row; size of the SLO
SIDE_AT = 84            # 4 bytes, OD or OS; after it the time of the examination, which is skipped
BSCAN_HEADER_AT = 100   # int32, bytes before the pixels of each B-scan; after it the numbers of scan and patient
MOST_BEYOND = 0.05       # share of the values that may lie above 1, where reflectivity ends
STORED_AS_MISSING = 1e38  # Heidelberg stores the largest float32, 3.4e38, where there is no value


def open_vol(path: Path) -> Volume:
    """Return the B-scans of a .vol, reading sizes, scales and the side of the eye, each from its place in the header.

    Raises:
        Refusal: the sizes make no sense, or the file is shorter than they say.
    """
    with open(path, "rb", buffering=0) as file:  # a buffer would take in the patient's fields, which lie between
        columns, count, rows, mm_x, _, mm_z, *slo = struct.unpack(GEOMETRY, _bytes_at(file, 12, 44))
        side = to_laterality(_bytes_at(file, SIDE_AT, 4).decode("latin-1"))
        (header,) = struct.unpack("<i", _bytes_at(file, BSCAN_HEADER_AT, 4))
    if count < 1:
        raise Refusal("holds no B-scans")
    try:
        check_size(columns, rows)
    except Refusal as refusal:
        raise Refusal(f"is no .vol of OCT scans, or damaged: its sizes make no sense; a B-scan {refusal}") from None
    if header < 0 or min(slo) < 0:
        raise Refusal("is no .vol of OCT scans, or damaged: the sizes in its header make no sense")
    first = HEADER + slo[0] * slo[1] + header
    step = header + 4 * rows * columns
    if path.stat().st_size < first + (count - 1) * step + 4 * rows * columns:
        raise Refusal(f"is cut short: it should hold {count} B-scans of {columns} x {rows} pixels")
    return Volume(count, partial(_read_vol, path, first, step, (rows, columns), (mm_z, mm_x), side))


def _read_vol(path: Path, first: int, step: int, shape: tuple[int, int], mm: tuple[float, float],
              side: Laterality | None, index: int) -> BScan:
    values = np.fromfile(path, "<f4", shape[0] * shape[1], offset=first + index * step).reshape(shape)
    return reflected(values, ~(np.abs(values) < STORED_AS_MISSING), mm, index + 1, side)  # NaN is missing, too


def reflected(values: NDArray[np.float32], missing: NDArray[np.bool_], mm: tuple[float | None, float | None],
              number: int, side: Laterality | None) -> BScan:
    """Return the B-scan of some reflectivity.

    Args:
        values: [H, W], 0 to 1.
        missing: [H, W], where there is no value.
        mm: height and width of a pixel in millimetres, as the file claims it.
        number: place in the file, from 1.
        side: the eye.
    Raises:
        Refusal: it is no reflectivity, or nothing is there to see.
    """
    pixels = display(values, missing)
    scale = find_scale([mm], *values.shape)
    notes = [*remarks(pixels, missing), *([scale.note] if scale.note else [])]
    return BScan(pixels=pixels, missing=missing if missing.any() else None, number=number, um_per_px_z=scale.z,
                 um_per_px_x=scale.x, laterality=side, notes=tuple(notes))


def display(reflectivity: NDArray[np.float32], missing: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return reflectivity, 0 to 1, as the device's software shows it: logarithmically, over about 36 dB.

    Args:
        reflectivity: [H, W].
        missing: [H, W], shown black.
    Raises:
        Refusal: nothing is there to see, or it is no reflectivity.
    """
    beyond = float((reflectivity[~missing] > 1).mean()) if not missing.all() else 0.0
    if beyond > MOST_BEYOND:
        raise Refusal(f"holds no reflectivity, which ends at 1: {beyond:.0%} of its values are larger")
    share = (np.log(np.where(missing, 0, reflectivity).clip(0, 1) + 2.44e-4) + 8.3) / 8.285
    grey: NDArray[np.uint8] = np.rint(255 * share.clip(0, 1)).astype(np.uint8)
    if shows_nothing(grey, missing):
        raise Refusal("shows nothing: all pixels have the same value")
    return grey


def _bytes_at(file: FileIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    data = file.read(count)
    if len(data) < count:
        raise Refusal("is cut short within its header")
    return data


def open_xml(path: Path) -> Volume:
    """Return the B-scans that the .xml of an export lists; their pictures lie beside it.

    Raises:
        Refusal: it is no XML, or lists no OCT scans.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise Refusal(f"is larger than {MAX_FILE_BYTES >> 20} MiB")
    reads: list[Callable[[int], BScan]] = []
    finder = Finder()  # Windows tells .TIF and .tif not apart
    try:
        for series in ElementTree.parse(path).iter("Series"):
            side = to_laterality(series.findtext("Laterality"))
            for image in series.findall(".//ImageType[Type='OCT'].."):
                place = image.findtext("ImageData/ExamURL", "").replace("\\", "/").rpartition("/")[2]
                facts = [image.findtext(f"OphthalmicAcquisitionContext/{name}") or None
                         for name in ("ScaleY", "ScaleX", "Height", "Width")]
                picture = finder.find(path.parent, place) or path.parent / place
                reads.append(partial(_read_picture, picture, facts, side))
    except (ElementTree.ParseError, ValueError, LookupError):  # the last two: of unknown encodings
        raise Refusal("is no well-formed XML") from None
    if not reads:
        raise Refusal("is XML, but not that of a Heidelberg export with OCT scans")
    return Volume(len(reads), lambda index: reads[index](index))


def _read_picture(path: Path, facts: list[str | None], side: Laterality | None, index: int) -> BScan:
    """Return a picture with the scale of its .xml, which is that of pictures of the size that the .xml says."""
    try:
        data = FolderFiles(path.parent).read(path.name)
    except Refusal:
        raise Refusal("its picture is not beside the .xml, or cannot be read") from None
    picture = decode(data)
    resized = any(_differs(said, size) for said, size in zip(facts[2:], picture.pixels.shape, strict=True))
    scale = find_scale([(facts[0], facts[1])], *picture.pixels.shape)
    note = "the pixel size in the .xml is not used: it is for a picture of another size" if resized else scale.note
    return BScan(pixels=picture.pixels, number=index + 1, um_per_px_z=None if resized else scale.z,
                 um_per_px_x=None if resized else scale.x, laterality=side,
                 notes=(*picture.notes, *([note] if note else [])))


def _differs(said: str | None, size: int) -> bool:
    try:
        return said is not None and float(said) != size
    except ValueError:
        return True
