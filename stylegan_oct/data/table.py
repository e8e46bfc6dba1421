"""What a CSV tells of pictures: paths, classes, patients and splits, under whatever headings."""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dnnlib.errors import DataError
from stylegan_oct.data.files import is_scan_file
from stylegan_oct.data.names import fold, fold_class, fold_patient, is_clear_class, is_known_class, split_of

HEADINGS = {
    "path": ("path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "imagename", "img", "imageid",
             "directory", "scan", "picture"),
    "label": ("label", "labels", "class", "classes", "classname", "diagnosis", "category", "disease", "target",
              "groundtruth"),
    "patient": ("patientid", "patientnumber", "patientno", "patient", "patientname", "pid", "subjectid", "subject",
                "caseid", "case"),
    "split": ("split", "set", "fold", "subset", "partition", "usage"),
}
MISSING = frozenset(("", "nan", "none", "null", "na", "n/a", "#n/a", "-", "?", "unknown"))
YES, NO = frozenset(("1", "1.0", "true", "yes", "x")), frozenset(("", "0", "0.0", "false", "no"))
SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?e\+?\d+", re.IGNORECASE)  # what a spreadsheet makes of a long number
DATED = re.compile(r"\d{1,2}-[a-z]{3}(?:-\d+)?|[a-z]{3}-\d+|\d{4}-\d\d-\d\d(?:\d\d:\d\d(?::\d\d)?)?|"
                   r"\d{1,2}([./])\d{1,2}\1\d{2,4}")
MOST_CLASSES = 50   # more values than that, or nearly one a row of at least FEW_ROWS, name no classes
FEW_ROWS = 8


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    number: int             # in the file, from 1
    path: str               # as given
    labels: tuple[str, ...]
    patient: str | None
    split: str | None       # "train", "val", "test"
    problem: str = ""       # why it cannot be used


@dataclass(frozen=True)
class Table:
    """The rows of a table, and which columns were read."""

    rows: list[Row]
    columns: dict[str, str]                         # "label" -> "column Diagnosis"; without those that are missing
    notes: list[str] = field(default_factory=list)  # lines for the user


def read_table(path: Path) -> Table:
    """Return the rows of a CSV or TSV in UTF-8, UTF-16 or cp1252, with commas, semicolons, tabs or bars.

    Columns are found by their headings (`HEADINGS`); a class also by its values, or by several columns of 0 and 1 with
    the names of classes. The lists of MedMNIST, which have no headings, are found by their values.

    Raises:
        DataError: the file is not a table, no column holds paths, or two could hold the class.
    """
    text, notes = _decode(path)
    try:
        header, cells, first = _cells(text)
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV that can be read: {error}.") from error
    reader = _Reader(path, header, cells)
    if header is None:
        reader.find_without_headings()
    else:
        reader.find_by_headings()
    rows = [reader.row(first + i, row) for i, row in enumerate(cells) if any(row)]
    return Table([row for row in rows if row.path], reader.columns(), notes + reader.notes())


def _decode(path: Path) -> tuple[str, list[str]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if wide else ("utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            said = f"{path.name} is not in UTF-8 and was read as cp1252, as Windows writes it."
            return text, [said] if encoding == "cp1252" else []
    raise DataError(f"{path} cannot be read as text. Save it as CSV in UTF-8.")


def _cells(text: str) -> tuple[list[str] | None, list[list[str]], int]:
    """Return the headings, None without any, the cells below them, and the number of their first row."""
    top, first = next((line for line in text.splitlines() if line.strip()), ""), 1
    mark = max(",;\t|", key=lambda mark: re.sub(r'"[^"]*"', "", top).count(mark))
    if match := re.fullmatch(r"sep=(.)", top.strip("\ufeff")):  # Excel's own way to say it
        mark, first = match[1], 2
        text = text.partition("\n")[2]
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark)]
    while rows and not any(rows[0]):
        del rows[0]
        first += 1
    if not rows:
        return [], [], first
    if any(is_scan_file(cell) for cell in rows[0]):
        return None, rows, first
    return rows[0], rows[1:], first + 1


