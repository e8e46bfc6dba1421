"""The kernel distance: squared maximum mean discrepancy with a cubic polynomial kernel.

Binkowski et al. 2018 ("Demystifying MMD GANs", Section 4 and Eq. 4), as KID with other features. Its mean over samples
of one distribution is zero at any count, so that it can be below zero; it is the distance to look at where there are
few pictures.
"""

from dataclasses import dataclass

import numpy as np
import torch

from stylegan_oct.metrics.moments import CHUNK, Rows


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over subsets."""

    mean: float
    sd: float


def kernel_distance(a: Rows, b: Rows) -> float:
    """Return the unbiased squared discrepancy between the features [N, d] and [M, d], of two rows or more each.

    The kernel is (x . y / d + 1)^3; a picture is not paired with itself.
    """
    n, m = len(a), len(b)
    assert min(n, m) > 1, (n, m)
    within = _kernel_sum(a, a, diagonal=False) / (n * (n - 1)) + _kernel_sum(b, b, diagonal=False) / (m * (m - 1))
    return within - 2 * _kernel_sum(a, b, diagonal=True) / (n * m)


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


def _kernel_sum(a: Rows, b: Rows, *, diagonal: bool) -> float:
    """Return the sum of the kernel over all pairs, a block at a time; with or without the pairs of equal rows."""
    total = 0.0
    for begin in range(0, len(a), CHUNK):
        x = _block(a, begin)
        for other in range(0, len(b), CHUNK):
            values = (x @ _block(b, other).t() / a.shape[1] + 1).pow_(3)
            total += float(values.sum())
            if not diagonal and begin == other:
                total -= float(values.diagonal().sum())
    return total


def _block(rows: Rows, begin: int) -> torch.Tensor:
    return torch.from_numpy(rows[begin:begin + CHUNK].astype(np.float64))
