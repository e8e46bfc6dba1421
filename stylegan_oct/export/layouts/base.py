"""What all layouts have in common."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from dnnlib.errors import DataError
from dnnlib.files import atomic_write
from stylegan_oct.export.description.manifest import Item, Rows, Samples

PARTS = ".parts"   # folder for what is needed only until an export is complete
ROWS = ".jsonl"


class Layout(Protocol):
    """One way to lay out pictures in a folder."""

    name: str
    own_files: bool  # each picture is a file of its own, whose SHA-256 its item carries

    def write(self, part: int, samples: Samples) -> list[Item]:
        """Write the pictures of a part, replacing what an earlier attempt left; return their items with their hashes.

        Raises:
            OSError: a file cannot be written.
        """
        ...

    def finish(self, rows: Rows) -> Rows:
        """Write the files that tell of all pictures, and return the rows with the final places of the pictures.

        Done again, it gives the same files.

        Raises:
            OSError: a file cannot be written.
            DataError: it cannot be written, or what an earlier part left is damaged.
        """
        ...


def write_part(layout: Layout, out: Path, part: int, samples: Samples) -> list[Item]:
    """Write a part of an export and then its rows, which make it complete; return its items with their hashes.

    Raises:
        DataError: a file cannot be written, for instance on a full disk.
    """
    with disk_errors(out):
        items = layout.write(part, samples)
        with contextlib.suppress(AttributeError):  # Windows has none
            os.sync()  # once a part: to sync each small file would take longer than to write it
        with atomic_write(part_file(out, part, ROWS)) as file:
            file.writelines(item.to_json() + "\n" for item in items)
    return items


def finish_parts(layout: Layout, out: Path) -> Rows:
    """Write what tells of all pictures of the complete parts; return their rows.

    Raises:
        DataError: a file cannot be written, or what a part left is damaged.
    """
    with disk_errors(out):
        for left in out.rglob(".tmp-*"):  # by a process that was killed while it wrote
            left.unlink()
        return layout.finish(lambda: read_parts(out))


def complete_parts(out: Path) -> list[int]:
    """Return the numbers of the complete parts of an export, rising."""
    return sorted(int(path.stem) for path in (out / PARTS).glob(f"[0-9]*{ROWS}"))


def read_parts(out: Path) -> Iterator[Item]:
    """Yield the items of the complete parts in order.

    Raises:
        DataError: a row is damaged.
    """
    for part in complete_parts(out):
        with open(part_file(out, part, ROWS), "rb") as file:
            yield from map(Item.from_json, file)


def part_file(out: Path, part: int, suffix: str) -> Path:
    """Return the path of something that is needed of a part until the export is complete."""
    return out / PARTS / f"{part:06d}{suffix}"


def write_picture(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it, without waiting for the disk; `write_part` does that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn an OSError into a DataError that tells what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(f"Cannot write into {out}: {error.strerror or error}. Free some space or choose another "
                        "place; the same command goes on from here.") from error
