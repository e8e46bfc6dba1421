"""How near a generator's pictures are to real scans, by any detector, overall and in each class.

Every number is measured twice with the same reference and the same counts: for synthetic pictures, and for real scans
of other patients. The reference is one half of the held-out patients; the other half gives the floor, what a perfect
generator would get. That is done for several random halvings of the patients, both ways, and averaged.

Intervals come from the halves too: values of half-samples drawn without repeats scatter about their mean as the value
of the whole set does about the truth (the delete-half jackknife: Shao and Wu 1989, "A General Theory for Jackknife
Variance Estimation"). A bootstrap would mislead: its samples repeat pictures, a repeat is like none but itself, and so
it moves the Frechet distance, the unbiased kernel distance and all nearest neighbours by several times their spread;
docs/metrics.md says how much. Whole patients change sides, as the scans of one are nearly one scan.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dnnlib.errors import DataError
from stylegan_oct.features.detector import Detector
from stylegan_oct.metrics.distances.frechet import frechet_distance, frechet_of_moments
from stylegan_oct.metrics.distances.kernel import Draws, Places, kernel_distance
from stylegan_oct.metrics.distances.moments import CHUNK, Moments, Rows
from stylegan_oct.metrics.distances.prdc import manifold
from stylegan_oct.metrics.observers.halves import Halving, draw_halvings, join
from stylegan_oct.metrics.observers.observe import Embedding, Progress, observe, resize_rule
from stylegan_oct.metrics.observers.pictures import Pictures
from stylegan_oct.metrics.statistics.values import Interval, Value
from torch_utils.distributed import World

HALVINGS = 8
LIMIT = 2500     # pictures in a half: the time grows with their square, the spread is below a hundredth by then
NEIGHBOURS = 5   # k of precision, recall, density and coverage
PATIENTS = 8     # of a class at least: fewer can be halved in so few ways that the spread says nothing
NORMAL_95 = 1.96
METRICS = ("kd", "fd", "precision", "recall", "density", "coverage")
DISTANCES = METRICS[:2]
BOUNDS = {"kd": (-math.inf, math.inf), "fd": (0.0, math.inf), "density": (0.0, math.inf)}  # the others: 0 to 1

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What a detector saw of the training, the held-out and the synthetic pictures."""

    real: Draws
    held_out: Draws
    fake: Draws


def measure_fidelity(real: Pictures, held_out: Pictures | None, fake: Pictures, detectors: Sequence[Detector], *,
                     cache: Path, fake_cache: Path | None = None, world: World = World(),  # noqa: B008
                     seed: int = 0, halvings: int = HALVINGS, batch: int = 64,
                     progress: Progress = lambda *_: None) -> list[Value]:
    """Return the numbers of every detector, such as `kd_lite0`, `fd_lite0`, `recall_lite0`: overall, then by class.

    `kd_train_lite0` and `fd_train_lite0` compare with the training scans, as papers do. A generator that copies does
    well in all of them: see `memorisation`.

    Args:
        real: what the generator was trained on.
        held_out: scans of other patients; None or empty: halves of `real`, which a generator that copies fools.
        fake: synthetic pictures, the classes in the order of `real`; at least as many of each as there are held-out
            scans of it, or some of those are left out.
        detectors: that look at the pictures.
        cache: folder for what they see of scans, kept for the next time, for the owner alone.
        fake_cache: the same for synthetic pictures; default `cache`.
        world: the processes that take part; all return the same.
        seed: of the halvings.
        halvings: how many, 2 or more.
        batch: pictures at once.
        progress: called with the number of pictures seen, and of all.
    Raises:
        DataError: classes differ, a detector gives features that are no numbers, or files cannot be written.
    """
    assert halvings > 1, halvings
    if real.classes != fake.classes:
        raise DataError(f"The scans have the classes {', '.join(real.classes) or 'none'}, the generator "
                        f"{', '.join(fake.classes) or 'none'}. Give the archive that it was trained on.")
    basis = held_out if held_out is not None and len(held_out) else real
    sources = {"training scans": (real, cache), "held-out scans": (basis, cache),
               "synthetic pictures": (fake, fake_cache or cache)}
    rows = _look(sources, [Embedding(detector) for detector in detectors], world, batch, progress)
    study = _Study(basis, fake, "" if basis is not real else "no held-out scans: halves of the training scans, which "
                   "a generator that copies fools", seed, halvings, world)
    values = []
    for detector in detectors:
        views = {what: rows[what][detector.identity] for what in sources}
        for what, view in views.items():
            check_finite(view, detector.identity, what)
        seen = Seen(Draws(views["training scans"], real.groups, real.labels),
                    Draws(views["held-out scans"], basis.groups, basis.labels),
                    Draws(views["synthetic pictures"], None, fake.labels))
        by_halves = study.values(seen, detector)
        values += [*by_halves, *_to_training(seen, basis is not real, by_halves[:2], detector, world, seed)]
    return values


