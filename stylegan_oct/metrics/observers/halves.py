"""Halves of a set of scans that share no patient: what real scans are compared with real scans by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Halving:
    """Two halves of real scans, and as many synthetic pictures for each.

    Each is a list with an array for every class; those of one class are equally long in all four, and disjoint.
    """

    real: tuple[list[Places], list[Places]]
    fake: tuple[list[Places], list[Places]]


def draw_halvings(labels: Places, groups: Places, fake_labels: Places, classes: int, *, number: int, seed: int,
                  limit: int) -> list[Halving]:
    """Return random halvings, all with the same counts, since the metrics depend on those.

    Args:
        labels: class of each real scan, int64 [N].
        groups: patient of each real scan, int64 [N]; all scans of one fall into one half.
        fake_labels: class of each synthetic picture, int64 [M].
        classes: number of classes.
        number: of halvings.
        seed: one seed, the same halvings.
        limit: pictures in a half at most; the shares of the classes stay.
    """
    rngs = [np.random.default_rng([seed, index]) for index in range(number)]
    sides = [_sides(labels, groups, classes, rng) for rng in rngs]
    table = np.zeros((number, 2, classes), dtype=np.int64)
    for index, side in enumerate(sides):
        np.add.at(table[index], (side, labels), 1)
    counts = np.minimum(table.min(axis=(0, 1), initial=len(labels)), np.bincount(fake_labels, minlength=classes) // 2)
    if counts.sum() > limit:
        counts = counts * limit // counts.sum()
    halvings = []
    for side, rng in zip(sides, rngs, strict=True):
        halving = Halving(([], []), ([], []))
        for label, count in enumerate(counts):
            drawn = rng.permutation(np.flatnonzero(fake_labels == label))
            for half in (0, 1):
                scans = rng.permutation(np.flatnonzero((labels == label) & (side == half)))
                halving.real[half].append(np.sort(scans[:count]))
                halving.fake[half].append(np.sort(drawn[half * count:(half + 1) * count]))
        halvings.append(halving)
    return halvings


def _sides(labels: Places, groups: Places, classes: int, rng: np.random.Generator) -> Places:
    """Return 0 or 1 for each scan: patients with many scans first, each to where its classes are fewer."""
    _, patients = np.unique(groups, return_inverse=True)
    counts = np.zeros((patients.max(initial=-1) + 1, classes), dtype=np.int64)
    np.add.at(counts, (patients, labels), 1)
    order = rng.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    excess = np.zeros(classes, dtype=np.int64)  # of the second half
    sides = np.zeros(len(counts), dtype=np.int64)
    coins = rng.integers(0, 2, len(counts))
    for patient in order:
        lean = int(excess @ counts[patient])
        sides[patient] = coins[patient] if lean == 0 else lean < 0
        excess += counts[patient] if sides[patient] else -counts[patient]
    return sides[patients]


def join(parts: Sequence[Places], label: int | None) -> Places:
    """Return the places of one class, or of all."""
    return np.sort(np.concatenate(parts)) if label is None else parts[label]
