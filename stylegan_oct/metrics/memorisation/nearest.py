"""The nearest of many rows, exactly: an approximate search may miss the one that matters."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stylegan_oct.metrics.observers.observe import Rows

BLOCK = 4096  # rows of either side compared at once

Groups = NDArray[np.int64]


def nearest(queries: Rows, base: Rows, *, query_groups: Groups | None = None, base_groups: Groups | None = None,
            ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the place of the row of `base` nearest to each query and the squared Euclidean distance, both [Q].

    Args:
        queries: [Q, D]; may be mapped from a file, as may `base`: both are read in blocks.
        base: [N, D], N > 0.
        query_groups: [Q]; with `base_groups` [N], rows of the query's own group are passed over. Infinite distance and
            place 0 where no other group is left.
    """
    places, squares = np.zeros(len(queries), np.int64), np.full(len(queries), np.inf)
    for begin in range(0, len(queries), BLOCK):
        rows = slice(begin, begin + BLOCK)
        part = _block(queries, rows)
        best, at = torch.full((len(part),), torch.inf), torch.zeros(len(part), dtype=torch.int64)
        for start in range(0, len(base), BLOCK):
            stretch = slice(start, start + BLOCK)
            apart = _squares(part, _block(base, stretch))
            if query_groups is not None and base_groups is not None:
                apart.masked_fill_(torch.from_numpy(query_groups[rows, None] == base_groups[None, stretch]), torch.inf)
            least, where = apart.min(dim=1)
            nearer = least < best
            best, at = torch.where(nearer, least, best), torch.where(nearer, where + start, at)
        places[rows], squares[rows] = at.numpy(), best.numpy()
    return places, squares


def _block(rows: Rows, which: slice) -> Tensor:
    return torch.from_numpy(np.array(rows[which], dtype=np.float32))


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Return |a - b|^2, [Q, N]; never below 0, which rounding would give for equal rows."""
    return torch.addmm(a.square().sum(1, keepdim=True) + b.square().sum(1), a, b.T, alpha=-2).clamp_min_(0)
