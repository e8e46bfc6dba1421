"""Precision, recall, density and coverage: are the pictures real ones, and are all real ones there?

Kynkaanniemi et al. 2019 ("Improved Precision and Recall Metric", Eq. 1 and 2); Naeem et al. 2020 ("Reliable Fidelity
and Diversity Metrics", Eq. 3 and 5). A set's manifold is made of balls about its features that reach to the k-th
nearest of its own. All four depend on the counts: they mean something beside those of real pictures at equal counts.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stylegan_oct.metrics.distances.kernel import Places
from stylegan_oct.metrics.distances.moments import Rows

BLOCK = 1024  # rows whose distances are in memory at once


@dataclass(frozen=True)
class Manifold:
    """The four numbers, each in [0, 1] but the density, which is about 1 for samples of one distribution."""

    precision: float  # share of synthetic pictures that lie in a real ball
    recall: float     # share of real pictures that lie in a synthetic ball
    density: float    # real balls that a synthetic picture lies in, over k
    coverage: float   # share of real balls that hold a synthetic picture


def manifold(real: Rows, fake: Rows, *, k: int = 5, groups_real: Places | None = None,
             groups_fake: Places | None = None, device: torch.device | str = "cpu") -> Manifold:
    """Return how the features [N, d] of real and [M, d] of synthetic pictures lie to each other.

    The time grows with N * M; the memory does not, but for the features themselves.

    Args:
        real, fake: more than k rows each.
        k: of the published density and coverage; the published precision and recall take 3.
        groups_real, groups_fake: int64 [N] and [M], equal for scans of one patient: balls reach to the k-th nearest of
            other patients, or they would show how alike the scans of one are. Default: all are independent.
        device: where distances are computed.
    """
    assert min(len(real), len(fake)) > k, (len(real), len(fake), k)
    # Distances come from products; centred features keep more digits of them.
    centre = np.mean(real[:BLOCK], axis=0, dtype=np.float64).astype(np.float32)
    x, y = (torch.from_numpy(rows - centre).to(device) for rows in (real, fake))
    reach_real, reach_fake = _reach(x, k, groups_real), _reach(y, k, groups_fake)
    inside_real = torch.zeros(len(y), dtype=torch.int64, device=device)
    inside_fake, covered = [], []
    for begin in range(0, len(x), BLOCK):
        part = slice(begin, begin + BLOCK)
        distances = _squared(x[part], y)                          # [block, M]
        within = distances <= reach_real[part, None]
        inside_real += within.sum(dim=0)
        covered.append(within.any(dim=1))
        inside_fake.append((distances <= reach_fake).any(dim=1))
    return Manifold(precision=_share(inside_real > 0), recall=_share(torch.cat(inside_fake)),
                    density=float(inside_real.double().mean()) / k, coverage=_share(torch.cat(covered)))


def _reach(x: Tensor, k: int, groups: Places | None) -> Tensor:
    """Return the squared distance of each row to the k-th nearest of other groups, [N]; infinite where there is none.

    Without groups, each row is its own.
    """
    own = torch.arange(len(x), device=x.device) if groups is None else torch.from_numpy(groups).to(x.device)
    found = []
    for begin in range(0, len(x), BLOCK):
        distances = _squared(x[begin:begin + BLOCK], x)
        distances.masked_fill_(own[begin:begin + BLOCK, None] == own, torch.inf)
        found.append(distances.kthvalue(k, dim=1).values)
    return torch.cat(found)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Return squared distances [N, M], none below zero."""
    return torch.addmm(a.square().sum(dim=1)[:, None] + b.square().sum(dim=1), a, b.t(), alpha=-2).clamp_min_(0)


def _share(flags: Tensor) -> float:
    return float(flags.double().mean())