def _look(sources: dict[str, tuple[Pictures, Path]], observers: Sequence[Embedding], world: World, batch: int,
          progress: Progress) -> dict[str, dict[str, Rows]]:
    """Return what each observer sees of each source, each set of pictures looked at once."""
    sizes = {pictures.identity: len(pictures) for pictures, _ in sources.values()}
    found: dict[str, dict[str, Rows]] = {}
    rows: dict[str, dict[str, Rows]] = {}
    for what, (pictures, folder) in sources.items():
        if pictures.identity not in found:
            before = sum(sizes[name] for name in found)

            def tell(done: int, _: int, before: int = before) -> None:
                progress(before + done, sum(sizes.values()))

            found[pictures.identity] = observe(pictures, observers, folder, world=world, batch=batch, progress=tell)
        rows[what] = found[pictures.identity]
    return rows


def check_finite(rows: Rows, identity: str, what: str) -> None:
    """Refuse features that are no numbers.

    Raises:
        DataError: says how many rows are bad.
    """
    bad = sum(int((~np.isfinite(rows[begin:begin + CHUNK]).all(axis=1)).sum()) for begin in range(0, len(rows), CHUNK))
    if bad:
        raise DataError(f"{identity} gives features that are no numbers for {bad} of {len(rows)} {what}: the detector, "
                        "or what it looked at, is damaged. Mend that and remove the cached features.")


class _Study:
    """Synthetic pictures against held-out scans, and those against each other, by any detector."""

    def __init__(self, basis: Pictures, fake: Pictures, remark: str, seed: int, halvings: int, world: World) -> None:
        self._names = tuple(basis.classes)
        self._scopes: list[int | None] = [None, *range(len(self._names))]
        self._halvings = draw_halvings(basis.labels, basis.groups, fake.labels, max(len(self._names), 1),
                                       number=halvings, seed=seed, limit=LIMIT)
        self._counts = [len(part) for part in self._halvings[0].real[0]]
        self._available = [np.bincount(labels, minlength=len(self._counts)) for labels in (basis.labels, fake.labels)]
        self._patients = [len(np.unique(basis.groups if label is None else basis.groups[basis.labels == label]))
                          for label in self._scopes]
        self._clustered = self._patients[0] < len(basis)
        self._remark, self._seed, self._world = remark, seed, world

    def values(self, seen: Seen, detector: Detector) -> list[Value]:
        """Return the values of all metrics, of all classes together and of each."""
        shape = (len(self._scopes), len(self._halvings))
        scores = torch.zeros(*shape, 2, 2, len(METRICS), dtype=torch.float64)
        for place, number in list(np.ndindex(*shape))[self._world.rank::self._world.size]:
            enough = self._patients[place] >= PATIENTS
            scores[place, number] = torch.from_numpy(
                compare(seen, self._halvings[number], self._scopes[place])) if enough else math.nan
        self._world.all_reduce_(scores)
        return [self._value(name, label, scores[place, :, :, 0, column].numpy().ravel(),
                            scores[place, :, :1 if name in DISTANCES else 2, 1, column].numpy().ravel(), detector)
                for place, label in enumerate(self._scopes) for column, name in enumerate(METRICS)]

    def _value(self, name: str, label: int | None, synthetic: Scores, real: Scores, detector: Detector) -> Value:
        n = sum(self._counts) if label is None else self._counts[label]
        caution = self._reason(name, label, n) if np.isnan(synthetic).any() else self._caution(name, n, detector.dim)
        notes = (self._missing(label), caution, self._remark)
        return Value(metric=f"{name}_{detector.name}", value=float(synthetic.mean()),
                     class_name=None if label is None else self._names[label], interval=scatter(synthetic, name),
                     floor=float(real.mean()), floor_interval=scatter(real, name), n=n, n_real=n,
                     better="lower" if name in DISTANCES else "floor", detector=detector.identity,
                     resize=resize_rule(detector), seed=self._seed, note="; ".join(filter(None, notes)))

    def _missing(self, label: int | None) -> str:
        absent = [name for name, count in zip(self._names, self._counts, strict=False) if not count]
        return f"without {', '.join(absent)}" if absent and label is None else ""

    def _reason(self, name: str, label: int | None, n: int) -> str:
        """Return why there is no number."""
        real, synthetic = (int(counts.sum() if label is None else counts[label]) for counts in self._available)
        patients = self._patients[self._scopes.index(label)]
        if min(real, synthetic) == 0 or patients >= PATIENTS > n:
            return f"not measured: {real} scans and {synthetic} synthetic pictures give halves of {n}"
        if patients < PATIENTS:
            return f"not measured: scans of {patients} patients; fewer than {PATIENTS} say nothing about others"
        return f"not measured: {name} needs scans of more patients in each half"

    def _caution(self, name: str, n: int, dim: int) -> str:
        if name != "fd":
            return ""
        few = f"mostly bias, {n} pictures being too few for {dim} features: read it beside its floor, and kd first"
        high = "the floor is somewhat high, as there are several scans of a patient"
        return "; ".join(text for text, true in ((few, n <= dim), (high, self._clustered)) if true)


