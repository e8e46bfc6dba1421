"""Halves of a set of scans that share no patient: what real scans are compared with real scans by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Halving:
    """Two halves of real scans, and as many synthetic pictures beside each, class by class.

    Each is a list with an array for every class; those of one class are equally long in all four.
    """

    real: tuple[list[Places], list[Places]]
    fake: tuple[list[Places], list[Places]]


def halve(labels: Places, groups: Places, fake_labels: Places, classes: int, rng: np.random.Generator,
          limit: int | None = None) -> Halving:
    """Return a random halving.

    Args:
        labels: class of each real scan, int64 [N].
        groups: patient of each real scan, int64 [N]; all scans of one fall into one half.
        fake_labels: class of each synthetic picture, int64 [M].
        classes: number of classes.
        rng: draws the halves.
        limit: pictures in a half at most; the shares of the classes stay.
    """
    sides = _sides(labels, groups, classes, rng)
    real: tuple[list[Places], list[Places]] = ([], [])
    fake: tuple[list[Places], list[Places]] = ([], [])
    kept = 1.0 if limit is None else min(1.0, 2 * limit / max(len(labels), 1))
    for label in range(classes):
        both = [rng.permutation(np.flatnonzero((labels == label) & (sides == side))) for side in (0, 1)]
        drawn = rng.permutation(np.flatnonzero(fake_labels == label))
        count = min(len(both[0]), len(both[1]), len(drawn) // 2)
        count = count if kept == 1 else int(count * kept)
        for side in (0, 1):
            real[side].append(np.sort(both[side][:count]))
            fake[side].append(np.sort(drawn[side * count:(side + 1) * count]))
    return Halving(real, fake)


def _sides(labels: Places, groups: Places, classes: int, rng: np.random.Generator) -> Places:
    """Return 0 or 1 for each scan: patients with many scans first, each to where its classes are fewer."""
    _, patients = np.unique(groups, return_inverse=True)
    counts = np.zeros((patients.max(initial=-1) + 1, max(classes, 1)), dtype=np.int64)
    np.add.at(counts, (patients, labels), 1)
    order = rng.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    excess = np.zeros(counts.shape[1], dtype=np.int64)  # of the second half
    sides = np.zeros(len(counts), dtype=np.int64)
    coins = rng.integers(0, 2, len(counts))
    for patient in order:
        lean = int(excess @ counts[patient])
        sides[patient] = coins[patient] if lean == 0 else lean < 0
        excess += counts[patient] if sides[patient] else -counts[patient]
    return sides[patients].astype(np.int64)


def join(parts: Sequence[Places], label: int | None) -> Places:
    """Return the places of one class, or of all."""
    return np.sort(np.concatenate(parts)) if label is None else parts[label]
