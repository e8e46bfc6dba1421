"""images/<split>/<CLASS>/CLASS-syn<seed>.png with a metadata.jsonl in each split, as Hugging Face `datasets` reads it.

`datasets` takes every column from metadata.jsonl and then ignores the folders, so that the class is a column too, and
the card tells the names of the classes. It guesses the types from the first rows of each split and refuses splits that
differ: a missing number is written as NaN, which is read as a number, and a missing text as "".
"""

import contextlib
import json
from pathlib import Path
from typing import IO, Any

from dnnlib.escape import file_names
from dnnlib.files import atomic_write
from stylegan_oct.export.description.manifest import Collection, Item, Rows, Samples, manifest_of
from stylegan_oct.export.description.marks import Marker
from stylegan_oct.export.layouts.files import write_files

FOLDER = "images"
METADATA = "metadata.jsonl"


class ImageFolder:
    """See `Layout`."""

    name = "imagefolder"
    own_files = True

    def __init__(self, out: Path, collection: Collection, marker: Marker) -> None:
        self._out, self._marker = out, marker
        self._folders = file_names(collection.classes)

    def write(self, part: int, samples: Samples) -> list[Item]:
        """As in `Layout`."""
        return write_files(self._out, samples, self._marker, self._place)

    def finish(self, rows: Rows) -> Rows:
        """As in `Layout`: metadata.jsonl in the folder of each split.

        torchvision's ImageFolder numbers the folders of a split. So a split has an empty one of a class that only
        others hold: it is then refused, where the classes behind it would have been taken for others.
        """
        manifest, classes = manifest_of(rows), set[str]()
        with contextlib.ExitStack() as stack:
            files: dict[str, IO[Any]] = {}
            for item in rows():
                if item.split not in files:
                    files[item.split] = stack.enter_context(atomic_write(self._out / FOLDER / item.split / METADATA))
                row = manifest.typed_row(item)
                row["file_name"] = item.file_name.removeprefix(f"{FOLDER}/{item.split}/")
                files[item.split].write(json.dumps(row) + "\n")
                classes.add(item.class_name)
        for split in files:
            for name in filter(None, classes):
                (self._out / FOLDER / split / self._folders[name]).mkdir(exist_ok=True)
        return rows

    def _place(self, item: Item) -> str:
        folder = self._folders[item.class_name] if item.class_name else ""
        return "/".join(filter(None, (FOLDER, item.split, folder, f"{item.key}.png")))
