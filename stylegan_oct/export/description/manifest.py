"""What is told of each exported picture: manifest.csv, manifest.parquet, and manifest.schema.json that explains them.

Nothing depends on the time or the computer: the same export gives the same bytes.
"""

import csv
import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray

from dnnlib.config import Count, Finite, Hash, Measured, Name, OneOf, Seed, from_dict
from dnnlib.errors import ConfigError, DataError
from dnnlib.escape import csv_cells, word
from dnnlib.files import atomic_path, atomic_write
from dnnlib.stored import brief, is_inside, parse_json, reading
from stylegan_oct import __version__
from stylegan_oct.data.archive import SPLITS
from stylegan_oct.latent.biomarkers.measure import BIOMARKERS

CSV = "manifest.csv"
PARQUET = "manifest.parquet"
NO_PARQUET = f"{PARQUET} is left out, {CSV} holds the same; for both: pip install 'stylegan-oct[parquet]'"
SCHEMA = "manifest.schema.json"
DIGITS = 6          # significant digits of what was measured; more would be noise
ROWS_AT_ONCE = 4096
LONGEST_ROW = 2**18  # bytes
TYPES = {str: "string", int: "int64", float: "float64", bool: "bool"}

Cell = str | int | float | bool | None
MISSING: dict[type, Cell] = {float: math.nan, str: ""}
Samples = Iterable[tuple["Item", NDArray[np.uint8]]]  # pictures [R, R] grey or [R, R, 3] RGB
Rows = Callable[[], Iterator["Item"]]  # begins anew at each call, so that rows need not be kept in memory


@dataclass(frozen=True, kw_only=True, slots=True)
class Collection:
    """What all pictures of an export share."""

    classes: tuple[str, ...]  # empty for a generator without classes
    resolution: int           # px
    channels: int             # of the generator: 1 grey, 3 RGB


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """What is known of one exported picture. None, or NaN among the biomarkers: not measured, or cannot be told."""

    class_name: Name                  # "" for a generator without classes
    label_id: Count                   # number of the class in the generator
    split: Annotated[str, OneOf(SPLITS)]
    seed: Seed                        # of z
    psi: Finite                       # truncation towards the mean of the class
    noise: Name                       # const, random or none
    checkpoint_sha256: Hash           # of the generator's file
    nimg: Count                       # images that it was shown in training
    resolution: Count                 # px
    um_per_px_x: Measured | None      # across
    um_per_px_z: Measured | None      # in depth
    oracle: str | None = None                            # identity of the class oracle
    oracle_class: Name | None = None                     # what it takes the picture for
    oracle_probabilities: Mapping[str, Measured] | None = None    # by class
    nearest_training: str | None = None                  # keyed hash of the nearest training scan
    nearest_distance: Measured | None = None
    nearest_percentile: Measured | None = None              # of its score among those of held-out scans
    memorised: bool | None = None                        # flagged as a possible copy
    biomarkers: Mapping[str, Measured] | None = None        # by name
    phash: str | None = None                             # perceptual hash, hexadecimal
    teacher: str | None = None                           # identity of the teacher
    teacher_labels: Mapping[str, Measured] | None = None    # its soft labels, by name
    tool_version: str = __version__
    file_name: str = ""               # filled in by the layout: where the picture is, relative to the export
    sha256: str = ""                  # filled in by the layout: of the file's bytes; "" where it has no file of its own
    pixels_sha256: str = ""           # filled in by the layout: of the grey or RGB values as stored, row by row

    @property
    def key(self) -> str:
        """Name of the picture without folder and suffix; it says that the picture is synthetic."""
        return f"{word(self.class_name) or 'OCT'}-syn{self.seed:08d}"

    def to_json(self) -> str:
        """Return everything as one line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Return what `to_json` wrote.

        Raises:
            DataError: it is damaged or of another version.
        """
        with reading("A row of the export", DataError, "Export anew."):
            item = from_dict(cls, parse_json(line, "the row", nan=True, most=LONGEST_ROW), where="row")
            if not is_inside(item.file_name or "none"):
                raise ConfigError(f"file_name must lie within the export; got {brief(item.file_name)}.")
            return item


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the manifest."""

    name: str
    kind: type
    meaning: str
    unit: str
    value: Callable[[Item], Cell]


def _field(name: str, kind: type, meaning: str, unit: str = "", *, column: str = "") -> Column:
    return Column(column or name, kind, meaning, unit, lambda item: getattr(item, name))


FIRST = (
    _field("file_name", str, "where the picture is, relative to the export"),
    _field("class_name", str, "class asked of the generator", column="label"),
    _field("label_id", int, "number of the class, from 0"),
    _field("split", str, "train, val or test"),
    Column("synthetic", bool, "always true: drawn by a generator, not a scan of a patient", "", lambda _: True),
    _field("seed", int, "seed of the latent z: NumPy RandomState(seed).randn"),
    _field("psi", float, "truncation towards the mean of the class; 1 is none"),
    _field("noise", str, "speckle: const is the same for all, random drawn anew, none left out"),
    _field("checkpoint_sha256", str, "SHA-256 of the generator's file"),
    _field("nimg", int, "images shown to the generator in training"),
    _field("resolution", int, "width and height", "px"),
    _field("um_per_px_x", float, "size of a pixel across; empty where scans of several sizes were cut or padded", "um"),
    _field("um_per_px_z", float, "size of a pixel in depth", "um"),
    _field("oracle", str, "identity of the class oracle: name and hash"),
    _field("oracle_class", str, "class that the oracle takes the picture for"),
)
SECOND = (
    _field("nearest_training", str, "keyed hash of the training scan nearest to the picture"),
    _field("nearest_distance", float, "its distance, by the copy detector"),
    _field("nearest_percentile", float, "share of held-out scans with a lower score: distance to the nearest training "
           "scan over that to the nearest held-out one; a copy is near 0", "%"),
    _field("memorised", bool, "flagged as a possible copy of a training scan"),
    _field("phash", str, "perceptual hash: near-equal pictures differ in few bits"),
)
LAST = (
    _field("teacher", str, "identity of the teacher whose soft labels follow: name and hash"),
    _field("tool_version", str, "version of stylegan-oct"),
    _field("sha256", str, "SHA-256 of the file's bytes; empty where the picture has no file of its own"),
    _field("pixels_sha256", str, "SHA-256 of the 8-bit values as stored, row by row, without the PNG's wrapping"),
)


class Manifest:
    """The columns of an export; which of the measured ones there are is told by its first picture.

    Args:
        first: any picture of the export; all others must have the same oracle, biomarkers and teacher.
    """

    def __init__(self, first: Item) -> None:
        self.columns: tuple[Column, ...] = _distinct((
            *FIRST,
            *_by_name("oracle_probabilities", first.oracle_probabilities or (), "oracle_",
                      lambda name: (f"probability of {name}, by the oracle", "")),
            *SECOND,
            *_by_name("biomarkers", first.biomarkers or (), "", lambda name: BIOMARKERS.get(name, ("", name))[::-1]),
            *_by_name("teacher_labels", first.teacher_labels or (), "teacher_",
                      lambda name: (f"soft label for {name}, by the teacher", "")),
            *LAST,
        ))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns in order."""
        return tuple(column.name for column in self.columns)

    def row(self, item: Item) -> dict[str, Cell]:
        """Return the values by column; None where there is none."""
        return {column.name: _cell(column.value(item)) for column in self.columns}

    def typed_row(self, item: Item) -> dict[str, Cell]:
        """Return the values for readers of JSON that guess types from the first rows: NaN or "" for none."""
        row = self.row(item)
        return {column.name: MISSING.get(column.kind) if row[column.name] is None else row[column.name]
                for column in self.columns}

    def schema(self) -> dict[str, Any]:
        """Return what manifest.schema.json holds."""
        fields = [{"name": column.name, "type": TYPES[column.kind], "unit": column.unit, "meaning": column.meaning}
                  for column in self.columns]
        return {"format": 1, "fields": fields, "missing": "empty in CSV, null in parquet, NaN or an empty text in JSON",
                "formulas": "a text that a spreadsheet would take for a formula has an apostrophe in front in CSV"}

    def write(self, out: Path, rows: Iterable[Item]) -> list[Path]:
        """Write the manifest as CSV, with its schema, and as parquet where pyarrow is installed; return the files.

        Raises:
            DataError: it cannot be written.
        """
        files = [out / CSV, out / SCHEMA]
        try:
            with atomic_write(out / SCHEMA) as file:
                file.write(json.dumps(self.schema(), indent=1) + "\n")
            with atomic_write(out / CSV) as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(self.names)
                if not has_parquet():
                    writer.writerows(map(self._text, rows))
                    return files
                with _ParquetFile(out / PARQUET, self) as parquet:
                    for some in _pieces(rows):
                        writer.writerows(map(self._text, some))
                        parquet.write([self.row(item) for item in some])
        except OSError as error:
            raise DataError(f"Cannot write the manifest into {out}: {error.strerror}. Free some space; the same "
                            "command goes on from here.") from error
        return [*files, out / PARQUET]

    def _text(self, item: Item) -> list[str]:
        return ["" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
                for value in csv_cells(self.row(item).values())]


