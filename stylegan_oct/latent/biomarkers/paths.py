"""Shortest paths from the left to the right side of many pictures at once, by dynamic programming.

Chiu et al. 2010 ("Automatic segmentation of seven retinal layers in SDOCT images"): a boundary of a layer is the path
of least cost across the scan, where the cost is low on strong gradients of the wanted sign.
"""

import itertools
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]    # [N, W, Z]: the depth runs along the last axis
Curve = NDArray[np.float64]    # [N, W]
Path = NDArray[np.intp]        # [N, W]

FAR = np.float32(1e6)    # cost of a place where the path may not go


def shortest_paths(costs: Sequence[Plane], *, steepest: int, linear: float, quadratic: float) -> list[Path]:
    """Return the depth index of the cheapest path over the columns of each picture, [N, W].

    Minimises the sum over the columns of cost[x, z(x)] + linear |s| + quadratic s^2, where s = z(x) - z(x - 1).

    Args:
        costs: [N, W, Z] each, of one W and Z; FAR where the path may not go. All paths are searched together.
        steepest: largest |s|.
        linear: cost of a step of one index.
        quadratic: cost of the square of a step.
    """
    steps = np.array(sorted(range(-steepest, steepest + 1), key=lambda step: (step != 0, step)))  # equals: straight on
    price = (linear * np.abs(steps) + quadratic * steps**2).astype(np.float32)
    totals = _totals(costs, price[steepest + 1:])
    width, count, _ = totals.shape
    path = np.empty((count, width), np.intp)
    each = np.arange(count)[:, None]
    path[:, -1] = totals[-1].argmin(axis=1) - steepest
    for x in range(width - 1, 0, -1):
        reached = path[:, x, None] + steps + steepest    # [N, 2 steepest + 1]
        best = (totals[x - 1][each, reached] + price).argmin(axis=1)
        path[:, x - 1] = path[:, x] + steps[best]
    return np.split(path, np.cumsum([len(cost) for cost in costs])[:-1])


def _totals(costs: Sequence[Plane], price: NDArray[np.float32]) -> Plane:
    """Return the cost of the cheapest path up to each place, [W, N, Z + 2 steepest]; infinite in the margins.

    Margins let the rows of the pictures lie one after the other: a step is a shift of one long array.

    Args:
        costs: as in `shortest_paths`.
        price: of the steps of 1, 2, ... steepest indices, up or down.
    """
    _, width, depth = costs[0].shape
    steepest = len(price)
    totals = np.full((width, sum(len(cost) for cost in costs), depth + 2 * steepest), np.inf, np.float32)
    np.concatenate([cost.transpose(1, 0, 2) for cost in costs], axis=1, out=totals[..., steepest:steepest + depth])
    best, other = (np.empty(totals[0].size - 2 * steepest, np.float32) for _ in range(2))
    end = len(best)
    for before, after in itertools.pairwise(totals.reshape(width, -1)):
        best[:] = before[steepest:steepest + end]
        for step, extra in enumerate(price, 1):
            np.minimum(before[steepest - step:][:end], before[steepest + step:][:end], out=other)
            np.add(other, extra, out=other)
            np.minimum(best, other, out=best)
        np.add(after[steepest:steepest + end], best, out=after[steepest:steepest + end])
    return totals


def refined(path: Path, fine: Plane) -> Curve:
    """Return a path below a step of the grid: the minimum of the parabola through the three values around it.

    Args:
        path: [N, W], indices of Z.
        fine: [N, W, Z], low on the boundary itself.
    """
    middle = np.clip(path, 1, fine.shape[2] - 2)
    before, here, after = (np.take_along_axis(fine, (middle + step)[..., None], axis=2)[..., 0].astype(np.float64)
                           for step in (-1, 0, 1))
    bend = before - 2 * here + after
    usable = (middle == path) & (bend > 1e-6)
    shift = np.where(usable, 0.5 * (before - after) / np.where(usable, bend, 1), 0)
    return cast(Curve, path + np.clip(shift, -0.5, 0.5))
