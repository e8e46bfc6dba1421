"""From the files of a device to pictures as a generator knows them, with what was never measured masked out."""

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnlib.errors import DataError
from stylegan_oct.data.files import MAX_FILE_BYTES, Refusal, suffix_of
from stylegan_oct.data.preprocess import ROI_HEIGHT, Preprocess, to_grey, to_square
from stylegan_oct.data.readers.bscan import BScan, Laterality, Volume
from stylegan_oct.data.readers.scan import KNOWN, PICTURES, SUFFIXES, Axes, check_selection, choose, open_volume

# Pictures carry no scale; these are of the Spectralis, which most public sets come from, OCT2017 among them.
ASSUMED_UM_Z = 3.872         # of one of its 496 rows
ASSUMED_ROWS = 496
NATIVE_ROWS = (257, 600)     # with so many rows a picture is taken to be as stored or cut, else to be resized
ASSUMED_WIDTH_UM = (5900.0, 8800.0)  # 20 degrees, stored in at most 512 columns; else 30 degrees
NARROW_COLUMNS = 512


@dataclass(frozen=True, eq=False, kw_only=True)
class Target:
    """A B-scan at the size and in the manner of a generator's pictures."""

    pixels: NDArray[np.uint8]          # [R, R], or [R, R, 3] for a generator with colours
    valid: NDArray[np.bool_]           # [R, R], false where the border was repaired
    um_per_px: tuple[float, float]     # of `pixels`, in depth and along the scan
    scale_assumed: bool                # the file does not tell the scale, or not all of it
    laterality: Laterality | None
    number: int                        # place in its file, from 1
    coloured: float                    # share of clearly coloured pixels; much of it is a photograph, no OCT scan
    notes: tuple[str, ...] = ()        # what is odd about its brightness or scale, each in one line
    path: Path | None = None           # where it came from; for messages, never to be written


@dataclass(frozen=True)
class Refused:
    """A file or B-scan that cannot be used."""

    path: Path
    number: int | None  # of the B-scan; None: the whole file
    reason: str

    def __str__(self) -> str:
        return f"{self.path}{f', B-scan {self.number}' if self.number else ''}: {self.reason}"


def prepare(bscan: BScan, settings: Preprocess) -> Target:
    """Return the B-scan as the pictures that a generator learned from were made.

    Args:
        bscan: as read.
        settings: `GeneratorInfo.preprocess`.
    Raises:
        Refusal: it is mostly padding.
    """
    pixels = bscan.pixels
    if settings.channels == 1:
        pixels = to_grey(pixels)
    elif pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, np.newaxis], 3, axis=2)
    square = to_square(pixels, settings, bscan.missing)
    known = (bscan.um_per_px_z, bscan.um_per_px_x)
    guess = assumed_scale(*pixels.shape[:2])
    um_z, um_x = (value or other for value, other in zip(known, guess, strict=True))
    return Target(pixels=square.pixels, valid=square.valid, um_per_px=(um_z * square.scale[0], um_x * square.scale[1]),
                  scale_assumed=None in known, laterality=bscan.laterality, number=bscan.number,
                  coloured=bscan.coloured, notes=bscan.notes)


def assumed_scale(rows: int, columns: int) -> tuple[float, float]:
    """Return the micrometres per pixel, in depth and along the scan, of a picture that carries no scale."""
    native = NATIVE_ROWS[0] <= rows <= NATIVE_ROWS[1]
    um_z = ASSUMED_UM_Z if native else ASSUMED_UM_Z * ASSUMED_ROWS / rows
    return um_z, ASSUMED_WIDTH_UM[columns > NARROW_COLUMNS] / columns


def assumed_scale_of(row: Mapping[str, Any], resolution: int) -> tuple[float, float]:
    """Return the same of a picture of an archive, by the size of its scan in the manifest and how it was made square.

    Args:
        row: of the manifest; {} where there is none: a whole scan of 20 degrees, as simulated scans are.
        resolution: of the picture.
    """
    height, width, down, across = (row.get(name) for name in ("height", "width", "scale_y", "scale_x"))
    if not all(isinstance(value, int | float) and 0 < value < 1e6 for value in (height, width, down, across)):
        return ASSUMED_UM_Z * ASSUMED_ROWS / resolution, ASSUMED_WIDTH_UM[0] / resolution
    um_z, um_x = assumed_scale(int(height or 0), int(width or 0))
    return um_z * float(down or 0), um_x * float(across or 0)


