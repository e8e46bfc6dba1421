"""A split of an archive as a torch Dataset."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dnnlib.errors import DataError
from stylegan_oct.data.archive import Archive
from stylegan_oct.data.cache import Pixels, decoded_pixels
from stylegan_oct.data.preprocess import parse_preprocess
from torch_utils.distributed import World


class ArchiveDataset(Dataset[tuple[Tensor, int]]):
    """Images and class numbers of one split.

    Args:
        path: the archive.
        split: "train", "val" or "test".
        mirror: append every image flipped left to right, so that item N + i is item i flipped.
        resolution: in pixels; default that of the archive. Smaller pictures are means over squares.
        cached: read from a file of decoded pictures, made on the first use (`stylegan_oct.data.cache`).
        world: the processes that make that file together.
    Raises:
        DataError: the archive or the split cannot be used, or holds smaller pictures; from `dataset[i]`, an image
            cannot be read.
        ConfigError: what the archive says of its preprocessing makes no sense.
    """

    def __init__(self, path: Path | str, split: str = "train", mirror: bool = False, *,
                 resolution: int | None = None, cached: bool = False, world: World = World()) -> None:  # noqa: B008 (frozen)
        self.archive = Archive(path)
        self.split = split
        self._names = self.archive.names(split)
        labels = self.archive.labels(split)
        self.labels = np.concatenate([labels, labels]) if mirror else labels  # [N] or [2 N], int64
        self.classes = self.archive.classes
        self.n_classes = len(self.classes)
        self.resolution = resolution or self.archive.resolution
        self._shrink, rest = divmod(self.archive.resolution, self.resolution)
        if rest or not self._shrink:
            raise DataError(f"{path} holds pictures of {self.archive.resolution} px, which cannot become "
                            f"{self.resolution}. Convert the scans again with --resolution {self.resolution}.")
        self.channels = self.archive.channels
        self.source = self.archive.source
        preprocess = parse_preprocess(self.archive.preprocess, self.archive.resolution, self.channels)
        self.preprocess = dataclasses.replace(preprocess, resolution=self.resolution)
        self.fingerprint = self.archive.fingerprint
        self._decoded = decoded_pixels(self.archive, split, world=world) if cached else None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return (pixels uint8 [C, H, W], class number)."""
        place = index % len(self._names)
        if self._decoded is not None:
            planes: Pixels = self._decoded[place]
        else:
            pixels = self.archive.read_pixels(self._names[place])
            planes = pixels[np.newaxis] if self.channels == 1 else pixels.transpose(2, 0, 1)  # [C, H, W]
        if self._shrink > 1:
            planes = averaged(planes, self._shrink)
        if index >= len(self._names):
            planes = planes[:, :, ::-1]
        return torch.from_numpy(np.array(planes)), int(self.labels[index])

    @property
    def is_cached(self) -> bool:
        """Whether items come from decoded pictures: quick enough without processes that load them."""
        return self._decoded is not None


def averaged(planes: Pixels, factor: int) -> Pixels:
    """Return pictures uint8 [C, R / factor, R / factor], the rounded means over squares of [C, R, R]."""
    channels, rows, columns = planes.shape
    squares = planes.reshape(channels, rows // factor, factor, columns // factor, factor)
    sums = squares.sum(axis=(2, 4), dtype=np.uint32)
    means: Pixels = ((sums + factor**2 // 2) // factor**2).astype(np.uint8)
    return means
