"""Distributions of biomarkers in real and in synthetic pictures, compared class by class.

Half of the held-out patients are compared with as many synthetic pictures, and with the other half for the floor,
for several random halvings; intervals are those of `fidelity`, which tells why.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from stylegan_oct.latent.biomarkers.measure import NAMES, UNITS
from stylegan_oct.metrics.observers.halves import Halving, draw_halvings
from stylegan_oct.metrics.observers.observe import Rows
from stylegan_oct.metrics.observers.pictures import Pictures
from stylegan_oct.metrics.statistics.intervals import from_halves, mean_of_shares, wilson
from stylegan_oct.metrics.statistics.values import Value

Numbers = NDArray[np.float64]

LEAST = 2  # pictures with the biomarker that a distance needs on either side
QUANTILES = tuple((i + 0.5) / 40 for i in range(40))


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A biomarker in real and in synthetic pictures of a class."""

    biomarker: str
    unit: str
    class_name: str | None
    probabilities: tuple[float, ...]   # of the quantiles
    real: tuple[float, ...]            # quantiles; empty where it was measured in none
    fake: tuple[float, ...]
    n_real: int                        # in how many it was measured
    n_fake: int


def distributions(real: Pictures, fake: Pictures, real_rows: Rows, fake_rows: Rows) -> list[Distribution]:
    """Return the quantiles of each biomarker in each class; rows are [N, NAMES], NaN where nothing was measured."""
    found = []
    for column, name in enumerate(NAMES):
        for label, class_name in enumerate(real.classes or (None,)):
            known = [values[~np.isnan(values)] for values in (real_rows[real.labels == label, column],
                                                              fake_rows[fake.labels == label, column])]
            quantiles = [tuple(np.quantile(values, QUANTILES).tolist()) if len(values) else () for values in known]
            found.append(Distribution(biomarker=name, unit=UNITS[name], class_name=class_name, probabilities=QUANTILES,
                                      real=quantiles[0], fake=quantiles[1], n_real=len(known[0]),
                                      n_fake=len(known[1])))
    return found


def compare_biomarkers(real: Pictures, fake: Pictures, real_rows: Rows, fake_rows: Rows, *, identity: str,
                       seed: int, halvings: int) -> list[Value]:
    """Return how the distributions differ: `wasserstein_NAME`, `ks_NAME` and `unmeasured_NAME` of each biomarker.

    Args:
        real, fake: whose labels and patients count.
        real_rows, fake_rows: what was measured, [N, NAMES], NaN where nothing could be.
        identity: of the observer that measured.
        seed: of the halvings.
        halvings: how many.
    """
    drawn = draw_halvings(real.labels, real.groups, fake.labels, len(real.classes) or 1, number=halvings, seed=seed,
                          limit=len(real))
    values = []
    for column, name in enumerate(NAMES):
        found, other = (rows[:, column].astype(np.float64) for rows in (real_rows, fake_rows))
        if np.isnan(found).all():
            values.append(Value(metric=f"wasserstein_{name}", value=np.nan, better="lower", detector=identity,
                                seed=seed, note="measured in no real scan, at this resolution or at all"))
            continue
        spread = [_spread(found[real.labels == label]) for label in range(len(real.classes) or 1)]
        scores = np.array([[_distances(found, other, halving, label, spread[label]) for halving in drawn]
                           for label in range(len(spread))])  # [classes, halvings, 3, 2]
        sizes = [len(drawn[0].real[0][label]) for label in range(len(spread))]
        for place, metric in enumerate(("wasserstein", "ks")):
            values += _by_class(f"{metric}_{name}", scores[..., place], sizes, real.classes,
                                {"detector": identity, "seed": seed})
        values += _unmeasured(f"unmeasured_{name}", real, fake, np.isnan(found), np.isnan(other),
                              {"detector": identity, "seed": seed})
    return values


def greatest_difference(a: Numbers, b: Numbers) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples: of their cumulative shares, 0 to 1."""
    both = np.concatenate([a, b])
    shares = [np.searchsorted(np.sort(sample), both, side="right") / len(sample) for sample in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def scaled_wasserstein(a: Numbers, b: Numbers, sd: float) -> float:
    """Return the distance by which the one sample must be moved on average to become the other, over `sd`.

    NaN where they differ and `sd` is zero: there is nothing to measure the difference by.
    """
    distance = float(wasserstein_distance(a, b))
    if distance == 0:
        return 0.0
    return distance / sd if sd > 0 else np.nan


def _spread(values: Numbers) -> float:
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else np.nan


def _distances(found: Numbers, other: Numbers, halving: Halving, label: int, sd: float) -> list[list[float]]:
    """Return both distances of synthetic pictures to one half, to the other, and of the halves to each other."""
    one, two = (_known(found[half[label]]) for half in halving.real)
    pairs = [(one, _known(other[halving.fake[1][label]])), (two, _known(other[halving.fake[0][label]])), (one, two)]
    return [[scaled_wasserstein(a, b, sd), greatest_difference(a, b)] if min(len(a), len(b)) >= LEAST
            else [np.nan, np.nan] for a, b in pairs]


def _known(values: Numbers) -> Numbers:
    return values[~np.isnan(values)]


def _by_class(metric: str, scores: Numbers, sizes: list[int], classes: tuple[str, ...], same: dict[str, Any],
              ) -> list[Value]:
    """Return the mean over the classes and each class; scores are [classes, halvings, 3]."""
    def value(class_name: str | None, samples: Numbers, n: int, note: str) -> Value:
        synthetic, floor = samples[:, :2].ravel(), samples[:, 2]
        return Value(metric=metric, class_name=class_name, value=float(synthetic.mean()), n=n, n_real=n, note=note,
                     interval=from_halves(synthetic), floor=None if np.isnan(floor).any() else float(floor.mean()),
                     floor_interval=from_halves(floor), better="lower", **same)

    good: NDArray[np.bool_] = np.array([np.isfinite(part).all() for part in scores])
    lacking = "measured in too few pictures, or alike in all real ones"
    if not classes:
        return [value(None, scores[0], sizes[0], "" if good[0] else lacking)]
    without = ", ".join(name for name, known in zip(classes, good, strict=True) if not known)
    mean = scores[good].mean(axis=0) if good.any() else scores[0]
    return [value(None, mean, sum(np.array(sizes)[good]), f"mean of the classes; without {without}: {lacking}"
                  if without else "mean of the classes"),
            *(value(name, scores[label], sizes[label], "" if good[label] else lacking)
              for label, name in enumerate(classes))]


def _unmeasured(metric: str, real: Pictures, fake: Pictures, lacking: NDArray[np.bool_], lacks: NDArray[np.bool_],
                same: dict[str, Any]) -> list[Value]:
    """Return the share of pictures without the biomarker: the mean over the classes, and each class."""
    by_class = []
    for label, class_name in enumerate(real.classes or (None,)):
        which, those = (pictures.labels == label for pictures in (real, fake))
        n, n_real, patients = int(those.sum()), int(which.sum()), len(np.unique(real.groups[which]))
        share, floor = (float(flags.mean()) if len(flags) else np.nan for flags in (lacks[those], lacking[which]))
        by_class.append(Value(metric=metric, class_name=class_name, value=share, n=n, n_real=n_real,
                              interval=wilson(share, n) if n else None, floor=floor if n_real else None,
                              floor_interval=wilson(floor, patients) if n_real else None, better="floor", **same))
    return [mean_of_shares(by_class), *by_class] if real.classes else by_class