def pixel_size(preprocess: Preprocess) -> tuple[float, float] | None:
    """Return (z, x) um per pixel of pictures made of whole Spectralis scans of 20 degrees.

    None where scans of other shapes were padded or cut to a square, so that the scale differs from scan to scan.
    """
    if preprocess.aspect != "stretch":
        return None
    z, x = assumed_scale_of({}, preprocess.resolution)
    return (z * ROI_HEIGHT if preprocess.roi else z), x


def load_targets(paths: Path | Sequence[Path], selection: str, settings: Preprocess, *,
                 axes: Axes = "auto") -> Iterator[Target | Refused]:
    """Return the B-scans of files and folders one after another; one that cannot be used is reported in its place.

    Args:
        paths: files of any format that is read, and folders of them.
        selection: of the B-scans of each file: "all", "middle", or numbers from 1 such as "3-9".
        settings: `GeneratorInfo.preprocess`.
        axes: of MetaImage, NIfTI and NumPy files, as of `read_scans`.
    Raises:
        ConfigError: the selection makes no sense.
        DataError: there is no file.
    """
    check_selection(selection)
    files = [file for path in ([paths] if isinstance(paths, Path) else paths) for file in scan_files(path)]
    if not files:
        raise DataError(f"There are no scans in {paths}. Give files or folders of {KNOWN}."
                        if isinstance(paths, Path) else f"Give one or more files or folders of {KNOWN}.")
    return (item for file in files for item in _load(file, selection, settings, axes))


def _load(path: Path, selection: str, settings: Preprocess, axes: Axes) -> Iterator[Target | Refused]:
    try:
        volume = open_volume(path, channels=3, axes=axes)  # with colours, to tell photographs
        indices = choose(volume.count, selection)
    except Refusal as refusal:
        yield Refused(path, None, str(refusal))
        return
    for index in indices:
        yield _load_one(path, volume, index, settings)


def _load_one(path: Path, volume: Volume, index: int, settings: Preprocess) -> Target | Refused:
    number = index + 1 if volume.count > 1 else None
    try:
        return replace(prepare(volume.read(index), settings), path=path)
    except Refusal as refusal:
        return Refused(path, number, str(refusal))
    except OSError as error:
        return Refused(path, number, f"cannot be read: {error.strerror or 'input or output error'}")
    except Exception as error:  # whatever is odd about one scan must not stop the others
        return Refused(path, number, f"cannot be processed ({type(error).__name__})")


def scan_files(path: Path) -> list[Path]:
    """Return a file itself, or the scans below a folder, sorted."""
    if not path.is_dir():
        return [path]
    found = []
    for folder, children, names in os.walk(path):
        children[:] = sorted(name for name in children if not name.startswith("."))
        exports = [_content(Path(folder) / name) for name in names if name.lower().endswith(".xml")]
        for name in sorted(names):
            suffix = suffix_of(name)
            if name.startswith(".") or any(suffix in PICTURES and _form(name) in export for export in exports):
                continue  # hidden, or a picture that an .xml beside it lists and through which it is read
            if suffix in SUFFIXES or (not suffix and name != "DICOMDIR" and _is_dicom(Path(folder) / name)):
                found.append(Path(folder) / name)
    return found


def _content(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return _form(file.read(MAX_FILE_BYTES).decode("utf-8", "replace"))
    except OSError:  # reading it as a scan will say so
        return ""


def _form(text: str) -> str:
    """Return a text in which names are alike that differ in case or in the form of their letters."""
    return unicodedata.normalize("NFC", text).casefold()


def _is_dicom(path: Path) -> bool:
    """Tell whether a file without suffix, as devices name them, is DICOM."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
