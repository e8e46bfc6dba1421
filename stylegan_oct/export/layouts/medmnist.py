"""octsyn_<resolution>.npz with {train,val,test}_images and _labels, as MedMNIST's classes read it.

Images are uint8 [N, R, R] or [N, R, R, 3], labels uint8 [N, 1]. A split without pictures is an empty array, since
MedMNIST's files have all three. The name differs from octmnist, so that synthetic pictures are not taken for the real.
Classes that OCTMNIST has are numbered as there, whatever their order in the generator; where one is another, all keep
the generator's numbers.
"""

import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from dnnlib.arrays import map_array
from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_path
from dnnlib.stored import reading
from stylegan_oct.classes import CLASSES
from stylegan_oct.data.archive import SPLITS, ZIP_DATE
from stylegan_oct.export.description.manifest import Collection, Item, Rows, Samples
from stylegan_oct.export.description.marks import Marker, with_pixels_hash
from stylegan_oct.export.layouts.base import complete_parts, part_file

FLAG = "octsyn"


class MedMnist:
    """See `Layout`.

    Raises:
        ConfigError: there are more classes than the labels can number.
    """

    name = "medmnist"
    own_files = False

    def __init__(self, out: Path, collection: Collection, marker: Marker) -> None:
        if len(collection.classes) > 256:
            raise ConfigError(f"The layout medmnist numbers up to 256 classes; this generator has "
                              f"{len(collection.classes)}. Choose another layout.")
        self._out, self._collection, self._marker = out, collection, marker
        self._name = f"{FLAG}_{collection.resolution}.npz"
        known = bool(collection.classes) and set(collection.classes) <= set(CLASSES)
        self._numbers = [*map(CLASSES.index, collection.classes)] if known else range(256)

    def write(self, part: int, samples: Samples) -> list[Item]:
        """As in `Layout`; the pictures of a part wait in arrays, a file for each split."""
        items: list[Item] = []
        pictures: dict[str, list[Any]] = {split: [] for split in SPLITS}
        for item, picture in samples:
            pixels = self._marker.pixels(picture)
            pictures[item.split].append(pixels)
            items.append(with_pixels_hash(item, pixels))
        for split in SPLITS:
            file = part_file(self._out, part, f"-{split}.npy")
            with atomic_path(file) as temporary, open(temporary, "wb") as stream:
                np.save(stream, np.array(pictures[split], np.uint8).reshape(-1, *self._shape))
        return items

    def finish(self, rows: Rows) -> Rows:
        """As in `Layout`: one npz, not compressed, since speckle hardly can be."""
        counts = Counter(item.split for item in rows())
        labels: dict[str, bytearray] = {split: bytearray() for split in SPLITS}
        for item in rows():
            if item.label_id >= len(self._numbers):
                raise DataError(f"A row of {self._out} has the label {item.label_id}, which this layout cannot number. "
                                "Remove the export's folder and export anew.")
            labels[item.split].append(self._numbers[item.label_id])
        with atomic_path(self._out / self._name) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for split in SPLITS:
                with archive.open(_member(f"{split}_images.npy"), "w", force_zip64=True) as stream:
                    _write_header(stream, (counts[split], *self._shape))
                    written = 0
                    for part in complete_parts(self._out):
                        file = part_file(self._out, part, f"-{split}.npy")
                        with reading(file, DataError, "Remove the export's folder and export anew."):
                            pictures = map_array(file, (None, *self._shape), np.uint8)
                        written += len(pictures)
                        stream.write(pictures.tobytes())
                if written != counts[split]:
                    raise DataError(f"The parts of {self._out} hold {written} pictures of {split} instead of "
                                    f"{counts[split]}. Remove the export's folder and export anew.")
                with archive.open(_member(f"{split}_labels.npy"), "w", force_zip64=True) as stream:
                    _write_header(stream, (counts[split], 1))
                    stream.write(labels[split])
        return lambda: self._placed(rows())

    @property
    def _shape(self) -> tuple[int, ...]:
        side = self._collection.resolution
        return (side, side) if self._collection.channels == 1 else (side, side, 3)

    def _placed(self, items: Iterator[Item]) -> Iterator[Item]:
        counts: Counter[str] = Counter()
        for item in items:
            yield replace(item, file_name=f"{self._name}/{item.split}_images/{counts[item.split]}")
            counts[item.split] += 1


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, ZIP_DATE)


def _write_header(stream: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
