"""The report of an evaluation: what was measured of which generator, against which scans, how, and what it says."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from dnnlib.config import Count, Finite, Hash, Name, Names, OneOf, from_dict
from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_write
from dnnlib.stored import brief, read_json, reading
from stylegan_oct.metrics.report.plotted import check_data
from stylegan_oct.metrics.statistics.values import Value

SCHEMA = 1
FILE = "report.json"
PARTS = ("fidelity", "usefulness", "memorisation", "consistency")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The generator that was evaluated."""

    file: str
    sha256: Hash
    nimg: Count                 # images shown in training
    preset: Name
    classes: Names
    resolution: Count
    channels: Count
    data_source: Name           # "phantom" or "scans"
    training_archive: Hash      # fingerprint; "" where it is not known
    psi: Finite

    @property
    def title(self) -> str:
        """The name of the file with its training length."""
        return f"{self.file}, {self.nimg / 1000:g} kimg, psi {self.psi:g}"


@dataclass(frozen=True, kw_only=True)
class Split:
    """How many scans a split of the reference holds."""

    name: Name
    scans: dict[Name, Count]    # by class
    patients: Count | None      # None where the archive does not tell


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The archive that it was compared with."""

    file: str
    fingerprint: Hash
    source: Name                # "phantom" or "scans"
    splits: tuple[Split, ...]

    def scans(self, split: str) -> int:
        """Return the number of scans of a split, 0 where there is none."""
        return sum(sum(found.scans.values()) for found in self.splits if found.name == split)


@dataclass(frozen=True, kw_only=True)
class Seer:
    """A network that looked at the pictures."""

    name: Name
    identity: Name
    sha256: Hash                # of its weights
    dim: Count
    resize: str                 # what is done to pictures before


@dataclass(frozen=True, kw_only=True)
class Part:
    """One side of the evaluation."""

    name: Annotated[str, OneOf(PARTS)]
    values: tuple[Value, ...] = ()
    reason: str = ""            # why it was not measured; "" where it was
    seconds: Finite = 0.0
    data: dict[str, Any] = field(default_factory=dict)  # curves and distributions behind the plots, JSON types


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A sentence of the verdict."""

    text: str
    weight: Finite              # the heavier the earlier
    level: str                  # "fault", "flaw", "open" where undecided, or "good"
    metric: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that an evaluation found."""

    schema: int = SCHEMA
    made: str                   # UTC, ISO 8601
    subject: Subject
    reference: Reference
    detectors: tuple[Seer, ...]
    settings: dict[str, Any]
    versions: dict[str, str]
    parts: tuple[Part, ...]
    warnings: tuple[str, ...] = ()
    verdict: tuple[Finding, ...] = ()
    complete: bool = False      # whether all parts that were asked for had their turn

    @property
    def values(self) -> list[Value]:
        """The values of all parts."""
        return [value for part in self.parts for value in part.values]

    def part(self, name: str) -> Part | None:
        """Return a part, None where it was not asked for."""
        return next((part for part in self.parts if part.name == name), None)

    def find(self, metric: str, class_name: str | None = None) -> Value | None:
        """Return a value by its name, of all classes together or of one."""
        return next((value for value in self.values if (value.metric, value.class_name) == (metric, class_name)), None)


def encode(item: Any) -> Any:
    """Return a dataclass, or what it is made of, as JSON types; numbers that are not finite become null."""
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {part.name: encode(getattr(item, part.name)) for part in dataclasses.fields(item)}
    if isinstance(item, dict):
        return {str(key): encode(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [encode(value) for value in item]
    if hasattr(item, "tolist"):  # arrays and numbers of numpy
        return encode(item.tolist())
    return None if isinstance(item, float) and not math.isfinite(item) else item


def decode_part(data: dict[str, Any]) -> Part:
    """Return the part that `encode` took apart.

    Raises:
        ConfigError: a field is unknown, missing or of the wrong type.
    """
    return from_dict(Part, _completed(data), where="part")


def write_report(path: Path, report: Report) -> None:
    """Write the report as JSON.

    Raises:
        DataError: the file cannot be written.
    """
    write_json(path, encode(report))


def write_json(path: Path, data: Any) -> None:
    """Write what `encode` returned.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        with atomic_write(path) as file:
            file.write(json.dumps(data, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error.strerror}. Choose another place with --out.") from error


def read_report(path: Path) -> Report:
    """Return a report.

    Args:
        path: report.json, or the folder that holds it.
    Raises:
        DataError: there is none, it is damaged, or of another schema.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"There is no report {file} (No such file or directory). Make one with: python -m tools "
                        "evaluate -c CHECKPOINT --out FOLDER")
    with reading(file, DataError, "Evaluate again."):
        data = read_json(file)
        if not isinstance(data, dict) or "schema" not in data:
            raise ConfigError("it is no report of an evaluation.")
        if data["schema"] != SCHEMA:
            raise ConfigError(f"it has the schema {brief(data['schema'])}; this release reads {SCHEMA}.")
        parts = data.get("parts")
        if not isinstance(parts, list) or len(parts) > len(PARTS):
            raise ConfigError(f"parts must be a list of at most {len(PARTS)}; got {brief(parts)}.")
        report = from_dict(Report, {**data, "parts": list(map(_completed, parts))}, where=file.name)
        for part in report.parts:
            check_data(part.name, part.data)
        return report


def _completed(part: Any) -> Any:
    """Return the fields of a part with those of its values that JSON cannot hold."""
    values = part.get("values") if isinstance(part, dict) else None
    return {**part, "values": list(map(_restored, values))} if isinstance(values, list) else part


def _restored(value: Any) -> Any:
    """Return the fields of a value with null as NaN where a number belongs."""
    if not isinstance(value, dict):
        raise ConfigError(f"a value must be an object; got {value!r}.")
    pairs = {key: [math.nan if bound is None else bound for bound in value[key]]
             for key in ("interval", "floor_interval") if isinstance(value.get(key), list)}
    return {**value, **pairs, **({"value": math.nan} if value.get("value", 0.0) is None else {})}