def manifest_of(rows: Rows) -> Manifest:
    """Return the columns of an export with at least one picture.

    Raises:
        DataError: it has none.
    """
    first = next(rows(), None)
    if first is None:
        raise DataError("There is no picture to export. Choose a wider range, or reject fewer.")
    return Manifest(first)


def _by_name(field: str, names: Iterable[str], prefix: str, tell: Callable[[str], Sequence[str]]) -> list[Column]:
    """Return a column for each entry of one of the item's mappings."""
    def column(name: str) -> Column:
        meaning, unit = tell(name)
        return Column(prefix + word(name), float, meaning, unit, lambda item: (getattr(item, field) or {}).get(name))
    return [column(name) for name in names]


def _distinct(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Number the columns whose names are taken, such as that of the oracle's probability of a class named "class"."""
    found: dict[str, Column] = {}
    for column in columns:
        names = (f"{column.name}_{number}" if number else column.name for number in itertools.count())
        name = next(name for name in names if name.casefold() not in found)
        found[name.casefold()] = dataclasses.replace(column, name=name)
    return tuple(found.values())


def _cell(value: Cell) -> Cell:
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _pieces(rows: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(rows)
    for first in iterator:
        yield [*chain([first], islice(iterator, ROWS_AT_ONCE - 1))]


def has_parquet() -> bool:
    """Return whether pyarrow is installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return False
    return True


class _ParquetFile:
    """manifest.parquet, written in pieces under a temporary name."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        import pyarrow as pa

        self._atomic = atomic_path(path)
        fields = [pa.field(column.name, getattr(pa, TYPES[column.kind] + "_" * (column.kind is bool))(),
                           metadata={"meaning": column.meaning, "unit": column.unit}) for column in manifest.columns]
        self._schema = pa.schema(fields)

    def __enter__(self) -> Self:
        import pyarrow.parquet

        self._file = pyarrow.parquet.ParquetWriter(self._atomic.__enter__(), self._schema)
        return self

    def write(self, rows: list[dict[str, Cell]]) -> None:
        import pyarrow as pa

        self._file.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def __exit__(self, *error: Any) -> None:
        self._file.close()
        self._atomic.__exit__(*error)
