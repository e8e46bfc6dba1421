"""B-scans of volumes as scans of a source: each is a scan of its own, all of a file belong to one patient."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stylegan_oct.data.arrays import ArrayFiles
from stylegan_oct.data.files import VOLUMES, FolderFiles, Listing, Refusal, ZipFiles, stamp_of, suffix_of
from stylegan_oct.data.readers.axes import Axes
from stylegan_oct.data.readers.bscan import Volume
from stylegan_oct.data.readers.image import Picture, count_pages, decode
from stylegan_oct.data.readers.scan import choose, open_volume

if TYPE_CHECKING:
    from stylegan_oct.data.sources import Scan

MEMBER = re.compile(r"(.*)#(\d+)", re.DOTALL)  # exam.vol#7 is its seventh B-scan
TIFF = (".tif", ".tiff")
Files = FolderFiles | ZipFiles | ArrayFiles


@dataclass(frozen=True, eq=False)
class Loaded:
    """A scan of a source."""

    picture: Picture
    missing: NDArray[np.bool_] | None  # [H, W], where the device stored nothing
    file_hash: str                     # of the file, or of the pixels of a B-scan


def load(files: Files, path: str, channels: int) -> Loaded:
    """Return a scan of a source by its path there.

    Raises:
        Refusal: it cannot be read.
    """
    if isinstance(files, ArrayFiles):
        picture = files.picture(path, channels)
        return Loaded(picture, None, hashlib.sha256(picture.pixels.tobytes()).hexdigest())
    match = MEMBER.fullmatch(path)
    if isinstance(files, ZipFiles) or match is None or suffix_of(match[1]) not in (*VOLUMES, *TIFF):
        data = files.read(path)
        return Loaded(decode(data, channels), None, hashlib.sha256(data).hexdigest())
    place = files.root / match[1]
    bscan = _open(place, stamp_of(place), channels, files.axes).read(int(match[2]) - 1)
    height, width = bscan.pixels.shape[:2]
    facts = {"width": width, "height": height, "format": suffix_of(match[1])[1:].upper(), "mode": "L", "bits": 8}
    facts |= {"coloured": bscan.coloured} if bscan.coloured else {}
    facts |= {"notes": [*bscan.notes]} if bscan.notes else {}
    return Loaded(Picture(bscan.pixels, facts), bscan.missing, hashlib.sha256(bscan.pixels.tobytes()).hexdigest())


@lru_cache(maxsize=1)
def _open(place: Path, stamp: str, channels: int, axes: Axes) -> Volume:
    return open_volume(place, channels=channels, axes=axes)


def expand(scans: Sequence["Scan"], files: FolderFiles, selection: str, listing: Listing) -> Iterator["Scan"]:
    """Yield scans, with the chosen B-scans of each volume in its place; a volume that cannot be opened is refused.

    Raises:
        ConfigError: the selection makes no sense.
    """
    for scan in scans:
        suffix = suffix_of(scan.path)
        if suffix not in VOLUMES and (suffix not in TIFF or count_pages(files.root / scan.path) < 2):
            yield scan
            continue
        try:
            count = open_volume(files.root / scan.path, axes=files.axes).count
            for index in choose(count, selection):
                yield replace(scan, path=f"{scan.path}#{index + 1}", stamp=f"{scan.stamp}-{files.axes}")
        except Refusal as refusal:
            listing.refused.append((scan.path, str(refusal)))
