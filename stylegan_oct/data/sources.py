"""Where scans come from: a folder, a zip, or a list (CSV, or the dataset.json of StyleGAN tools)."""

import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.data.archive import INDEX, MANIFEST
from stylegan_oct.data.arrays import ArrayFiles
from stylegan_oct.data.files import (
    MAX_FILE_BYTES,
    PICTURES,
    SUFFIXES,
    VOLUMES,
    FolderFiles,
    Found,
    Listing,
    Refusal,
    ZipFiles,
    is_scan_file,
    stamp_of,
    suffix_of,
)
from stylegan_oct.data.label_index import read_index
from stylegan_oct.data.layout import Folders, Place, name_of_number, read_places
from stylegan_oct.data.listed import Pictures, merge_rows
from stylegan_oct.data.names import clean_path, fold_class, fold_patient, is_known_class, order_classes, split_of
from stylegan_oct.data.readers.axes import Axes
from stylegan_oct.data.readers.scan import check_selection
from stylegan_oct.data.table import Row, read_table
from stylegan_oct.data.volumes import TIFF, Files, expand

__all__ = ["MAX_FILE_BYTES", "SUFFIXES", "FolderFiles", "Refusal", "Scan", "Source", "ZipFiles", "open_source"]

NOT_LOOKED_AT = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", *VOLUMES, ".img", ".oct", ".mat", ".gif",
                 ".jp2", ".csv", ".tsv", ".xlsx")  # may hold scans or classes

LISTS = (".txt", ".json", ".xml")  # the same, where there are no classes


@dataclass(frozen=True, slots=True)
class Scan:
    """One image file of a source."""

    path: str               # relative to the source, as it is read
    label: str | None       # final class name
    patient: str            # the patient, as `fold_patient` writes it; the path where none is known
    known_patient: bool
    official: str | None    # "train", "val", "test": the folder or column of the source
    stamp: str              # changes when the file does
    named: str | None = None     # the class in the file name, or, of a listed picture, in its path
    also: tuple[str, ...] = ()   # other classes under which it is listed
    label_from: str = ""         # where the class was read
    patient_from: str = ""


