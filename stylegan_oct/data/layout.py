"""What the place and the name of a file tell: its class, its patient, its official split."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from dnnlib.errors import ConfigError
from stylegan_oct.classes import CLASSES

SPLIT_FOLDERS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
                 "test": "test", "testing": "test"}
# OCT2017 writes CNV-1016042-12.jpeg, OCTDL amd_1523323_3.jpg: class, patient, number of the scan.
NAME = re.compile(r"([A-Za-z][A-Za-z0-9]*)([-_])(\d+)\2(\d+)\.\w+")


class Place(NamedTuple):
    """What is known of a file from its path."""

    label: str | None     # as the folder or the file name has it
    patient: str | None
    official: str | None  # "train", "val" or "test"
    named: str | None     # the class that the file name gives


def read_places(paths: Sequence[str], patient_pattern: str | None = None) -> list[Place]:
    """Return what each path tells; paths are relative, with forward slashes.

    The class is the folder after train/, val/ or test/ where there is one, else the first folder in which the paths
    differ; without folders, the class in names of the OCT2017 form. The patient is the number in such a name, else the
    folder below the class.

    Args:
        paths: of all the images of a source.
        patient_pattern: a regular expression whose first group is the patient, searched in the path; it goes first.
    Raises:
        ConfigError: the pattern is not a regular expression with a group.
    """
    pattern = _compile(patient_pattern) if patient_pattern else None
    shared = _shared_folders([path.split("/")[:-1] for path in paths])
    return [_read_place(path, shared, pattern) for path in paths]


def order_classes(labels: Sequence[str | None]) -> dict[str, str]:
    """Return the final name of each label: spellings that differ in case become one; ours come first, in our order."""
    counts = Counter(label for label in labels if label is not None)
    by_fold: dict[str, list[str]] = {}
    for label in counts:
        by_fold.setdefault(label.casefold(), []).append(label)
    known = {name.casefold(): name for name in CLASSES}
    names = {fold: known.get(fold) or max(spelt, key=lambda label: (counts[label], label))
             for fold, spelt in by_fold.items()}
    ranks = {name: rank for rank, name in enumerate(CLASSES)}
    ordered = sorted(names.values(), key=lambda name: (ranks.get(name, len(ranks)), name))
    return {label: name for name in ordered for label in by_fold[name.casefold()]}


def _read_place(path: str, shared: int, pattern: re.Pattern[str] | None) -> Place:
    *folders, name = path.split("/")
    anchors = [i for i, folder in enumerate(folders) if folder.strip().casefold() in SPLIT_FOLDERS]
    start = anchors[-1] + 1 if anchors else shared
    official = SPLIT_FOLDERS[folders[anchors[-1]].strip().casefold()] if anchors else None
    label = folders[start] if start < len(folders) else None
    below = folders[start + 1] if start + 1 < len(folders) else None
    patient, named = below, None
    if match := NAME.fullmatch(name):
        ours = match[1].upper() in CLASSES
        named = match[1].upper() if ours else None
        if ours or (label is not None and match[1].casefold() == label.casefold()):
            patient = match[3]
            label = label or named
    if pattern is not None and (found := pattern.search(path)):
        patient = found[1]
    return Place(label, patient, official, named)


def _shared_folders(folders: Sequence[list[str]]) -> int:
    """Return how many leading folders all paths have in common."""
    if not folders:
        return 0
    first, last = min(folders), max(folders)
    count = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return count


def _compile(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"The patient pattern {text!r} is not a regular expression: {error}.") from None
    if pattern.groups < 1:
        raise ConfigError(f"The patient pattern {text!r} needs a group for the patient, such as '-(\\d+)-'.")
    return pattern
