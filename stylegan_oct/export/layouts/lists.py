"""Pictures with text lists of multi-hot labels: `fddm` and `multieye`.

A line is "name b1 b2 ...", with a one for the class of the picture. The names are the pictures' without suffix, whose
first two fields between hyphens tell the eye, so that each synthetic picture counts as an eye of its own. Pictures are
stored as RGB, which both code bases take. docs/layouts.md tells what of this was read in their sources and what not.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from dnnlib.errors import ConfigError
from dnnlib.files import atomic_write
from dnnlib.text import suggest
from stylegan_oct.export.layouts.files import write_files
from stylegan_oct.export.manifest import Collection, Item, Rows, Samples
from stylegan_oct.export.marks import Marker

FDDM_CLASSES: Final = ("NOR", "AMD", "WAMD", "DR", "CSC", "PED", "MEM", "FLD", "EXU", "CNV", "RVO")
MULTIEYE_CLASSES: Final = ("NOR", "AMD", "CSC", "DR", "GLC", "MEM", "MYO", "RVO", "WAMD")
# Wet AMD shows neovascularisation, and drusen are its dry form; macular oedema of diabetes counts as retinopathy.
MAPPING: Final = {"CNV": "WAMD", "DRUSEN": "AMD", "DME": "DR", "NORMAL": "NOR"}


class Lists:
    """A layout of pictures in one folder and a list for each split.

    Args:
        out: folder of the export.
        collection: what all pictures share.
        marker: marks the pictures.
        mapping: class of the generator -> class of the list; default `MAPPING`.
    Raises:
        ConfigError: a class has no counterpart.
    """

    name: str
    own_files = True
    known: Sequence[str]  # classes of the list, in its order
    pictures: str         # folder of the pictures, with {split}
    list_file: str        # the same for the list
    splits: Mapping[str, str] = {"train": "train", "val": "val", "test": "test"}

    def __init__(self, out: Path, collection: Collection, marker: Marker,
                 mapping: Mapping[str, str] | None = None) -> None:
        self._out, self._marker = out, marker
        mapping = {**MAPPING, **(mapping or {})}
        self._places = {name: self._place_of(name, mapping) for name in collection.classes}
        if not self._places:
            raise ConfigError(f"The layout {self.name} needs classes, and this generator has none. Choose another "
                              "layout.")

    def _place_of(self, class_name: str, mapping: Mapping[str, str]) -> int:
        there = mapping.get(class_name, class_name)
        if there not in self.known:
            raise ConfigError(f"{class_name} is {there!r} in the layout {self.name}, which has no such class."
                              f"{suggest(there, self.known)} Say which it is.")
        return self.known.index(there)

    def write(self, part: int, samples: Samples) -> list[Item]:
        """As in `Layout`."""
        return write_files(self._out, samples, self._marker,
                           lambda item: f"{self.pictures.format(split=self.splits[item.split])}/{item.key}.png")

    def finish(self, rows: Rows) -> Rows:
        """As in `Layout`: a list for each split."""
        with contextlib.ExitStack() as stack:
            files: dict[str, IO[Any]] = {}
            for item in rows():
                if item.split not in files:
                    path = self._out / self.list_file.format(split=self.splits[item.split])
                    files[item.split] = stack.enter_context(atomic_write(path))
                hot = self._places[item.class_name]
                bits = " ".join("1" if place == hot else "0" for place in range(len(self.known)))
                files[item.split].write(f"{item.key} {bits}\n")
        return rows
