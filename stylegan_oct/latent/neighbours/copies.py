"""Whether synthetic pictures are copies of training scans: each one's nearest, against what held-out scans find.

Held-out scans cannot be copies, so that the distances from them to the training scans say how near chance comes. Always
exact: an approximate search may miss the one scan that matters. A detector trained on photographs takes scans of other
eyes for alike and is a weak judge of copies; the correlation of small aligned pictures is a better one, and both are
reported.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dnnlib.errors import DataError
from stylegan_oct.data.archive import SYNTHETIC, Archive
from stylegan_oct.features.detector import Detector
from stylegan_oct.latent.looks import Looks, Progress, archive_looks
from stylegan_oct.latent.neighbours.index import ExactIndex
from stylegan_oct.latent.neighbours.percentiles import percentile

MOST_HELD_OUT = 2000   # more make the percentiles no finer than they are read
SUSPICIOUS = 1.0       # percentile below which both pictures should be looked at


@dataclass(frozen=True)
class Copy:
    """The training scan nearest to a picture, by small pictures and by features."""

    name: str                             # in the archive
    class_name: str
    distance: float                       # one minus the correlation of 16 x 16 pixels: 0 alike but for contrast
    percentile: float | None              # among held-out scans; None where the archive holds none
    feature_distance: float               # to the training scan nearest by features, which may be another
    feature_percentile: float | None

    @property
    def suspicious(self) -> bool:
        """Whether the picture is nearer to a training scan than nearly all held-out scans are."""
        return self.percentile is not None and self.percentile < SUSPICIOUS


class TrainingScans:
    """The scans that a generator was trained on, to compare its pictures with.

    Args:
        path: the archive; its other splits are the held-out scans.
        detector: as for the library.
        resolution: of the library.
        progress: of the features, which are computed once.
    Raises:
        DataError: it cannot be read, holds pictures of a generator, or pictures of another size.
    """

    def __init__(self, path: Path, detector: Detector, *, resolution: int,
                 progress: Progress = lambda *_: None) -> None:
        self.archive = Archive(path)
        if self.archive.source == SYNTHETIC:
            raise DataError(f"{path} is a library of synthetic pictures. Give the archive that the generator was "
                            "trained on.")
        if self.archive.resolution != resolution:
            raise DataError(f"{path} holds scans of {self.archive.resolution} px, the library pictures of "
                            f"{resolution}. Give the archive that the generator was trained on.")
        self.names = self.archive.names("train")
        looks = archive_looks(self.archive, detector, progress=progress)
        self._centre = looks["train"].features.float().mean(dim=0)
        self._thumbnails = ExactIndex(looks["train"].thumbnails)
        self._features = ExactIndex(looks["train"].directions(self._centre))
        held = [self.measure(looks[split][:MOST_HELD_OUT])[1:] for split in self.archive.splits if split != "train"]
        self._held_out = [torch.cat(parts).sort().values for parts in zip(*held, strict=True)]

    @property
    def held_out(self) -> int:
        """How many scans the percentiles are taken among."""
        return len(self._held_out[0]) if self._held_out else 0

    def measure(self, looks: Looks) -> tuple[Tensor, Tensor, Tensor]:
        """Return (place of the nearest small picture, its distance, distance by features), each [N]."""
        near = self._thumbnails.search(looks.thumbnails, 1)
        alike = self._features.search(looks.directions(self._centre), 1)
        return near.positions[:, 0], near.distances[:, 0].square() / 2, alike.distances[:, 0].square() / 2

    def copies(self, looks: Looks) -> list[Copy]:
        """Return the nearest training scan of each picture."""
        labels = self.archive.labels("train")
        places, *distances = self.measure(looks)
        classes = self.archive.classes
        shares: list[list[float | None]] = [[None] * len(places)] * 2
        if self._held_out:
            shares = [percentile(known, found).tolist()
                      for known, found in zip(self._held_out, distances, strict=True)]
        rows = zip(places.tolist(), distances[0].tolist(), shares[0], distances[1].tolist(), shares[1], strict=True)
        return [Copy(self.names[place], classes[labels[place]] if classes else "", *numbers)
                for place, *numbers in rows]
