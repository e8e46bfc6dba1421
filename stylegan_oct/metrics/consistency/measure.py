"""Whether synthetic pictures show what was asked for: the class, and what a clinician would measure in it.

Two observers look at every picture: the class oracle, and the biomarkers. What the oracle gets right on held-out real
scans is the most that synthetic ones can be asked for. Distributions of biomarkers are compared class by class, half of
the held-out patients with as many synthetic pictures, and with the other half for the floor; `fidelity` tells why.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.errors import DataError
from stylegan_oct.features.oct import OctDetector
from stylegan_oct.latent.biomarkers import measure as measuring
from stylegan_oct.latent.biomarkers.measure import NAMES, measure
from stylegan_oct.metrics.consistency.biomarkers import Distribution, compare_biomarkers, distributions
from stylegan_oct.metrics.observers.observe import Observer, Rows, observe, resize_rule
from stylegan_oct.metrics.observers.pictures import Pictures
from stylegan_oct.metrics.observers.sources import source_hash
from stylegan_oct.metrics.statistics.intervals import mean_of_shares, wilson
from stylegan_oct.metrics.statistics.values import Value
from torch_utils.distributed import World

Progress = Callable[[int, int], object]

HALVINGS = 16
LEAST = 16                   # px: smaller pictures have no biomarkers
NOT_MEASURING = ("errors.py", "lines.py", "report.py")   # of the package: they change no number


class OracleObserver:
    """The probability of each class, as the oracle sees it."""

    def __init__(self, oracle: OctDetector) -> None:
        self.oracle = oracle
        self.identity, self.dim = f"classes-{oracle.identity}", len(oracle.classes)

    def __call__(self, pixels: Tensor) -> Tensor:
        """As in `Observer`."""
        return self.oracle.classify(pixels)


class BiomarkerObserver:
    """The biomarkers in the order of NAMES, NaN where they cannot be measured.

    Args:
        um_per_px: (z, x) size of a pixel; default: the picture shows a whole Spectralis scan of 20 degrees.
    """

    def __init__(self, um_per_px: tuple[float, float] | None = None) -> None:
        self.um_per_px = um_per_px
        scale = "" if um_per_px is None else f"-{um_per_px[0]:g}x{um_per_px[1]:g}um"
        self.identity, self.dim = f"biomarkers-{measuring_hash()}{scale}", len(NAMES)

    def __call__(self, pixels: Tensor) -> Tensor:
        """As in `Observer`; all are NaN in pictures of less than 16 pixels."""
        if pixels.shape[-1] < LEAST:
            return torch.full((len(pixels), self.dim), math.nan)
        grey = pixels.float().mean(dim=1).round().to(torch.uint8).numpy()
        values = measure(grey, self.um_per_px).values
        return torch.from_numpy(np.stack([values[name] for name in NAMES], axis=1).astype(np.float32))


def measuring_hash(folder: Path = Path(measuring.__file__).parent) -> str:
    """Return a hash of the code that measures: it changes with every constant."""
    return source_hash(file for file in folder.glob("*.py") if file.name not in NOT_MEASURING)


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How many pictures of each class (rows) the oracle takes for each class (columns)."""

    asked: tuple[str, ...]
    seen: tuple[str, ...]
    fake: tuple[tuple[int, ...], ...]
    real: tuple[tuple[int, ...], ...]  # held-out scans


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """The numbers, and what is behind the plots."""

    values: list[Value]
    confusion: Confusion | None        # None for a generator without classes
    distributions: list[Distribution]


def consistency_observers(oracle: OctDetector) -> list[Observer]:
    """Return what must look at the pictures, for a common pass with others."""
    return [OracleObserver(oracle), BiomarkerObserver()]


