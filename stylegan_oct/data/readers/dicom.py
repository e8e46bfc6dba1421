"""DICOM ophthalmic tomography (PS3.3 C.8.17.7), by pydicom; of the data set only the elements listed here are read."""

import io
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stylegan_oct.data.files import Refusal
from stylegan_oct.data.readers.brightness import remarks, shows_nothing, to_8_bits
from stylegan_oct.data.readers.bscan import BScan, Volume, check_size, to_laterality
from stylegan_oct.data.readers.dicom_display import Layout, cut_off, ends_of, read_layout, stored_values
from stylegan_oct.data.readers.scale import find_scale

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

OPT = "1.2.840.10008.5.1.4.1.1.77.1.5.4"  # SOP class Ophthalmic Tomography Image Storage
GROUP_LENGTH = b"\x02\0\0\0UL\4\0"   # element (0002,0000)
DEFLATED = "1.2.840.10008.1.2.1.99"
MAX_INFLATED = 512 * 2**20   # bytes; a volume of 512 B-scans of 512 x 1024 pixels has half of it
GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
OF_FRAME = {"PixelSpacing": "PixelMeasuresSequence", "FrameLaterality": "FrameAnatomySequence",
            "RescaleSlope": "PixelValueTransformationSequence", "RescaleIntercept": "PixelValueTransformationSequence",
            "WindowCenter": "FrameVOILUTSequence", "WindowWidth": "FrameVOILUTSequence",
            "VOILUTFunction": "FrameVOILUTSequence", "VOILUTSequence": "FrameVOILUTSequence"}
SIDES = ("FrameLaterality", "ImageLaterality", "Laterality")
ELEMENTS = [
    "SOPClassUID", "Modality", "BurnedInAnnotation", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "PresentationLUTShape", "ModalityLUTSequence", *SIDES[1:], *OF_FRAME, *GROUPS,
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "FloatPixelData", "DoubleFloatPixelData", "PixelData"]
Facts = dict[str, list[Any]]


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
        _check_deflated(path)
        dataset = pydicom.dcmread(path, force=True, specific_tags=ELEMENTS)
        layout = _check(dataset)
        own, shared = ([_of_groups(item) for item in dataset.get(groups) or []] for groups in GROUPS)
        top = {name: [value] for name in ELEMENTS[:-1] if name in dataset and name not in GROUPS
               if (value := _value(dataset, name)) is not None}
        for groups in GROUPS:  # they hold times and comments, too
            if groups in dataset:
                delattr(dataset, groups)
    return Volume(int(dataset.get("NumberOfFrames") or 1),
                  lambda index: _read_frame(dataset, layout, [*own[index:index + 1], *shared[:1], top], index))


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


def _check_deflated(path: Path) -> None:
    """Refuse a data set that is deflated as a whole, which pydicom unpacks at once, and unpacks to more than a scan."""
    with open(path, "rb") as file:
        head = file.read(2**20)
        if DEFLATED.encode() not in head:
            return
        # The group length comes first in the header that is not deflated, and says where that ends.
        at = head.find(GROUP_LENGTH, 0, 300) + len(GROUP_LENGTH)
        if at < len(GROUP_LENGTH):
            raise Refusal("is deflated as a whole in an unusual way; store it uncompressed")
        file.seek(at + 4 + int.from_bytes(head[at:at + 4], "little"))
        packer, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        for block in iter(partial(file.read, 2**20), b""):
            while block and not packer.eof:
                total += len(packer.decompress(block, 2**22))
                block = packer.unconsumed_tail
                if total > MAX_INFLATED:
                    raise Refusal(f"is a decompression bomb: it unpacks to more than {MAX_INFLATED >> 20} MiB")


def _check(dataset: "Dataset") -> Layout:
    """Refuse what is no OCT scan or is stored in a way that is not read; return how the values are stored."""
    modality = str(dataset.get("Modality", ""))
    if not modality and "PixelData" not in dataset:
        raise Refusal("is no DICOM with pixels, or damaged")
    if modality != "OPT" and dataset.get("SOPClassUID") != OPT:
        shown = modality if re.fullmatch("[A-Z]{2,4}", modality) else "unknown"
        raise Refusal(f"is DICOM of the modality {shown}; only OPT, ophthalmic tomography, is read")
    if dataset.get("BurnedInAnnotation") == "YES":
        raise Refusal("has text burned into its pixels, by its own account, which may name the patient")
    compressed = _is_compressed(dataset)
    layout = read_layout(dataset, compressed=compressed)
    frames = int(dataset.get("NumberOfFrames", 1) or 0)
    if frames < 1 or "PixelData" not in dataset:
        raise Refusal("holds no frames")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    try:
        check_size(columns, rows)
    except Refusal as refusal:
        raise Refusal(str(refusal).replace("is ", "has frames of ", 1)) from None
    size = rows * columns * dataset.BitsAllocated // 8
    if compressed:
        _check_fragments(dataset.PixelData, frames, size)
    elif len(dataset.PixelData) < size * frames:
        raise Refusal("is damaged or cut short: there are fewer pixels than its header says")
    elif len(dataset.PixelData) >= size * frames + size // rows:  # a row: sheared, were it read
        raise Refusal("is damaged: there are more pixels than its header says")
    return layout


