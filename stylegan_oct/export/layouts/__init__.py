"""How exported pictures lie in a folder: one file a layout, for the tools that will read them.

An export is written part by part. A part is complete when its rows, `.parts/000012.jsonl`, are there, which are renamed
into place last; a killed export begins anew with its first incomplete part, which gives the same bytes. When all parts
are complete, `finish_parts` writes the files that tell of all pictures.

    layout = make_layout("imagefolder", out, collection)
    if 0 not in complete_parts(out):
        write_part(layout, out, 0, samples)                # any process of several
    rows = finish_parts(layout, out)                       # one process, when all parts are there
"""

from collections.abc import Mapping
from pathlib import Path

from dnnlib.errors import ConfigError
from dnnlib.text import suggest
from stylegan_oct.export.description.manifest import Collection
from stylegan_oct.export.description.marks import Marker
from stylegan_oct.export.layouts.base import Layout, complete_parts, finish_parts, read_parts, write_part
from stylegan_oct.export.layouts.fddm import Fddm
from stylegan_oct.export.layouts.imagefolder import ImageFolder
from stylegan_oct.export.layouts.lists import Lists
from stylegan_oct.export.layouts.medmnist import MedMnist
from stylegan_oct.export.layouts.multieye import MultiEye
from stylegan_oct.export.layouts.stylegan import StyleGan
from stylegan_oct.export.layouts.webdataset import WebDataset

__all__ = ["LAYOUTS", "Layout", "complete_parts", "finish_parts", "make_layout", "read_parts", "write_part"]

PLAIN = {kind.name: kind for kind in (ImageFolder, WebDataset, MedMnist, StyleGan)}
WITH_LISTS: dict[str, type[Lists]] = {kind.name: kind for kind in (Fddm, MultiEye)}
LAYOUTS = (*PLAIN, *WITH_LISTS)


def make_layout(name: str, out: Path, collection: Collection, *, corner: bool = False,
                mapping: Mapping[str, str] | None = None) -> Layout:
    """Return a layout by its name.

    Args:
        name: one of `LAYOUTS`.
        out: folder of the export.
        collection: what all pictures share.
        corner: write "synthetic" into a corner of each picture.
        mapping: class of the generator -> class of the lists of fddm and multieye, or several of fddm joined by +;
            default: as docs/layouts.md tells.
    Raises:
        ConfigError: there is no such layout, or it cannot hold these pictures.
    """
    if name not in LAYOUTS:
        raise ConfigError(f"There is no layout {name!r}.{suggest(name, LAYOUTS)}")
    if name in WITH_LISTS:
        return WITH_LISTS[name](out, collection, Marker(corner=corner), mapping)
    if mapping:
        raise ConfigError(f"The layout {name} keeps the generator's classes; leave the mapping out, or choose fddm or "
                          "multieye.")
    return PLAIN[name](out, collection, Marker(corner=corner))
