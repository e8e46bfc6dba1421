"""What all layouts have in common."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dnnlib.errors import DataError
from dnnlib.files import atomic_write
from stylegan_oct.export.manifest import Item, Rows

PARTS = ".parts"   # folder for what is needed only until an export is complete

Samples = Iterable[tuple[Item, NDArray[np.uint8]]]  # pictures [R, R] grey or [R, R, 3] RGB


class Layout(Protocol):
    """One way to lay out pictures in a folder."""

    name: str
    own_files: bool  # each picture is a file of its own, whose SHA-256 its item carries

    def write(self, part: int, samples: Samples) -> list[Item]:
        """Write the pictures of a part, replacing what an earlier attempt left; return their items, with their files.

        Raises:
            OSError: a file cannot be written.
        """
        ...

    def finish(self, rows: Rows) -> None:
        """Write the files that tell of all pictures; done again, it gives the same files.

        Raises:
            OSError: a file cannot be written.
        """
        ...


def write_part(layout: Layout, out: Path, part: int, samples: Samples) -> list[Item]:
    """Write a part of an export and then its rows, which make it complete; return its items, with their files.

    Raises:
        DataError: a file cannot be written, for instance on a full disk.
    """
    try:
        items = layout.write(part, samples)
        with atomic_write(_rows_file(out, part)) as file:
            file.writelines(item.to_json() + "\n" for item in items)
    except OSError as error:
        raise DataError(f"Cannot write into {out}: {error.strerror or error}. Free some space or choose another "
                        "place; the same command goes on from here.") from error
    return items


def complete_parts(out: Path) -> list[int]:
    """Return the numbers of the complete parts of an export, rising."""
    return sorted(int(path.stem) for path in (out / PARTS).glob("[0-9]*.jsonl"))


def read_parts(out: Path) -> Iterator[Item]:
    """Yield the items of the complete parts in order.

    Raises:
        DataError: a row is damaged.
    """
    for part in complete_parts(out):
        with open(_rows_file(out, part), encoding="utf-8") as file:
            yield from map(Item.from_json, file)


def part_file(out: Path, part: int, suffix: str) -> Path:
    """Return the path of something that is needed of a part until the export is complete."""
    return out / PARTS / f"{part:06d}{suffix}"


def _rows_file(out: Path, part: int) -> Path:
    return part_file(out, part, ".jsonl")
