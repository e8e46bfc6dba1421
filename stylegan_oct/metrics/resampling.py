"""A bootstrap over patients and over trainings at once."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stylegan_oct.metrics.values import Interval

Numbers = NDArray[np.float64]

CELLS = 1 << 22  # weights in memory at once


class Resampling:
    """How often each patient and each training counts in every resample; the first is the sample itself.

    Patients and trainings are drawn independently of each other, with repeats (Owen 2007, "The pigeonhole bootstrap").
    One fewer than there are is drawn, of the patients of each class and of the trainings: then the variance of a mean
    is not underestimated, which with five trainings it would be by a fifth (Rao and Wu 1988, "Resampling inference
    with complex survey data").

    Args:
        labels: class of each scan, [N].
        groups: patient of each scan, [N]. A patient counts to the class of most of its scans.
        trainings: how many there are; one: the spread of trainings is not in the intervals.
        count: resamples.
        rng: draws them.
    """

    def __init__(self, labels: NDArray[np.int64], groups: NDArray[np.int64], trainings: int, count: int,
                 rng: np.random.Generator) -> None:
        self._patients, main = main_classes(labels, groups)
        times = np.ones((count + 1, len(main)), np.float32)
        for label in np.unique(main):
            members = np.flatnonzero(main == label)
            times[1:, members] = _draw(len(members), count, rng)
        self._times = times
        self._trainings = np.concatenate([np.ones((1, trainings)), _draw(trainings, count, rng)]) / trainings

    def weights(self) -> Iterator[NDArray[np.float32]]:
        """Yield how often each scan counts, [some resamples, N], all resamples in turn."""
        step = max(CELLS // max(len(self._patients), 1), 1)
        for begin in range(0, len(self._times), step):
            yield self._times[begin:begin + step][:, self._patients]

    def over_trainings(self, scores: Numbers) -> Numbers:
        """Return the mean over the trainings of each resample, [resamples + 1, ...].

        Args:
            scores: [trainings, resamples + 1, ...].
        """
        mean: Numbers = np.einsum("tr...,rt->r...", scores, self._trainings)
        return mean


def _draw(n: int, count: int, rng: np.random.Generator) -> Numbers:
    """Return how often each of n counts in each of `count` resamples, [count, n]; the sums are n."""
    drawn = max(n - 1, 1)
    return rng.multinomial(drawn, np.full(n, 1 / n), size=count).astype(np.float64) * (n / drawn)


def main_classes(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of each scan's patient, [N], and the class of most scans of each patient, [patients]."""
    _, patients = np.unique(groups, return_inverse=True)
    counts = np.zeros((patients.max(initial=-1) + 1, labels.max(initial=0) + 1), np.int64)
    np.add.at(counts, (patients, labels), 1)
    return patients.astype(np.int64), counts.argmax(axis=1)


def percentile_interval(resamples: Numbers) -> Interval | None:
    """Return where the middle 95 % lie; None where there are none."""
    known = resamples[np.isfinite(resamples)]
    if len(known) < 2:
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)
