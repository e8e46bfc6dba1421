"""What an export is to hold, and from which seeds: a pure function of the options.

Pictures are drawn in parts of 100 of each class. In a part each class has seeds of its own, more than it needs, and
the first that are accepted are taken; so any number of processes, in any order, gives the same pictures, and a longer
balanced export begins with the parts of a shorter one. Pictures are drawn `batch` at once, always as many and always
the same together: in other company a sum may be rounded the other way, and a grey level with it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np

from dnnlib.config import Count, Finite, Hash, Name, Names, Seed, Share, Within
from dnnlib.errors import ConfigError
from dnnlib.text import suggest
from stylegan_oct import limits
from stylegan_oct.data.archive import SPLITS, Archive
from stylegan_oct.export.drawing.rules import Rule

PART = 100                # pictures of the largest class
RESERVED = 100            # seeds for each picture of a part: the most that can be tried
PILOT = 240               # pictures of a class on which its thirds are found
LARGEST_SEED = 2**32 - 1 - 100_000  # numpy's RandomState takes no more than 2**32 - 1; the last are for pilots


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides which pictures an export holds and how they are written; equal plans give equal files."""

    checkpoint_sha256: Hash
    classes: Names                       # of the generator, in its order; empty without classes
    counts: tuple[Count, ...]            # pictures of each class; one number without classes
    psi: Finite
    seed: Seed                           # the first
    batch: Annotated[int, Within(1, 2**20)]
    split: tuple[Share, Share, Share]    # of train, val, test
    layout: Name
    mapping: str = ""                    # classes of the lists of fddm and multieye
    corner_mark: bool = False
    latents: bool = False
    biomarkers: bool = True
    oracle_sha256: Hash | None = None
    oracle_min: Share = 0.0              # least probability of the class asked for
    training: Hash | None = None         # fingerprint of the archive that copies are looked for in
    copies_sha256: Hash | None = None    # of the network that looks for them
    rules: tuple[Rule, ...] = ()
    teacher_sha256: Hash | None = None
    teacher_input: str = ""
    teacher_classes: str = ""
    data_name: str = ""                  # what the generator was trained on, for the card
    data_licence: str = ""
    licence: str = "other"               # of the export

    def __post_init__(self) -> None:
        if len(self.counts) != max(len(self.classes), 1) or not self.total:
            raise ConfigError(f"counts must be {max(len(self.classes), 1)} numbers of pictures, not all 0; got "
                              f"{len(self.counts)} with the sum {self.total}.")
        last = self.seed + self._offset(self.parts, 0, 0) - 1
        if last > LARGEST_SEED:
            raise ConfigError(f"{self.total} pictures need the seeds {self.seed} to {last}, since some are rejected, "
                              f"but there are none above {LARGEST_SEED}. Ask for fewer, or for a smaller --seed.")

    @property
    def total(self) -> int:
        """Pictures of all classes."""
        return sum(self.counts)

    @property
    def parts(self) -> int:
        """The number of parts."""
        return -(-max(self.counts) // PART)

    @property
    def reserved(self) -> int:
        """Seeds of one class in one part, a whole number of batches."""
        return -(-RESERVED * PART // self.batch) * self.batch

    def class_name(self, label: int) -> str:
        """Return the name of a class; "" for a generator without classes."""
        return self.classes[label] if self.classes else ""

    def places(self, part: int, label: int) -> range:
        """Return which pictures of a class, counted over the export, belong to a part."""
        count, largest = self.counts[label], max(self.counts)
        begin, end = (-(-min(number * PART, largest) * count // largest) for number in (part, part + 1))
        return range(begin, end)

    def part_size(self, part: int) -> int:
        """Return the number of pictures of a part."""
        return sum(len(self.places(part, label)) for label in range(len(self.counts)))

    def batches(self, part: int, label: int, tries: int) -> Iterator[list[int]]:
        """Yield the seeds of one class in a part, a batch at a time, `tries` for each picture that is wanted."""
        for begin in range(0, min(tries, RESERVED) * len(self.places(part, label)), self.batch):
            yield [self.seed + self._offset(part, label, number) for number in range(begin, begin + self.batch)]

    def batch_of(self, seed: int) -> list[int]:
        """Return the seeds that are drawn together with one, itself among them."""
        number, label = divmod(seed - self.seed, len(self.counts))
        begin = number // self.batch * self.batch
        return [self.seed + self._offset(0, label, other) for other in range(begin, begin + self.batch)]

    def pilot(self, label: int) -> list[list[int]]:
        """Return the seeds of pictures on which thirds are found, in batches; no export holds these pictures."""
        numbers = [LARGEST_SEED + 1 + number * len(self.counts) + label for number in range(PILOT)]
        return [numbers[begin:begin + self.batch] for begin in range(0, PILOT, self.batch)]

    def splits(self, label: int) -> tuple[str, ...]:
        """Return the split of each picture of a class."""
        return _splits(self.split, self.counts[label])

    def _offset(self, part: int, label: int, number: int) -> int:
        return (part * self.reserved + number) * len(self.counts) + label


@lru_cache  # every part asks for those of its classes
def _splits(shares: tuple[float, ...], count: int) -> tuple[str, ...]:
    """Return the splits of pictures in their order: each goes where most is owed (Sainte-Lague's method)."""
    given = [0] * len(shares)
    found = []
    for _ in range(count):
        owed = [share / (2 * n + 1) for share, n in zip(shares, given, strict=True)]
        chosen = owed.index(max(owed))
        given[chosen] += 1
        found.append(SPLITS[chosen])
    return tuple(found)


def parse_counts(text: str, classes: Sequence[str]) -> tuple[int, ...]:
    """Return the pictures of each class from NORMAL=2000,DRUSEN=500; classes that are not named get none.

    Raises:
        ConfigError: a class does not exist or is named twice, or a count is none.
    """
    counts: dict[str, int] = {}
    for pair in text.split(","):
        name, _, number = pair.strip().partition("=")
        known = next((known for known in classes if known.lower() == name.lower()), None)
        if known is None:
            raise ConfigError(f"There is no class {name!r}.{suggest(name, classes)}")
        count = limits.PICTURES.at_least(0).parse(number)
        if count is None or known in counts:
            raise ConfigError(f"--classes wants each class once with its count, {limits.PICTURES.at_least(0)}, such as "
                              f"NORMAL=2000,DRUSEN=500; got {limits.shortened(text)}.")
        counts[known] = int(count)
    if not sum(counts.values()):
        raise ConfigError(f"--classes {text} asks for no picture at all.")
    return tuple(counts.get(name, 0) for name in classes)


def counts_like(archive: Path, classes: Sequence[str], total: int) -> tuple[int, ...]:
    """Return `total` pictures in the shares that the classes have in the training split of an archive.

    Raises:
        DataError: the archive cannot be read.
        ConfigError: it has no classes, or one that the generator cannot draw.
    """
    scans = Archive(archive)
    unknown = [name for name in scans.classes if name not in classes]
    if unknown or not scans.classes:
        raise ConfigError(f"{archive} has " + (f"the class {unknown[0]!r}" if unknown else "no classes") + ", so its "
                          f"shares cannot be matched by a generator of {', '.join(classes) or 'no classes'}.")
    split = "train" if "train" in scans.splits else scans.splits[0]
    found = np.bincount(scans.labels(split), minlength=len(scans.classes))
    owned = dict(zip(scans.classes, found.tolist(), strict=True))
    return tuple(share_out(total, {name: owned.get(name, 0) for name in classes}).values())


def share_out(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers that add up to `total` in the shares of the weights, by the largest remainder."""
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    counts = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[:total - sum(counts.values())]:
        counts[name] += 1
    return counts
