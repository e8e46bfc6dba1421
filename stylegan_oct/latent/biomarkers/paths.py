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
    count, width, depth = cost.shape
    steps = np.arange(-steepest, steepest + 1)
    price = (linear * np.abs(steps) + quadratic * steps**2).astype(np.float32)
    origin = np.empty((width, count, depth), np.int8)
    padded = np.full((count, depth + 2 * steepest), FAR, np.float32)
    total = cost[:, 0].copy()
    for x in range(1, width):
        padded[:, steepest:steepest + depth] = total
        best = padded[:, steepest:steepest + depth] + price[steepest]
        came = np.zeros((count, depth), np.int8)
        for step, extra in zip(steps, price, strict=True):
            if step == 0:
                continue
            other = padded[:, steepest + step:steepest + step + depth] + extra
            cheaper = other < best
            np.copyto(best, other, where=cheaper)
            np.copyto(came, np.int8(step), where=cheaper)
        origin[x] = came
        total = best + cost[:, x]
    path = np.empty((count, width), np.intp)
    each = np.arange(count)
    path[:, -1] = total.argmin(axis=1)
    for x in range(width - 1, 0, -1):
        path[:, x - 1] = path[:, x] + origin[x, each, path[:, x]]
    return path + _parabola_shift(fine, path)


def _parabola_shift(fine: Plane, path: NDArray[np.intp]) -> Curve:
    middle = np.clip(path, 1, fine.shape[2] - 2)
    before, here, after = (np.take_along_axis(fine, (middle + step)[..., None], axis=2)[..., 0].astype(np.float64)
                           for step in (-1, 0, 1))
    bend = before - 2 * here + after
    usable = (middle == path) & (bend > 1e-6)
    shift = np.where(usable, 0.5 * (before - after) / np.where(usable, bend, 1), 0)
    return cast(Curve, np.clip(shift, -0.5, 0.5))
