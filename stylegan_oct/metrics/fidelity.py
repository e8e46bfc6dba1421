"""How near a generator's pictures are to real scans, by any detector, overall and in each class.

Every number is measured twice with the same reference and the same counts: for synthetic pictures, and for real scans
of other patients. The reference is one half of the held-out patients, the other half gives the floor: what a perfect
generator would get. That is done for several random halvings of the patients and averaged.

Intervals come from the halves too. The values of half-samples, drawn without repeats, scatter about their mean as that
of the whole set does about the truth (the delete-half jackknife: Shao and Wu 1989, "A General Theory for Jackknife
Variance Estimation"). An ordinary bootstrap misleads here: its samples repeat pictures, a repeat is at distance
zero from itself, and so it moves the Frechet distance, the unbiased kernel distance and all nearest neighbours;
docs/metrics.md says by how much. Halving whole patients also counts the scans of one patient as what they are,
nearly the same scan.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dnnlib.errors import DataError
from stylegan_oct.features.detector import Detector
from stylegan_oct.metrics.frechet import frechet_distance, frechet_of_moments
from stylegan_oct.metrics.halves import Halving, halve, join
from stylegan_oct.metrics.kernel import kernel_distance
from stylegan_oct.metrics.moments import CHUNK, Moments, Rows
from stylegan_oct.metrics.observe import Embedding, observe
from stylegan_oct.metrics.pictures import Pictures
from stylegan_oct.metrics.prdc import manifold
from stylegan_oct.metrics.values import Interval, Value
from torch_utils.distributed import World

Progress = Callable[[int, int], object]

HALVINGS = 8
LIMIT = 5000     # pictures in a half: pairs of more take minutes and move no digit that is shown
NEIGHBOURS = 5   # k of precision, recall, density and coverage
NORMAL_95 = 1.96
METRICS = ("kd", "fd", "precision", "recall", "density", "coverage")
BETTER = {"kd": "lower", "fd": "lower"}
BOUNDS = {"fd": (0.0, np.inf), "precision": (0.0, 1.0), "recall": (0.0, 1.0), "density": (0.0, np.inf),
          "coverage": (0.0, 1.0)}

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What one detector saw of the real, the held-out and the synthetic pictures, [N, dim] each."""

    real: Rows
    held_out: Rows
    fake: Rows


def measure_fidelity(real: Pictures, held_out: Pictures | None, fake: Pictures, detectors: Sequence[Detector], *,
                     cache: Path, fake_cache: Path | None = None, world: World = World(),  # noqa: B008
                     seed: int = 0, halvings: int = HALVINGS, batch: int = 64,
                     progress: Progress = lambda *_: None) -> list[Value]:
    """Return the numbers of every detector, such as `kd_lite0`, `fd_lite0`, `recall_lite0`: overall, then by class.

    Those named `..._train` compare all synthetic pictures with all of `real`, as papers do: a kernel distance to the
    training scans well below that to held-out ones means that the generator copies.

    Args:
        real: what the generator was trained on.
        held_out: scans of other patients; None or empty: halves of `real`, which a generator that copies fools.
        fake: synthetic pictures, the classes in the order of `real`; at least as many of each class as held-out scans,
            or half of a class's held-out scans are left out.
        detectors: that look at the pictures.
        cache: folder for what they see of scans; kept for the next time, private.
        fake_cache: the same for synthetic pictures; default `cache`.
        world: the processes that take part; all return the same.
        seed: of the halvings.
        halvings: how many.
        batch: pictures at once.
        progress: called with pictures seen and their number.
    Raises:
        DataError: classes differ, a detector gives features that are no numbers, or files cannot be written.
    """
    _check_classes(real, fake)
    basis = held_out if held_out is not None and len(held_out) else real
    observers = [Embedding(detector) for detector in detectors]
    total, before = len(real) + len(fake) + (0 if basis is real else len(basis)), 0
    found = []
    for pictures, folder in ((real, cache), (basis, cache), (fake, fake_cache or cache)):
        found.append(observe(pictures, observers, folder, world=world, batch=batch,
                             progress=lambda done, _, start=before: progress(start + done, total)))  # type: ignore[misc]
        before += 0 if pictures is basis and basis is real else len(pictures)
    values = []
    for detector in detectors:
        seen = Seen(*(rows[detector.identity] for rows in found))
        for rows, what in ((seen.real, "training scans"), (seen.held_out, "held-out scans"),
                           (seen.fake, "synthetic pictures")):
            check_finite(rows, detector.identity, what)
        values += _values(seen, basis, fake, detector, "" if basis is not real else
                          "no held-out scans: compared with training scans, which a generator that copies fools",
                          world, seed, halvings)
        values += _to_training(seen, detector, world, seed)
    return values


