"""What is looked at: the pictures of an archive, or those that a generator draws."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stylegan_oct.batches import at_once
from stylegan_oct.data.archive import Archive
from stylegan_oct.model import OctGenerator
from torch_utils.images import to_uint8


class Pictures(Protocol):
    """Pictures in a fixed order."""

    identity: str                # the same text, the same pictures; fit for a file's name
    classes: tuple[str, ...]     # empty without classes
    labels: NDArray[np.int64]    # [N]; zeros without classes

    @property
    def groups(self) -> NDArray[np.int64]:
        """Numbers [N], equal for scans of one patient, in other splits too; a picture's own where that is not known."""
        ...

    def __len__(self) -> int:
        ...

    def read(self, rows: Sequence[int]) -> Tensor:
        """Return pictures, uint8 [n, C, R, R], on the CPU."""
        ...


class ArchivePictures:
    """The pictures of some splits of an archive.

    Args:
        path: the archive.
        splits: default all.
    Raises:
        DataError: it cannot be read, or has no such split.
    """

    def __init__(self, path: Path, splits: Sequence[str] | None = None) -> None:
        self.archive = Archive(path)
        self.splits = tuple(splits or self.archive.splits)
        self.names = [name for split in self.splits for name in self.archive.names(split)]
        self.labels = np.concatenate([self.archive.labels(split) for split in self.splits])
        self.classes = tuple(self.archive.classes)
        self.identity = f"{'+'.join(self.splits)}-{self.archive.fingerprint[:16]}"

    def __len__(self) -> int:
        return len(self.names)

    def read(self, rows: Sequence[int]) -> Tensor:
        """As in `Pictures`."""
        pixels = np.stack([self.archive.read_pixels(self.names[row]) for row in rows])
        return torch.from_numpy(pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2).copy())

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """As in `Pictures`, from the keyed hashes of the manifest."""
        rows, own = self.archive.rows(), self.archive.fingerprint
        keys = [rows.get(name, {}).get("patient") or f"{own}/{name}" for name in self.names]
        digests = b"".join(hashlib.blake2b(str(key).encode(), digest_size=8).digest() for key in keys)
        return np.frombuffer(digests, dtype="<i8").astype(np.int64)


class DrawnPictures:
    """What a generator draws, drawn when it is read and never kept.

    Args:
        G: generator.
        labels: class of each picture, int64 [N]; zeros without classes.
        seed: of the first picture; the next has the next.
        psi: truncation towards the mean of the class.
        batch: pictures drawn at once; None: as many as serve.
    """

    def __init__(self, G: OctGenerator, labels: NDArray[np.int64], *, seed: int = 0, psi: float = 1.0,
                 batch: int | None = None) -> None:
        self._batch = at_once(G.layers, G.device, asked=batch)
        self._G, self.labels, self.seed, self.psi = G, labels, seed, psi
        self.classes = tuple(G.info.classes)
        self.groups = np.arange(len(labels))
        kinds = hashlib.sha256(np.asarray(labels, dtype="<i8").tobytes()).hexdigest()[:8]
        self.identity = f"drawn-{G.info.sha256[:16]}-{len(labels)}-{kinds}-seed{seed}-psi{psi:g}"

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: Sequence[int]) -> Tensor:
        """As in `Pictures`."""
        parts = [rows[begin:begin + self._batch] for begin in range(0, len(rows), self._batch)]
        return torch.cat([self._draw(part) for part in parts])

    @torch.inference_mode()
    def _draw(self, rows: Sequence[int]) -> Tensor:
        kinds = [int(self.labels[row]) for row in rows] if self.classes else None
        return to_uint8(self._G(self._G.z([self.seed + row for row in rows]), kinds, psi=self.psi)).cpu()


class SomePictures:
    """Some of other pictures, each as it is there.

    Args:
        pictures: to choose from.
        rows: which, int64 [n].
    """

    def __init__(self, pictures: Pictures, rows: NDArray[np.int64]) -> None:
        self._pictures, self._rows = pictures, rows
        self.classes, self.labels, self.groups = pictures.classes, pictures.labels[rows], pictures.groups[rows]
        chosen = hashlib.sha256(np.asarray(rows, dtype="<i8").tobytes()).hexdigest()[:8]
        self.identity = f"{pictures.identity}-{len(rows)}of{len(pictures)}-{chosen}"

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: Sequence[int]) -> Tensor:
        """As in `Pictures`."""
        return self._pictures.read([int(self._rows[row]) for row in rows])


def some_of_each(pictures: Pictures, limit: int, *, seed: int = 0) -> Pictures:
    """Return a random choice of at most `limit` pictures that keeps the shares of the classes; all where they fit."""
    if len(pictures) <= limit:
        return pictures
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(pictures.labels == label)) for label in np.unique(pictures.labels)]
    kept = [part[:max(1, limit * len(part) // len(pictures))] for part in rows]
    return SomePictures(pictures, np.sort(np.concatenate(kept)))


def spread_labels(counts: Sequence[int]) -> NDArray[np.int64]:
    """Return labels [sum of counts] in which the classes are spread evenly, so that every stretch holds its share."""
    places = [(np.arange(n) + 0.5) / max(n, 1) for n in counts]
    labels = np.repeat(np.arange(len(counts)), counts)
    order = np.argsort(np.concatenate(places) if places else np.zeros(0), kind="stable")
    return labels[order].astype(np.int64)
