"""Pictures in memory and a detector that sees their average grey in 2 x 2 fields, for tests of whole measurements."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from stylegan_oct.features.detector import Detector

CLASSES = ("CNV", "DRUSEN")


class StoredPictures:
    """Noise whose brightness tells class and patient, 8 x 8; `shift` makes it brighter."""

    def __init__(self, name: str, counts: Sequence[int], *, shift: float = 0.0, spread: float = 20.0, seed: int = 0,
                 scans: int = 1, classes: tuple[str, ...] = CLASSES) -> None:
        rng = np.random.default_rng(seed)
        self.classes = classes
        self.labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
        self.groups = 1000 * seed + np.arange(len(self.labels)) // scans
        fields = rng.normal(size=(self.groups.max(initial=0) + 1 - 1000 * seed, 2, 2)) * spread
        means = 90 + shift + 40 * self.labels[:, None, None] + fields[self.groups - 1000 * seed]
        pixels = means.repeat(4, axis=1).repeat(4, axis=2) + 4 * rng.normal(size=(len(self.labels), 8, 8))
        self.pixels: NDArray[np.uint8] = pixels.round().clip(0, 255).astype(np.uint8)[:, None]
        self.identity = f"{name}-{'-'.join(map(str, counts))}-{shift:g}-{seed}"

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: Sequence[int]) -> Tensor:
        return torch.from_numpy(self.pixels[list(rows)])


class FieldsDetector(Detector):
    name = "fields"
    dim, size, sha256 = 4, None, "0" * 64

    def __init__(self, broken: int = 0) -> None:
        super().__init__()
        self.weight, self.broken, self.looks = nn.Parameter(torch.ones(1)), broken, 0

    @classmethod
    def load(cls, weights: object) -> "FieldsDetector":
        return cls()

    def taps(self, images: Tensor) -> list[Tensor]:
        return [adaptive_avg_pool2d(images, 2) * self.weight]

    def pool(self, images: Tensor) -> Tensor:
        self.looks += len(images)
        features = 10 * self.taps(images)[0].flatten(1)
        features[:self.broken] = torch.nan
        return features