def check_finite(rows: Rows, identity: str, what: str) -> None:
    """Refuse features that are no numbers.

    Raises:
        DataError: says how many rows are bad.
    """
    bad = sum(int((~np.isfinite(rows[begin:begin + CHUNK]).all(axis=1)).sum()) for begin in range(0, len(rows), CHUNK))
    if bad:
        raise DataError(f"{identity} gives features that are no numbers for {bad} of {len(rows)} {what}. Is the "
                        "generator or the detector damaged? Remove the cached features if it has been replaced.")


def _check_classes(real: Pictures, fake: Pictures) -> None:
    if real.classes != fake.classes:
        raise DataError(f"The scans have the classes {', '.join(real.classes) or 'none'}, the generator "
                        f"{', '.join(fake.classes) or 'none'}. Give the archive that it was trained on.")


def _values(seen: Seen, basis: Pictures, fake: Pictures, detector: Detector, remark: str, world: World, seed: int,
            halvings: int) -> list[Value]:
    classes = len(basis.classes) or 1
    drawn = [halve(basis.labels, basis.groups, fake.labels, classes, np.random.default_rng([seed, number]), LIMIT)
             for number in range(halvings)]
    scopes: list[int | None] = [None, *range(len(basis.classes))]
    scores = np.zeros((len(scopes), halvings, 2, 2, len(METRICS)))  # halving, which half, synthetic or real
    tasks = [(place, number) for place in range(len(scopes)) for number in range(halvings)]
    for place, number in tasks[world.rank::world.size]:
        scores[place, number] = _compare(seen, drawn[number], scopes[place])
    gathered = torch.from_numpy(scores)
    world.all_reduce_(gathered)
    values = []
    for place, label in enumerate(scopes):
        counts = [len(join(halving.real[0], label)) for halving in drawn]
        context = _Context(detector, None if label is None else basis.classes[label], int(np.median(counts)), seed,
                           "; ".join(filter(None, (_absent(label, basis, fake), remark))))
        values += [context.value(name, scores[place, :, :, 0, column].ravel(), scores[place, :, :, 1, column].ravel())
                   for column, name in enumerate(METRICS)]
    return values


def _absent(label: int | None, basis: Pictures, fake: Pictures) -> str:
    """Return what is missing: of a class whether it is there at all, else which classes are not."""
    real, synthetic = (np.bincount(labels, minlength=max(len(basis.classes), 1)) for labels in
                       (basis.labels, fake.labels))
    if label is not None:
        return f"{real[label]} held-out scans, {synthetic[label]} synthetic" if min(real[label],
                                                                                  synthetic[label]) < 4 else ""
    names = [name for name, *counts in zip(basis.classes, real, synthetic, strict=False) if min(counts) == 0]
    return f"without {', '.join(names)}" if names else ""


