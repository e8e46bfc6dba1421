"""Whether synthetic scans are of use: a classifier trained on them and tested on real scans of other patients.

`arms` tells what is trained on what, `resampling` how the intervals come about: they hold both which patients happen to
be tested on and which trainings happened to be done.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnnlib.errors import DataError
from stylegan_oct.classes import CLASSES
from stylegan_oct.metrics.arms import QUICK, Arm, Classifiers, Probabilities, UsefulnessSettings
from stylegan_oct.metrics.classify import score_keys, score_table
from stylegan_oct.metrics.pictures import Pictures
from stylegan_oct.metrics.resampling import Resampling, percentile_interval
from stylegan_oct.metrics.values import Interval, Value
from torch_utils.distributed import World

__all__ = ["BAR", "QUICK", "CurvePoint", "Usefulness", "UsefulnessSettings", "measure_usefulness"]

Progress = Callable[[int, int], object]
Numbers = NDArray[np.float64]

URGENT = ("CNV", "DME")    # to be seen by a doctor at once; the others of CLASSES are not
BAR = 0.01                 # AUC lost by training on synthetic scans, urgent against not: .99 and .98 (Zheng 2020)
ON_CURVE = ("auc", "auc_urgent", "accuracy")


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """A score of one arm."""

    arm: str               # "synthetic", "real" or "both"
    metric: str            # "auc", "auc_urgent" or "accuracy"
    patients: int          # real ones to train on; 0 for the arm of synthetic scans
    scans: int             # of these patients, in the mean over the seeds
    value: float
    interval: Interval | None
    by_seed: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Usefulness:
    """The numbers, and the curve over the amount of real data."""

    values: list[Value]
    curve: list[CurvePoint]


def measure_usefulness(train: Pictures, held_out: Pictures, fake: Pictures,
                       settings: UsefulnessSettings = UsefulnessSettings(), *, cache: Path,  # noqa: B008 (frozen)
                       fake_cache: Path | None = None, world: World = World(),  # noqa: B008
                       progress: Progress = lambda *_: None) -> Usefulness:
    """Return how well classifiers trained on synthetic, on real and on both kinds of scans do on real scans.

    Values, overall and by class: `tstr_auc`, `tstr_accuracy`, `tstr_sensitivity`, `tstr_specificity` (trained on
    synthetic scans, tested on real ones) beside the floor of a classifier trained on all real scans, and for urgent
    against other classes `tstr_auc_urgent`, `tstr_sensitivity_urgent`, `tstr_specificity_urgent`. `gap_auc` and
    `gap_auc_urgent` are what is lost by training on synthetic scans, `gain_auc` what is won by adding them to all real
    ones, `gain_auc_fewest` to the smallest amount.

    What the classifiers say is kept, so that a call that was stopped goes on, and those trained on real scans alone
    serve every generator.

    Args:
        train: real scans to train on, those that the generator was trained on.
        held_out: real scans of other patients to test on.
        fake: synthetic pictures, the classes in the order of `train`.
        settings: length, amounts and seeds.
        cache: folder for what is kept of real scans, private.
        fake_cache: the same for synthetic pictures; default `cache`.
        world: the processes, all of one computer, that share the trainings; all return the same.
        progress: called with images trained on by this process and their number.
    Raises:
        DataError: a patient is in both, classes differ or are fewer than two, or files cannot be written.
    """
    check_pictures(train, held_out, fake)
    classifiers = Classifiers(train, held_out, fake, settings, cache=cache, fake_cache=fake_cache or cache, world=world)
    said = classifiers.say(progress)
    urgent, why = urgent_classes(train.classes)
    scores = score_arms(said, held_out, settings, urgent)
    table = _Table(scores, score_keys(len(train.classes), urgent), classifiers.arms)
    return Usefulness(values=_values(table, train, held_out, fake, settings, classifiers.identity, why),
                      curve=table.curve())


def check_pictures(train: Pictures, held_out: Pictures, fake: Pictures) -> None:
    """Refuse what would give a number that means nothing.

    Raises:
        DataError: says what, and how to mend it.
    """
    for pictures, what in ((train, "training scans"), (held_out, "held-out scans"), (fake, "synthetic pictures")):
        if not len(pictures):
            raise DataError(f"There are no {what}: usefulness needs scans to train on, scans of other patients to test "
                            "on, and synthetic pictures.")
        if pictures.classes != train.classes:
            raise DataError(f"The training scans have the classes {', '.join(train.classes) or 'none'}, the {what} "
                            f"{', '.join(pictures.classes) or 'none'}. Give the archive that the generator was "
                            "trained on.")
    if len(train.classes) < 2:
        raise DataError("Usefulness is how well classes are told apart; the scans have fewer than two classes.")
    both = len(np.intersect1d(train.groups, held_out.groups))
    if both:
        raise DataError(f"{both} patients are in both the training and the held-out scans, so that their scans would "
                        "be recognised rather than classified. Split by patients: python -m tools convert")


def urgent_classes(classes: Sequence[str]) -> tuple[list[int], str]:
    """Return the urgent classes, or none and the reason."""
    urgent = [label for label, name in enumerate(classes) if name in URGENT]
    if not set(classes) <= set(CLASSES) or len(urgent) in (0, len(classes)):
        return [], (f"urgent are {' and '.join(URGENT)} against the others of {', '.join(CLASSES)}; "
                    f"the classes are {', '.join(classes)}")
    return urgent, ""


def score_arms(said: dict[Arm, Probabilities], held_out: Pictures, settings: UsefulnessSettings,
               urgent: Sequence[int]) -> dict[Arm, tuple[Numbers, Numbers]]:
    """Return for each arm the scores of the resamples, [resamples + 1, keys], and of the seeds, [seeds, keys]."""
    resampling = Resampling(held_out.labels, held_out.groups, settings.seeds, settings.resamples,
                            np.random.default_rng(settings.seed))
    parts: dict[Arm, list[Numbers]] = {arm: [] for arm in said}
    for weights in resampling.weights():
        for arm, probabilities in said.items():
            parts[arm].append(np.stack([score_table(one, held_out.labels, weights, urgent) for one in probabilities]))
    tables = {arm: np.concatenate(found, axis=1) for arm, found in parts.items()}
    return {arm: (resampling.over_trainings(table), table[:, 0]) for arm, table in tables.items()}


class _Table:
    """The scores of all arms."""

    def __init__(self, scores: dict[Arm, tuple[Numbers, Numbers]], keys: list[tuple[str, int | None]],
                 arms: list[Arm]) -> None:
        self._scores, self.keys = scores, keys
        self.synthetic, self.fewest, self.all = arms[0], arms[1:3], arms[-2:]  # of two: real, both

    def resamples(self, arm: Arm, key: tuple[str, int | None]) -> Numbers:
        return self._scores[arm][0][:, self.keys.index(key)]

    def curve(self) -> list[CurvePoint]:
        """Return the points of all arms."""
        points = []
        for arm, (_, by_seed) in self._scores.items():
            for metric in ON_CURVE:
                if (metric, None) in self.keys:
                    found = self.resamples(arm, (metric, None))
                    points.append(CurvePoint(
                        arm=arm.name, metric=metric, patients=arm.patients, scans=arm.scans, value=float(found[0]),
                        interval=percentile_interval(found[1:]),
                        by_seed=tuple(by_seed[:, self.keys.index((metric, None))].tolist())))
        return points


def _values(table: _Table, train: Pictures, held_out: Pictures, fake: Pictures, settings: UsefulnessSettings,
            identity: str, why: str) -> list[Value]:
    def value(metric: str, label: int | None, found: Numbers, floor: Numbers | None = None, **more: str) -> Value:
        return Value(metric=metric, value=float(found[0]), class_name=None if label is None else train.classes[label],
                     interval=percentile_interval(found[1:]), n=len(fake), n_real=len(held_out), detector=identity,
                     floor=None if floor is None or math.isnan(floor[0]) else float(floor[0]),
                     floor_interval=None if floor is None else percentile_interval(floor[1:]), seed=settings.seed,
                     **{"better": "higher", **more})

    def compared(name: str, key: tuple[str, int | None], less: Arm, more: Arm, better: str, note: str) -> Value:
        return value(name, None, table.resamples(more, key) - table.resamples(less, key), better=better, note=note)

    remark = _remark(train, held_out, fake, settings)
    values = [value(f"tstr_{name}", label, table.resamples(table.synthetic, (name, label)),
                    table.resamples(table.all[0], (name, label)), note=remark if label is None else
                    _absence(label, held_out, fake)) for name, label in table.keys]
    for metric in [metric for metric in ON_CURVE if (metric, None) in table.keys]:
        gap = compared(f"gap_{metric}", (metric, None), table.synthetic, table.all[0], "lower", remark)
        values.append(gap if metric == "accuracy" else against_bar(gap, table.resamples(table.all[0], (metric, None))))
        for suffix, (real, both) in (("", table.all), ("_fewest", table.fewest)):
            values.append(compared(f"gain_{metric}{suffix}", (metric, None), real, both, "higher",
                                   f"added to {real.scans} real scans of {real.patients} patients; {remark}"))
    if why:
        values.append(Value(metric="tstr_auc_urgent", value=math.nan, better="higher", note=why))
    return values


def against_bar(gap: Value, real: Numbers) -> Value:
    """Return the gap with a note on whether it is within the published bar.

    Args:
        gap: between two AUCs.
        real: AUC of the classifier trained on real scans, [resamples + 1].
    """
    interval, reached = gap.interval, percentile_interval(real[1:])
    if interval is None or reached is None:
        return gap
    low, high = interval
    if reached[0] <= 0.5:
        stands = "not judged, as real scans alone teach the classifier nothing either: too few, or trained too short"
    else:
        stands = "met" if high <= BAR else "missed" if low > BAR else "neither met nor missed within the interval"
    bar = f"published bar {BAR:g} (Zheng 2020, urgent against not): {stands}; real scans reach {real[0]:.3f}"
    return replace(gap, note=f"{bar}; {gap.note}")


def _remark(train: Pictures, held_out: Pictures, fake: Pictures, settings: UsefulnessSettings) -> str:
    patients = [len(np.unique(pictures.groups)) for pictures in (train, held_out)]
    parts = [f"{settings.seeds} seeds, {settings.nimg} images shown",
             f"{len(fake)} synthetic or {len(train)} real scans of {patients[0]} patients to train on, "
             f"{len(held_out)} of {patients[1]} to test on"]
    if settings.seeds == 1:
        parts.append("the interval does not hold the spread of trainings")
    lacking = [name for label, name in enumerate(train.classes) if not (held_out.labels == label).any()]
    if lacking:
        parts.append(f"no held-out scans of {', '.join(lacking)}")
    return "; ".join(parts)


def _absence(label: int, held_out: Pictures, fake: Pictures) -> str:
    lacking = [what for pictures, what in ((held_out, "held-out scans"), (fake, "synthetic pictures"))
               if not (pictures.labels == label).any()]
    return f"no {' and no '.join(lacking)}" if lacking else ""
