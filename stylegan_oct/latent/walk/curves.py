"""Curves through latents or labels, and the pace at which they are walked. Time runs from 0 to 1."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator
from torch import Tensor

Times = NDArray[np.float64]         # [N], from 0 to 1
Curve = Callable[[Times], Tensor]   # [N] -> [N, ...], float32


def frame_times(frames: int, *, closed: bool) -> Times:
    """Return the times of the frames; those of a loop stop one short of 1, which is its first frame again."""
    return np.linspace(0.0, 1.0, frames, endpoint=not closed)


def spline(keys: Tensor, *, closed: bool) -> Curve:
    """Return the cubic spline through the keys [K, ...] at equal distances in time, K at least 2.

    Velocity and acceleration have no jumps; on a loop none where it closes either. It swings out a little beyond the
    keys. An open curve through two keys is a straight line.
    """
    known = torch.cat([keys, keys[:1]]) if closed else keys
    times = np.linspace(0.0, 1.0, len(known))
    curve = CubicSpline(times, known.double().cpu().numpy(), bc_type="periodic" if closed else "natural")
    return lambda t: torch.from_numpy(curve(t)).to(keys)


def eased(keys: Tensor, *, closed: bool) -> Curve:
    """Return straight lines through the keys [K, ...], slow near each: 3 s^2 - 2 s^3 of the way after a share s.

    It stays between the keys, so that a mixture of labels stays a mixture.
    """
    known = torch.cat([keys, keys[:1]]) if closed else keys

    def curve(times: Times) -> Tensor:
        place = torch.as_tensor(times) * (len(known) - 1)
        begin = place.floor().clamp(max=len(known) - 2).long()
        share = (place - begin).to(keys).reshape(-1, *[1] * (keys.ndim - 1))
        return torch.lerp(known[begin], known[begin + 1], share * share * (3 - 2 * share))

    return curve


def constant_speed(lengths: NDArray[np.float64]) -> Callable[[Times], Times]:
    """Return a function from times to the times at which a walker of constant speed is there.

    Args:
        lengths: [M] at least 0, of M pieces of the way that take 1/M of the time each.
    """
    total = float(lengths.sum())
    if not total > 0:
        return lambda t: t
    # A thousandth of the mean piece on each keeps the way rising where nothing changes.
    walked = np.concatenate([[0.0], np.cumsum(lengths + 1e-3 * total / len(lengths))])
    inverse = PchipInterpolator(walked / walked[-1], np.linspace(0.0, 1.0, len(walked)))
    return lambda t: np.asarray(inverse(t), dtype=np.float64)
