"""Pictures in memory, for tests of what is measured on them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stylegan_oct.classes import CLASSES


@dataclass
class MadePictures:
    pixels: Tensor                # uint8 [N, C, R, R]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    classes: tuple[str, ...] = CLASSES
    identity: str = "made"
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: Sequence[int]) -> Tensor:
        self.reads += list(rows)
        return self.pixels[list(rows)]


def plain_pictures(identity: str, labels: Sequence[int], *, first: int = 0, per_patient: int = 1, side: int = 8,
                   classes: tuple[str, ...] = CLASSES) -> MadePictures:
    """Return pictures whose pattern is their class: bars across, bars down, chequers, or none.

    Flips, shifts and blur leave the pattern what it is. `first` is the first patient.
    """
    number = np.asarray(labels, np.int64)
    rng = np.random.default_rng(first)
    pixels = rng.integers(0, 60, (len(number), 1, side, side), dtype=np.uint8)
    across = (np.arange(side) // 2 % 2).astype(bool)[:, None] | np.zeros(side, bool)
    patterns = [across, across.T, across ^ across.T, np.zeros((side, side), bool)]
    for picture, label in zip(pixels, number, strict=True):
        picture[0] += 180 * patterns[label].astype(np.uint8)
    groups = first + np.arange(len(number)) // per_patient
    return MadePictures(torch.from_numpy(pixels), number, groups.astype(np.int64), classes, identity)
