"""A log that goes to the console and to log.txt, and JSON-lines files."""

import contextlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dnnlib.errors import ConfigError
from dnnlib.files import atomic_write
from dnnlib.stored import parse_json

LONGEST_ROW = 2**20  # bytes


def open_log(path: Path, console: logging.Handler) -> logging.Logger:
    """Return the root logger, writing lines with the time to `path` (appended) and plain ones to `console`."""
    logger = logging.getLogger()
    logger.setLevel(logging.INFO)
    close_log()
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for handler in (file, console):
        handler.set_name("stylegan_oct")
        logger.addHandler(handler)
    return logger


def close_log() -> None:
    """Detach and close what `open_log` attached."""
    logger = logging.getLogger()
    for handler in [handler for handler in logger.handlers if handler.get_name() == "stylegan_oct"]:
        logger.removeHandler(handler)
        handler.close()


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Append one JSON object as a line; numbers that are not finite become null."""
    clean = {key: None if isinstance(value, float) and not math.isfinite(value) else value
             for key, value in row.items()}
    with open(path, "a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(clean) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines file; a last line cut short by a kill is left out, and so is what is no row."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ConfigError):
            row = parse_json(line, "row", nan=True, most=LONGEST_ROW)
            if isinstance(row, dict):
                rows.append(row)
    return rows


def count_of(row: Mapping[str, Any], field: str) -> int:
    """Return a whole number of a row; 0 where it holds none."""
    value = row.get(field)
    return value if type(value) is int else 0


def keep_rows(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Drop the rows of a JSON-lines file for which `keep` is false."""
    rows = read_jsonl(path)
    with atomic_write(path) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows if keep(row))
