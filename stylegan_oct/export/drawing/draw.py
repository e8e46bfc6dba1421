"""Parts of an export: drawn, looked at, and described picture by picture."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dnnlib.errors import DataError
from dnnlib.pictures import Picture
from stylegan_oct.data.duplicates import dhash
from stylegan_oct.data.privacy import Key
from stylegan_oct.export.description.manifest import Item
from stylegan_oct.export.drawing.clock import Clock
from stylegan_oct.export.drawing.select import KEPT, Seen, Selection
from stylegan_oct.export.drawing.teacher import Teacher
from stylegan_oct.export.plan import RESERVED, Plan
from stylegan_oct.metrics.observers.pictures import spread_labels
from stylegan_oct.model import OctGenerator
from stylegan_oct.sampling import Manner
from torch_utils.images import to_uint8

TRIES = 20

Sample = tuple[Item, Picture]
Tally = dict[str, Counter[str]]     # class -> why rejected (see `select`), KEPT for what was kept -> drawn pictures
Progress = Callable[[int], object]  # gets how many pictures more are kept


@dataclass(frozen=True, kw_only=True)
class Artist:
    """Draws the parts of a plan.

    Args:
        G: the generator of the plan.
        plan: what to draw.
        selection: what to keep.
        tries: pictures drawn at most for each one wanted.
        key: with which the names of training scans are hashed; needed where copies are looked for.
        teacher: gives soft labels; None: there are none.
        clock: takes down the time.
    """

    G: OctGenerator
    plan: Plan
    selection: Selection
    tries: int = TRIES
    key: Key | None = None
    teacher: Teacher | None = None
    clock: Clock = field(default_factory=Clock)

    def samples(self, part: int, tally: Tally, progress: Progress = lambda _: None) -> Iterator[Sample]:
        """Yield the pictures of a part, the classes evenly spread, and count in `tally` what was drawn for them.

        Raises:
            DataError: too few of the pictures are accepted.
        """
        labels = range(len(self.plan.counts))
        places = [self.plan.places(part, label) for label in labels]
        classes = [self._class(part, label, tally.setdefault(self.plan.class_name(label), Counter()), progress)
                   for label in labels]
        for label in spread_labels([len(some) for some in places]):
            yield next(classes[label])

    def _class(self, part: int, label: int, counter: Counter[str], progress: Progress) -> Iterator[Sample]:
        """Yield the first accepted pictures of a class in a part."""
        places = self.plan.places(part, label)
        splits = self.plan.splits(label)[places.start:places.stop]
        done = 0
        for seeds in self.plan.batches(part, label, self.tries):
            kept = self._batch(seeds, label, len(places) - done, counter)
            yield from self._described(kept, label, splits[done:done + len(kept)])
            done += len(kept)
            progress(len(kept))
            if done == len(places):
                return
        raise DataError(self._too_few(label, done, len(places), counter))

    def _batch(self, seeds: Sequence[int], label: int, wanted: int, counter: Counter[str]
               ) -> list[tuple[int, Tensor, Seen]]:
        """Return seed, pixels [C, R, R] and what was seen of the accepted pictures of a batch, `wanted` at most."""
        kept: list[tuple[int, Tensor, Seen]] = []
        with self.clock("drawing"):
            pixels = draw_pixels(self.G, seeds, label, self.plan.psi)
        for seed, picture, seen in zip(seeds, pixels, self.selection.look(pixels, label, wanted), strict=True):
            if len(kept) == wanted:
                break  # what comes after the last one needed is neither kept nor rejected
            counter[seen.reason] += 1
            if seen.reason == KEPT:
                kept.append((seed, picture, seen))
        return kept

    def _too_few(self, label: int, kept: int, wanted: int, counter: Counter[str]) -> str:
        """Return what to say when the seeds of a part are used up."""
        drawn = sum(counter.values())
        reason, count = max(((reason, n) for reason, n in counter.items() if reason != KEPT), key=lambda pair: pair[1])
        more = (f"Give more --tries than {self.tries} ({RESERVED} at most): the same command then goes on. Or ask"
                if self.tries < RESERVED else "Ask")
        return (f"Only {kept / drawn:.1%} of {drawn} {self.plan.class_name(label)} pictures are accepted, {kept} of "
                f"the {wanted} needed; {count} are rejected since {reason}. {more} in another folder for a wider range "
                "or a lower --oracle-min. What is written stays.")

    def _described(self, kept: Sequence[tuple[int, Tensor, Seen]], label: int, splits: Sequence[str]) -> list[Sample]:
        soft: list[dict[str, float] | None] = [None] * len(kept)
        if self.teacher is not None and kept:
            with self.clock("teacher"):
                soft = [*self.teacher.labels(torch.stack([pixels for _, pixels, _ in kept]))]
        return [(self._item(seed, pixels, label, split, seen, labels), to_picture(pixels))
                for (seed, pixels, seen), split, labels in zip(kept, splits, soft, strict=True)]

    def _item(self, seed: int, pixels: Tensor, label: int, split: str, seen: Seen,
              soft: dict[str, float] | None) -> Item:
        info, looker = self.G.info, self.selection
        z, x = looker.um_per_px or (None, None)
        nearest = None
        if looker.copies is not None and self.key is not None and seen.nearest is not None:
            nearest = self.key.hash("training scan", looker.copies.training.names[seen.nearest])
        return Item(
            class_name=self.plan.class_name(label), label_id=label, split=split, seed=seed, psi=self.plan.psi,
            noise=Manner().noise_mode, checkpoint_sha256=info.sha256, nimg=info.nimg, resolution=info.resolution,
            um_per_px_x=x, um_per_px_z=z, oracle=None if looker.oracle is None else looker.oracle.identity,
            oracle_class=seen.oracle_class, oracle_probabilities=seen.oracle_probabilities, nearest_training=nearest,
            nearest_distance=seen.distance, nearest_percentile=seen.percentile, memorised=seen.flagged,
            biomarkers=seen.biomarkers, phash=f"{dhash(to_picture(pixels)):016x}",
            teacher=None if self.teacher is None else self.teacher.identity, teacher_labels=soft)


def draw_pixels(G: OctGenerator, seeds: Sequence[int], label: int, psi: float) -> Tensor:
    """Return pictures of one class, uint8 [n, C, R, R], on the CPU."""
    with torch.inference_mode():
        return to_uint8(G(G.z(seeds), [label] * len(seeds) if G.info.classes else None, psi=psi)).cpu()


def to_picture(pixels: Tensor) -> Picture:
    """Return uint8 [C, R, R] as [R, R] for one channel, else [R, R, 3]."""
    return np.ascontiguousarray(pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy())
