"""Mean and covariance of features, summed as they come by."""

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torch_utils.distributed import World

Rows = NDArray[np.float32]

CHUNK = 2048  # rows that are turned into float64 at once


class Moments:
    """Float64 sums from which mean and covariance follow; they add up over parts, processes and classes.

    Float32 would not do: the variance of features whose mean is large comes out negative.

    Args:
        dim: number of features.
        device: where to sum.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        self.n = 0
        self.s1 = torch.zeros(dim, dtype=torch.float64, device=device)
        self.s2 = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    @classmethod
    def of(cls, rows: Rows, places: NDArray[np.int64] | None = None, *, world: World = World(),  # noqa: B008
           device: torch.device | str = "cpu") -> Self:
        """Return the sums of rows [N, dim], of which a part at a time is in memory; the processes share the work.

        Args:
            rows: may be mapped into memory.
            places: of those that count, int64 [n]; default all.
            world: the processes.
            device: where to sum.
        """
        moments = cls(rows.shape[1], device)
        for begin in range(0, len(rows) if places is None else len(places), CHUNK)[world.rank::world.size]:
            part = slice(begin, begin + CHUNK)
            moments.update(torch.from_numpy(np.array(rows[part if places is None else places[part]])))
        moments.all_reduce_(world)
        return moments

    def update(self, features: Tensor) -> None:
        """Add features [N, dim]."""
        x = features.to(self.s1.device, torch.float64)
        self.n += len(x)
        self.s1 += x.sum(dim=0)
        self.s2.addmm_(x.t(), x)

    def merge(self, other: "Moments") -> None:
        """Add what another one has seen."""
        self.n += other.n
        self.s1 += other.s1
        self.s2 += other.s2

    def all_reduce_(self, world: World) -> None:
        """Add what the other processes have seen; all then hold the same."""
        count = torch.tensor([float(self.n)], dtype=torch.float64, device=self.s1.device)
        world.all_reduce_coalesced_([count, self.s1, self.s2])
        self.n = round(count.item())

    @property
    def mean(self) -> Tensor:
        """The mean, [dim]."""
        assert self.n > 0
        return self.s1 / self.n

    def covariance(self, *, ddof: int = 1) -> Tensor:
        """Return the covariance [dim, dim], divided by n - ddof."""
        assert self.n > ddof, self.n
        return (self.s2 - torch.outer(self.s1, self.s1 / self.n)) / (self.n - ddof)
