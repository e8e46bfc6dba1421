"""The pictures of a library that are nearest to a scan, and how near that is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dnnlib.errors import ConfigError
from stylegan_oct.data.archive import SYNTHETIC
from stylegan_oct.features.detector import Detector
from stylegan_oct.latent.library import Library
from stylegan_oct.latent.looks import Pixels, Progress, archive_looks, look
from stylegan_oct.latent.neighbours.copies import Copy, TrainingScans
from stylegan_oct.latent.neighbours.index import ExactIndex, Index, open_index
from stylegan_oct.latent.neighbours.percentiles import percentile

PAIRS = 20_000          # drawn to learn how far generated pictures lie from each other
NEAREST = 500           # generated pictures whose own nearest is sought
OUTSIDE = 99.0          # percentile of the nearest distance from which a scan is outside what the library knows
PAIR_SEED = 20_250_101  # the same library gives the same percentiles


@dataclass(frozen=True)
class Neighbour:
    """A picture of the library, seen from a scan."""

    position: int                    # in the library
    seed: int
    class_name: str                  # that it was drawn as
    distance: float
    percentile: float                # among pairs of generated pictures
    class_percentile: float | None   # among pairs of one class; None without classes
    copy: Copy | None = None         # the training scan nearest to it, where the training archive is known


@dataclass(frozen=True)
class Answer:
    """What a library says of a scan."""

    nearest: tuple[Neighbour, ...]
    by_class: tuple[Neighbour, ...]  # the nearest of each class, in the order of the classes
    percentile: float                # of the nearest distance among those of generated pictures to their own nearest

    @property
    def outside(self) -> bool:
        """Whether the scan is farther from the library than nearly all its own pictures are from each other."""
        return self.percentile >= OUTSIDE

    @property
    def votes(self) -> dict[str, int]:
        """How many of the nearest belong to each class that occurs, most first."""
        return dict(Counter(neighbour.class_name for neighbour in self.nearest).most_common())


class Space(Protocol):
    """Where distances are taken."""

    name: str
    vectors: Tensor                  # [N, D], of the library
    index_path: Path                 # where a graph of them is kept

    def distance(self, euclidean: Tensor) -> Tensor:
        """Return the distance that is reported for one between vectors."""
        ...


class FeatureSpace:
    """Centred cosine distance of a detector's features: 0 alike, 1 unrelated, 2 opposite."""

    def __init__(self, library: Library, detector: Detector, *, progress: Progress = lambda *_: None) -> None:
        self._detector = detector
        looks = archive_looks(library.archive, detector, progress=progress)[SYNTHETIC]
        self._centre = looks.features.float().mean(dim=0)
        self.name = detector.identity
        self.vectors = looks.directions(self._centre)
        self.index_path = _index_path(library, self.name)

    def queries(self, pictures: Sequence[Pixels]) -> Tensor:
        """Return the vectors [Q, D] of pictures of the library's size, uint8 [R, R] or [R, R, 3]."""
        return look(pictures, self._detector).directions(self._centre)

    def distance(self, euclidean: Tensor) -> Tensor:
        """As in `Space`."""
        return euclidean.square() / 2


class LatentSpace:
    """Distance in w, whose unit is that of the generator."""

    def __init__(self, library: Library) -> None:
        self.name = "w"
        self.vectors = library.w
        self.index_path = _index_path(library, self.name)

    def distance(self, euclidean: Tensor) -> Tensor:
        """As in `Space`."""
        return euclidean


def _index_path(library: Library, space: str) -> Path:
    """Return a place that no other library's graph has, also when a grown one has taken this one's name."""
    archive = library.archive
    return archive.path.with_name(f"{archive.path.stem}-{space}-{archive.fingerprint[:8]}.usearch")


