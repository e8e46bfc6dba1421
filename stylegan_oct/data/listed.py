"""Pictures that a CSV lists: where they lie, and which rows speak of the same one."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dnnlib.files import Finder
from stylegan_oct.data.files import SUFFIXES, VOLUMES, is_scan_file
from stylegan_oct.data.names import clean_path, fold, fold_class, fold_patient
from stylegan_oct.data.table import Row

DRIVE = re.compile(r"[A-Za-z]:|/")


class Pictures:
    """Finds the pictures of a CSV.

    Paths are relative to its folder and may be written as Windows or macOS write them. Of paths of another computer the
    end is found, with at least one folder; names without a folder also further below, and without suffix.

    Args:
        root: folder of the CSV.
        given: all paths, as written.
    """

    def __init__(self, root: Path, given: Sequence[str]) -> None:
        self._root = root
        self._finder = Finder()
        self._below: dict[str, list[str]] | None = None
        folders = {path.replace("\\", "/").rpartition("/")[0] for path in given}
        self._one_folder = len(folders) == 1  # then the name alone is enough: no other picture can be meant

    def find(self, given: str) -> str:
        """Return the path of a picture relative to the folder, as it is on the disk.

        Raises:
            LookupError: it is not there, or several files may be meant; says which.
        """
        text = given if (self._root / given).exists() else given.replace("\\", "/")
        parts = text.split("/")
        least = 1 if self._one_folder and DRIVE.match(text) else 2
        for begin in range(max(len(parts) - least, 0) + 1):
            if found := self._as_named("/".join(parts[begin:])):
                return found
        if len(parts) > 1:
            raise LookupError("is not there")
        return self._anywhere(text)

    def _as_named(self, text: str) -> str | None:
        places = [self._finder.find(self._root, text)] if is_scan_file(text) else \
            [self._finder.find(self._root, text + suffix) for suffix in (*SUFFIXES, *VOLUMES)]
        found = sorted({self._relative(place) for place in places if place is not None and not place.is_dir()})
        if len(found) > 1:
            raise LookupError("may be one of several files that differ in their suffix")
        return found[0] if found else None

    def _anywhere(self, name: str) -> str:
        if self._below is None:
            self._below = defaultdict(list)
            for folder, children, names in os.walk(self._root):
                children[:] = [child for child in children if not child.startswith(".")]
                for file in filter(is_scan_file, names):
                    path = self._relative(Path(folder) / file)
                    for key in {_key(file), _key(file.rpartition(".")[0])}:
                        self._below[key].append(path)
        found = self._below.get(_key(name), [])
        if len(found) != 1:
            raise LookupError("is not there" if not found else "may be one of several files of that name")
        return found[0]

    def _relative(self, place: Path) -> str:
        path = os.path.normpath(place)
        root = os.path.normpath(self._root)
        inside = root == "." or path.startswith(root.rstrip(os.sep) + os.sep)
        return Path(os.path.relpath(path, root)).as_posix() if inside else Path(path).as_posix()


def _key(name: str) -> str:
    return fold(clean_path(name))


def merge_rows(rows: Sequence[Row]) -> Row:
    """Return what the rows of one picture say together.

    Several labels are all kept: it is decided later that such a picture, and its copies, stay out.
    """
    labels = {fold_class(label): label for row in rows for label in row.labels}
    patients = {fold_patient(row.patient): row.patient for row in rows if row.patient is not None}
    splits = {row.split for row in rows if row.split is not None}
    first = rows[0]
    problem = next((row.problem for row in rows if row.problem), "")
    if not problem and len(patients) > 1:
        problem = "is listed under several patients"
    if not problem and len(splits) > 1:
        problem = "is listed in several splits"
    return Row(first.number, first.path, tuple(labels.values()), next(iter(patients.values()), None),
               next(iter(splits), None), problem)
