"""Which scans enter the archive, in which split, and why the others do not."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stylegan_oct.data.archive import SPLITS
from stylegan_oct.data.duplicates import near_pairs
from stylegan_oct.data.sources import Scan
from stylegan_oct.data.splits import Fractions, assign
from stylegan_oct.data.work import thumbnails_of

Outcome = Literal["kept", "refused", "conflict", "duplicate", "test patient", "near duplicate"]
WITHOUT = {"train": "a generator cannot learn them", "val": "nothing chosen or stopped by val takes note of them",
           "test": "test cannot tell how well they are drawn"}  # what a split that lacks classes forbids
PRIORITY = {"test": 0, "val": 1, "train": 2}  # of two equal pictures the one that comes first here stays


@dataclass
class Decision:
    """What becomes of one scan."""

    scan: Scan
    row: dict[str, Any]
    outcome: Outcome = "kept"
    reason: str = ""          # for the owner of the scans: may name other files
    split: str = "train"
    near: int = 0             # near duplicates that stay in the same split

    def drop(self, outcome: Outcome, reason: str) -> None:
        """Keep the scan out."""
        self.outcome, self.reason = outcome, reason


def decide(scans: Sequence[Scan], rows: Sequence[dict[str, Any]], fractions: Fractions, *,
           stratify: bool = False) -> list[Decision]:
    """Return a decision for each scan, in their order.

    In this order: refused files; pictures under two classes; patients of the official test set leave train and val;
    of equal pictures one stays; of near ones in two splits that in test stays, then that in val.
    """
    decisions = [Decision(scan, row) for scan, row in zip(scans, rows, strict=True)]
    for decision in decisions:
        if "refused" in decision.row:
            decision.drop("refused", decision.row["refused"])
    _quarantine_names(decisions)
    _quarantine_equals(decisions)
    official = {d.scan.patient for d in _kept(decisions) if d.scan.official == "test"}
    classes = _rarest_classes(_kept(decisions))
    splits = assign(classes, official, fractions, classes=classes if stratify else None)
    for decision in _kept(decisions):
        decision.split = splits[decision.scan.patient]
        if decision.scan.patient in official and decision.scan.official != "test":
            decision.drop("test patient", "its patient is in the official test set")
    _drop_equals(decisions)
    _judge_near(_kept(decisions))
    return decisions


def lacking(decisions: Sequence[Decision], fractions: Fractions) -> dict[str, list[str]]:
    """Return the classes that each split with scans lacks, of those asked for; without those that lack none."""
    kept = _kept(decisions)
    classes = sorted({decision.scan.label for decision in kept if decision.scan.label is not None})
    found = {split: {d.scan.label for d in kept if d.split == split}
             for split in SPLITS if getattr(fractions, split) > 0 or any(d.split == split for d in kept)}
    return {split: missing for split, here in found.items()
            if (missing := [name for name in classes if name not in here])}


def say_lacking(decisions: Sequence[Decision], fractions: Fractions) -> list[str]:
    """Return a line for each split that lacks classes: which, and what that forbids."""
    patients: defaultdict[str | None, set[str]] = defaultdict(set)
    for decision in _kept(decisions):
        patients[decision.scan.label].add(decision.scan.patient)
    lines = []
    for split, names in lacking(decisions, fractions).items():
        if any(decision.split == split for decision in _kept(decisions)):
            counts = ", ".join(f"{name} ({len(patients[name])} patient{'s' * (len(patients[name]) > 1)})"
                               for name in names)
            lines.append(f"The split {split} has no scans of {counts}: {WITHOUT[split]}")
        else:
            lines.append(f"The split {split} is empty: there are too few patients")
    return lines


def _rarest_classes(kept: Sequence[Decision]) -> dict[str, str]:
    """Return a class of each patient, of several the rarest."""
    count = Counter(decision.scan.label or "" for decision in kept)
    common_first = sorted(kept, key=lambda decision: (-count[decision.scan.label or ""], decision.scan.label or ""))
    return {decision.scan.patient: decision.scan.label or "" for decision in common_first}


def _kept(decisions: Sequence[Decision]) -> list[Decision]:
    return [decision for decision in decisions if decision.outcome == "kept"]


def _quarantine_names(decisions: Sequence[Decision]) -> None:
    classes = {decision.scan.label for decision in decisions}
    for decision in _kept(decisions):
        scan = decision.scan
        if scan.also:
            decision.drop("conflict", f"is listed under {' and '.join(sorted(_labels(decision)))}")
        elif scan.named is not None and scan.named != scan.label and scan.named in classes:
            names = ("name", "folder") if scan.label_from.startswith("folder") else ("path", "label")
            decision.drop("conflict", f"its {names[0]} says {scan.named}, its {names[1]} {scan.label}")


def _labels(decision: Decision) -> set[str]:
    """Return all classes under which a scan is listed."""
    return {str(label) for label in (decision.scan.label, *decision.scan.also)}


def _groups(decisions: Sequence[Decision]) -> list[list[Decision]]:
    groups: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        groups[decision.row["pixel_hash"]].append(decision)
    return [group for group in groups.values() if len(group) > 1]


def _quarantine_equals(decisions: Sequence[Decision]) -> None:
    for group in _groups([d for d in decisions if d.outcome in ("kept", "conflict")]):
        labels = sorted(set().union(*map(_labels, group)))
        if len(labels) > 1:
            for decision in _kept(group):
                others = ", ".join(other.scan.path for other in group if other is not decision)
                decision.drop("conflict", f"the same picture is under {' and '.join(labels)}: {others}")


def _drop_equals(decisions: Sequence[Decision]) -> None:
    for group in _groups(_kept(decisions)):
        first, *others = sorted(group, key=lambda d: (PRIORITY[d.split], d.scan.path))
        for decision in others:
            where = "" if decision.split == first.split else f" ({decision.split}, kept in {first.split})"
            decision.drop("duplicate", f"is the same picture as {first.scan.path}{where}")


def _judge_near(kept: Sequence[Decision]) -> None:
    hashes = np.array([int(decision.row["dhash"], 16) for decision in kept], np.uint64)
    pairs = near_pairs(hashes, thumbnails_of([decision.row for decision in kept]))
    for a, b in ((kept[i], kept[j]) for i, j in pairs.tolist()):
        if a.scan.label != b.scan.label:
            a.drop("conflict", f"is nearly the same as {b.scan.path} under {b.scan.label}")
            b.drop("conflict", f"is nearly the same as {a.scan.path} under {a.scan.label}")
    for a, b in ((kept[i], kept[j]) for i, j in pairs.tolist()):
        if a.outcome == b.outcome == "kept" and a.split != b.split:
            stays, goes = sorted((a, b), key=lambda decision: PRIORITY[decision.split])
            goes.drop("near duplicate", f"is nearly the same as {stays.scan.path} in {stays.split}")
    for a, b in ((kept[i], kept[j]) for i, j in pairs.tolist()):
        if a.outcome == b.outcome == "kept":
            a.near += 1
            b.near += 1
