"""SHA256SUMS: a line for each file of an export, as `sha256sum -c SHA256SUMS` reads it."""

import os
from collections.abc import Iterator
from pathlib import Path

from dnnlib.files import atomic_write, sha256_of
from stylegan_oct.export.description.manifest import Rows

SUMS = "SHA256SUMS"
PNG = ".png"


def write_sums(out: Path, rows: Rows, *, own_files: bool) -> None:
    """Write SHA256SUMS: the pictures in the order of the manifest, then all other files by name.

    Args:
        out: folder of the export. Names that begin with a dot are left out: nobody is to get those files.
        rows: all pictures.
        own_files: each picture is a file, whose hash its row holds; PNGs in the folders are then not read again.
    Raises:
        OSError: a file cannot be read or written.
    """
    with atomic_write(out / SUMS) as file:
        if own_files:
            file.writelines(f"{item.sha256}  {item.file_name}\n" for item in rows())
        for path in sorted(_others(out, own_files)):
            file.write(f"{sha256_of(out / path)}  {path.as_posix()}\n")


def _others(out: Path, own_files: bool) -> Iterator[Path]:
    """Yield the files of an export, relative to it, without those that the rows tell of."""
    for folder, folders, names in os.walk(out):
        folders[:] = [name for name in folders if not name.startswith(".")]
        place = Path(folder).relative_to(out)
        for name in names:
            told = own_files and place.parts and name.endswith(PNG)
            if not name.startswith(".") and not told and (place / name) != Path(SUMS):
                yield place / name
