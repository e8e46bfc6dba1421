"""synthetic-<split>.zip with dataset.json, as StyleGAN's tools and this project's `Archive` read it.

Its source is "synthetic": `train` of this project refuses it, so that nobody trains a generator on its own pictures
unaware.
"""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path

from dnnlib.errors import DataError
from stylegan_oct.data.archive import SYNTHETIC, ArchiveWriter, image_name
from stylegan_oct.export.description.manifest import Collection, Item, Rows, Samples, manifest_of
from stylegan_oct.export.description.marks import Marker
from stylegan_oct.export.layouts.base import complete_parts, part_file
from stylegan_oct.export.layouts.tars import Tar, read_tar

TOLD_OTHERWISE = {"file_name", "label", "label_id", "split"}  # columns that an archive's manifest has in its own way


class StyleGan:
    """See `Layout`."""

    name = "stylegan"
    own_files = False

    def __init__(self, out: Path, collection: Collection, marker: Marker) -> None:
        self._out, self._collection, self._marker = out, collection, marker

    def write(self, part: int, samples: Samples) -> list[Item]:
        """As in `Layout`; a zip cannot be gone on with, so that the pictures of a part wait in a tar."""
        items = []
        with Tar(part_file(self._out, part, ".tar")) as tar:
            for stamped in self._marker.stamp_all(samples):
                tar.add(f"{stamped.item.key}.png", stamped.png)
                items.append(replace(stamped.item, sha256=hashlib.sha256(stamped.png).hexdigest()))
        return items

    def finish(self, rows: Rows) -> Rows:
        """As in `Layout`: a zip for each split."""
        manifest, shape = manifest_of(rows), self._collection
        pictures = chain.from_iterable(read_tar(part_file(self._out, part, ".tar"))
                                       for part in complete_parts(self._out))
        with contextlib.ExitStack() as stack:
            zips: dict[str, ArchiveWriter] = {}
            for item, png in zip_longest(rows(), pictures):
                if item is None or png is None or (shape.classes and item.label_id >= len(shape.classes)):
                    raise DataError(f"The rows and the pictures of {self._out} do not match. Remove the export's "
                                    "folder and export anew.")
                if item.split not in zips:
                    zips[item.split] = stack.enter_context(ArchiveWriter(
                        self._out / _zip_name(item.split), resolution=shape.resolution, channels=shape.channels,
                        classes=shape.classes, source=SYNTHETIC))
                facts = {key: value for key, value in manifest.row(item).items() if key not in TOLD_OTHERWISE}
                zips[item.split].add_image(SYNTHETIC, png, item.label_id if shape.classes else None, facts)
        return lambda: _placed(rows())


def _zip_name(split: str) -> str:
    return f"synthetic-{split}.zip"


def _placed(items: Iterator[Item]) -> Iterator[Item]:
    counts: Counter[str] = Counter()
    for item in items:
        name = image_name(SYNTHETIC, counts[item.split])
        counts[item.split] += 1
        yield replace(item, file_name=f"{_zip_name(item.split)}/{name}")