def compare(seen: Seen, halving: Halving, label: int | None) -> Scores:
    """Return the metrics of synthetic and of real pictures beside each half, [2 halves, 2, metrics]."""
    real = [some(seen.held_out, join(half, label)) for half in halving.real]
    scores = np.full((2, 2, len(METRICS)), np.nan)
    for half in (0, 1):
        fake = some(seen.fake, join(halving.fake[half], label))
        scores[half, 0] = [*_distances(real[half], fake), *_manifold(real[half], fake)]
        distances = scores[0, 1, :2] if half else _distances(*real)  # those of two sets are the same both ways
        scores[half, 1] = [*distances, *_manifold(real[half], real[1 - half])]
    return scores


def some(draws: Draws, places: Places) -> Draws:
    """Return the draws of some places."""
    return Draws(draws.rows[places], *(None if each is None else each[places] for each in (draws.groups, draws.labels)))


def _distances(a: Draws, b: Draws) -> tuple[float, float]:
    if len(a.rows) < 2 or any(each.groups is not None and len(np.unique(each.groups)) < 2 for each in (a, b)):
        return math.nan, math.nan
    return kernel_distance(a, b), frechet_distance(a.rows, b.rows)


def _manifold(real: Draws, fake: Draws) -> tuple[float, float, float, float]:
    for each in (real, fake):
        largest = 1 if each.groups is None else np.unique(each.groups, return_counts=True)[1].max(initial=1)
        if len(each.rows) - largest < NEIGHBOURS:
            return math.nan, math.nan, math.nan, math.nan
    found = manifold(real.rows, fake.rows, k=NEIGHBOURS, groups_real=real.groups, groups_fake=fake.groups)
    return found.precision, found.recall, found.density, found.coverage


def scatter(samples: Scores, name: str) -> Interval | None:
    """Return the 95 % interval of the mean of half-sample values, cut to what is possible; None where unknown."""
    if np.isnan(samples).any():
        return None
    low, high = BOUNDS.get(name, (0.0, 1.0))
    reach = NORMAL_95 * samples.std(ddof=1)
    return float(max(samples.mean() - reach, low)), float(min(samples.mean() + reach, high))


def _to_training(seen: Seen, apart: bool, by_halves: Sequence[Value], detector: Detector, world: World,
                 seed: int) -> list[Value]:
    """Return the distances to all training scans: of samples and, where they are apart, of as many held-out scans.

    The kernel distance takes LIMIT pictures of each. Intervals are as wide as those of the distances by halves,
    rather too wide, as there are more training scans.
    """
    rng = np.random.default_rng(seed)
    others = _equally_many(seen.fake, seen.held_out, rng) if apart else [np.arange(len(seen.fake.rows))]
    n, n_real = len(others[0]), len(seen.real.rows)
    found = {"kd": [math.nan] * len(others), "fd": [math.nan] * len(others)}
    if min(n, n_real) > 1:
        whole, scans = Moments.of(seen.real.rows, world=world), some(seen.real, _at_most(np.arange(n_real), rng))
        draws = list(zip((seen.fake, seen.held_out), others, strict=False))
        found["kd"] = [kernel_distance(scans, some(each, _at_most(places, rng))) for each, places in draws]
        found["fd"] = [frechet_of_moments(whole, Moments.of(each.rows, places, world=world)) for each, places in draws]
    note = f"{'' if apart else 'no held-out scans, so no floor; '}to training scans"
    values = []
    for (name, measured), like in zip(found.items(), by_halves, strict=True):
        floor = measured[1] if apart else None
        most = LIMIT if name == "kd" else max(n, n_real)
        values.append(Value(
            metric=f"{name}_train_{detector.name}", value=measured[0], interval=_as_wide(measured[0], like.interval),
            floor=floor, floor_interval=None if floor is None else _as_wide(floor, like.floor_interval),
            n=min(n, most), n_real=min(n_real, most), better="lower", detector=detector.identity,
            resize=resize_rule(detector), seed=seed, note=note))
    return values


def _as_wide(value: float, interval: Interval | None) -> Interval | None:
    if interval is None or math.isnan(value):
        return None
    reach = (interval[1] - interval[0]) / 2
    return value - reach, value + reach


def _equally_many(a: Draws, b: Draws, rng: np.random.Generator) -> list[Places]:
    """Return places of each with the same count of each class."""
    assert a.labels is not None and b.labels is not None
    chosen: list[list[Places]] = [[], []]
    for label in np.intersect1d(a.labels, b.labels):
        both = [rng.permutation(np.flatnonzero(labels == label)) for labels in (a.labels, b.labels)]
        for parts, places in zip(chosen, both, strict=True):
            parts.append(places[:min(map(len, both))])
    return [np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64) for parts in chosen]


def _at_most(places: Places, rng: np.random.Generator) -> Places:
    return np.sort(rng.permutation(places)[:LIMIT])
