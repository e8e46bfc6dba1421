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


KEPT = 256  # reports of a name that wait to be summed


class Stats:
    """Collects values by name. Every process must report the same names in the same order."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._reports: dict[str, list[Tensor]] = {}
        self._sums: dict[str, Tensor] = {}  # of older reports

    def add(self, name: str, values: Tensor) -> None:
        """Add every element of `values` to the moments of `name`.

        The tensor is kept as it is, and must not be changed: a report costs a GPU nothing until it is summed with many
        others.
        """
        reports = self._reports.setdefault(name, [])
        reports.append(values.detach().reshape(-1))
        if len(reports) == KEPT:
            self._sum_up(name)

    def flush(self) -> dict[str, Moments]:
        """Return the moments since the last flush over all processes, and start anew."""
        names = list(self._reports)
        if not names:
            return {}
        for name in names:
            self._sum_up(name)
        table = torch.stack([self._sums[name] for name in names])  # [names, 3]
        self._reports, self._sums = {}, {}
        self._world.all_reduce_(table)
        result = {}
        for name, (count, first, second) in zip(names, table.tolist(), strict=True):
            mean = first / count
            result[name] = Moments(mean, max(second / count - mean * mean, 0.0) ** 0.5, int(count))
        return result

    def _sum_up(self, name: str) -> None:
        """Replace the reports of a name by their number, sum and sum of squares."""
        reports = self._reports[name]
        if reports:
            x = torch.cat(reports).double()
            sums = torch.stack([x.new_full((), x.numel()), x.sum(), x.square().sum()])
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums
            reports.clear()
