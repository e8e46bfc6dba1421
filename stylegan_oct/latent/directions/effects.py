"""What a direction does: measured on fresh samples, step by step."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.interrupt import Interrupt
from dnnlib.pictures import Picture
from stylegan_oct.features.oct import INCLUDED, OctDetector
from stylegan_oct.features.perceptual import PerceptualDistance
from stylegan_oct.latent.directions.file import Direction
from stylegan_oct.latent.directions.population import (
    Measure,
    Progress,
    Values,
    draw_ws,
    measure_here,
)
from stylegan_oct.latent.directions.search import FRESH, classes_of
from stylegan_oct.model import OctGenerator, weights_beside
from torch_utils.images import to_pictures, to_uint8

STEPS = (-2.0, 0.0, 2.0)
AWAY = tuple(step for step in STEPS if step)
LOOKED_AT = 50     # samples whose path and class are measured: networks that look take longer than drawing
MIN_SAMPLES = 10   # in which a biomarker can be measured, to say how it changes


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a direction does to one biomarker."""

    per_step: float         # mean change by a step of 1, in the biomarker's unit
    half_width: float       # of its 95 % confidence interval
    in_sd: float            # the mean change in standard deviations of the biomarker over the samples
    monotonic: float        # share of the samples in which it goes the same way at every step, and that of the mean
    r_steps: float          # Pearson correlation of the step with the biomarker, over all samples and steps
    r_mean: float           # that of the step with the mean over the samples
    samples: int            # in which it could be measured at every step


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a direction does."""

    direction: Direction
    samples: int                    # that were moved
    changes: dict[str, Change]      # by biomarker; none that hardly any sample has
    same_class: float | None        # share of moved samples in which the oracle sees the class that it saw before
    path: float                     # mean root of the perceptual distance that a step of 1 makes
    r_predicted: float | None       # of what its readout predicts with what is measured, where it is named after one

    @property
    def target(self) -> str | None:
        """The biomarker that it is for: the one that it is named after, else the one that it changes most."""
        if self.direction.target in self.changes:
            return self.direction.target
        return max(self.changes, key=lambda name: abs(self.changes[name].in_sd), default=None)

    @property
    def size(self) -> float:
        """The largest mean change of a biomarker, in its standard deviations: what directions are sorted by."""
        return max((abs(change.in_sd) for change in self.changes.values()), default=0.0)

    @property
    def side_effect(self) -> tuple[str, float] | None:
        """The other biomarker that it changes most, and by how many SD of it for one SD of the target."""
        others = {name: change for name, change in self.changes.items() if name != self.target}
        if self.target is None or not others:
            return None
        name = max(others, key=lambda other: abs(others[other].in_sd))
        own = abs(self.changes[self.target].in_sd)  # 0 where no sample at rest has it
        return (name, abs(others[name].in_sd) / own) if own else None

    def to_json(self) -> dict[str, Any]:
        """Return everything but the tensors."""
        side = self.side_effect
        d = self.direction
        return {"name": d.name, "kind": d.kind, "class": d.class_name, "layers": list(d.layers), "unit": d.unit,
                "orthogonal_to": list(d.orthogonal_to), "size": self.size, "target": self.target,
                "side_effect": None if side is None else {"biomarker": side[0], "relative": side[1]},
                "same_class": self.same_class, "path": self.path, "r_predicted": self.r_predicted,
                "changes": {name: asdict(change) for name, change in self.changes.items()}}


def measure_effects(G: OctGenerator, directions: Sequence[Direction], perceptual: PerceptualDistance, *,
                    samples: int = 500, class_name: str | None = None, oracle: OctDetector | None = None,
                    psi: float = 1.0, seed: int = 0, batch: int = 32,
                    measure: Measure = measure_here, progress: Progress = lambda _: None) -> list[Effect]:
    """Return what each direction does to samples that it was not found with, largest effect first.

    Ctrl-C ends it; then all directions are measured on the samples that were done by then, on none if these are few.

    Args:
        G: the generator.
        directions: found with the same class and seed, see `find_directions`.
        perceptual: distance in which the path is measured.
        samples: how many are moved.
        class_name: of the samples; None: of all classes.
        oracle: a classifier that says whether the class stays.
        psi, seed: of the samples.
        batch: pictures at once.
        measure: what measures them, `measure_here` or `measuring_processes`.
        progress: gets how many pictures are measured, of `pictures_to_measure`.
    Raises:
        KeyboardInterrupt: stopped before any direction was measured.
    """
    population = draw_ws(G, classes_of(G, class_name), samples, seed=seed, stream=FRESH, psi=psi)
    classes = int(population.labels.max()) + 1
    by_class = population.ws.reshape(classes, -1, *population.ws.shape[1:])
    ws = by_class.transpose(0, 1).flatten(0, 1)    # the first are of all classes
    looks = [_Seen() for _ in directions]
    parts = torch.split(ws, max(batch // len(AWAY), 1))
    with Interrupt() as interrupt:
        values = measure(_moved(G, directions, parts, looks, perceptual, oracle, interrupt), progress)
    order = _order([len(part) for part in parts], len(directions))
    order = order[order.max(axis=1) < len(next(iter(values.values())))]    # samples moved along all directions
    if len(order) < MIN_SAMPLES:
        return []
    effects = []
    for place, (direction, seen) in enumerate(zip(directions, looks, strict=True)):
        away = order[:, 1 + len(AWAY) * place:][:, :len(AWAY)]
        walked = {name: column[np.insert(away, STEPS.index(0.0), order[:, 0], axis=1)]
                  for name, column in values.items()}
        effects.append(_effect(direction, ws[:len(order)], walked, seen))
    return sorted(effects, key=lambda effect: -effect.size)


def oracle_for(G: OctGenerator, file: Path | None) -> OctDetector | None:
    """Return the classifier of a file, else the one beside the generator, else for simulated scans the included one.

    Raises:
        CheckpointError: the file holds no classifier.
    """
    file = file or weights_beside(G.info, "oct")
    if file is None and not (G.info.data_source == "phantom" and INCLUDED.exists()):
        return None  # the included one knows simulated scans alone
    return OctDetector.load(file).eval().requires_grad_(False).to(G.device)


def pictures_to_measure(G: OctGenerator, directions: Sequence[Direction], samples: int, class_name: str | None) -> int:
    """Return how many pictures `measure_effects` draws."""
    classes = max(len(classes_of(G, class_name)), 1)
    return -(-samples // classes) * classes * (1 + len(AWAY) * len(directions))


@dataclass(frozen=True)
class _Seen:
    """What was seen along one direction in some of the samples."""

    paths: list[Tensor] = field(default_factory=list)    # root of the perceptual distance of a step of 1
    same: list[Tensor] = field(default_factory=list)     # whether the oracle sees the class that it saw before


class _Look:
    """Compares moved pictures with those at rest, [n, C, R, R]."""

    def __init__(self, images: Tensor, perceptual: PerceptualDistance, oracle: OctDetector | None) -> None:
        self.perceptual, self.oracle = perceptual, oracle
        self.features, self.classes = self._look(images)

    def __call__(self, moved: Tensor, seen: _Seen) -> None:
        """Add what is seen in pictures [n * AWAY, C, R, R]."""
        features, classes = self._look(moved)
        gaps = self.perceptual.distance(features, self.features.repeat_interleave(len(AWAY), dim=0)).sqrt().cpu()
        seen.paths.append(gaps.reshape(-1, len(AWAY)) / torch.tensor(AWAY).abs())
        if classes is not None and self.classes is not None:
            seen.same.append(classes == self.classes.repeat_interleave(len(AWAY)))

    @torch.no_grad()
    def _look(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        classes = None if self.oracle is None else self.oracle.classify(to_uint8(images)).argmax(dim=1)
        return self.perceptual.features(images), classes


def _moved(G: OctGenerator, directions: Sequence[Direction], parts: Sequence[Tensor], looks: Sequence[_Seen],
           perceptual: PerceptualDistance, oracle: OctDetector | None, interrupt: Interrupt) -> Iterator[list[Picture]]:
    """Yield pictures of each part [n, layers, w_dim] of the samples: at rest, then n * AWAY along every direction.

    An interrupt ends it after the direction at work.
    """
    steps, done = torch.tensor(AWAY), 0
    for part in parts:
        images = _drawn(G, part)
        yield to_pictures(images)
        look = _Look(images, perceptual, oracle) if done < LOOKED_AT else None
        for direction, seen in zip(directions, looks, strict=True):
            if interrupt.requested:
                return
            moved = _drawn(G, direction.move(part.repeat_interleave(len(steps), dim=0), steps.repeat(len(part))))
            yield to_pictures(moved)
            if look is not None:
                look(moved, seen)
        done += len(part)


def _drawn(G: OctGenerator, ws: Tensor) -> Tensor:
    with torch.no_grad():
        return G.synthesize(ws)


def _order(sizes: Sequence[int], directions: int) -> NDArray[np.int64]:
    """Return where `_moved` yields the pictures of each sample, [N, 1 + directions * AWAY]: at rest, then moved."""
    rows, begin = [], 0
    for size in sizes:
        moved = np.arange(directions * size * len(AWAY)).reshape(directions, size, -1).swapaxes(0, 1).reshape(size, -1)
        rows.append(begin + np.concatenate([np.arange(size)[:, None], size + moved], axis=1))
        begin += rows[-1].size
    return np.concatenate(rows)


def _effect(direction: Direction, ws: Tensor, values: Values, seen: _Seen) -> Effect:
    """Return the summary of a walk of samples [N, layers, w_dim], biomarker -> [N, STEPS]."""
    changes = {name: change for name, walked in values.items() if (change := change_along(walked)) is not None}
    r = None
    if direction.readout is not None and direction.target in values:
        r = correlation(direction.readout(ws[:, direction.layers[0]]).double().numpy(),
                        values[direction.target][:, STEPS.index(0.0)])
    return Effect(direction=direction, samples=len(ws), changes=changes,
                  same_class=float(torch.cat(seen.same).double().mean()) if seen.same else None,
                  path=float(torch.cat(seen.paths).mean()), r_predicted=r)


def change_along(values: NDArray[np.float64], steps: Sequence[float] = STEPS) -> Change | None:
    """Return how a biomarker changes with the step, or None where it does not vary or hardly any sample has it.

    Args:
        values: [N, steps], NaN where it could not be measured; such samples are left out.
        steps: rising, 0 among them.
    """
    kept = values[np.isfinite(values).all(axis=1)]
    if len(kept) < MIN_SAMPLES or kept.std() == 0:
        return None
    s = np.asarray(steps) - np.mean(steps)
    slopes = kept @ s / (s @ s)                                               # [N], least squares of each sample
    mean = float(slopes.mean())
    rises = np.diff(kept, axis=1) * np.sign(mean)
    # Counts have ties: a sample that rests for a step and never turns back is monotonic, one that never moves is not.
    monotonic = (rises >= 0).all(axis=1) & (rises > 0).any(axis=1)
    spread = float(kept[:, list(steps).index(0.0)].std())
    return Change(per_step=mean, half_width=float(1.96 * slopes.std(ddof=1) / np.sqrt(len(kept))),
                  in_sd=mean / spread if spread else 0.0, monotonic=float(monotonic.mean()),
                  r_steps=correlation(np.tile(s, len(kept)), kept.ravel()) or 0.0,
                  r_mean=correlation(s, kept.mean(axis=0)) or 0.0, samples=len(kept))


def correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    """Return Pearson's correlation of two [N] over the pairs that are finite; None where one of them is constant."""
    valid = np.isfinite(x) & np.isfinite(y)
    if valid.sum() < 2 or x[valid].std() == 0 or y[valid].std() == 0:
        return None
    return float(np.corrcoef(x[valid], y[valid])[0, 1])
