"""Where scans come from: a folder, a zip, or a CSV of paths and labels."""

import contextlib
import csv
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dnnlib.errors import DataError
from dnnlib.text import suggest
from stylegan_oct.data.archive import INDEX, MANIFEST
from stylegan_oct.data.layout import SPLIT_FOLDERS, order_classes, read_places

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MAX_FILE_BYTES = 256 * 2**20  # far above any scan; keeps one file from filling the memory
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path"),
    "label": ("label", "class", "diagnosis", "category", "disease"),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id"),
    "split": ("split", "set", "fold", "subset"),
}


class Refusal(Exception):
    """Why a scan cannot be used; it is reported and skipped."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One image file of a source."""

    path: str               # relative to the source, with forward slashes
    label: str | None       # final class name
    patient: str            # the patient number; the path where none is known
    known_patient: bool
    official: str | None    # "train", "val", "test": the folder or column of the source
    stamp: str              # changes when the file does
    named: str | None = None  # the class in the file name


@dataclass
class Source:
    """The scans of a source, and what was left aside while listing them."""

    files: "FolderFiles | ZipFiles"
    kind: str
    scans: list[Scan] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    refused: list[tuple[str, str]] = field(default_factory=list)  # (path, reason)
    ignored: Counter[str] = field(default_factory=Counter)        # suffixes of other files


