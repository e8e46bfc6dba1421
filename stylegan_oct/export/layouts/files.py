"""What layouts share that keep each picture in a PNG of its own."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stylegan_oct.export.description.manifest import Item, Samples
from stylegan_oct.export.description.marks import Marker
from stylegan_oct.export.layouts.base import write_picture


def write_files(out: Path, samples: Samples, marker: Marker, place: Callable[[Item], str]) -> list[Item]:
    """Write each picture to its place relative to `out`; return the items with file name and hashes."""
    items = []
    for stamped in marker.stamp_all(samples):
        name = place(stamped.item)
        write_picture(out / name, stamped.png)
        items.append(replace(stamped.item, file_name=name, sha256=hashlib.sha256(stamped.png).hexdigest()))
    return items
