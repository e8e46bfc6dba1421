"""Whether a generator repeats the scans it was trained on.

Each picture's nearest training scan is found by a copy detector and by a perceptual hash. How near is too near is said
by held-out scans of other patients, which cannot be copies: the score of a picture is its distance to the nearest
training scan over that to the nearest held-out scan, and a picture is flagged where its score lies below the 1 % point
of those of held-out scans. A picture that a generator of the true distribution draws is flagged one time in a hundred.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import beta, binomtest, mannwhitneyu
from torch import Tensor

from dnnlib.errors import DataError
from stylegan_oct.data.archive import SYNTHETIC, Archive
from stylegan_oct.features.copies import CopyDetector
from stylegan_oct.features.copies_training import disguise, read_grey, train_copies
from stylegan_oct.features.detector import load_detector
from stylegan_oct.metrics.memorisation.nearest import nearest
from stylegan_oct.metrics.memorisation.phash import HashObserver
from stylegan_oct.metrics.observers.observe import Embedding, Observer, Progress, Rows, observe
from stylegan_oct.metrics.observers.pictures import ArchivePictures, Pictures
from stylegan_oct.metrics.statistics.values import Interval, Value
from torch_utils.distributed import World
from torch_utils.images import to_uint8, to_unit

LEVEL = 0.01     # share of held-out scans below which a score is suspicious
ENOUGH = 99      # held-out scans from which on the 1 % point can be resolved
PLANTED = 256    # copies that are planted to see whether they are found
TRUSTED = 0.5    # share of those below which nothing can be concluded from few flags
CLOSEST = 12     # pairs that are shown
TINY = 1e-6      # below the distance of any two different pictures; keeps scores finite

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Verdicts:
    """What is known of pictures, [n] each."""

    nearest: Ints             # row of the nearest training scan in `CopyJudge.training`, by the copy detector
    distance: Floats          # to it, 0 to 2
    ratio: Floats             # of that to the distance to the nearest held-out scan: about 1 for new eyes
    percentile: Floats        # share in percent of held-out scans with a smaller ratio, this one counted among them
    hash_nearest: Ints        # row of the nearest training scan by perceptual hash
    hash_distance: Ints       # differing bits of 64
    flagged: NDArray[np.bool_]        # by the copy detector
    hash_flagged: NDArray[np.bool_]   # by the hash

    def __len__(self) -> int:
        return len(self.nearest)


@dataclass(frozen=True)
class Pair:
    """A picture and the training scan nearest to it."""

    row: int             # of the picture
    training: int        # row of the scan in `CopyJudge.training`
    ratio: float
    percentile: float
    flagged: bool


@dataclass(frozen=True)
class Memorisation:
    """What was measured of a set of pictures."""

    values: list[Value]
    rows: Verdicts       # in the order of the pictures
    pairs: list[Pair]    # the closest, closest first


@dataclass(frozen=True)
class Null:
    """Scores of what cannot be a copy, and from which score on a picture is suspicious.

    A new score lies below the k-th smallest of M with probability k / (M + 1) where it comes from the same distribution
    (exact for exchangeable scores): k is the largest for which that is at most 1 %, but 1 where M is below 99.
    """

    scores: Floats  # [M], sorted

    @property
    def rank(self) -> int:
        """The k of the rule."""
        return max(int(LEVEL * (len(self.scores) + 1)), 1)

    @property
    def level(self) -> float:
        """Share of pictures that are no copies and flagged all the same."""
        return self.rank / (len(self.scores) + 1)

    @property
    def level_interval(self) -> Interval:
        """Where that share lies with these very scores, 95 %: it follows a beta distribution over draws of the M."""
        low, high = beta.ppf((0.025, 0.975), self.rank, len(self.scores) + 1 - self.rank)
        return float(low), float(high)

    def below(self, scores: Floats) -> NDArray[np.bool_]:
        """Return whether scores [n] are suspicious."""
        suspicious: NDArray[np.bool_] = scores < self.scores[self.rank - 1]
        return suspicious

    def percentile(self, scores: Floats) -> Floats:
        """Return 100 (1 + smaller or equal ones among the M) / (M + 1) of scores [n]."""
        found: Floats = 100 * (1 + np.searchsorted(self.scores, scores, side="right")) / (len(self.scores) + 1)
        return found


class _Near(NamedTuple):
    place: Ints            # [n]
    distance: Floats
    ratio: Floats
    hash_place: Ints
    hash_distance: Floats


class CopyJudge:
    """Judges whether pictures are copies of the training scans of an archive.

    Args:
        archive: that the generator was trained on; its other splits are the held-out scans.
        detector: the copy detector; one that was trained on this archive serves best.
        cache: folder of what was seen of the archive; default: `<archive>-seen` beside it. Private.
        batch: pictures at once.
        world: the processes that look together.
        progress: of looking at the archive, which happens once.
    Raises:
        DataError: as `check_archive` does.
    """

    def __init__(self, archive: Path, detector: CopyDetector, *, cache: Path | None = None, batch: int = 64,
                 world: World = World(), progress: Progress = lambda *_: None) -> None:  # noqa: B008 (frozen)
        held_out = check_archive(archive)
        self.pictures, self.training = ArchivePictures(archive), ArchivePictures(archive, ["train"])
        n, groups = len(self.training), self.pictures.groups
        self.detector = detector
        self.observers: list[Observer] = [Embedding(detector), HashObserver()]
        seen = observe(self.pictures, self.observers, cache or archive.with_name(f"{archive.stem}-seen"),
                       world=world, batch=batch, progress=progress)
        looks, hashes = (seen[observer.identity] for observer in self.observers)
        self._train, self._held_out, self._train_hashes = looks[:n], looks[held_out], hashes[:n]
        self._train_groups = groups[:n]
        self.held_out_labels = self.pictures.labels[held_out]
        self.patients = len(np.unique(groups[held_out]))
        # A new picture has no other scan of its own eye among the held-out ones; neither may they.
        _, square = nearest(self._held_out, self._held_out, query_groups=groups[held_out],
                            base_groups=groups[held_out])
        near = self._near(self._held_out, hashes[held_out], np.sqrt(square))
        self.null, self.hash_null = Null(np.sort(near.ratio)), Null(np.sort(near.hash_distance))
        self.held_out = self._decide(near)

    def judge(self, pixels: Tensor) -> Verdicts:
        """Return the verdicts on pictures, uint8 [n, C, R, R]."""
        return self.verdicts(*(observer(pixels).numpy() for observer in self.observers))

    def verdicts(self, looks: Rows, hashes: Rows) -> Verdicts:
        """Return the verdicts on pictures of which `observers` saw these rows, [n, dim] each."""
        return self._decide(self._near(looks, hashes, np.sqrt(nearest(looks, self._held_out)[1])))

    def authentic(self, verdicts: Verdicts) -> NDArray[np.bool_]:
        """Return whether pictures are farther from their nearest training scan than it is from its own nearest, [n].

        Alaa et al. 2022 ("How Faithful is your Synthetic Data?", Eq. 9); the training scan's own nearest is one of
        another patient.
        """
        return verdicts.distance > self._own[verdicts.nearest]

    @cached_property
    def planted(self) -> Verdicts:
        """Verdicts on disguised training scans, which all are copies: what the judge would see of a copying generator.

        The disguises are those of the training of the detector; the same each time.
        """
        names = self.training.names
        chosen = np.unique(np.linspace(0, len(names) - 1, min(len(names), PLANTED)).astype(int))
        side = self.detector.info.resolution
        scans = read_grey(self.training.archive, [names[row] for row in chosen], side)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.judge(to_uint8(disguise(to_unit(scans))))

    @cached_property
    def _own(self) -> Floats:
        _, square = nearest(self._train, self._train, query_groups=self._train_groups,
                            base_groups=self._train_groups)
        return np.sqrt(square)

    def _near(self, looks: Rows, hashes: Rows, to_held_out: Floats) -> _Near:
        places, square = nearest(looks, self._train)
        hash_places, bits = nearest(hashes, self._train_hashes)
        distance = np.sqrt(square)
        return _Near(places, distance, distance / np.maximum(to_held_out, TINY), hash_places, bits)

    def _decide(self, near: _Near) -> Verdicts:
        return Verdicts(nearest=near.place, distance=near.distance, ratio=near.ratio,
                        percentile=self.null.percentile(near.ratio), hash_nearest=near.hash_place,
                        hash_distance=near.hash_distance.astype(np.int64), flagged=self.null.below(near.ratio),
                        hash_flagged=self.hash_null.below(near.hash_distance))


def check_archive(archive: Path) -> Ints:
    """Return which pictures of an archive, all splits in turn, are held-out scans: of patients without training scans.

    Raises:
        DataError: the archive cannot be read, holds pictures of a generator, or held-out scans of fewer than two
            patients who have none in training.
    """
    pictures = ArchivePictures(archive)
    if pictures.archive.source == SYNTHETIC:
        raise DataError(f"{archive} is a library of synthetic pictures. Give the archive that the generator was "
                        "trained on.")
    n, groups = len(pictures.archive.names("train")), pictures.groups  # train comes first among the splits
    advice = "Convert the scans with a split by patient: python -m tools convert SOURCE DEST.zip --split 80,10,10"
    if len(groups) == n:
        raise DataError(f"{archive} holds no held-out scans (val or test), and only against those can a copy be told "
                        f"from chance. {advice}")
    held_out = n + np.flatnonzero(~np.isin(groups[n:], groups[:n]))
    patients = len(np.unique(groups[held_out]))
    if patients < 2:
        raise DataError(f"Of the patients whose scans {archive} holds out, {patients} have none in training; a copy "
                        f"can only be told from chance by two or more. {advice}")
    return held_out


def detector_path(archive: Archive) -> Path:
    """Return where the copy detector of an archive is kept."""
    return archive.path.with_name(f"{archive.path.stem}-copies-{archive.fingerprint[:12]}.safetensors")


def open_judge(archive: Path, *, weights: Path | None = None, device: str | torch.device = "cpu",
               cache: Path | None = None, world: World = World(),  # noqa: B008 (frozen)
               progress: Progress = lambda *_: None) -> CopyJudge:
    """Return the judge of an archive, with the copy detector that suits it.

    That is the one named; else the one kept beside the archive, as `train-copies` writes it; else, for simulated scans,
    the included one. For scans of patients one is trained now, which takes minutes, and kept.

    Args:
        archive: that the generator was trained on.
        weights: file of a copy detector.
        device: where to look.
        cache: as for `CopyJudge`.
        world: the processes that look together.
        progress: of training, then of looking at the archive.
    Raises:
        DataError, CheckpointError: as `CopyJudge` and `load_detector` do.
    """
    found = Archive(archive)
    kept = detector_path(found)
    if weights is None and (kept.exists() or found.source != "phantom"):
        check_archive(archive)
        if world.is_first and not kept.exists():
            train_copies(archive, kept, device=device, progress=progress)
        world.barrier()
        weights = kept
    detector = load_detector("copies", weights=weights, device=device)
    assert isinstance(detector, CopyDetector), detector.name
    return CopyJudge(archive, detector, cache=cache, world=world, progress=progress)


def measure_memorisation(judge: CopyJudge, fake: Pictures, *, cache: Path, world: World = World(),  # noqa: B008
                         batch: int = 64, progress: Progress = lambda *_: None) -> Memorisation:
    """Return how many pictures are copies of training scans, beside what held-out scans give.

    Args:
        judge: of the archive that the generator was trained on.
        fake: its pictures.
        cache: folder of what was seen of them; with `judge.observers` among those of an earlier pass, it is used.
        world: the processes that look together.
        batch: pictures at once.
        progress: of looking.
    """
    seen = observe(fake, judge.observers, cache, world=world, batch=batch, progress=progress)
    rows = judge.verdicts(*(seen[observer.identity] for observer in judge.observers))
    values = [value for name in (None, *fake.classes) for value in _values(judge, fake, rows, name)]
    order = np.argsort(rows.ratio, kind="stable")[:CLOSEST]
    pairs = [Pair(int(row), int(rows.nearest[row]), float(rows.ratio[row]), float(rows.percentile[row]),
                  bool(rows.flagged[row])) for row in order]
    return Memorisation([*values, *measure_judge(judge)], rows, pairs)


def measure_judge(judge: CopyJudge) -> list[Value]:
    """Return how well disguised training scans are told from held-out ones: how far the judge can be trusted."""
    planted, held_out = judge.planted.ratio, judge.held_out.ratio
    share, interval = _share(judge.planted.flagged)
    ranks = mannwhitneyu(held_out, planted).statistic / (len(held_out) * len(planted))
    value = partial(Value, n=len(planted), n_real=len(held_out), better="higher", detector=judge.detector.identity)
    doubt = "most disguised training scans escape: few flags are no proof that there are few copies"
    note = "" if share >= TRUSTED else doubt
    return [value(metric="planted_auroc_copies", value=float(ranks)),
            value(metric="planted_found_copies", value=share, interval=interval, note=note)]


def _values(judge: CopyJudge, fake: Pictures, rows: Verdicts, name: str | None) -> list[Value]:
    """Return the values of a class, or of all pictures."""
    mine = _of_class(fake.labels, fake.classes, name)
    known = _of_class(judge.held_out_labels, judge.pictures.classes, name)
    null, note = judge.held_out, _note(judge)
    found = []
    for metric, drawn, held_out, detector in (
            ("memorised_copies", rows.flagged, null.flagged, judge.detector.identity),
            ("memorised_dhash", rows.hash_flagged, null.hash_flagged, "dhash"),
            ("authenticity_copies", judge.authentic(rows), judge.authentic(null), judge.detector.identity)):
        share, interval = _share(drawn[mine])
        floor, floor_interval = _share(held_out[known])
        if name is None and drawn is rows.flagged:
            floor, floor_interval = judge.null.level, judge.null.level_interval
        found.append(Value(
            metric=metric, value=share, class_name=name, interval=interval, floor=floor, floor_interval=floor_interval,
            n=len(drawn[mine]), n_real=len(held_out[known]), detector=detector, seed=getattr(fake, "seed", None),
            better="floor" if metric.startswith("authenticity") else "lower",
            note=note if len(drawn[mine]) else "no picture of this class"))
    return found


def _of_class(labels: Ints, classes: Sequence[str], name: str | None) -> NDArray[np.bool_]:
    if name is None:
        return np.ones(len(labels), bool)
    return np.equal(labels, classes.index(name) if name in classes else -1)


def _note(judge: CopyJudge) -> str:
    count, patients = len(judge.held_out), judge.patients
    who = f"{count} held-out scans{f' of {patients} patients' if patients < count else ''}"
    if count < ENOUGH:
        return (f"only {who}: the 1 % point needs {ENOUGH}. Flagged is what lies nearer than all of them, which chance "
                f"alone does to {judge.null.level:.1%}")
    if patients < ENOUGH:
        return f"{who}: as those of one patient are alike, the 1 % point is less certain than the intervals say"
    return f"against {who}"


def _share(flags: NDArray[np.bool_]) -> tuple[float, Interval | None]:
    """Return the share of true ones and its exact binomial interval (Clopper and Pearson 1934)."""
    if not len(flags):
        return math.nan, None
    low, high = binomtest(int(flags.sum()), len(flags)).proportion_ci(method="exact")
    return float(flags.mean()), (float(low), float(high))
