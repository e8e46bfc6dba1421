"""A split of an archive as a torch Dataset."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stylegan_oct.data.archive import Archive
from stylegan_oct.data.preprocess import parse_preprocess


class ArchiveDataset(Dataset[tuple[Tensor, int]]):
    """Images and class numbers of one split.

    Args:
        path: the archive.
        split: "train", "val" or "test".
        mirror: append every image flipped left to right, so that item N + i is item i flipped.
    Raises:
        DataError: the archive or the split cannot be used; from `dataset[i]`, an image cannot be read.
        ConfigError: what the archive says of its preprocessing makes no sense.
    """

    def __init__(self, path: Path | str, split: str = "train", mirror: bool = False) -> None:
        self.archive = Archive(path)
        self.split = split
        self._names = self.archive.names(split)
        labels = self.archive.labels(split)
        self.labels = np.concatenate([labels, labels]) if mirror else labels  # [N] or [2 N], int64
        self.classes = self.archive.classes
        self.n_classes = len(self.classes)
        self.resolution = self.archive.resolution
        self.channels = self.archive.channels
        self.source = self.archive.source
        self.preprocess = parse_preprocess(self.archive.preprocess, self.resolution, self.channels)
        self.fingerprint = self.archive.fingerprint

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return (pixels uint8 [C, H, W], class number)."""
        pixels = self.archive.read_pixels(self._names[index % len(self._names)])
        if index >= len(self._names):
            pixels = pixels[:, ::-1]
        planes = pixels[np.newaxis] if self.channels == 1 else pixels.transpose(2, 0, 1)  # [C, H, W]
        return torch.from_numpy(planes.copy()), int(self.labels[index])