def measure_consistency(real: Pictures, fake: Pictures, oracle: OctDetector, *, cache: Path,
                        fake_cache: Path | None = None, world: World = World(),  # noqa: B008 (frozen)
                        seed: int = 0, halvings: int = HALVINGS, batch: int = 64,
                        progress: Progress = lambda *_: None) -> Consistency:
    """Return whether the oracle sees the classes asked for, and how the distributions of the biomarkers differ.

    Values: `agreement_oct`, and for each biomarker `wasserstein_NAME` (in standard deviations of the real scans),
    `ks_NAME` (greatest difference of the cumulative shares, 0 to 1) and `unmeasured_NAME` (share of pictures); over all
    classes as their mean, and by class.

    Args:
        real: scans that neither the generator nor the oracle was trained on.
        fake: synthetic pictures of the same classes.
        oracle: classifier of scans.
        cache: folder for what is seen of scans; kept for the next time, private.
        fake_cache: the same for synthetic pictures; default `cache`.
        world: the processes that take part; all return the same.
        seed: of the halvings.
        halvings: how many.
        batch: pictures at once.
        progress: called with pictures seen and their number.
    Raises:
        DataError: classes differ, or files cannot be written.
    """
    if real.classes != fake.classes:
        raise DataError(f"The scans have the classes {', '.join(real.classes) or 'none'}, the generator "
                        f"{', '.join(fake.classes) or 'none'}. Give the archive that it was trained on.")
    observers = consistency_observers(oracle)
    total, before, found = len(real) + len(fake), 0, []
    for pictures, folder in ((real, cache), (fake, fake_cache or cache)):
        found.append(observe(pictures, observers, folder, world=world, batch=batch,
                             progress=lambda done, _, start=before: progress(start + done, total)))  # type: ignore[misc]
        before += len(pictures)
    classes, markers = ([rows[observer.identity] for rows in found] for observer in observers)
    confusion = count_confusion(real, fake, oracle.classes, classes[0], classes[1]) if real.classes else None
    return Consistency(values=[*_agreement(real, confusion, oracle),
                               *compare_biomarkers(real, fake, markers[0], markers[1], seed=seed, halvings=halvings,
                                                   identity=observers[1].identity)],
                       confusion=confusion, distributions=distributions(real, fake, markers[0], markers[1]))


def count_confusion(real: Pictures, fake: Pictures, seen: tuple[str, ...], real_rows: Rows, fake_rows: Rows,
                    ) -> Confusion:
    """Return which classes are taken for which, from probabilities [N, seen]."""
    def counts(labels: NDArray[np.int64], rows: Rows) -> tuple[tuple[int, ...], ...]:
        table = np.zeros((len(real.classes), len(seen)), np.int64)
        if len(rows):
            np.add.at(table, (labels, rows.argmax(axis=1)), 1)
        return tuple(tuple(row) for row in table.tolist())

    return Confusion(asked=real.classes, seen=seen, fake=counts(fake.labels, fake_rows),
                     real=counts(real.labels, real_rows))


def _agreement(real: Pictures, confusion: Confusion | None, oracle: OctDetector) -> list[Value]:
    """Return the share of pictures whose class the oracle sees: the mean over the classes, and each class."""
    name = f"agreement_{oracle.name}"
    if confusion is None:
        return [Value(metric=name, value=math.nan, better="higher", detector=oracle.identity,
                      note="the generator has no classes")]
    by_class = []
    for label, class_name in enumerate(confusion.asked):
        counts, scans = confusion.fake[label], confusion.real[label]
        n, n_real = sum(counts), sum(scans)
        known = class_name in confusion.seen
        place = confusion.seen.index(class_name) if known else 0
        share, floor = (row[place] / sum(row) if known and sum(row) > 0 else math.nan for row in (counts, scans))
        patients = len(np.unique(real.groups[real.labels == label]))
        note = f"the oracle knows no {class_name}" if not known else "" if n_real else "no held-out scans"
        by_class.append(Value(metric=name, class_name=class_name, value=share, n=n, n_real=n_real, better="higher",
                              interval=None if math.isnan(share) else wilson(share, n), note=note,
                              floor=None if math.isnan(floor) else floor, detector=oracle.identity,
                              resize=resize_rule(oracle),
                              floor_interval=None if math.isnan(floor) else wilson(floor, patients)))
    together = mean_of_shares(by_class)
    taught = f"the oracle was trained on {'simulated' if oracle.info.source == 'phantom' else 'real'} scans"
    return [replace(together, note=f"{together.note}; {taught}"), *by_class]
