"""The kernel distance: squared maximum mean discrepancy with a cubic polynomial kernel.

Binkowski et al. 2018 ("Demystifying MMD GANs", Section 4 and Eq. 4), as KID with other features. Its mean over samples
of one distribution is zero at any count, so that it can be below zero; it is the distance to look at where there are
few pictures. That holds for independent pictures: scans of one patient are nearly equal, so that pairs of them are left
out where it is told who is who.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import one_hot

from stylegan_oct.metrics.distances.moments import CHUNK, Rows

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over subsets."""

    mean: float
    sd: float


@dataclass(frozen=True)
class Draws:
    """Features and how they were drawn.

    Args:
        rows: [N, d].
        groups: int64 [N], equal for pictures that are no independent draws, such as scans of one patient; default: all
            are independent.
        labels: int64 [N], classes with shares that are fixed, not drawn; default: one.
    """

    rows: Rows
    groups: Places | None = None
    labels: Places | None = None

    def strata(self, begin: int, classes: int) -> torch.Tensor:
        """Return which class each row of a block belongs to, [n, classes], one-hot."""
        n = len(self.rows[begin:begin + CHUNK])
        if self.labels is None:
            return one_hot(torch.zeros(n, dtype=torch.int64), classes).double()
        return one_hot(torch.from_numpy(self.labels[begin:begin + CHUNK]), classes).double()

    def shares(self, classes: int) -> torch.Tensor:
        """Return the share of each class, [classes]."""
        labels = np.zeros(len(self.rows), np.int64) if self.labels is None else self.labels
        return torch.from_numpy(np.bincount(labels, minlength=classes) / len(labels))


def kernel_distance(a: Rows | Draws, b: Rows | Draws) -> float:
    """Return the unbiased squared discrepancy between the features [N, d] and [M, d].

    The kernel is (x . y / d + 1)^3. Pairs of one group are left out; pairs are averaged by class first, as fixed shares
    would otherwise bias it downwards. Time grows with the pairs, memory does not. NaN where a class has no pair.
    """
    a, b = (each if isinstance(each, Draws) else Draws(each) for each in (a, b))
    return _mean_kernel(a, a) + _mean_kernel(b, b) - 2 * _mean_kernel(a, b)


def kernel_distance_of_subsets(a: Rows, b: Rows, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> Spread:
    """Return the mean distance of random subsets of both, and its spread, as KID is reported.

    Args:
        a, b: features [N, d] and [M, d].
        subsets: number of pairs of subsets, each drawn without repeats.
        size: of a subset; N or M where that is smaller.
        seed: of the choice.
    """
    rng = np.random.default_rng(seed)
    count = min(size, len(a), len(b))
    found = [kernel_distance(_some(a, count, rng), _some(b, count, rng)) for _ in range(subsets)]
    return Spread(float(np.mean(found)), float(np.std(found)))


def _some(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    chosen: Rows = rows[np.sort(rng.choice(len(rows), count, replace=False))]
    return chosen


def _mean_kernel(a: Draws, b: Draws) -> float:
    """Return the mean of the kernel over pairs, a block at a time; over those of different groups where a is b."""
    classes = 1 + max(0 if each.labels is None else int(each.labels.max()) for each in (a, b))
    own = (np.arange(len(a.rows)) if a.groups is None else a.groups) if a is b else None
    totals, counts = torch.zeros(2, classes, classes, dtype=torch.float64)
    for begin in range(0, len(a.rows), CHUNK):
        x, rows = _block(a.rows, begin), a.strata(begin, classes)
        for other in range(0, len(b.rows), CHUNK):
            values = (x @ _block(b.rows, other).t() / x.shape[1] + 1).pow_(3)
            counted = torch.ones_like(values)
            if own is not None:
                counted -= torch.from_numpy(own[begin:begin + CHUNK, None] == own[other:other + CHUNK]).double()
            columns = b.strata(other, classes)
            totals += rows.t() @ (values * counted) @ columns
            counts += rows.t() @ counted @ columns
    weights = torch.outer(a.shares(classes), b.shares(classes))
    return float(torch.where(weights > 0, weights * totals / counts, 0).sum())


def _block(rows: Rows, begin: int) -> torch.Tensor:
    return torch.from_numpy(rows[begin:begin + CHUNK].astype(np.float64))
