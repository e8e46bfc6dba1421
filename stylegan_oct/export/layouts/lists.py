"""Pictures in one folder and a text list for each split: `fddm` and `multieye`.

Both programs open the lists of all three splits at once, so a split without pictures has an empty one, and both look
for the pictures of every split below `train`. A line is the picture's name without suffix, a blank and its label. The
first two fields of a name between hyphens are the eye in FDDM: each synthetic picture counts as an eye of its own.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_write
from dnnlib.text import suggest
from stylegan_oct.data.archive import SPLITS
from stylegan_oct.export.description.manifest import Collection, Item, Rows, Samples
from stylegan_oct.export.description.marks import Marker
from stylegan_oct.export.layouts.files import write_files

# Wet AMD shows neovascularisation, and drusen are its dry form; macular oedema of diabetes counts as retinopathy.
MAPPING: Final = {"CNV": "WAMD", "DRUSEN": "AMD", "DME": "DR", "NORMAL": "NOR"}


class Lists(ABC):
    """A layout of pictures in one folder and a list for each split.

    Args:
        out: folder of the export.
        collection: what all pictures share.
        marker: marks the pictures.
        mapping: class of the generator -> class of the list, or several joined by +; default `MAPPING`.
    Raises:
        ConfigError: a class has no counterpart, or the mapping names one that there is not.
    """

    name: str
    own_files = True
    known: Sequence[str]  # classes of the list, in its order
    pictures: str         # folder of the pictures
    list_file: str        # place of a list, with {split}
    splits: Mapping[str, str] = {split: split for split in SPLITS}

    def __init__(self, out: Path, collection: Collection, marker: Marker,
                 mapping: Mapping[str, str] | None = None) -> None:
        self._out, self._marker = out, marker
        if not collection.classes:
            raise ConfigError(f"The layout {self.name} needs classes, and this generator has none. Choose another "
                              "layout.")
        for name in mapping or {}:
            if name not in collection.classes:
                raise ConfigError(f"--mapping names the class {name!r}, which this generator has not."
                                  f"{suggest(name, collection.classes)}")
        mapping = {**MAPPING, **(mapping or {})}
        self._labels = {name: self.label(self._places(name, mapping.get(name, name))) for name in collection.classes}

    @abstractmethod
    def label(self, places: Sequence[int]) -> str:
        """Return what stands behind a name in a list, of classes by their places among the known.

        Raises:
            ConfigError: the list can only tell one class.
        """

    def write(self, part: int, samples: Samples) -> list[Item]:
        """As in `Layout`."""
        return write_files(self._out, samples, self._marker, self._place)

    def finish(self, rows: Rows) -> Rows:
        """As in `Layout`: a list for each split."""
        with contextlib.ExitStack() as stack:
            files = {split: stack.enter_context(atomic_write(
                self._out / self.list_file.format(split=self.splits[split]))) for split in SPLITS}
            for item in rows():
                if item.file_name != self._place(item):
                    raise DataError(f"{self._out} was begun by another version, which laid pictures out otherwise. "
                                    "Remove the folder and export anew.")
                files[item.split].write(f"{item.key} {self._labels[item.class_name]}\n")
        return rows

    def _place(self, item: Item) -> str:
        return f"{self.pictures}/{item.key}.png"

    def _places(self, class_name: str, there: str) -> list[int]:
        for name in there.split("+"):
            if name not in self.known:
                raise ConfigError(f"{class_name} is {name!r} in the layout {self.name}, which has no such class."
                                  f"{suggest(name, self.known)} Say which it is: --mapping CLASS=NAME")
        return [self.known.index(name) for name in there.split("+")]
