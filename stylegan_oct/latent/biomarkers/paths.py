"""Shortest paths from the left to the right side of many pictures at once, by dynamic programming.

Chiu et al. 2010 ("Automatic segmentation of seven retinal layers in SDOCT images"): a boundary of a layer is the path
of least cost across the scan, where the cost is low on strong gradients of the wanted sign.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]    # [N, W, Z]: the depth runs along the last axis
Curve = NDArray[np.float64]    # [N, W]

FAR = np.float32(1e6)    # cost of a place where the path may not go


def shortest_path(cost: Plane, fine: Plane, *, steepest: int, linear: float, quadratic: float) -> Curve:
    """Return the depth index of the cheapest path over the columns, refined below a step of the grid.

    Minimises the sum over the columns of cost[x, z(x)] + linear |s| + quadratic s^2, where s = z(x) - z(x - 1).

    Args:
        cost: [N, W, Z], float32; FAR where the path may not go.
        fine: [N, W, Z], float32; low on the boundary itself, for the last refinement.
        steepest: largest |s|.
        linear: cost of a step of one index.
        quadratic: cost of the square of a step.
    Returns:
        [N, W], in indices of Z. The minimum of the parabola through the three values of `fine` around the path.
    """
    steps = np.array(sorted(range(-steepest, steepest + 1), key=lambda step: (step != 0, step)))  # equals: straight on
    price = (linear * np.abs(steps) + quadratic * steps**2).astype(np.float32)
    totals = _totals(cost, price[steepest + 1:])
    path = np.empty(cost.shape[:2], np.intp)
    each = np.arange(len(cost))[:, None]
    path[:, -1] = totals[-1].argmin(axis=1) - steepest
    for x in range(len(totals) - 1, 0, -1):
        reached = path[:, x, None] + steps + steepest    # [N, 2 steepest + 1]
        best = (totals[x - 1][each, reached] + price).argmin(axis=1)
        path[:, x - 1] = path[:, x] + steps[best]
    return path + _parabola_shift(fine, path)


def _totals(cost: Plane, price: NDArray[np.float32]) -> Plane:
    """Return the cost of the cheapest path up to each place, [W, N, Z + 2 steepest]; infinite in the margins.

    Margins let the picture's rows lie one after the other: a step is a shift of one long array.

    Args:
        cost: [N, W, Z].
        price: of the steps of 1, 2, ... steepest indices, up or down.
    """
    count, width, depth = cost.shape
    steepest = len(price)
    totals = np.full((width, count, depth + 2 * steepest), np.inf, np.float32)
    totals[..., steepest:steepest + depth] = cost.transpose(1, 0, 2)
    best, other = (np.empty(totals[0].size - 2 * steepest, np.float32) for _ in range(2))
    end = len(best)
    for before, after in zip(totals.reshape(width, -1), totals[1:], strict=False):
        best[:] = before[steepest:steepest + end]
        for step, extra in enumerate(price, 1):
            np.minimum(before[steepest - step:][:end], before[steepest + step:][:end], out=other)
            np.add(other, extra, out=other)
            np.minimum(best, other, out=best)
        here = after.reshape(-1)[steepest:steepest + end]
        np.add(here, best, out=here)
    return totals


def _parabola_shift(fine: Plane, path: NDArray[np.intp]) -> Curve:
    middle = np.clip(path, 1, fine.shape[2] - 2)
    before, here, after = (np.take_along_axis(fine, (middle + step)[..., None], axis=2)[..., 0].astype(np.float64)
                           for step in (-1, 0, 1))
    bend = before - 2 * here + after
    usable = (middle == path) & (bend > 1e-6)
    shift = np.where(usable, 0.5 * (before - after) / np.where(usable, bend, 1), 0)
    return cast(Curve, np.clip(shift, -0.5, 0.5))
