"""How well a classifier tells classes apart, for many weightings of the scans at once, as a bootstrap needs it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]
Key = tuple[str, int | None]   # metric, class; None: of all


def weighted_auc(scores: NDArray[np.floating], positive: Flags, weights: NDArray[np.floating]) -> Numbers:
    """Return how often a positive scores higher than a negative, ties counting half, [B]; NaN where one is missing.

    Args:
        scores: [N].
        positive: bool [N].
        weights: how often each counts, [B, N], at least 0.
    """
    _, rank = np.unique(scores, return_inverse=True)
    order = np.argsort(rank, kind="stable")
    starts = np.flatnonzero(np.diff(rank[order], prepend=-1))
    if not len(starts):
        return np.full(len(weights), np.nan)
    sums = [np.add.reduceat(np.where(which, weights, 0)[:, order], starts, axis=1, dtype=np.float64)
            for which in (positive, ~positive)]  # [B, different scores]
    below = np.cumsum(sums[1], axis=1) - sums[1] / 2
    return ratio((sums[0] * below).sum(axis=1), sums[0].sum(axis=1) * sums[1].sum(axis=1))


def ratio(part: Numbers, whole: Numbers) -> Numbers:
    """Return part / whole, NaN where the whole is 0."""
    shares: Numbers = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return shares


def score_keys(classes: int, urgent: Sequence[int]) -> list[Key]:
    """Return what `score_table` holds in its columns."""
    whole: list[Key] = [("accuracy", None), ("auc", None)]
    if urgent:
        whole += [("auc_urgent", None), ("sensitivity_urgent", None), ("specificity_urgent", None)]
    return [*whole, *((name, label) for label in range(classes) for name in ("auc", "sensitivity", "specificity"))]


def score_table(probabilities: NDArray[np.floating], labels: NDArray[np.int64], weights: NDArray[np.floating],
                urgent: Sequence[int] = ()) -> Numbers:
    """Return scores [B, keys] in the order of `score_keys`.

    The AUC of a class is that of its probability against all others; that of all is the mean over the classes present,
    as accuracy is that of their sensitivities, so that no class counts more for being frequent. Sensitivity and
    specificity are those of the most probable class, and of urgent at a probability of one half.

    Args:
        probabilities: [N, classes].
        labels: [N].
        weights: how often each scan counts, [B, N].
        urgent: classes that are urgent together; none leaves the urgent scores out.
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    found: dict[Key, Numbers] = {}
    for label in range(classes):
        found["auc", label] = weighted_auc(probabilities[:, label], labels == label, weights)
        _sides(found, "", label, labels == label, predicted == label, weights)
    for name, part in (("auc", "auc"), ("accuracy", "sensitivity")):
        each = np.stack([found[part, label] for label in range(classes)])
        known = np.isfinite(each)
        found[name, None] = ratio(np.where(known, each, 0).sum(axis=0), known.sum(axis=0).astype(np.float64))
    if urgent:
        score, truth = probabilities[:, list(urgent)].sum(axis=1), np.isin(labels, urgent)
        found["auc_urgent", None] = weighted_auc(score, truth, weights)
        _sides(found, "_urgent", None, truth, score > 0.5, weights)
    return np.stack([found[key] for key in score_keys(classes, urgent)], axis=1)


def _sides(found: dict[Key, Numbers], suffix: str, label: int | None, truth: Flags, said: Flags,
           weights: NDArray[np.floating]) -> None:
    found[f"sensitivity{suffix}", label] = _share(said, truth, weights)
    found[f"specificity{suffix}", label] = _share(~said, ~truth, weights)


def _share(right: Flags, among: Flags, weights: NDArray[np.floating]) -> Numbers:
    return ratio((weights @ (right & among)).astype(np.float64), (weights @ among).astype(np.float64))