def _is_compressed(dataset: "Dataset") -> bool:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    syntax = UID(dataset.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))
    try:
        if syntax.is_encapsulated and not get_decoder(syntax).is_available:
            raise Refusal(f"is compressed as {syntax.name}, for which no decoder is installed; try: pip install "
                          "pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or store it uncompressed")
    except NotImplementedError:
        raise Refusal("is compressed in a way that is not read; store it uncompressed") from None
    return bool(syntax.is_encapsulated)


def _check_fragments(data: bytes, frames: int, size: int) -> None:
    """Refuse fewer compressed pieces than frames, and a frame that may unpack to far more than its header says."""
    from pydicom.encaps import parse_basic_offsets, parse_fragments

    buffer = io.BytesIO(data)
    parse_basic_offsets(buffer)
    count, _ = parse_fragments(buffer)
    if count < frames:
        raise Refusal("is damaged or cut short: there are fewer pixels than its header says")
    if len(data) > 2 * size * frames + 2**16:
        raise Refusal("holds far more compressed bytes than its frames have pixels: a decompression bomb, or damaged")


def _of_groups(groups: "Dataset") -> Facts:
    """Return what is kept of the functional groups of a frame, or of all."""
    return {name: [value for item in groups.get(group) or [] if (value := _value(item, name)) is not None]
            for name, group in OF_FRAME.items()}


def _value(dataset: "Dataset", name: str) -> Any:
    """Return an element, None where it is missing or empty, NaN where it is garbled."""
    try:
        value = dataset.get(name)
    except Exception:  # pydicom converts on access, and garbled numbers raise many kinds
        return float("nan")
    return None if value is None or value == "" or (isinstance(value, Sequence) and not len(value)) else value


def _first(levels: Sequence[Facts], name: str) -> Any:
    """Return an element from the groups of the frame, else of all frames, else of the data set itself."""
    return next((facts[name][0] for facts in levels if facts.get(name)), None)


def _read_frame(dataset: "Dataset", layout: Layout, levels: Sequence[Facts], index: int) -> BScan:
    from pydicom.pixels import pixel_array

    facts: Mapping[str, Any] = {name: _first(levels, name) for name in (*OF_FRAME, "ModalityLUTSequence")}
    with _quiet():
        raw = pixel_array(dataset, index=index, raw=True, correct_unused_bits=False)
        native = np.ascontiguousarray(raw, raw.dtype.newbyteorder("="))
        values = stored_values(native.view(f"u{raw.dtype.itemsize}"), layout)
        black, white, notes = ends_of(layout, facts)
        pixels = to_8_bits(values, black, white)
        missing = np.zeros(values.shape, bool)
        if layout.padding is not None:
            missing = (values >= layout.padding[0]) & (values <= layout.padding[1])
            pixels[missing] = 0
        if shows_nothing(pixels, missing):
            raise Refusal("shows nothing: all pixels have the same value")
        notes += cut_off(values[~missing], black, white) + remarks(pixels, missing)
        scale = find_scale([_pair(claim) for level in levels for claim in level.get("PixelSpacing", [])], *values.shape)
        notes += [scale.note] if scale.note else []
        eyes = {to_laterality(side) for name in SIDES for level in levels for side in level.get(name, [])} - {None}
        notes += ["says that it is of both eyes; neither is taken"] if len(eyes) > 1 else []
        return BScan(pixels=pixels, number=index + 1, um_per_px_z=scale.z, um_per_px_x=scale.x,
                     laterality=eyes.pop() if len(eyes) == 1 else None, notes=tuple(notes),
                     missing=missing if missing.any() else None)


def _pair(claim: Any) -> tuple[object, object]:
    """Return height and width; NaN where it is no pair."""
    pair = isinstance(claim, Sequence) and not isinstance(claim, str) and len(claim) == 2
    return (claim[0], claim[1]) if pair else (float("nan"), float("nan"))