@dataclass(frozen=True)
class FolderFiles:
    """Reads files below a folder."""

    root: Path

    def read(self, path: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            Refusal: it cannot be read or is too large.
        """
        try:
            # A pipe or device named like a picture would block for ever.
            info = (self.root / path).stat()
            if not stat.S_ISREG(info.st_mode):
                raise Refusal("is not a regular file")
            _check_size(info.st_size)
            return (self.root / path).read_bytes()
        except OSError as error:
            raise Refusal(f"cannot be read: {error.strerror or error}") from None


class ZipFiles:
    """Reads members of a zip; nothing is extracted, so that no member can be written anywhere."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_opened": None}

    def open(self) -> zipfile.ZipFile:
        """Return the open zip of this process."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), zipfile.ZipFile(self.path))
        return self._opened[1]

    def read(self, path: str) -> bytes:
        """Return the bytes of a member.

        Raises:
            Refusal: it is damaged, encrypted or larger than it says.
        """
        try:
            with self.open().open(path) as file:
                data = file.read(MAX_FILE_BYTES + 1)  # the size in the directory may lie
        except Exception as error:  # zlib, lzma and bz2 each raise their own kinds on damaged data
            raise Refusal(f"cannot be read from the zip: {error}") from None
        _check_size(len(data))
        return data


def open_source(path: Path, *, patient_pattern: str | None = None) -> Source:
    """Return the scans of a folder, zip or CSV, sorted by path.

    Raises:
        DataError: there is no such source, or it holds no images.
    """
    if not path.exists():
        raise DataError(f"There is no {path}. Give a folder of scans, a zip of one, or a CSV of paths and labels.")
    if path.is_dir():
        source = Source(FolderFiles(path), "folder")
        _fill(source, _walk(path, source), patient_pattern)
    elif path.suffix.lower() in (".csv", ".tsv"):
        source = Source(FolderFiles(path.parent), "CSV")
        _fill_from_csv(source, path, patient_pattern)
    elif zipfile.is_zipfile(path):
        files = ZipFiles(path)
        source = Source(files, "zip")
        _fill(source, _members(files, source), patient_pattern)
    else:
        raise DataError(f"{path} is neither a folder, a zip nor a CSV. Give a folder of scans, a zip of one, or a "
                        "CSV of paths and labels.")
    if not source.scans:
        seen = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in source.ignored.most_common(4))
        raise DataError(f"{path} holds no PNG, JPEG or TIFF images" + (f" (but {seen})." if seen else ".") +
                        (f" First of {len(source.refused)} refused: {source.refused[0][1]}." if source.refused else ""))
    return source


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise Refusal(f"is larger than {MAX_FILE_BYTES >> 20} MiB")
    if size == 0:
        raise Refusal("is empty (0 bytes)")


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _walk(root: Path, source: Source) -> Iterator[tuple[str, str]]:
    """Yield (relative path, stamp) of the images below a folder; a folder reached twice by links is read once."""
    seen: set[tuple[int, int]] = set()

    def report(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix() if error.filename else "."
        source.refused.append((f"{name}/", f"cannot be listed: {error.strerror}"))

    for folder, children, names in os.walk(root, followlinks=True, onerror=report):
        info = os.stat(folder)
        if (info.st_dev, info.st_ino) in seen:
            children.clear()
            continue
        seen.add((info.st_dev, info.st_ino))
        children[:] = sorted(name for name in children if not _is_hidden(name))
        for name in sorted(names):
            if _is_hidden(name) or (name.endswith("-audit.png") and f"{name[:-4]}.md" in names):
                continue  # the second: left here by an earlier conversion
            path = (Path(folder) / name).relative_to(root).as_posix()
            if not name.lower().endswith(SUFFIXES):
                source.ignored[Path(name).suffix.lower()] += 1
                continue
            yield path, _stamp(Path(folder) / name)


def _stamp(path: Path) -> str:
    try:
        info = path.stat()
    except OSError:  # a broken link; reading reports it
        return "?"
    return f"{info.st_size}-{info.st_mtime_ns}"


def _members(files: ZipFiles, source: Source) -> Iterator[tuple[str, str]]:
    """Yield (name, stamp) of the images in a zip that are safe to read."""
    try:
        members = files.open().infolist()
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{files.path} is a damaged zip: {error}. Copy or download it again.") from error
    if {INDEX, MANIFEST} <= {info.filename for info in members}:
        raise DataError(f"{files.path} is an archive already: give it to train as it is, or convert the scans "
                        "it was made from.")
    for info in members:
        name = info.filename
        if info.is_dir():
            continue
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            source.refused.append((name, "its path leaves the zip"))
        elif _is_hidden(name):
            continue
        elif not name.lower().endswith(SUFFIXES):
            source.ignored[Path(name).suffix.lower()] += 1
        elif info.flag_bits & 1:
            source.refused.append((name, "is encrypted"))
        elif stat.S_ISLNK(info.external_attr >> 16):
            source.refused.append((name, "is a link"))
        elif info.file_size > MAX_FILE_BYTES:
            source.refused.append((name, f"is larger than {MAX_FILE_BYTES >> 20} MiB when unpacked"))
        else:
            yield name, f"{info.file_size}-{info.CRC}"


def _fill(source: Source, found: Iterable[tuple[str, str]], patient_pattern: str | None) -> None:
    """Give every file found its class, patient and split from its path."""
    files = sorted(set(found))
    places = read_places([path for path, _ in files], patient_pattern)
    scans = [Scan(path, place.label, place.patient or path, place.patient is not None, place.official, stamp,
                  place.named) for (path, stamp), place in zip(files, places, strict=True)]
    _set_classes(source, scans)


def _set_classes(source: Source, scans: Sequence[Scan]) -> None:
    """Give the labels their final names; where only some scans have one, refuse the others."""
    names = order_classes([scan.label for scan in scans])
    source.classes = tuple(dict.fromkeys(names.values()))
    for scan in scans:
        if scan.label is None and names:
            source.refused.append((scan.path, "lies in no class folder, while others do"))
        else:
            source.scans.append(replace(scan, label=names[scan.label] if scan.label is not None else None))


def _fill_from_csv(source: Source, path: Path, patient_pattern: str | None) -> None:
    """Read the rows of a CSV; paths are relative to its folder."""
    rows, columns = _read_table(path)
    scans: dict[str, Scan] = {}
    places = read_places([row[columns["path"]].strip() for row in rows], patient_pattern)
    for number, (row, place) in enumerate(zip(rows, places, strict=True), 2):
        name = row[columns["path"]].strip().replace("\\", "/")
        value = {key: row[column].strip() for key, column in columns.items()}
        label, patient = value.get("label") or None, value.get("patient") or place.patient
        split = value.get("split", "").casefold()
        if not name.lower().endswith(SUFFIXES):
            source.refused.append((f"row {number}: {name}", "is not named as a PNG, JPEG or TIFF image"))
        elif split and split not in SPLIT_FOLDERS:
            source.refused.append((f"row {number}: {name}", f"has the split {split!r}; there are train, val, test"))
        elif name in scans and scans[name].label != label:
            source.refused.append((f"row {number}: {name}", "is listed before with another label"))
        else:
            scans[name] = Scan(name, label, patient or name, patient is not None,
                               SPLIT_FOLDERS.get(split) or place.official, _stamp(path.parent / name))
    _set_classes(source, sorted(scans.values(), key=lambda scan: scan.path))


def _read_table(path: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Return the rows, and the column that holds each of path, label, patient and split.

    Raises:
        DataError: the file is not a table, or no column holds paths.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}. Save it as CSV in UTF-8.") from error
    delimiter = ","
    with contextlib.suppress(csv.Error):
        delimiter = csv.Sniffer().sniff(text.partition("\n")[0], ",;\t").delimiter
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, restval="")
    header = [name for name in reader.fieldnames or () if name]
    by_fold = {name.strip().casefold(): name for name in header}
    columns = {key: by_fold[name] for key, names in COLUMNS.items()
               for name in [next((name for name in names if name in by_fold), None)] if name is not None}
    if "path" not in columns:
        raise DataError(f"{path} has no column for the image; call it path.{suggest('path', header)}")
    return [row for row in reader if row[columns["path"]].strip()], columns
