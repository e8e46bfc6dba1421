"""What a direction does: measured on fresh samples, step by step."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
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
    after,
    draw_ws,
    measure_here,
    pictures_of,
)
from stylegan_oct.latent.directions.search import FRESH, classes_of
from stylegan_oct.model import OctGenerator
from torch_utils.images import to_pictures, to_uint8

STEPS = (-2.0, 0.0, 2.0)   # measuring takes most of the time
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

    Ctrl-C ends it after the direction at work, or amid it where that takes long; those that were not measured are
    missing from what is returned.

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
    ws = draw_ws(G, classes_of(G, class_name), samples, seed=seed, stream=FRESH, psi=psi).ws
    effects = []
    with Interrupt() as interrupt:
        at_rest: Values | None = None
        with interrupt.abandonable():
            at_rest = measure(pictures_of(G, ws, batch=batch), progress)
        if at_rest is None:
            raise KeyboardInterrupt
        for index, direction in enumerate(directions):
            before = len(ws) * (1 + index * (len(STEPS) - 1))
            walked = None
            with interrupt.abandonable():
                walked = _walk(G, direction, ws, at_rest, perceptual, oracle, batch, measure, after(before, progress))
            if walked is None:
                break
            effects.append(_effect(direction, ws, walked))
            if interrupt.requested:
                break
        if directions and not effects:
            raise KeyboardInterrupt
    return sorted(effects, key=lambda effect: -effect.size)


def oracle_for(G: OctGenerator, file: Path | None) -> OctDetector | None:
    """Return the classifier of a file, or the included one for a generator of simulated scans; else None.

    Raises:
        CheckpointError: the file holds no classifier.
    """
    if file is None and not (G.info.data_source == "phantom" and INCLUDED.exists()):
        return None  # the included one knows simulated scans alone
    return OctDetector.load(file).eval().requires_grad_(False).to(G.device)


def pictures_to_measure(G: OctGenerator, directions: Sequence[Direction], samples: int, class_name: str | None) -> int:
    """Return how many pictures `measure_effects` draws."""
    classes = max(len(classes_of(G, class_name)), 1)
    return -(-samples // classes) * classes * (1 + (len(STEPS) - 1) * len(directions))


@dataclass(frozen=True)
class _Walked:
    """What was measured along one direction."""

    values: Values                            # biomarker -> [N, steps]
    classes: NDArray[np.int64] | None         # the oracle's, [N, steps]
    path: float


def _walk(G: OctGenerator, direction: Direction, ws: Tensor, at_rest: Values, perceptual: PerceptualDistance,
          oracle: OctDetector | None, batch: int, measure: Measure, progress: Progress) -> _Walked:
    """Return what is measured on samples [N, layers, w_dim] at every step; `at_rest` is known for step 0."""
    classes: list[NDArray[np.int64]] = []
    lengths: list[Tensor] = []
    steps, rest = torch.tensor(STEPS), STEPS.index(0.0)
    away = [place for place in range(len(STEPS)) if place != rest]

    def pictures() -> Iterator[list[Picture]]:
        for part in torch.split(ws, max(batch // len(STEPS), 1)):
            n = len(part)
            moved = direction.move(part.repeat_interleave(len(steps), dim=0), steps.repeat(n))
            with torch.no_grad():
                images = G.synthesize(moved)
                seen = perceptual.features(images).reshape(n, len(steps), -1)
                gaps = perceptual.distance(seen[:, 1:].flatten(0, 1), seen[:, :-1].flatten(0, 1))
                lengths.append(gaps.sqrt().cpu())
                if oracle is not None:
                    classes.append(oracle.classify(to_uint8(images)).argmax(dim=1).reshape(n, -1).cpu().numpy())
            yield to_pictures(images.reshape(n, len(steps), *images.shape[1:])[:, away].flatten(0, 1))

    values = {name: np.insert(moved.reshape(len(ws), -1), rest, at_rest[name], axis=1)
              for name, moved in measure(pictures(), progress).items()}
    return _Walked(values, np.concatenate(classes) if classes else None,
                   float(torch.cat(lengths).mean() / steps.diff().mean()))


def _effect(direction: Direction, ws: Tensor, walked: _Walked) -> Effect:
    """Return the summary of a walk."""
    changes = {name: change for name, values in walked.values.items() if (change := change_along(values)) is not None}
    same = None
    if walked.classes is not None:
        rest = STEPS.index(0.0)
        moved = np.delete(walked.classes, rest, axis=1)
        same = float((moved == walked.classes[:, rest:rest + 1]).mean())
    r = None
    if direction.readout is not None and direction.target in walked.values:
        r = correlation(direction.readout(ws[:, direction.layers[0]]).double().numpy(),
                        walked.values[direction.target][:, STEPS.index(0.0)])
    return Effect(direction=direction, changes=changes, same_class=same, path=walked.path, r_predicted=r)


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