def _compare(seen: Seen, halving: Halving, label: int | None) -> Scores:
    """Return the metrics of synthetic and of real pictures beside each half, [2, 2, metrics]."""
    real = [seen.held_out[join(half, label)] for half in halving.real]
    fake = [seen.fake[join(half, label)] for half in halving.fake]
    scores = np.full((2, 2, len(METRICS)), np.nan)
    for side in (0, 1):
        scores[side, 0] = _score(real[side], fake[side])
        scores[side, 1] = _score(real[side], real[1 - side], scores[0, 1, :2] if side else None)
    return scores


def _score(reference: Rows, other: Rows, distances: Scores | None = None) -> list[float]:
    """Return the metrics; the two distances, which do not depend on the order, may be known."""
    if len(reference) < 2:
        return [np.nan] * len(METRICS)
    if distances is None:
        distances = np.array([kernel_distance(reference, other), frechet_distance(reference, other)])
    if len(reference) <= NEIGHBOURS:
        return [*distances, *[np.nan] * 4]
    found = manifold(reference, other, k=NEIGHBOURS)
    return [*distances, found.precision, found.recall, found.density, found.coverage]


@dataclass(frozen=True)
class _Context:
    """What the values of one detector and class have in common."""

    detector: Detector
    class_name: str | None
    n: int
    seed: int
    note: str

    def value(self, name: str, synthetic: Scores, real: Scores) -> Value:
        low, high = BOUNDS.get(name, (-np.inf, np.inf))
        return Value(metric=f"{name}_{self.detector.name}", value=float(synthetic.mean()), class_name=self.class_name,
                     interval=scatter(synthetic, low, high), floor=float(real.mean()),
                     floor_interval=scatter(real, low, high), n=self.n, n_real=self.n,
                     better=BETTER.get(name, "floor"), detector=self.detector.identity, seed=self.seed,
                     note="; ".join(filter(None, (self.note, self._caution(name, synthetic)))))

    def _caution(self, name: str, synthetic: Scores) -> str:
        if np.isnan(synthetic).any():
            least = NEIGHBOURS + 1 if name not in BETTER else 2
            return f"{self.n} pictures in a half; {name} needs {least}"
        if name == "fd" and self.n <= self.detector.dim:
            return (f"mostly bias: {self.n} pictures are too few for {self.detector.dim} features; compare with the "
                    "floor alone, and rather by kd")
        return ""


def scatter(samples: Scores, low: float = -np.inf, high: float = np.inf) -> Interval | None:
    """Return the 95 % interval of the mean of half-sample values, cut to what is possible; None where unknown."""
    if len(samples) < 2 or np.isnan(samples).any():
        return None
    reach = NORMAL_95 * samples.std(ddof=1)
    return float(max(samples.mean() - reach, low)), float(min(samples.mean() + reach, high))


def _to_training(seen: Seen, detector: Detector, world: World, seed: int) -> list[Value]:
    """Return the distances of synthetic pictures to training scans: Frechet of all, kernel of LIMIT of each."""
    sums = []
    for rows in (seen.real, seen.fake):
        moments = Moments(rows.shape[1])
        for begin in range(0, len(rows), CHUNK)[world.rank::world.size]:
            moments.update(torch.from_numpy(np.array(rows[begin:begin + CHUNK])))
        moments.all_reduce_(world)
        sums.append(moments)
    rng = np.random.default_rng(seed)
    some = [rows[np.sort(rng.permutation(len(rows))[:LIMIT])] for rows in (seen.real, seen.fake)]
    enough = min(moments.n for moments in sums) > 1
    found = {"kd": (kernel_distance(*some) if enough else np.nan, len(some[1]), len(some[0])),
             "fd": (frechet_of_moments(*sums) if enough else np.nan, len(seen.fake), len(seen.real))}
    note = "to training scans; no floor" if enough else "needs two pictures of each"
    return [Value(metric=f"{name}_{detector.name}_train", value=value, n=n, n_real=n_real, better="lower",
                  detector=detector.identity, seed=seed, note=note) for name, (value, n, n_real) in found.items()]
