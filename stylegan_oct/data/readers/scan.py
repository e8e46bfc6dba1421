"""The B-scans of any file that is read here, found by its content and else by its suffix."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.data.files import SUFFIXES as PICTURES
from stylegan_oct.data.files import FolderFiles, Refusal, suffix_of
from stylegan_oct.data.readers.array import MAGIC as NUMPY
from stylegan_oct.data.readers.array import open_npy, open_npz
from stylegan_oct.data.readers.axes import AXES, Axes
from stylegan_oct.data.readers.bscan import MAX_COUNT, BScan, Volume
from stylegan_oct.data.readers.dicom import open_dicom
from stylegan_oct.data.readers.e2e import open_e2e
from stylegan_oct.data.readers.heyex import open_vol, open_xml
from stylegan_oct.data.readers.image import MAGIC, decode, depth_of_pages
from stylegan_oct.data.readers.metaimage import open_metaimage
from stylegan_oct.data.readers.nifti import open_nifti
from stylegan_oct.data.readers.topcon import MAGIC as TOPCON
from stylegan_oct.data.readers.topcon import open_topcon

__all__ = ["AXES", "KNOWN", "PICTURES", "SUFFIXES", "Axes", "BScan", "Volume", "check_selection", "choose",
           "open_volume", "read_scans"]

VOLUMES: dict[str, Callable[[Path], Volume]] = {
    ".dcm": open_dicom, ".dicom": open_dicom, ".vol": open_vol, ".xml": open_xml, ".e2e": open_e2e,
    ".fda": open_topcon, ".fds": open_topcon}
STACKS: dict[str, Callable[[Path, str], Volume]] = {
    ".npy": open_npy, ".npz": open_npz, ".mhd": open_metaimage, ".mha": open_metaimage, ".nii": open_nifti,
    ".nii.gz": open_nifti}  # research formats, whose axes may be in any order
SUFFIXES = (*PICTURES, *VOLUMES, *STACKS)
KNOWN = ("PNG, JPEG, TIFF, BMP, lossless WebP, DICOM, Heidelberg .vol, .xml and .e2e, Topcon .fda and .fds, "
         "MetaImage .mhd and .mha, NIfTI .nii and .nii.gz, and NumPy .npy and .npz")


def read_scans(path: Path | str, selection: str = "all", *, channels: int = 1,
               axes: Axes = "auto") -> Iterator[BScan]:
    """Yield the chosen B-scans of a file, one in memory at a time.

    Args:
        path: a file of a format in `KNOWN`; each page of a TIFF is a B-scan.
        selection: "all", "middle", or numbers from 1 such as "3-9" or "1,5,20-24".
        channels: 3 keeps the colours of pictures.
        axes: what the axes of a MetaImage, NIfTI or NumPy file are, in its order: n counts the B-scans, h goes down,
            w along; "auto": "whn" of MetaImage and NIfTI, "nhw" of NumPy.
    Raises:
        ConfigError: the selection makes no sense.
        DataError: the file or one of the B-scans cannot be read, none has the chosen numbers, or the package that
            reads the format is missing.
    """
    number = 0
    try:
        volume = open_volume(Path(path), channels=channels, axes=axes)
        for index in choose(volume.count, selection):
            number = index + 1
            yield volume.read(index)
    except Refusal as refusal:
        raise DataError(f"{path}{f', B-scan {number}' if number else ''}: {refusal}.") from None


def open_volume(path: Path, *, channels: int = 1, axes: Axes = "auto") -> Volume:
    """Return the B-scans of a file, none of them read yet. Arguments as of `read_scans`.

    Raises:
        Refusal: the file cannot be used, or the package that reads its format is missing.
    """
    if not path.exists():
        raise Refusal("does not exist")
    if not path.is_file():
        raise Refusal("is not a regular file")
    try:
        reader = _reader(path, axes)
        return reader(path) if reader else _open_picture(path, channels)
    except OSError as error:
        raise Refusal(f"cannot be read: {error.strerror or 'input or output error'}") from None


def choose(count: int, selection: str) -> list[int]:
    """Return the indices, from 0, that a selection takes of so many B-scans; numbers beyond the last are left out.

    Raises:
        ConfigError: the selection makes no sense.
        Refusal: it takes none.
    """
    if selection == "all":
        return list(range(count))
    if selection == "middle":
        return [count // 2]
    ranges = check_selection(selection)
    taken = [index for index in range(count) if any(first <= index + 1 <= last for first, last in ranges)]
    if not taken:
        raise Refusal(f"holds {count} B-scan{'s' * (count > 1)}, none of those chosen ({selection})")
    return taken


def check_selection(selection: str) -> list[tuple[int, int]]:
    """Return the ranges, first and last number, of a selection; none where it is a word.

    Raises:
        ConfigError: it makes no sense.
    """
    if selection in ("all", "middle"):
        return []
    ranges = []
    for part in selection.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise ConfigError(f"B-scans are chosen with all, middle, or numbers from 1 such as 3-9 or 1,5,20-24; "
                              f"got {selection!r}.")
        ranges.append((first, last))
    return ranges


def _reader(path: Path, axes: str) -> Callable[[Path], Volume] | None:
    """Return what opens the file; None for pictures."""
    with open(path, "rb") as file:
        start = file.read(132)
    if not start:
        raise Refusal("is empty (0 bytes)")
    if start[128:] == b"DICM":
        return open_dicom
    if start.startswith(b"HSF-OCT"):
        return open_vol
    if start.startswith(b"CMDb"):
        return open_e2e
    if start.startswith(TOPCON):
        return open_topcon
    if start.startswith(NUMPY):
        return partial(open_npy, axes=axes)
    if MAGIC.match(start):
        return None
    suffix = suffix_of(path.name)
    if suffix in STACKS:
        return lambda place: STACKS[suffix](place, axes)
    if suffix in VOLUMES:
        return VOLUMES[suffix]
    if suffix in PICTURES:
        return None
    raise Refusal(f"is of no format that is read here: {KNOWN}")


def _open_picture(path: Path, channels: int) -> Volume:
    data = FolderFiles(path.parent).read(path.name)
    first = decode(data, channels)
    pages = min(int(first.facts.get("pages", 1)), MAX_COUNT + 1)  # more are refused below
    deep = 1 < pages <= MAX_COUNT and first.facts["mode"].startswith("I")
    bits = depth_of_pages(data, pages) if deep else None
    return Volume(pages, partial(_read_page, data, channels, bits))


def _read_page(data: bytes, channels: int, bits: int | None, index: int) -> BScan:
    picture = decode(data, channels, page=index, bits=bits)
    return BScan(pixels=picture.pixels, number=index + 1, coloured=picture.facts.get("coloured", 0.0),
                 notes=picture.notes)
