"""Named running moments that stay on the device until they are asked for, with one all-reduce a flush."""

from typing import NamedTuple

import torch
from torch import Tensor

from torch_utils.distributed import World


class Moments(NamedTuple):
    """Mean, standard deviation and number n of what was reported under a name."""

    mean: float
    std: float
    n: int


class Stats:
    """Collects values by name. Every process must report the same names in the same order."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Add every element of `values` to the moments of `name`; no device synchronisation."""
        x = values.detach().reshape(-1).double()
        sums = torch.stack([torch.full((), x.numel(), dtype=torch.float64, device=x.device), x.sum(),
                            x.square().sum()])
        self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def flush(self) -> dict[str, Moments]:
        """Return the moments since the last flush over all processes, and start anew."""
        if not self._sums:
            return {}
        names = list(self._sums)
        table = torch.stack([self._sums[name] for name in names])  # [names, 3]
        self._sums = {}
        self._world.all_reduce_(table)
        result = {}
        for name, (count, first, second) in zip(names, table.tolist(), strict=True):
            mean = first / count
            result[name] = Moments(mean, max(second / count - mean * mean, 0.0) ** 0.5, int(count))
        return result
