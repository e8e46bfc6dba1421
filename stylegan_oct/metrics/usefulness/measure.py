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
from stylegan_oct.metrics.observers.observe import Observer
from stylegan_oct.metrics.observers.pictures import Pictures
from stylegan_oct.metrics.statistics.resampling import Estimate, Resampling
from stylegan_oct.metrics.statistics.values import Interval, Value
from stylegan_oct.metrics.usefulness.arms import QUICK, Arm, Classifiers, Probabilities, Thumbnails, UsefulnessSettings
from stylegan_oct.metrics.usefulness.classify import Key, score_keys, score_table
from torch_utils.distributed import World

__all__ = ["BAR", "QUICK", "CurvePoint", "Usefulness", "UsefulnessSettings", "measure_usefulness",
           "usefulness_observers"]

Progress = Callable[[int, int], object]
Numbers = NDArray[np.float64]
Scores = dict[Arm, dict[Key, Estimate]]

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
    values = _values(scores, train, held_out, fake, settings, classifiers)
    if not urgent:
        values.append(Value(metric="tstr_auc_urgent", value=math.nan, better="higher", note=why))
    return Usefulness(values=values, curve=curve_of(scores))


def usefulness_observers(train: Pictures, settings: UsefulnessSettings) -> list[Observer]:
    """Return what must look at synthetic pictures, for a common pass with others."""
    shape = train.read([0]).shape
    return [Thumbnails(min(settings.resolution, shape[-1]), shape[1])]


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
               urgent: Sequence[int]) -> Scores:
    """Return the scores of each arm.

    Args:
        said: probabilities of each arm, [seeds, N, classes].
        held_out: the N scans that they are of.
        settings: whose seeds and resamples count.
        urgent: classes that are urgent; none leaves those scores out.
    """
    resampling = Resampling(held_out.labels, held_out.groups, settings.seeds, settings.resamples,
                            np.random.default_rng(settings.seed))
    parts: dict[Arm, list[Numbers]] = {arm: [] for arm in said}
    for weights in resampling.weights():
        for arm, probabilities in said.items():
            parts[arm].append(np.stack([score_table(one, held_out.labels, weights, urgent) for one in probabilities]))
    keys = score_keys(len(held_out.classes), urgent)
    scores: Scores = {}
    for arm, found in parts.items():
        table = np.concatenate(found, axis=1)  # [seeds, resamples + 1, keys]
        scores[arm] = {key: resampling.estimate(table[:, :, place]) for place, key in enumerate(keys)}
    return scores


def curve_of(scores: Scores) -> list[CurvePoint]:
    """Return the points of all arms."""
    return [CurvePoint(arm=arm.name, metric=metric, patients=arm.patients, scans=arm.scans, value=found.value,
                       interval=found.interval(), by_seed=tuple(found.by_training.tolist()))
            for arm, table in scores.items() for (metric, label), found in table.items()
            if metric in ON_CURVE and label is None]


def _values(scores: Scores, train: Pictures, held_out: Pictures, fake: Pictures, settings: UsefulnessSettings,
            classifiers: Classifiers) -> list[Value]:
    def value(metric: str, class_name: str | None, found: Estimate, floor: Estimate | None, low: float, better: str,
              note: str) -> Value:
        known = floor is not None and not math.isnan(floor.value)
        return Value(metric=metric, value=found.value, class_name=class_name, interval=found.interval(low),
                     floor=floor.value if known and floor else None, n=len(fake), n_real=len(held_out),
                     floor_interval=floor.interval() if known and floor else None, better=better,
                     detector=classifiers.identity, resize=f"averaged by area to {classifiers.side} px",
                     seed=settings.seed, note=note)

    remark = _remark(train, held_out, fake, settings)
    arms = list(scores)
    synthetic, fewest, every = scores[arms[0]], arms[1:3], arms[-2:]  # the last two: real, both
    values = [value(f"tstr_{name}", None if label is None else train.classes[label], found,
                    scores[every[0]][name, label], 0.0, "higher",
                    remark if label is None else _absence(label, held_out, fake))
              for (name, label), found in synthetic.items()]
    for metric in [metric for metric in ON_CURVE if (metric, None) in synthetic]:
        real = scores[every[0]][metric, None]
        gap = value(f"gap_{metric}", None, real - synthetic[metric, None], None, -1.0, "lower", remark)
        values.append(gap if metric == "accuracy" else against_bar(gap, real))
        for suffix, (less, more) in {"": every, **({"_fewest": fewest} if fewest != every else {})}.items():
            gain = scores[more][metric, None] - scores[less][metric, None]
            values.append(value(f"gain_{metric}{suffix}", None, gain, None, -1.0, "higher",
                                f"added to {less.scans} real scans of {less.patients} patients; {remark}"))
    return values


def against_bar(gap: Value, real: Estimate) -> Value:
    """Return the gap with a note on whether it is within the published bar.

    Args:
        gap: between two AUCs.
        real: AUC of the classifier trained on real scans.
    """
    low, high = gap.interval or (gap.value, gap.value)
    reached = real.interval() or (real.value, real.value)
    if math.isnan(gap.value):
        return gap
    if reached[0] <= 0.5:
        stands = "not judged, as real scans alone teach the classifier nothing either: too few, or trained too short"
    else:
        stands = "met" if high <= BAR else "missed" if low > BAR else "neither met nor missed within the interval"
    bar = f"published bar {BAR:g} (Zheng 2020, urgent against not): {stands}; real scans reach {real.value:.3f}"
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