class Neighbours:
    """Answers queries from a library.

    Args:
        library: where neighbours are found.
        space: its pictures as vectors.
        progress: of the graph, built once where the library is large.
    Raises:
        ConfigError: the library holds fewer than two pictures of each class, or a large one needs usearch.
    """

    def __init__(self, library: Library, space: Space, *, progress: Progress = lambda *_: None) -> None:
        self.library, self.space = library, space
        vectors, kinds = space.vectors, range(max(len(library.classes), 1))
        if len(library) < 2 * len(kinds):
            raise ConfigError(f"{library.archive.path} holds {len(library)} pictures, too few to learn how far they "
                              "lie from each other. Go on with it: python -m tools library --count 2000")
        # The picture at i is of class i modulo the classes, so that these are views.
        self._classes = [ExactIndex(vectors[kind::len(kinds)]) for kind in kinds]
        self._index: Index = open_index(vectors, space.index_path, progress=progress)
        self._pairs, self._class_pairs = self._sample_pairs()
        rows = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(PAIR_SEED))[:NEAREST]
        own = self._index.search(vectors[rows], 2)  # the first is the picture itself
        self._nearest = space.distance(own.distances[:, 1]).sort().values

    def ask(self, queries: Tensor, k: int) -> list[Answer]:
        """Return the answer for each of the vectors [Q, D].

        Raises:
            ConfigError: k is more than the library holds.
        """
        if k > len(self.library):
            raise ConfigError(f"k is {k}, but {self.library.archive.path} holds {len(self.library)} pictures. Give a "
                              "smaller -k, or draw more: python -m tools library --count N")
        found = self._index.search(queries, k)
        distances = self.space.distance(found.distances)
        own = [index.search(queries, 1) for index in self._classes]
        step = len(self._classes)
        # Of class c the picture numbered p among its own lies at p * step + c.
        places = torch.stack([one.positions[:, 0] * step + kind for kind, one in enumerate(own)], dim=1)
        nearest = self.space.distance(torch.stack([one.distances[:, 0] for one in own], dim=1))
        lies = percentile(self._nearest, nearest.amin(dim=1))
        return [Answer(self._neighbours(found.positions[i], distances[i]), self._neighbours(places[i], nearest[i]),
                       float(lies[i])) for i in range(len(queries))]

    def _neighbours(self, places: Tensor, distances: Tensor) -> tuple[Neighbour, ...]:
        library = self.library
        among = percentile(self._pairs, distances).tolist()
        alike = percentile(self._class_pairs, distances).tolist() if library.classes else [None] * len(places)
        rows = zip(places.tolist(), distances.tolist(), among, alike, strict=True)
        return tuple(Neighbour(place, library.seed(place), library.class_name(place), distance, share, class_share)
                     for place, distance, share, class_share in rows)

    def _sample_pairs(self) -> tuple[Tensor, Tensor]:
        """Return the distances of random pairs, and of random pairs within a class, sorted."""
        generator = torch.Generator().manual_seed(PAIR_SEED)
        count, kinds = len(self.library), len(self._classes)
        first = torch.randint(count, (PAIRS,), generator=generator)
        other = (first + torch.randint(1, count, (PAIRS,), generator=generator)) % count  # never itself
        of_class = count // kinds  # whole rounds through the classes
        start = torch.randint(of_class, (PAIRS,), generator=generator)
        end = (start + torch.randint(1, of_class, (PAIRS,), generator=generator)) % of_class
        kind = torch.randint(kinds, (PAIRS,), generator=generator)
        return self._between(first, other), self._between(start * kinds + kind, end * kinds + kind)

    def _between(self, first: Tensor, other: Tensor) -> Tensor:
        vectors = self.space.vectors
        parts = [(vectors[a].float() - vectors[b].float()).norm(dim=1)
                 for a, b in zip(torch.split(first, 1000), torch.split(other, 1000), strict=True)]
        return self.space.distance(torch.cat(parts)).sort().values


def with_copies(answers: Sequence[Answer], library: Library, detector: Detector,
                training: TrainingScans) -> list[Answer]:
    """Return the answers with the training scan nearest to each of their neighbours."""
    places = sorted({neighbour.position for answer in answers for neighbour in answer.nearest})
    copies = training.copies(look([library.picture(place) for place in places], detector))
    known = dict(zip(places, copies, strict=True))
    return [replace(answer, nearest=tuple(replace(neighbour, copy=known[neighbour.position])
                                          for neighbour in answer.nearest)) for answer in answers]
