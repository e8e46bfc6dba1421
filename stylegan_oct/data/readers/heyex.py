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
from stylegan_oct.data.readers.bscan import BScan, Laterality, Volume, to_laterality, to_um
from stylegan_oct.data.readers.image import MAX_PIXELS, MIN_SIDE, decode
from stylegan_oct.data.sources import MAX_FILE_BYTES, Refusal

HEADER = 2048           # bytes of the header of a .vol
GEOMETRY = "<3i3d2i"    # at byte 12: columns, B-scans, rows; mm per column, between B-scans, per row; size of the SLO
SIDE_AT = 84            # 4 bytes, OD or OS; after it the time of the examination, which is skipped
BSCAN_HEADER_AT = 100   # int32, bytes before the pixels of each B-scan; after it the numbers of scan and patient
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
    if min(rows, columns) < MIN_SIDE or rows * columns > MAX_PIXELS or header < 0 or min(slo) < 0:
        raise Refusal("is no .vol of OCT scans, or damaged: the sizes in its header make no sense")
    first = HEADER + slo[0] * slo[1] + header
    step = header + 4 * rows * columns
    if path.stat().st_size < first + (count - 1) * step + 4 * rows * columns:
        raise Refusal(f"is cut short: it should hold {count} B-scans of {columns} x {rows} pixels")
    return Volume(count, partial(_read_vol, path, first, step, (rows, columns), (to_um(mm_z), to_um(mm_x)), side))


def _read_vol(path: Path, first: int, step: int, shape: tuple[int, int], um: tuple[float | None, float | None],
              side: Laterality | None, index: int) -> BScan:
    values = np.fromfile(path, "<f4", shape[0] * shape[1], offset=first + index * step).reshape(shape)
    missing = ~(np.abs(values) < STORED_AS_MISSING)  # NaN too
    return BScan(pixels=display(values, missing), missing=missing if missing.any() else None, number=index + 1,
                 um_per_px_z=um[0], um_per_px_x=um[1], laterality=side)


def display(reflectivity: NDArray[np.float32], missing: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return reflectivity, 0 to 1, as the device's software shows it: logarithmically, over about 36 dB.

    Args:
        reflectivity: [H, W].
        missing: [H, W], shown black.
    Raises:
        Refusal: nothing is there to see.
    """
    share = (np.log(np.where(missing, 0, reflectivity).clip(0, 1) + 2.44e-4) + 8.3) / 8.285
    grey: NDArray[np.uint8] = np.rint(255 * share.clip(0, 1)).astype(np.uint8)
    if np.ptp(grey) < 2:
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
                um_z, um_x = (_number(image.findtext(f"OphthalmicAcquisitionContext/{name}"))
                              for name in ("ScaleY", "ScaleX"))
                picture = finder.find(path.parent, place) or path.parent / place
                reads.append(partial(_read_picture, picture, (um_z, um_x), side))
    except (ElementTree.ParseError, ValueError, LookupError):  # the last two: of unknown encodings
        raise Refusal("is no well-formed XML") from None
    if not reads:
        raise Refusal("is XML, but not that of a Heidelberg export with OCT scans")
    return Volume(len(reads), lambda index: reads[index](index))


def _read_picture(path: Path, um: tuple[float | None, float | None], side: Laterality | None, index: int) -> BScan:
    try:
        data = path.read_bytes()
    except OSError:
        raise Refusal("its picture is not beside the .xml, or cannot be read") from None
    return BScan(pixels=decode(data).pixels, number=index + 1, um_per_px_z=um[0], um_per_px_x=um[1], laterality=side)


def _number(text: str | None) -> float | None:
    try:
        return to_um(float(text or ""))
    except ValueError:
        return None
