"""Intervals of shares and of distances."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stylegan_oct.metrics.statistics.values import Interval, Value

NORMAL_95 = 1.96


def wilson(share: float, n: float) -> Interval:
    """Return the 95 % score interval of a share of n independent draws (Wilson 1927); 0 to 1 where n is 0.

    For scans of which several are of one patient, the number of patients as n gives an interval that is rather too
    wide than too narrow.
    """
    if n <= 0 or math.isnan(share):
        return 0.0, 1.0
    z2 = NORMAL_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = NORMAL_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At shares of 0 and 1 rounding leaves the limit a hair off the share.
    return min(max(middle - reach, 0.0), share), max(min(middle + reach, 1.0), share)


def mean_interval(shares: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """Return the interval of the mean of independent shares with their intervals.

    The distances to the limits add up in squares (Zou and Donner 2008, "Construction of confidence limits about
    effect measures").
    """
    middle, n = math.fsum(shares) / len(shares), len(shares)
    down = math.hypot(*(share - low for share, (low, _) in zip(shares, intervals, strict=True)))
    up = math.hypot(*(high - share for share, (_, high) in zip(shares, intervals, strict=True)))
    return max(middle - down / n, 0.0), min(middle + up / n, 1.0)


def mean_of_shares(values: Sequence[Value]) -> Value:
    """Return the mean over the classes of a share and of its floor, each class alike; what is NaN is left out."""
    known = [value for value in values if value.interval is not None and not math.isnan(value.value)]
    with_floor = [value for value in values if value.floor is not None and value.floor_interval is not None]
    lacking = ", ".join(str(value.class_name) for value in values if value not in known or value not in with_floor)
    floors = [value.floor for value in with_floor if value.floor is not None]
    shares = [value.value for value in known]
    return replace(
        values[0], class_name=None, value=math.fsum(shares) / len(shares) if shares else math.nan,
        interval=mean_interval(shares, [value.interval for value in known if value.interval]) if shares else None,
        floor=math.fsum(floors) / len(floors) if floors else None,
        floor_interval=mean_interval(floors, [value.floor_interval for value in with_floor if value.floor_interval])
        if floors else None, n=sum(value.n or 0 for value in values), n_real=sum(value.n_real or 0 for value in values),
        note=f"mean of the classes; not both known of {lacking}" if lacking else "mean of the classes")


def from_halves(distances: NDArray[np.float64]) -> Interval | None:
    """Return the 95 % interval of a mean of distances between half-samples, as `fidelity` explains; none below 0.

    None where all are alike, as where a single scan differs from the others: that tells nothing of their spread.
    """
    if len(distances) < 2 or np.isnan(distances).any() or np.ptp(distances) < 1e-12:
        return None
    middle, reach = float(distances.mean()), NORMAL_95 * float(distances.std(ddof=1))
    return max(middle - reach, 0.0), middle + reach
