"""What the place and the name of a file tell: its class, its patient, its official split."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.classes import CLASSES
from stylegan_oct.data.names import (
    DATE,
    class_of_numbered,
    clean_path,
    fold,
    fold_class,
    fold_patient,
    is_known_class,
    is_silent,
    looks_like_patient,
    split_of,
)

# OCT2017 writes CNV-1016042-12.jpeg, OCTDL amd_1523323_3.jpg: class, patient, number of the scan. Copies and augmented
# pictures have more behind it, CNV-1016042-12 (1).jpeg or CNV-1016042-12_flipped.png, but no fourth number.
NAME = re.compile(r"([A-Za-z][A-Za-z0-9]*)([-_])(\d+)\2(\d+)(?:(?![-_]?\d).*)?\.\w+", re.ASCII)
# MedMNIST writes train12_3.png: split, number of the picture, number of the class.
MEDMNIST = re.compile(r"(train|val|test)\d+_(\d+)\.\w+", re.ASCII)
LONG_NUMBER = re.compile(r"\d{4,}", re.ASCII)
SHARD = re.compile(r"\d{5}/img\d{8}\.\w+", re.ASCII)  # the tools of StyleGAN number pictures and their folders

Folders = Literal["auto", "classes", "patients"]


class Place(NamedTuple):
    """What is known of a file from its path."""

    label: str | None      # as the folder or the file name has it
    patient: str | None    # folded: case, blanks and Unicode forms do not matter
    official: str | None   # "train", "val" or "test"
    named: str | None      # the class that the file name gives
    label_from: str = ""   # where the class was read
    patient_from: str = ""
    problem: str = ""      # why the scan cannot be used


@dataclass(slots=True)
class _Track:
    """A path in parts: the folders that may tell a class or a patient, and what the file name tells."""

    path: str
    words: list[str]                # folders without splits and such as tell nothing
    first: int                      # of `words`: the first that not all paths have in common
    official: str | None
    problem: str                    # why the scan cannot be used
    named: re.Match[str] | None
    label: str | None = None
    label_from: str = ""
    at: int | None = None           # of `words`: the class
    patient: str | None = None
    patient_from: str = ""
    rest: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.rest = self.words[self.first:]

    def take_class(self, at: int, label: str | None = None, origin: str = "folder name") -> None:
        """Note that a folder is the class."""
        self.at, self.label, self.label_from = at, label or self.words[at], origin

    def take_patient(self, name: str, origin: str) -> None:
        """Note the patient."""
        self.patient, self.patient_from = name, origin


def read_places(paths: Sequence[str], patient_pattern: str | None = None, *, folders: Folders = "auto",
                root: str = "", strict: bool = True) -> list[Place]:
    """Return what each path tells.

    The class is a folder whose name data sets use for classes (`names.KNOWN_CLASSES`), above or below the folders of
    splits; else the class in names of the OCT2017 form; else the name of the source. Folders AMD1, AMD2, NORMAL1 are
    patients of the classes AMD and NORMAL. The patient is the number in a name of that form,
    else the folder below the class.

    Args:
        paths: of all the images of a source, relative to it.
        patient_pattern: a regular expression whose first group is the patient, searched in the path; it goes first.
        folders: "classes" or "patients": what the first folders in which the paths differ are.
        root: name of the source.
        strict: refuse folders that may be classes or patients; else they tell nothing.
    Raises:
        ConfigError: the pattern is not a regular expression with a group.
        DataError: it cannot be told whether folders are classes or patients.
    """
    pattern = _compile(patient_pattern) if patient_pattern else None
    tracks = _tracks([clean_path(path) for path in paths])
    if folders == "classes":
        for track in tracks:
            if track.rest:
                track.take_class(track.first)
    elif folders == "patients":
        _take_patients(tracks)
    else:
        _find_classes(tracks, root, strict)
    _name_files(tracks, root)
    if tracks and all(track.label is None for track in tracks) and is_known_class(root):
        for track in tracks:
            track.label, track.label_from = root, "name of the source"
    _find_patients(tracks)
    return [_place(track, pattern) for track in tracks]


def _tracks(paths: Sequence[str]) -> list[_Track]:
    split = [path.split("/") for path in paths]
    shared = _shared_folders([parts[:-1] for parts in split])
    words = [_words(parts) for parts in split]
    first = _shared_folders(words)
    return [_track(path, parts, spoken, first, shared) for path, parts, spoken in zip(paths, split, words, strict=True)]


def _words(parts: list[str]) -> list[str]:
    """Return the folders of a path without those of splits and such as tell nothing."""
    # The numbers of hundreds of pictures are no patients.
    folders = parts[:-2] if SHARD.fullmatch("/".join(parts[-2:])) else parts[:-1]
    return [folder for folder in folders if split_of(folder) is None and not is_silent(folder)]


def _track(path: str, parts: list[str], words: list[str], first: int, shared: int) -> _Track:
    splits = [(i, found) for i, folder in enumerate(parts[:-1]) if (found := split_of(folder)) is not None]
    varying = {found for i, found in splits if i >= shared}
    return _Track(path=path, words=words, first=first, official=splits[-1][1] if splits else None,
                  named=NAME.fullmatch(parts[-1]),
                  problem="lies below folders of two splits" if len(varying) > 1 else "")


def _find_classes(tracks: Sequence[_Track], root: str, strict: bool) -> None:
    """Find the folders of the classes, or those of patients where there are none of classes."""
    for track in tracks:
        known = [i for i, word in enumerate(track.words) if is_known_class(word)]
        if known:  # folders that all have in common say less than those in which they differ
            track.take_class(next((i for i in known if i >= track.first), known[-1]))
    taken = {fold_class(track.label) for track in tracks if track.label is not None}
    for track in tracks:
        others = {fold_class(word) for word in track.rest} & taken - {fold_class(track.label or "")}
        if others and track.at is not None and track.at >= track.first:  # a folder that slipped into another
            track.problem = track.problem or "lies below folders of two classes"
    lacking = [track for track in tracks if track.at is None and track.rest]
    if any(track.at is not None for track in tracks):
        if strict:
            _check_siblings(tracks, lacking)
    elif lacking and not is_known_class(root) and not any(_class_named(track) for track in tracks):
        _judge_unknown(lacking, strict)


def _check_siblings(tracks: Sequence[_Track], lacking: Sequence[_Track]) -> None:
    """Ask what folders beside those of known classes are; those named as patients are none of a class."""
    depths = {track.at - track.first for track in tracks if track.at is not None}
    depth = depths.pop() if len(depths) == 1 else -1
    beside = [track.rest[depth] for track in lacking if 0 <= depth < len(track.rest) and not _class_named(track)]
    unknown = {fold_class(folder) for folder in beside if not looks_like_patient(folder)}
    if unknown:
        known = {fold_class(track.words[track.at]) for track in tracks if track.at is not None}
        raise _ask(len(unknown), len(unknown) + len(known))


def _judge_unknown(tracks: Sequence[_Track], strict: bool) -> None:
    """Tell what folders are of which none has the name of a known class."""
    numbered = {track.rest[0]: class_of_numbered(track.rest[0]) for track in tracks}
    stems: dict[str, set[str]] = defaultdict(set)
    for folder, stem in numbered.items():
        stems[fold_class(stem or "")].add(fold(folder))
    if all(numbered.values()) and all(len(names) == 1 for names in stems.values()):
        for track in tracks:
            track.take_class(track.first, numbered[track.rest[0]], "folder name without its number")
    elif (all(numbered.values()) and len(stems) > 1) or all(
            looks_like_patient(folder) and not folder.isdecimal() for folder in numbered):
        _take_patients(tracks)
    elif strict:
        raise _ask(len(numbered), len(numbered))


def _take_patients(tracks: Sequence[_Track]) -> None:
    """Take the first folders that differ for patients; the class may stand above, below or within their names."""
    for track in tracks:
        known = [i for i, word in enumerate(track.words) if is_known_class(word)]
        if known:
            track.take_class(known[-1])
        if not track.rest:
            continue
        stem = class_of_numbered(track.rest[0])
        if stem is not None and not known:
            track.take_class(track.first, stem, "folder name without its number")
        if track.at != track.first or stem is not None:
            # The number of CNV-1016042 is that of a patient who may be in other classes too; the 3 of AMD3 is not.
            number = LONG_NUMBER.search(track.rest[0]) if stem is not None else None
            track.take_patient(number[0] if number else track.rest[0], "folder name")


def _ask(unknown: int, count: int) -> DataError:
    of = f"{unknown} of {count} folders have" if count > 1 else "the folder has"
    return DataError("Folders may be classes or patients, and names of patients must not enter an archive: "
                     f"{of} no name of a class that is known here. Say which with python -m tools convert SOURCE "
                     "DEST.zip --folders classes (or patients), or give a CSV with columns path, label and patient.")


def _class_named(track: _Track) -> str | None:
    """Return the class that the file name gives, of those known."""
    name = track.named[1] if track.named else ""
    return (name.upper() if name.upper() in CLASSES else name) if is_known_class(name) else None


def _name_files(tracks: Sequence[_Track], root: str) -> None:
    """Take class and split from file names where the folders do not tell them."""
    for track in tracks:
        if track.label is None and (named := _class_named(track)):
            track.label, track.label_from = named, "file name"
    numbers = [MEDMNIST.fullmatch(track.path.rpartition("/")[2]) for track in tracks]
    for track, found in zip(tracks, numbers, strict=True):
        if found and all(numbers):
            track.official = track.official or found[1]
            if track.label is None:
                track.label, track.label_from = name_of_number(found[2], f"{root}/{track.path}"), "file name"


def name_of_number(number: str, path: str) -> str:
    """Return the class of a number where the path says that it is one of OCTMNIST; else the number."""
    octmnist = "octmnist" in fold(path) and number.isdecimal() and int(number) < len(CLASSES)
    return CLASSES[int(number)] if octmnist else number


def _find_patients(tracks: Sequence[_Track]) -> None:
    """Take patients from file names, and from the folders below or above the class."""
    for track in tracks:
        named, label = track.named, track.label
        folder = _below(track)
        above = track.words[track.first:track.at] if track.at is not None else []
        if named and not DATE.fullmatch(named[3]) and (
                is_known_class(named[1]) or (label is not None and fold_class(named[1]) == fold_class(label))):
            track.take_patient(named[3], "file name")
        elif track.patient is None and folder is not None:
            track.take_patient(folder, "folder below the class")
        elif track.patient is None and any(map(looks_like_patient, above)):
            track.take_patient(next(filter(looks_like_patient, above)), "folder above the class")


def _below(track: _Track) -> str | None:
    """Return the folder below the class, or the first that tells anything where the class is not a folder."""
    begin = track.at + 1 if track.at is not None else track.first
    if track.at is None and track.label_from != "name of the source":
        return next(filter(looks_like_patient, track.words[begin:]), None)
    return next((word for word in track.words[begin:] if not is_known_class(word)), None)


def _place(track: _Track, pattern: re.Pattern[str] | None) -> Place:
    patient, origin = track.patient, track.patient_from
    if pattern is not None and (found := pattern.search(track.path)) and found[1]:
        patient, origin = found[1], "pattern"
    return Place(track.label, fold_patient(patient) if patient else None, track.official, _class_named(track),
                 track.label_from, origin if patient else "", track.problem)


def _shared_folders(folders: Sequence[list[str]]) -> int:
    """Return how many leading folders all paths have in common, by whatever spelling."""
    if not folders:
        return 0
    spelt = [[fold(folder) for folder in path] for path in folders]
    first, last = min(spelt), max(spelt)
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
