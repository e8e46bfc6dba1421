"""Endless shuffled indices as a pure function of the position in the stream."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

Indices = NDArray[np.int64]


class Stream:
    """The data set's indices, reshuffled for every pass: `stream[i]` needs no state but the seed.

    Args:
        labels: [N] class of each item.
        seed: of the permutations.
        balanced: every run of as many positions as there are classes holds each class once; the items of a class
            are shuffled anew for each pass over that class.
    """

    def __init__(self, labels: Indices, *, seed: int, balanced: bool = False) -> None:
        self._seed = seed
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)] if balanced else []
        self._groups: list[Indices] = groups or [np.arange(len(labels))]
        self._passes: dict[int, tuple[int, Indices]] = {}

    def __getitem__(self, position: int) -> int:
        block, place = divmod(position, len(self._groups))
        order = np.random.default_rng((self._seed, 1, block)).permutation(len(self._groups))
        group = int(order[place])
        items = self._groups[group]
        number, offset = divmod(block, len(items))
        cached = self._passes.get(group)
        if cached is None or cached[0] != number:
            shuffled = np.random.default_rng((self._seed, 2, group, number)).permutation(items)
            cached = self._passes[group] = (number, shuffled)
        return int(cached[1][offset])


class MicrobatchSampler(Sampler[list[int]]):
    """Index lists of the micro-batches of one process, for a DataLoader, from any image count on.

    A batch of `batch` images is cut into micro-batches of `batch_gpu`; process r of n takes numbers r, r + n, ...
    """

    def __init__(self, stream: Stream, *, start_nimg: int, batch: int, batch_gpu: int, rank: int = 0,
                 world_size: int = 1) -> None:
        assert batch % (batch_gpu * world_size) == 0, (batch, batch_gpu, world_size)
        self._stream, self._start, self._batch, self._batch_gpu = stream, start_nimg, batch, batch_gpu
        self._rank, self._world_size = rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        nimg = self._start
        while True:
            for offset in microbatch_offsets(self._batch, self._batch_gpu, self._rank, self._world_size):
                yield [self._stream[nimg + offset + i] for i in range(self._batch_gpu)]
            nimg += self._batch


def microbatch_offsets(batch: int, batch_gpu: int, rank: int, world_size: int) -> range:
    """Return where in the batch the micro-batches of a process start."""
    return range(rank * batch_gpu, batch, batch_gpu * world_size)
