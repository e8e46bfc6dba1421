"""A bootstrap over patients and over trainings at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from stylegan_oct.metrics.statistics.intervals import NORMAL_95
from stylegan_oct.metrics.statistics.values import Interval

Numbers = NDArray[np.float64]

CELLS = 1 << 22  # weights in memory at once


@dataclass(frozen=True)
class Estimate:
    """A score by resamples and by trainings.

    Args:
        resamples: [resamples + 1], the sample itself first.
        by_training: [trainings].
    """

    resamples: Numbers
    by_training: Numbers

    @property
    def value(self) -> float:
        """The score of the sample itself."""
        return float(self.resamples[0])

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.resamples - other.resamples, self.by_training - other.by_training)

    def interval(self, low: float = 0.0, high: float = 1.0) -> Interval | None:
        """Return the 95 % interval, between `low` and `high`.

        The middle 95 % of the resamples, stretched about the value as a t distribution is wider than a normal one: as
        much as few trainings ask for, by the share of the variance that is theirs (Satterthwaite 1946). None where
        all resamples are alike, since a bootstrap knows nothing beyond its sample.
        """
        known = self.resamples[1:][np.isfinite(self.resamples[1:])]
        if len(known) < 2 or np.isnan(self.value) or np.ptp(known) < 1e-9:
            return None
        trainings = len(self.by_training)
        stretch = 1.0
        if trainings > 1:
            part = min(self.by_training.var(ddof=1) / trainings / known.var(ddof=1), 1.0)
            stretch = float(student_t.ppf(0.975, (trainings - 1) / max(part, 1e-3)**2)) / NORMAL_95
        ends = self.value + stretch * (np.quantile(known, (0.025, 0.975)) - self.value)
        return float(max(ends[0], low)), float(min(ends[1], high))


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

    def estimate(self, scores: Numbers) -> Estimate:
        """Return the mean over the trainings.

        Args:
            scores: [trainings, resamples + 1], those of one training with the weights of each resample.
        """
        return Estimate(np.einsum("tr,rt->r", scores, self._trainings), scores[:, 0])


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
