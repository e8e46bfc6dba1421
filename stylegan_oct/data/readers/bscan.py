"""What every reader gives: B-scans, and files that hold one or many of them."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stylegan_oct.data.files import Refusal

Laterality = Literal["OD", "OS"]

MIN_SIDE = 16
MAX_SIDE = 4096      # pixels; OCT2017 has up to 1536. A scan padded to a square is no larger either
MAX_RATIO = 16       # of the sides; a wide Spectralis scan has 3
MAX_COUNT = 16_384   # B-scans of a file; dense volumes have some hundred


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
    notes: tuple[str, ...] = ()              # what is odd about its brightness or scale, each in one line


@dataclass(frozen=True)
class Volume:
    """A file of B-scans, of which nothing but the sizes is in memory."""

    count: int
    read: Callable[[int], BScan]  # by index from 0; raises Refusal

    def __post_init__(self) -> None:
        if self.count > MAX_COUNT:
            raise Refusal(f"says that it holds {self.count} B-scans; {MAX_COUNT} are the most")


def check_size(width: int, height: int) -> None:
    """Refuse sizes that no B-scan has, before any memory is spent on the pixels.

    Raises:
        Refusal: a side is shorter than MIN_SIDE, longer than MAX_SIDE, or MAX_RATIO times as long as the other.
    """
    if max(width, height) > MAX_SIDE:
        raise Refusal(f"is {width} x {height} pixels: a decompression bomb, or no B-scan, whose sides have at most "
                      f"{MAX_SIDE}")
    if min(width, height) < MIN_SIDE:
        raise Refusal(f"is {width} x {height} pixels; the shorter side must have {MIN_SIDE}")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise Refusal(f"is {width} x {height} pixels; no B-scan has one side {MAX_RATIO} times as long as the other")


def count_notes(notes_of_scans: Iterable[Sequence[str]]) -> list[str]:
    """Return a line for each kind of note: how many scans have it, and the first of these in full."""
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for notes in notes_of_scans:
        for note in notes:
            kinds[re.split(r" \(|:| \d", note, maxsplit=1)[0]].append(note)
    return [f"{len(found)} scan{'s' * (len(found) > 1)}: {found[0]}" for found in kinds.values()]


def to_laterality(text: object) -> Laterality | None:
    """Return the eye for R, L, OD or OS; None for anything else."""
    eyes: dict[str, Laterality] = {"R": "OD", "OD": "OD", "L": "OS", "OS": "OS"}
    return eyes.get(str(text).strip("\0 ").upper())
