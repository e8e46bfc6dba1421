"""DICOM ophthalmic tomography (PS3.3 C.8.17.7), by pydicom; of the data set only the elements listed here are read."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stylegan_oct.data.readers.bscan import BScan, Volume, to_laterality, to_um
from stylegan_oct.data.readers.image import MAX_PIXELS, MIN_SIDE
from stylegan_oct.data.sources import Refusal

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

OPT = "1.2.840.10008.5.1.4.1.1.77.1.5.4"  # SOP class Ophthalmic Tomography Image Storage
GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
ELEMENTS = [
    "SOPClassUID", "Modality", "BurnedInAnnotation", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelSpacing",
    "ImageLaterality", "Laterality", *GROUPS, "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"]


def open_dicom(path: Path) -> Volume:
    """Return the frames of a DICOM file.

    Raises:
        Refusal: it is no DICOM, of another modality, its pixels are of a kind that is not read, or pydicom is missing.
    """
    try:
        import pydicom
    except ImportError:
        raise Refusal("needs pydicom; install it with: pip install 'stylegan-oct[dicom]'") from None
    with _quiet():
        dataset = pydicom.dcmread(path, force=True, specific_tags=ELEMENTS)
        _check(dataset)
        count = int(dataset.get("NumberOfFrames") or 1)
        facts = [_facts(dataset, index) for index in range(count)]
        for groups in GROUPS:  # they hold times and comments, too
            if groups in dataset:
                delattr(dataset, groups)
    return Volume(count, partial(_read_frame, dataset, facts))


@contextmanager
def _quiet() -> Iterator[None]:
    """Turn whatever goes wrong into a line without pydicom's words, which may quote the values of the data set."""
    from pydicom.config import disable_value_validation
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except (Refusal, OSError):
        raise
    except Exception as error:  # damaged files raise many kinds, and one file must not stop thousands
        raise Refusal(f"is no DICOM, or damaged ({type(error).__name__} while reading it)") from None


def _check(dataset: "Dataset") -> None:
    """Refuse what is no OCT scan or is stored in a way that is not read."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    modality = str(dataset.get("Modality", ""))
    if not modality and "PixelData" not in dataset:
        raise Refusal("is no DICOM with pixels, or damaged")
    if modality != "OPT" and dataset.get("SOPClassUID") != OPT:
        shown = modality if re.fullmatch("[A-Z]{2,4}", modality) else "unknown"
        raise Refusal(f"is DICOM of the modality {shown}; only OPT, ophthalmic tomography, is read")
    if dataset.get("BurnedInAnnotation") == "YES":
        raise Refusal("has text burned into its pixels, by its own account, which may name the patient")
    if int(dataset.get("NumberOfFrames", 1) or 0) < 1 or "PixelData" not in dataset:
        raise Refusal("holds no frames")
    kind = (dataset.get("SamplesPerPixel"), dataset.get("PhotometricInterpretation"))
    bits = (dataset.get("BitsAllocated"), dataset.get("PixelRepresentation"))
    if kind != (1, "MONOCHROME2") or bits not in ((8, 0), (16, 0)):
        raise Refusal("stores its pixels otherwise than as MONOCHROME2 of 8 or 16 bits without sign")
    if min(dataset.Rows, dataset.Columns) < MIN_SIDE or dataset.Rows * dataset.Columns > MAX_PIXELS:
        raise Refusal(f"has frames of {dataset.Columns} x {dataset.Rows} pixels")
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))
    try:
        if syntax.is_compressed and not get_decoder(syntax).is_available:
            raise Refusal(f"is compressed as {syntax.name}, for which no decoder is installed; try: pip install "
                          "pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or store it uncompressed")
    except NotImplementedError:
        raise Refusal("is compressed in a way that is not read; store it uncompressed") from None
    least = 1 if syntax.is_compressed else dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
    if len(dataset.PixelData) < least * int(dataset.get("NumberOfFrames", 1)):
        raise Refusal("is damaged or cut short: there are fewer pixels than its header says")


def _facts(dataset: "Dataset", index: int) -> dict[str, Any]:
    """Return what is kept of a frame beside its pixels."""
    spacing = _of_frame(dataset, index, "PixelMeasuresSequence", "PixelSpacing") or (None, None)
    told = (_of_frame(dataset, index, "FrameAnatomySequence", "FrameLaterality"), dataset.get("ImageLaterality"),
            dataset.get("Laterality"))
    sides = {side for side in map(to_laterality, told) if side is not None}
    side = sides.pop() if len(sides) == 1 else None  # a file that says both eyes does not tell which
    return {"um_per_px_z": to_um(spacing[0]), "um_per_px_x": to_um(spacing[1]), "laterality": side}


def _read_frame(dataset: "Dataset", facts: Sequence[dict[str, Any]], index: int) -> BScan:
    from pydicom.pixels import pixel_array

    with _quiet():
        values = pixel_array(dataset, index=index)
        scale = 255.0 / (2 ** int(dataset.get("BitsStored") or dataset.BitsAllocated) - 1)
        pixels = np.rint((values * scale).clip(0, 255)).astype(np.uint8)
        if np.ptp(pixels) < 2:
            raise Refusal("shows nothing: all pixels have the same value")
        return BScan(pixels=pixels, number=index + 1, **facts[index])


def _of_frame(dataset: "Dataset", index: int, group: str, element: str) -> Any:
    """Return an element from the functional groups of a frame, those of all frames, or the data set itself."""
    own, shared = (dataset.get(groups) or [] for groups in GROUPS)
    for groups in (*own[index:index + 1], *shared[:1]):
        for item in (groups.get(group) or [])[:1]:
            if item.get(element):
                return item.get(element)
    return dataset.get(element)
