"""What every reader gives: B-scans, and files that hold one or many of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Laterality = Literal["OD", "OS"]


@dataclass(frozen=True, eq=False, kw_only=True)
class BScan:
    """A B-scan, and all that is kept of the file it came from."""

    pixels: NDArray[np.uint8]                # [H, W], or [H, W, 3] where colour was asked for and found
    number: int = 1                          # its place in the file, from 1
    um_per_px_z: float | None = None         # height of a pixel in micrometres, where the file tells
    um_per_px_x: float | None = None         # width of a pixel
    laterality: Laterality | None = None     # right (OD) or left (OS) eye
    missing: NDArray[np.bool_] | None = None  # [H, W], true where the device stored no value
    coloured: float = 0.0                    # share of clearly coloured pixels; an OCT scan has next to none


@dataclass(frozen=True)
class Volume:
    """A file of B-scans, of which nothing but the sizes is in memory."""

    count: int
    read: Callable[[int], BScan]  # by index from 0; raises Refusal


def to_um(millimetres: object) -> float | None:
    """Return a size of a pixel in micrometres, or None where the file holds no such size."""
    if not isinstance(millimetres, int | float):
        return None
    return 1000 * float(millimetres) if math.isfinite(millimetres) and millimetres > 0 else None


def to_laterality(text: object) -> Laterality | None:
    """Return the eye for R, L, OD or OS; None for anything else."""
    eyes: dict[str, Laterality] = {"R": "OD", "OD": "OD", "L": "OS", "OS": "OS"}
    return eyes.get(str(text).strip("\0 ").upper())
