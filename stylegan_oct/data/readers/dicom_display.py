"""How the stored values of a DICOM frame are meant to be shown (PS3.3 C.7.6.3, C.11): right, or refused by name.

All that is followed is linear, so two values say it: the one shown black and the one shown white.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stylegan_oct.data.files import Refusal

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Values = NDArray[np.int64]
INVERTED = {("MONOCHROME2", ""): False, ("MONOCHROME2", "IDENTITY"): False,
            ("MONOCHROME1", ""): True, ("MONOCHROME1", "INVERSE"): True}
MOST_CUT = 0.05   # share of the pixels that may lie above a window


@dataclass(frozen=True)
class Layout:
    """How the values of all frames are stored."""

    bits: int        # that count
    shift: int       # bits below them
    signed: bool
    inverted: bool   # low values are white
    padding: tuple[int, int] | None   # from and to which value there is no scan

    @property
    def range(self) -> tuple[int, int]:
        """The least and largest value."""
        low = -2**(self.bits - 1) if self.signed else 0
        return low, low + 2**self.bits - 1


def read_layout(dataset: "Dataset", *, compressed: bool) -> Layout:
    """Return how the values are stored.

    Raises:
        Refusal: in a way that is not read, or that contradicts itself.
    """
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    shape = str(dataset.get("PresentationLUTShape") or "")
    samples, allocated = int(dataset.get("SamplesPerPixel") or 1), int(dataset.get("BitsAllocated") or 0)
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise Refusal("stores its pixels as floating-point numbers; 8 or 16 bits are read")
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or samples != 1:
        known = re.fullmatch(r"MONOCHROME[12]|RGB|PALETTE COLOR|YBR_[A-Z]{2,7}(_4\d\d)?", photometric)
        shown = photometric if known else "unknown"
        raise Refusal(f"stores its pixels otherwise than as MONOCHROME1 or MONOCHROME2: {shown}, {samples} samples")
    if allocated not in (8, 16):
        raise Refusal(f"stores its pixels in {allocated} bits; 8 or 16 are read")
    if (photometric, shape) not in INVERTED:
        raise Refusal(f"contradicts itself on what is white: {photometric} and a presentation that is "
                      f"{shape if shape in ('IDENTITY', 'INVERSE') else 'unknown'}")
    bits = int(dataset.get("BitsStored") or allocated)
    high = bits - 1 if dataset.get("HighBit") is None else int(dataset.HighBit)
    if not 1 <= bits <= high + 1 <= allocated:
        raise Refusal(f"says that {bits} bits of {allocated} count and that the highest is bit {high}, which cannot be")
    if compressed and high != bits - 1:
        raise Refusal(f"is compressed, and the highest of its {bits} bits is bit {high}; store it uncompressed")
    signed = int(dataset.get("PixelRepresentation") or 0) == 1
    return Layout(bits, high + 1 - bits, signed, INVERTED[photometric, shape], _padding(dataset, bits, signed))


def _padding(dataset: "Dataset", bits: int, signed: bool) -> tuple[int, int] | None:
    ends = [int(end) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")
            if (end := dataset.get(name)) is not None]
    if "PixelPaddingValue" not in dataset or not ends:
        return None
    sign = 1 << (bits - 1)
    if signed:  # some write these as unsigned
        ends = [((end & (2 * sign - 1)) ^ sign) - sign for end in ends]
    return min(ends), max(ends)


def stored_values(raw: NDArray[Any], layout: Layout) -> Values:
    """Return the values of the bits that count.

    Args:
        raw: [H, W], 8 or 16 bits, unsigned, as they lie in the file.
        layout: which bits count.
    Raises:
        Refusal: there is something above these bits.
    """
    shifted = raw.astype(np.int64) >> layout.shift
    values: Values = shifted & (2**layout.bits - 1)
    if layout.signed:
        values = np.where(values >> (layout.bits - 1), values - 2**layout.bits, values)
    above = shifted >> layout.bits
    extended = (1 << max(8 * raw.dtype.itemsize - layout.bits - layout.shift, 0)) - 1  # the sign, in all bits above
    if ((above != 0) & ~((values < 0) & (above == extended))).any():
        raise Refusal(f"holds values above the {layout.bits} bits that it says are stored")
    return values


def ends_of(layout: Layout, facts: Mapping[str, Any]) -> tuple[float, float, list[str]]:
    """Return the stored values that are shown black and white, and what is odd about the window.

    Args:
        layout: of the values.
        facts: of the frame: RescaleSlope, RescaleIntercept, WindowCenter, WindowWidth, VOILUTFunction; whether there
            are VOILUTSequence and ModalityLUTSequence.
    Raises:
        Refusal: they are shown in a way that is not read.
    """
    slope, intercept = (_number(facts.get(name), usual) for name, usual in (("RescaleSlope", 1.0),
                                                                            ("RescaleIntercept", 0.0)))
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0 or facts.get("ModalityLUTSequence"):
        raise Refusal("rescales its values by a table, or by a slope or intercept that cannot be; neither is read")
    window, notes = _window(facts)
    if window is None:
        if facts.get("VOILUTSequence"):
            raise Refusal("is shown through a table (VOI LUT), which is not read; store it as it is to be shown")
        black, white = map(float, layout.range if slope > 0 else layout.range[::-1])
    else:
        black, white = ((end - intercept) / slope for end in window)
    if not (math.isfinite(black) and math.isfinite(white)) or black == white:
        raise Refusal("rescales its values by numbers that cannot be")
    return (white, black, notes) if layout.inverted else (black, white, notes)


def cut_off(values: Values, black: float, white: float) -> list[str]:
    """Return a line where a window leaves out much of what is bright."""
    share = float((values > white if white > black else values < white).mean()) if values.size else 0.0
    return [f"is shown saturated by the window in the file ({share:.0%} of the pixels)"] if share > MOST_CUT else []


def _window(facts: Mapping[str, Any]) -> tuple[tuple[float, float] | None, list[str]]:
    """Return the ends of the window, of several the first, in rescaled values."""
    if facts.get("WindowCenter") is None and facts.get("WindowWidth") is None:
        return None, []
    function = str(facts.get("VOILUTFunction") or "LINEAR")
    if function not in ("LINEAR", "LINEAR_EXACT"):
        raise Refusal("is shown through a window that is not linear, which is not read")
    exact = function == "LINEAR_EXACT"
    centre, width = (_number(facts.get(name), math.nan) for name in ("WindowCenter", "WindowWidth"))
    if not (math.isfinite(centre) and math.isfinite(width)) or width <= (0 if exact else 1):
        return None, ["has a window that cannot be and is not applied"]
    middle, half = (centre, width / 2) if exact else (centre - 0.5, (width - 1) / 2)
    return (middle - half, middle + half), []


def _number(value: Any, usual: float) -> float:
    """Return a number, of several the first; NaN for what is none."""
    if value is None:
        return usual
    try:
        return float(value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return math.nan