class _Reader:
    """Which columns tell what, and what a row says."""

    def __init__(self, path: Path, header: list[str] | None, cells: list[list[str]]) -> None:
        self._path = path
        self._header = header
        self._cells = cells
        self._width = len(header) if header is not None else max(map(len, cells), default=0)
        self._at: dict[str, int] = {}
        self._hot: dict[int, str] = {}  # columns of 0 and 1 -> class
        self._notes: list[str] = []

    def find_by_headings(self) -> None:
        """Find the columns by what they are called, and the class by its values too."""
        folded = [re.sub(r"[\W_]", "", fold(name)) for name in self._header or ()]
        found = {key: [i for name in names for i, heading in enumerate(folded) if heading == name]
                 for key, names in HEADINGS.items()}
        if not found["path"]:
            raise DataError(f"{self._path} has no column for the image; call it path. The first row must hold the "
                            "names of the columns: path, label, patient, split.")
        self._at["path"] = next((i for i in found["path"] if any(map(is_scan_file, self._values(i)))), found["path"][0])
        if found["patient"]:
            self._at["patient"] = found["patient"][0]
        self._find_split(found["split"])
        labels = [i for i in found["label"] if any(map(_told, self._values(i)))]
        self._find_label(labels or self._one_hot() or self._by_values())

    def find_without_headings(self) -> None:
        """Find the columns by their values: paths, splits, and one more for the class."""
        columns = range(self._width)
        self._at["path"] = next(i for i in columns if any(map(is_scan_file, self._values(i))))
        self._find_split([i for i in columns if all(map(split_of, self._values(i)))])
        others = [i for i in columns if i not in self._at.values()]
        if any(not is_known_class(value) and not value.isdecimal() for i in others for value in self._values(i)) or \
                len(others) > 1:  # names of patients must not become classes
            raise DataError(f"{self._path} has no row of headings, and more than paths, splits and known classes. "
                            "Write the names of its columns into the first row: path, label, patient, split.")
        self._find_label(others)

    def _values(self, column: int) -> list[str]:
        return [row[column] if column < len(row) else "" for row in self._cells]

    def _name(self, column: int) -> str:
        return self._header[column] if self._header is not None else str(column + 1)

    def _find_split(self, candidates: Sequence[int]) -> None:
        for i in candidates:
            values = [value for value in self._values(i) if value]
            if any(map(split_of, values)):
                self._at["split"] = i
                return
            if values:
                self._notes.append(f"The column {self._name(i)} is not read as splits: it names no train, val or test.")

    def _one_hot(self) -> list[int]:
        """Note the columns of 0 and 1 that are named as classes; return none, as they are no column of names."""
        binary = [i for i in self._free() if self._values(i) and {fold(v) for v in self._values(i)} <= YES | NO
                  and any(fold(value) in YES for value in self._values(i))]
        known = [i for i in binary if is_known_class(self._name(i))]
        if len(known) > 1:
            whole = all(sum(fold(value) in YES for value in values) == 1
                        for values in zip(*map(self._values, binary), strict=True))
            self._hot = {i: self._name(i) for i in (binary if whole else known)}
        return []

    def _by_values(self) -> list[int]:
        """Return the columns, under whatever heading, that hold names of known classes alone."""
        return [i for i in self._free() if not self._hot and any(map(is_clear_class, self._values(i)))
                and all(map(is_known_class, filter(_told, self._values(i))))]

    def _free(self) -> list[int]:
        return [i for i in range(self._width) if i not in self._at.values() and self._name(i)]

    def _find_label(self, candidates: list[int]) -> None:
        """Take one of the columns that may hold the class; all must say the same."""
        if not candidates:
            return
        spelt = {i: [fold_class(_number(value)) for value in self._values(i)] for i in candidates}
        named = [i for i in candidates if not all(map(str.isdecimal, filter(_told, spelt[i])))]
        chosen = named[0] if len(named) == 1 else candidates[0]
        for i in candidates:
            pairs = set(zip(spelt[chosen], spelt[i], strict=True))
            numbered = len(named) == 1 and len(pairs) == len(set(spelt[i])) == len(set(spelt[chosen]))
            if spelt[i] != spelt[chosen] and not numbered:  # the number of each name is one more way to say it
                names = " and ".join(self._name(i) for i in candidates)
                raise DataError(f"{self._path} has columns that may each be the class and differ: {names}. Rename or "
                                "remove those that are not.")
        count = len({value for value in spelt[chosen] if _told(value)})
        if count > MOST_CLASSES or (len(self._cells) >= FEW_ROWS and 2 * count > len(self._cells)):
            raise DataError(f"{self._path} has {count} values in the column {self._name(chosen)}: too many for "
                            "classes. Rename it, and call the column of classes label.")
        self._at["label"] = chosen

    def row(self, number: int, cells: list[str]) -> Row:
        """Return what a row says."""
        value = {key: cells[i] if i < len(cells) else "" for key, i in self._at.items()}
        patient = _number(value.get("patient", ""))
        split = value.get("split", "")
        problem = ""
        if any(cells[self._width:]):
            problem = f"has more cells than the {self._width} of the first row; put quotes around cells with commas"
        elif SCIENTIFIC.fullmatch(patient):
            problem = "has a patient of rounded digits, as spreadsheets write long numbers; store them as text"
        elif split and split_of(split) is None:
            problem = "has another split than train, val and test"
        return Row(number, value["path"], self._labels(cells, value), patient if _told(patient) else None,
                   split_of(split), problem)

    def _labels(self, cells: list[str], value: dict[str, str]) -> tuple[str, ...]:
        if self._hot:
            return tuple(name for i, name in self._hot.items() if i < len(cells) and fold(cells[i]) in YES)
        label = _number(value.get("label", ""))
        parts = [part.strip() for part in re.split(r"[|;,/+&]", label)]
        if len(parts) > 1 and all(map(is_known_class, parts)):
            return tuple(dict.fromkeys(parts))
        return (label,) if _told(label) else ()

    def columns(self) -> dict[str, str]:
        """Return the column in which each thing was read, as people say it."""
        found = {key: f"column {self._name(i)}" for key, i in self._at.items()}
        return found | ({"label": f"columns {', '.join(self._hot.values())}"} if self._hot else {})

    def notes(self) -> list[str]:
        """Return what the user should know of the columns."""
        spelt: dict[str, set[str]] = defaultdict(set)
        if "patient" in self._at:
            for value in self._values(self._at["patient"]):
                spelt[fold_patient(_number(value))].add(value)
        several = sum(len(ways) > 1 for ways in spelt.values())
        said = [f"{several} patient{'s are' if several > 1 else ' is'} written in several ways that differ in blanks, "
                "case or form: taken as one."] if several else []
        dates = sum(DATED.fullmatch(patient) is not None for patient in spelt)
        if dates:
            said.append(f"{dates} patient{'s look' if dates > 1 else ' looks'} like a date, as spreadsheets make of "
                        "numbers such as 3-12; compare them with the original list.")
        unread = ", ".join(self._name(i) for i in self._free() if i not in self._hot)
        if unread:
            which = "" if "label" in self._at or self._hot else "; no class was recognised among them: call it label"
            said.append(f"columns not read: {unread}{which}.")
        return self._notes + said


def _told(value: str) -> bool:
    return fold(value) not in MISSING


def _number(text: str) -> str:
    """Return a whole number without the ".0" that programs of statistics add where others are missing."""
    match = re.fullmatch(r"(\d+)\.0+", text.strip())
    return match[1] if match else text.strip()

