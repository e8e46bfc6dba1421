"""The size of a pixel as files claim it: taken where an OCT scan can have it, else unknown and said.

What can be: a retina is 0.25 mm thick at the fovea and up to 0.9 mm where it is swollen; a Spectralis, the source of
most public sets, spans 1.92 mm in depth and 5.9 or 8.8 mm across; cut scans span less, devices with a deep or wide view
a few times as much. The optics resolve no more than some micrometres, and depth is sampled more finely than width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

DEPTH_UM: Final = (200.0, 8000.0)     # what the rows of a scan may span
WIDTH_UM: Final = (500.0, 30_000.0)   # and its columns
LEAST_PITCH_UM: Final = 0.8           # of a pixel; less is metres or centimetres taken for millimetres
MOST_Z_TO_X: Final = 1.25             # height of a pixel to its width; 0.07 to 0.7 of a Spectralis, 1 of square pixels
SAME: Final = 0.01                    # relative difference up to which two claims agree


@dataclass(frozen=True)
class Scale:
    """The size of a pixel in micrometres, None where it is not known, and why a claim is not believed."""

    z: float | None = None
    x: float | None = None
    note: str | None = None


def find_scale(claims: Sequence[tuple[object, object]], rows: int, columns: int) -> Scale:
    """Return the size of a pixel that a file claims, where an OCT scan can have it.

    Args:
        claims: (height, width) of a pixel in millimetres from each place of the file that has one; None where it says
            nothing, anything else that is no number where it is garbled.
        rows: of the pixels.
        columns: of the pixels.
    """
    made = [tuple(None if value is None else _um(value) for value in claim) for claim in claims]
    sizes = [(z, x) for z, x in made if (z, x) != (None, None)]
    if not sizes:
        return Scale()
    z, x = sizes[0]
    why = _contradiction(sizes) or _impossible(z, x, rows, columns)
    if why:
        return Scale(note=f"the pixel size in the file is not used: {why}")
    return Scale(z, x)


def can_be(span_z_um: float, span_x_um: float) -> bool:
    """Tell whether a scan can span so much in depth and across."""
    return DEPTH_UM[0] <= span_z_um <= DEPTH_UM[1] and WIDTH_UM[0] <= span_x_um <= WIDTH_UM[1]


def _um(value: object) -> float:
    """Return millimetres as micrometres, NaN for what is no number."""
    try:
        return 1000 * float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _contradiction(sizes: Sequence[tuple[float | None, float | None]]) -> str | None:
    for axis in (0, 1):
        known = [size[axis] for size in sizes if size[axis] is not None]
        for value in known[1:]:
            if not math.isclose(value or 0, known[0] or 0, rel_tol=SAME):
                return f"it stands in several places that contradict one another ({known[0]:g} and {value:g} um)"
    return None


def _impossible(z: float | None, x: float | None, rows: int, columns: int) -> str | None:
    """Return why no OCT scan has pixels of this size, or None."""
    for value, count, limits, what in ((z, rows, DEPTH_UM, "in depth"), (x, columns, WIDTH_UM, "across")):
        if value is None:
            continue
        if not math.isfinite(value) or value <= 0:
            return f"{value:g} um is no size"
        if value < LEAST_PITCH_UM or not limits[0] <= value * count <= limits[1]:
            return (f"with {value:g} um a pixel the scan would span {value * count / 1000:.4g} mm {what}; "
                    f"{limits[0] / 1000:g} to {limits[1] / 1000:g} mm can be, and pixels from {LEAST_PITCH_UM} um on")
    if z is not None and x is not None and z > MOST_Z_TO_X * x:
        return f"pixels of {z:g} um in depth and {x:g} um across look like the two exchanged"
    return None