@dataclass
class Source:
    """The scans of a source, and what was left aside while listing them."""

    files: Files
    kind: str
    scans: list[Scan] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    listing: Listing = field(default_factory=Listing)
    notes: list[str] = field(default_factory=list)  # what the user should know, in lines

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Paths that were refused while listing, with the reasons."""
        return self.listing.refused

    @property
    def ignored(self) -> Counter[str]:
        """Suffixes of files of other kinds."""
        return self.listing.ignored

    def summary(self) -> list[str]:
        """Return lines that say how many scans have a class, a patient and an official split, and where it was read."""
        patients = len({scan.patient for scan in self.scans if scan.known_patient})
        told = {"class": _shares([scan.label_from if scan.label is not None else "" for scan in self.scans]),
                "patient": _shares([scan.patient_from if scan.known_patient else "" for scan in self.scans]),
                "official split": _shares([scan.official or "" for scan in self.scans])}
        if patients:
            told["patient"] += f", {patients} patient{'s' * (patients > 1)}"
        lines = [f"{len(self.scans)} scan{'s' * (len(self.scans) > 1)} in the {self.kind}; " +
                 "; ".join(f"{what}: {text}" for what, text in told.items())]
        if not self.classes:
            lines.append(no_classes("they were not found in folders, names or columns"))
        unknown = sum(not is_known_class(name) and not name.isdecimal() for name in self.classes)
        if unknown:
            lines.append(f"{unknown} of {len(self.classes)} classes have a name that is not known here and stands in "
                         "the archive as it is: it must not be that of a patient.")
        kinds = NOT_LOOKED_AT + (() if self.classes else LISTS)
        others = {suffix: count for suffix, count in sorted(self.ignored.items()) if suffix in kinds}
        if others:
            lines.append("not looked at: " + ", ".join(f"{count} {suffix}" for suffix, count in others.items()) +
                         (" (unpack archives; give a CSV itself as the source to read classes or patients from it)"))
        return lines + self.notes


def no_classes(why: str) -> str:
    """Return the line that says that there are no classes."""
    return f"no classes: the archive has no labels ({why}), and a generator of it draws all scans alike"


def open_source(path: Path, *, patient_pattern: str | None = None, folders: Folders = "auto", selection: str = "all",
                axes: Axes = "auto", class_name: str | None = None) -> Source:
    """Return the scans of a folder, zip, CSV, dataset.json, volume or set in a .npz, sorted by path.

    Args:
        path: the source.
        patient_pattern: a regular expression whose first group is the patient, searched in the path.
        folders: what the folders of a folder or zip are, where their names do not tell.
        selection: B-scans of each volume: "all", "middle", or numbers from 1 such as "3-9".
        axes: of MetaImage, NIfTI and NumPy files, as of `read_scans`.
        class_name: class of the scans that have none by themselves.
    Raises:
        DataError: there is no such source, it holds no images, or it cannot be told what its folders are.
        ConfigError: the pattern is not a regular expression with a group.
    """
    if not path.exists():
        raise DataError(f"There is no {path}. Give a folder of scans, a zip of one, or a CSV of paths and labels.")
    check_selection(selection)
    suffix = suffix_of(path.name)
    if suffix in (".xlsx", ".xls", ".ods"):
        raise DataError(f"{path} is a spreadsheet. Save it as CSV.")
    if path.is_dir() or path.name == INDEX:
        source = Source(FolderFiles(path if path.is_dir() else path.parent, axes), "folder")
    elif suffix in (".csv", ".tsv"):
        source = Source(FolderFiles(path.parent, axes), "CSV")
    elif suffix == ".npz" and ArrayFiles.is_set(path):
        source = Source(ArrayFiles(path), "npz")
    elif suffix in (*VOLUMES, *TIFF):
        source = Source(FolderFiles(path.parent, axes), "file")
    elif zipfile.is_zipfile(path):
        source = Source(ZipFiles(path), "zip")
    else:
        raise DataError(f"{path} is neither a folder, a zip nor a CSV. Give a folder of scans, a zip of one, or a "
                        "CSV of paths and labels.")
    if class_name is not None and not class_name.strip():
        raise ConfigError("The class given with --class must have a name.")
    if class_name is not None and folders == "auto":
        folders = "patients"  # they need not tell the class
    if isinstance(source.files, ArrayFiles):
        _fill_from_arrays(source, source.files)
    elif source.kind == "CSV":
        _fill_from_csv(source, path, patient_pattern, folders)
    else:
        root = path if path.is_dir() else path.parent if path.name == INDEX else path.with_suffix("")
        _fill(source, root.resolve().name, patient_pattern, folders, path.name if source.kind == "file" else None)
    if class_name is not None:
        source.scans = [scan if scan.label is not None else replace(scan, label=class_name, label_from="--class")
                        for scan in source.scans]
    _set_classes(source)
    if isinstance(source.files, FolderFiles):
        source.scans = list(expand(source.scans, source.files, selection, source.listing))
    if not source.scans and source.kind == "CSV" and source.refused:
        raise DataError(f"None of the {len(source.refused)} pictures of {path} can be used; the first "
                        f"{source.refused[0][1]}. Paths are relative to the folder of the CSV.")
    if not source.scans and source.kind == "file" and source.refused:
        raise DataError(f"{path} {source.refused[0][1]}.")
    if not source.scans:
        seen = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in source.ignored.most_common(4))
        raise DataError(f"{path} holds no {PICTURES} images or volumes" + (f" (but {seen})." if seen else ".") +
                        (f" First of {len(source.refused)} refused: {source.refused[0][1]}." if source.refused else ""))
    return source


def _shares(origins: Sequence[str]) -> str:
    """Return where something was read, with counts, such as "folder (40), file name (6), none (2)"."""
    counts = Counter(origin or "none" for origin in origins)
    order = sorted(counts, key=lambda origin: (origin == "none", -counts[origin], origin))
    return ", ".join(f"{origin} ({counts[origin]})" if origin != "none" or len(counts) > 1 else origin
                     for origin in order)


def _fill(source: Source, root: str, patient_pattern: str | None, folders: Folders,
          only: str | None = None) -> None:
    """Give every file found its class, patient and split, from its path or a dataset.json beside."""
    files_of = source.files
    if isinstance(files_of, ArrayFiles):
        return
    files = sorted(set(files_of.pictures(source.listing)))
    if only is not None:  # a file as the source
        files, source.listing = [found for found in files if found.path == only], Listing()
    told = [clean_path(found.told) for found in files]
    tops = {path.partition("/")[0] for path in told}
    top = min(tops) if len(tops) == 1 else ""
    try:
        raw = files_of.find_beside(top, INDEX)
        rows = files_of.find_beside(top, MANIFEST)
    except Refusal as refusal:
        raise DataError(f"The {INDEX} or {MANIFEST} of the source {refusal}.") from None
    if raw is not None and rows is not None:
        raise DataError(f"The {source.kind} is an archive already: give its zip to train as it is, or convert the "
                        "scans it was made from.")
    index = read_index(raw, source.kind) if raw is not None else {}
    labels = [index.get(path) or index.get(path.removeprefix(f"{top}/")) for path in told]
    listed = any(labels)
    if (split := split_of(root)) and not any(map(split_of, tops)):
        source.notes.append(f"The source itself is named as the split {split}: its scans are split anew.")
    if raw is not None and not listed:
        source.notes.append(f"The {INDEX} of the source gives no classes to the images.")
    places = read_places(told, patient_pattern, folders=folders, root=root, strict=not listed)
    source.scans = [_scan(found, place, label if listed else None) for found, place, label in
                    zip(files, places, labels, strict=True) if not _refused(source, found, place, listed and not label)]


def _refused(source: Source, found: Found, place: Place, unlisted: bool) -> bool:
    """Note why a file is refused, if it is."""
    reason = place.problem or (f"has no label in {INDEX}, while others do" if unlisted else "")
    if reason:
        source.refused.append((found.told, reason))
    return bool(reason)


def _scan(found: Found, place: Place, listed: tuple[str, ...] | None) -> Scan:
    """Return the scan of a file; labels of a dataset.json go before those of its path."""
    scan = Scan(found.path, place.label, place.patient or clean_path(found.told), place.patient is not None,
                place.official, found.stamp, place.named, (), place.label_from, place.patient_from)
    if listed is None:
        return scan
    return replace(scan, label=listed[0], also=listed[1:], label_from=INDEX, named=place.label or place.named)


def _set_classes(source: Source) -> None:
    """Give the labels their final names; where only some scans have one, refuse the others."""
    scans, source.scans = source.scans, []
    names = order_classes([label for scan in scans for label in (scan.label, *scan.also)])
    by_fold = {fold_class(label): name for label, name in names.items()}
    source.classes = tuple(dict.fromkeys(names.values()))
    lacking = "has no label" if source.kind == "CSV" else "lies in no class folder"
    for scan in scans:
        if scan.label is None and names:
            source.refused.append((scan.path, f"{lacking}, while others do"))
        else:
            source.scans.append(replace(
                scan, label=names[scan.label] if scan.label is not None else None,
                also=tuple(names[label] for label in scan.also),
                named=by_fold.get(fold_class(scan.named), scan.named) if scan.named is not None else None))


def _fill_from_csv(source: Source, path: Path, patient_pattern: str | None, folders: Folders) -> None:
    """Read the rows of a CSV; paths are relative to its folder."""
    table = read_table(path)
    source.notes += table.notes
    by_path = _locate(source, path.parent, table.rows)
    order = sorted(by_path)
    places = read_places([by_path[name][0].path for name in order], patient_pattern, folders=folders, root=path.stem,
                         strict=False)
    scans, against = [], 0
    for name, place in zip(order, places, strict=True):
        row = merge_rows(by_path[name])
        if row.problem or (place.problem and not (row.split and row.labels)):
            source.refused.append((f"row {row.number}: {row.path}", row.problem or place.problem))
            continue
        against += None not in (row.split, place.official) and row.split != place.official
        labels = tuple(name_of_number(label, f"{path.stem}/{row.path}") for label in row.labels)
        own = (labels or ((place.label,) if "label" not in table.columns and place.label is not None else ()))
        patient = fold_patient(row.patient) if row.patient is not None else place.patient
        scans.append(Scan(
            name, own[0] if own else None, patient or clean_path(name), patient is not None,
            row.split or place.official, stamp_of(path.parent / name),
            named=(place.label or place.named) if labels else place.named, also=own[1:],
            label_from=table.columns["label"] if labels else place.label_from,
            patient_from=table.columns["patient"] if row.patient is not None else place.patient_from))
    if against:
        source.notes.append(f"{against} scans lie below the folder of another split than their row says; the row "
                            "counts.")
    source.scans = scans


def _fill_from_arrays(source: Source, files: ArrayFiles) -> None:
    """Take the pictures of a .npz; nothing tells their patients."""
    stamp = stamp_of(files.path)
    source.scans = [Scan(
        item.path, name_of_number(item.label, f"{files.path.stem}/") if item.label is not None else None, item.path,
        False, item.split, stamp, label_from="labels of the npz" if item.label is not None else "")
        for item in files.items()]


def _locate(source: Source, root: Path, rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each picture, by its path on the disk."""
    pictures = Pictures(root, [row.path for row in rows])
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        try:
            found[pictures.find(row.path)].append(row)
        except LookupError as error:
            named = "" if is_scan_file(row.path) else f" under any suffix of {PICTURES}"
            source.refused.append((f"row {row.number}: {row.path}", f"{error}{named}"))
    return found
