"""Everything that a projection needs, loaded once: generator, distance, starts, schedule."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from stylegan_oct.batches import at_once
from stylegan_oct.features.detector import Detector
from stylegan_oct.features.perceptual import PerceptualDistance
from stylegan_oct.latent.classspace import ClassSpace, fit_class_space
from stylegan_oct.latent.codes import Codes, Space, check_changes
from stylegan_oct.latent.library import Library
from stylegan_oct.latent.projection.encoder import Encoder
from stylegan_oct.latent.projection.objective import Objective
from stylegan_oct.latent.projection.pivotal import draw_tuned, tune
from stylegan_oct.latent.projection.projector import ProjectConfig, Projection, project
from stylegan_oct.latent.projection.starts import LibraryStarts, find_starts
from stylegan_oct.model import OctGenerator
from torch_utils.images import to_uint8

MOST_SCANS = 8   # that are optimised together

Progress = Callable[[int, int, str], object]   # done, total, what


@dataclass(frozen=True)
class Result:
    """A scan's projection and the picture that the generator draws of it."""

    projection: Projection
    codes: Codes
    picture: Tensor            # uint8 [C, R, R]
    untuned: float             # distance before pivotal tuning


class Engine:
    """Projects batches of scans in one manner.

    Args:
        G: the generator.
        detector: its taps make the perceptual distance.
        config: the schedule.
        tuned: add pivotal tuning.
        library: pictures to begin from; None begins from the class means and the encoder alone.
        encoder: guesses w.
        seed: of all that is random.
        batch: pictures at once; None: as many as serve.
    """

    def __init__(self, G: OctGenerator, detector: Detector, config: ProjectConfig, *, tuned: bool = False,
                 library: Library | None = None, encoder: Encoder | None = None, seed: int = 0,
                 batch: int | None = None) -> None:
        self.batch = at_once(G.layers, G.device, "learn", asked=batch)
        self.G, self.config, self.tuned, self.encoder, self.seed = G, config, tuned, encoder, seed
        self.perceptual = PerceptualDistance(detector)
        self.space: ClassSpace = fit_class_space(G)
        self.library = None if library is None else LibraryStarts(library)

    @property
    def scans_at_once(self) -> int:
        """How many scans are projected together: more than pictures at once would only be done later."""
        return min(self.batch, MOST_SCANS)

    def without_tuning(self) -> "Engine":
        """Return the same without pivotal tuning."""
        if not self.tuned:
            return self
        plain = copy.copy(self)
        plain.tuned = False
        return plain

    @property
    def space_name(self) -> Space:
        """Where the results lie."""
        return "pti" if self.tuned else self.config.space

    def manner(self) -> dict[str, object]:
        """Return what the results depend on, for JSON."""
        detector = self.perceptual.detector
        return {"checkpoint_sha256": self.G.info.sha256, "detector": [detector.name, detector.sha256],
                "config": asdict(self.config), "tuned": self.tuned,
                "library": None if self.library is None else len(self.library.labels),
                "encoder": self.encoder is not None, "seed": self.seed}

    def run(self, targets: Tensor, valid: Tensor | None, classes: Sequence[str | None], *, patient: bool,
            path_every: int = 0, progress: Progress = lambda *_: None) -> list[Result]:
        """Return the projections of scans, all optimised together.

        Args:
            targets: uint8 [N, C, R, R].
            valid: bool [N, 1, R, R], false where a scan shows nothing; None: all of it counts.
            classes: of each scan; None compares all.
            patient: the scans are of patients.
            path_every: keep w after so many steps; 0 keeps none.
            progress: called with (done, total, what).
        """
        G, names = self.G, self.G.info.classes
        everything = list(range(max(len(names), 1)))
        wanted = [everything if name is None else [G.class_index(name)] for name in classes]
        objective = Objective(self.perceptual, targets.to(G.device), None if valid is None else valid.to(G.device))
        with G.threads(sum(map(len, wanted))):
            begun = find_starts(G, objective, targets, wanted, self.space, library=self.library, encoder=self.encoder)
            found = project(G, objective, begun, self.space, self.config, seed=self.seed, path_every=path_every,
                            batch=self.batch, progress=lambda done: progress(done, self.config.steps, "projecting"))
            return [self._result(objective, scan, projection, patient, progress)
                    for scan, projection in enumerate(found)]

    def _result(self, objective: Objective, scan: int, found: Projection, patient: bool,
                progress: Progress) -> Result:
        untuned = found.distance
        factors: dict[str, Tensor] = {}
        noise = {name: value[None].to(self.G.device) for name, value in found.noise.items()}
        if self.tuned:
            factors, found.distance = tune(self.G, objective, scan, found.w.to(self.G.device), noise=noise,
                                           seed=self.seed, progress=lambda done: progress(done, 0, "tuning"))
        with torch.no_grad():
            picture = to_uint8(draw_tuned(self.G, found.w[None], factors, noise))[0].cpu()
        names = self.G.info.classes
        codes = Codes(w=found.w, class_name=names[found.label] if names else "", space=self.space_name,
                      checkpoint_sha256=self.G.info.sha256, distance=found.distance, derived_from_patient=patient,
                      delta={**factors, **{f"noise.{name}": value for name, value in found.noise.items()}})
        return Result(found, codes, picture, untuned)


def draw_codes(G: OctGenerator, codes: Codes) -> Tensor:
    """Return the image [1, C, R, R] that codes stand for, with tuned weights and fitted noise where they hold them.

    Raises:
        DataError: these do not fit the generator.
    """
    check_changes(codes, G)
    noise = {name.removeprefix("noise."): value[None].to(G.device) for name, value in codes.delta.items()
             if name.startswith("noise.")}
    factors = {name: value for name, value in codes.delta.items() if not name.startswith("noise.")}
    return draw_tuned(G, codes.w[None], factors, noise)


def configure(preset: ProjectConfig, *, space: Literal["w", "w+", "pti"] | None, steps: int | None,
              noise: bool) -> ProjectConfig:
    """Return a schedule with what the user asked for.

    Raises:
        ConfigError: the values make no sense.
    """
    config = replace(preset, steps=preset.steps if steps is None else steps)
    if space is not None:
        config = replace(config, space="w+" if space == "w+" else "w")   # the pivot is in w, as in the paper
    return replace(config, noise_weight=config.noise_weight or 1e5, keep="last") if noise else config
