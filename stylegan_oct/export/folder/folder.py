"""The folder of an export: whose it is, how far it is, and that nobody else writes into it.

`export.json` is written first and holds the plan; SHA256SUMS is written last and marks the export complete.
"""

import contextlib
import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import IO

from dnnlib.config import Count, Name, from_dict, to_dict
from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_write, hold_lock
from dnnlib.stored import read_json, reading
from stylegan_oct.export.description.hashes import SUMS
from stylegan_oct.export.drawing.draw import Tally
from stylegan_oct.export.drawing.rules import Rule
from stylegan_oct.export.drawing.select import KEPT
from stylegan_oct.export.layouts.base import PARTS, complete_parts, disk_errors, part_file
from stylegan_oct.export.plan import Plan

RECORD = "export.json"
LOCK = ".lock"
TALLY = ".tally.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What export.json holds."""

    plan: Plan
    rules: tuple[Rule, ...] = ()          # the plan's, with their limits
    evaluated: bool = False               # whether there was an evaluation of the generator
    drawn: dict[Name, dict[str, Count]] = dataclasses.field(default_factory=dict)  # class -> outcome -> pictures


@dataclasses.dataclass(frozen=True)
class _Tally:
    counts: dict[Name, dict[str, Count]]


def read_record(out: Path) -> Record:
    """Return what an export says of itself.

    Raises:
        DataError: it is none, or of another version.
    """
    if not (out / RECORD).is_file():
        raise DataError(f"{out} is no export: it has no {RECORD}. Name the folder of an export.")
    with reading(f"{RECORD} in {out}", DataError, "Export anew."):
        return from_dict(Record, read_json(out / RECORD), where="record")


def write_record(out: Path, record: Record) -> None:
    """Write export.json.

    Raises:
        DataError: it cannot be written.
    """
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with atomic_write(out / RECORD) as file:
            file.write(json.dumps(to_dict(record), indent=1) + "\n")


def earlier(out: Path, plan: Plan) -> Record | None:
    """Return the record of an export of this plan that was begun in a folder; None where nothing is there.

    Raises:
        ConfigError: something else is there.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file. Name a folder with --out.")
    found = {path.name for path in out.iterdir()} - {LOCK} if out.exists() else set()
    if all(name.startswith(".tmp-") for name in found):
        return None
    if RECORD not in found:
        raise ConfigError(f"{out} is not empty and holds no export. Name an empty or new folder with --out.")
    record = read_record(out)
    mine, other = to_dict(plan), to_dict(record.plan)
    differing = [name.replace("_sha256", "").replace("_", " ") for name in mine if mine[name] != other[name]]
    if differing:
        raise ConfigError(f"{out} holds an export with another {' and '.join(differing)}. Name another folder with "
                          "--out, or give the options of that export to go on with it.")
    return record


def is_begun(out: Path) -> bool:
    """Return whether there is an export, complete or not."""
    return (out / RECORD).is_file()


def is_complete(out: Path) -> bool:
    """Return whether an export is complete."""
    return (out / SUMS).is_file()


def lock(out: Path) -> IO[str]:
    """Hold the folder for this process until the returned file is closed.

    Raises:
        ConfigError: another process writes into it.
        DataError: it cannot be made.
    """
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        file = hold_lock(out / LOCK)
    if file is None:
        raise ConfigError(f"Another process exports into {out}. Wait for it, or name another folder with --out.")
    return file


def clear(out: Path) -> None:
    """Remove what only an unfinished export needs."""
    shutil.rmtree(out / PARTS, ignore_errors=True)
    with contextlib.suppress(OSError):  # Windows keeps the lock while it is held
        (out / LOCK).unlink(missing_ok=True)


def write_tally(out: Path, part: int, tally: Tally) -> None:
    """Write what was drawn for a part."""
    with atomic_write(part_file(out, part, TALLY)) as file:
        file.write(json.dumps(tally))


def read_tallies(out: Path) -> dict[str, dict[str, int]]:
    """Return what was drawn for all complete parts: class -> outcome -> pictures.

    Raises:
        DataError: a file is missing or damaged.
    """
    total: dict[str, Counter[str]] = {}
    for part in complete_parts(out):
        with reading(part_file(out, part, TALLY), DataError, "Export anew."):
            tally = from_dict(_Tally, {"counts": read_json(part_file(out, part, TALLY))}, where="tally")
        for name, counts in tally.counts.items():
            total.setdefault(name, Counter()).update(counts)
    return {name: dict(counter) for name, counter in total.items() if counter}


def rejected(counts: dict[str, int]) -> dict[str, float]:
    """Return the share of the drawn pictures of a class that were rejected, by reason, largest first."""
    drawn = sum(counts.values())
    return {reason: n / drawn for reason, n in sorted(counts.items(), key=lambda pair: -pair[1]) if reason != KEPT}
