"""What an archive says of its images: dataset.json, rows of the manifest and names, checked as they are read."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from dnnlib.config import Name, Names, Within
from dnnlib.errors import ConfigError, DataError
from dnnlib.stored import brief, is_inside

FORMAT = "stylegan_oct-1"
INDEX = "dataset.json"
MANIFEST = "manifest.jsonl"
SPLITS = ("train", "val", "test")
SYNTHETIC = "synthetic"  # source and only split of what a generator drew: nobody trains on it unaware
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
MOST_CLASSES = 4096


@dataclass(frozen=True, kw_only=True)
class Index:
    """What dataset.json says beside the labels; None where the tool that wrote it said nothing."""

    format: Name = ""
    source: Name = "scans"
    resolution: Annotated[int, Within(1, 8192)] | None = None
    channels: Literal[1, 3] | None = None
    classes: Names | None = None
    preprocess: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ConfigError("classes must have different names.")


@dataclass(frozen=True, kw_only=True)
class ManifestRow:
    """What every row of the manifest says; others may say more."""

    name: str
    split: Name
    label: Annotated[int, Within(0, MOST_CLASSES)] | None
    patient: Name | None = None


def is_image(name: str) -> bool:
    """Return whether a file of a zip is an image by its name."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("__MACOSX/")


def split_of(name: str) -> str:
    """Return the split of an image: its first folder, "train" where that is none."""
    first = name.partition("/")[0]
    return first if first in (*SPLITS, SYNTHETIC) else "train"


def image_names(archive: zipfile.ZipFile, path: Path) -> list[str]:
    """Return the names of the images of a zip, sorted.

    Raises:
        DataError: one of them, or of what tells of them, stands there twice, leads out of the archive or cannot be
            shown.
    """
    names = sorted(info.filename for info in archive.infolist()
                   if is_image(info.filename) or info.filename in (INDEX, MANIFEST))
    for name, before in zip(names, [None, *names], strict=False):
        if name == before or not is_inside(name):
            why = " twice" if name == before else ", which is no name of a file"
            raise DataError(f"{path} holds {brief(name)}{why}. Make the archive again.")
    return [name for name in names if is_image(name)]


def check_labels(pairs: Any, told: Index, names: Sequence[str],
                  path: Path) -> tuple[dict[str, int], list[str]]:
    """Return the class number of each image, and class names where dataset.json gives none.

    Raises:
        DataError: an image lacks a label or has two, a label is not a class number, or a number between the labels is
            unused; in an archive of our own, a label is of no image.
    """
    if pairs is None:
        return {}, []
    if not isinstance(pairs, list) or not all(
            isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        raise DataError(f"\"labels\" in {INDEX} of {path} must be a list of [file name, class number].")
    labels: dict[str, int] = {}
    given = told.classes
    for name, label in pairs:
        if type(label) is not int or not 0 <= label < MOST_CLASSES:
            raise DataError(f"{INDEX} in {path} gives {brief(name)} the label {brief(label)}; labels are the numbers "
                            "0, 1, 2, ... of the classes. Make the archive again with: python -m tools convert")
        if given is not None and label >= len(given):
            raise DataError(f"{INDEX} in {path} gives {brief(name)} the label {label}, but there are {len(given)} "
                            "classes. Make the archive again.")
        if labels.setdefault(name, label) != label:
            raise DataError(f"{INDEX} in {path} gives {brief(name)} the labels {labels[name]} and {label}. Label every "
                            "image once.")
    missing = [name for name in names if name not in labels]
    if missing:
        raise DataError(f"{INDEX} in {path} has no label for {missing[0]} (and {len(missing) - 1} more). Label every "
                        "image, or none with \"labels\": null.")
    if told.format == FORMAT and len(pairs) != len(names):
        raise DataError(f"{INDEX} in {path} has {len(pairs)} labels for {len(names)} images. Make the archive again.")
    count = max(labels.values(), default=-1) + 1
    unused = sorted(set(range(count)) - set(labels.values()))
    if given is None and unused:
        raise DataError(f"{INDEX} in {path} uses labels up to {count - 1}, but none is {unused[0]}: a gap would train "
                        "a class without images. Number the classes 0, 1, 2, ... without gaps.")
    return labels, [str(number) for number in range(count)]
