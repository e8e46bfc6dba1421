"""Projection: the latents whose picture comes nearest to a scan.

All scans and all candidate classes of a batch are optimised together. Adam works on each number by itself and the
distances are summed, so each scan goes its way as if it were alone; those that are done leave the batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from stylegan_oct import limits
from stylegan_oct.batches import at_once
from stylegan_oct.latent.classspace import ClassSpace
from stylegan_oct.latent.projection import noise as layer_noise
from stylegan_oct.latent.projection.objective import Objective
from stylegan_oct.latent.projection.row_adam import RowAdam
from stylegan_oct.model import OctGenerator

Progress = Callable[[int], object]
Starts = Sequence[dict[int, Tensor]]

GAIN = 0.01   # share by which the distance must have fallen to count as progress


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectConfig:
    """How a scan is projected. The defaults are ours; `OFFICIAL` is the schedule of the StyleGAN2-ADA projector."""

    space: Literal["w", "w+"] = "w+"   # one w for all layers, or one a layer
    steps: int = 100
    lr: float = 0.04                   # of Adam, in units of w
    # Adam's; a short memory: the picture's curvature changes fast along the way (benchmarks/projection.py).
    betas: tuple[float, float] = (0.8, 0.9)
    ramp_up: float = 0.05              # share of the steps over which the rate rises from 0
    ramp_down: float = 1.0             # share over which it falls to 0
    down: Literal["linear", "cosine"] = "linear"
    prior: float = 0.005               # weight of the mean square of whitened w: keeps to what the class looks like
    screen: float = 0.2                # share of the steps after which only a scan's best class goes on
    patience: int = 0                  # steps without progress after which a scan is done; 0: never
    keep: Literal["best", "last"] = "best"
    w_noise: float = 0.0               # noise on w at the start, in units of its spread
    noise_weight: float | None = None  # also fit the noise of the layers, with this penalty on structure in it

    def __post_init__(self) -> None:
        limits.STEPS.check("steps", self.steps)
        assert self.noise_weight is None or self.keep == "last", "fitted noise is kept as it is at the end"


PRESETS = {
    "quick": ProjectConfig(steps=40),
    "standard": ProjectConfig(),
    "thorough": ProjectConfig(steps=400, patience=100),
    # Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (SG2), appendix D, here with a class.
    "official": ProjectConfig(space="w", steps=1000, lr=0.1, betas=(0.9, 0.999), ramp_down=0.25, down="cosine",
                              prior=0.0, screen=1.0, keep="last", w_noise=0.05, noise_weight=1e5),
}


@dataclass
class Projection:
    """What was found for one scan."""

    w: Tensor = field(default_factory=lambda: torch.zeros(0))      # [layers, w_dim]
    label: int = 0                                                 # class that it was found under
    distance: float = math.inf
    ranking: dict[int, float] = field(default_factory=dict)        # class -> distance when they were compared
    curves: dict[int, list[float]] = field(default_factory=dict)   # class -> distance after 0, 1, 2, ... steps
    path: list[Tensor] = field(default_factory=list)               # w [layers, w_dim] on the way, where asked for
    noise: dict[str, Tensor] = field(default_factory=dict)         # of the layers, where it was fitted


class _Jobs:
    """Scans and candidate classes still under way; every tensor has a row for each."""

    def __init__(self, G: OctGenerator, starts: Starts, config: ProjectConfig, random: torch.Generator) -> None:
        pairs = [(scan, label, w) for scan, candidates in enumerate(starts) for label, w in candidates.items()]
        w = torch.stack([w for _, _, w in pairs])[:, None].to(G.device)
        self.w = w.expand(-1, G.network.num_ws if config.space == "w+" else 1, -1).clone()   # [M, 1 or layers, w_dim]
        self.scans = torch.tensor([scan for scan, _, _ in pairs], device=G.device)
        self.labels = torch.tensor([label for _, label, _ in pairs], device=G.device)
        self.best = torch.full((len(pairs),), math.inf, device=G.device)
        self.best_w = self.w.clone()
        self.mark = self.best.clone()                             # distance at the last progress
        self.marked_at = torch.zeros_like(self.scans)
        self.noise = {} if config.noise_weight is None else layer_noise.draw_noise(G, len(pairs), random)
        self.adam = RowAdam([self.w, *self.noise.values()], config.betas)

    def __len__(self) -> int:
        return len(self.w)

    def note(self, distance: Tensor, w: Tensor, step: int) -> None:
        """Remember the best w and when there was progress."""
        better, progress = distance < self.best, distance < (1 - GAIN) * self.mark
        self.best = torch.where(better, distance, self.best)
        self.best_w = torch.where(better[:, None, None], w, self.best_w)
        self.mark = torch.where(progress, distance, self.mark)
        self.marked_at = torch.where(progress, step, self.marked_at)

    def keep(self, rows: Tensor) -> None:
        """Drop all other rows, [M] bool."""
        self.adam.keep(rows)
        self.w, *noise = self.adam.tensors
        self.noise = dict(zip(self.noise, noise, strict=True))
        for name in ("scans", "labels", "best", "best_w", "mark", "marked_at"):
            setattr(self, name, getattr(self, name)[rows])


def project(G: OctGenerator, objective: Objective, starts: Starts, space: ClassSpace, config: ProjectConfig, *,
            seed: int = 0, path_every: int = 0, batch: int | None = None,
            progress: Progress = lambda _: None) -> list[Projection]:
    """Return the projection of each scan of the objective.

    Args:
        G: the generator.
        objective: the distance to the scans.
        starts: for each scan, class -> w [w_dim] to begin with; several classes are compared.
        space: where each class lies in w.
        config: the schedule.
        seed: of the noise.
        path_every: keep w after so many steps, for a film; 0 keeps none.
        batch: pictures at once; None: as many as serve.
        progress: called with the number of steps done.
    """
    batch = at_once(G.layers, G.device, "learn", asked=batch)
    random = torch.Generator().manual_seed(seed)
    jobs = _Jobs(G, starts, config, random)
    found = [Projection() for _ in starts]
    screen_at = max(1, round(config.screen * config.steps))
    for step in range(1, config.steps + 1):
        before = jobs.w.clone()
        distance, gradients = _gradients(G, objective, space, jobs, config, random, step, batch)
        jobs.note(distance, before, step)
        _record(found, jobs, distance, before if path_every and (step - 1) % path_every == 0 else None)
        with torch.no_grad():
            jobs.adam.step(gradients, config.lr * _rate(config, (step - 1) / config.steps))
            layer_noise.normalize(jobs.noise)
        if step == screen_at:
            _screen(found, jobs)
        if step >= screen_at:
            stale = (step - jobs.marked_at >= config.patience) & (config.patience > 0)
            _finish(G, objective, jobs, stale | (step == config.steps), config, found)
        progress(step)
        if len(jobs) == 0:
            break
    return found


def _rate(config: ProjectConfig, t: float) -> float:
    """Return the factor on the learning rate at the share t of the schedule."""
    down = min(1.0, (1 - t) / config.ramp_down)
    if config.down == "cosine":
        down = 0.5 - 0.5 * math.cos(math.pi * down)
    # The official schedule begins with a step of length 0; ours would waste it.
    return down * min(1.0, (t + (config.keep == "best") / config.steps) / config.ramp_up)


def _gradients(G: OctGenerator, objective: Objective, space: ClassSpace, jobs: _Jobs, config: ProjectConfig,
               random: torch.Generator, step: int, batch: int) -> tuple[Tensor, list[Tensor]]:
    """Return the distance of each job's picture [M], and the gradients of what is optimised."""
    distances, gradients = [], []
    fade = max(0.0, 1 - (step - 1) / config.steps / 0.75) ** 2
    shake = config.w_noise * fade * float(space.spread)
    for rows in torch.split(torch.arange(len(jobs), device=jobs.w.device), batch):
        w = jobs.w[rows].requires_grad_(True)
        noise = {name: value[rows].requires_grad_(True) for name, value in jobs.noise.items()}
        shaken = w + shake * torch.randn(w.shape, generator=random).to(w) if shake else w
        images = draw(G, shaken, noise)
        distance = objective(images, jobs.scans[rows])
        loss = distance
        if config.prior:
            loss = loss + config.prior * space.to_v(w, jobs.labels[rows]).square().mean(dim=(1, 2))
        if noise and config.noise_weight is not None:
            loss = loss + config.noise_weight * layer_noise.structure(noise)
        gradients.append(torch.autograd.grad(loss.sum(), [w, *noise.values()]))
        distances.append(distance.detach())
    return torch.cat(distances), [torch.cat(parts) for parts in zip(*gradients, strict=True)]


def draw(G: OctGenerator, w: Tensor, noise: dict[str, Tensor]) -> Tensor:
    """Return the images of w [N, 1 or layers, w_dim], with fitted noise where there is any."""
    ws = w.expand(-1, G.network.num_ws, -1)
    return layer_noise.synthesize_with(G, ws, noise) if noise else G.synthesize(ws)


def _record(found: list[Projection], jobs: _Jobs, distance: Tensor, path: Tensor | None) -> None:
    for row, (scan, label) in enumerate(zip(jobs.scans.tolist(), jobs.labels.tolist(), strict=True)):
        found[scan].curves.setdefault(label, []).append(float(distance[row]))
        if path is not None and float(jobs.best[row]) <= min(jobs.best[jobs.scans == scan].tolist()):
            found[scan].path.append(path[row].cpu())


def _screen(found: list[Projection], jobs: _Jobs) -> None:
    """Compare the classes of each scan; only the best goes on."""
    stays = torch.zeros_like(jobs.scans, dtype=torch.bool)
    for scan in sorted(set(jobs.scans.tolist())):
        rows = (jobs.scans == scan).nonzero()[:, 0]
        rows = rows[jobs.best[rows].argsort()]
        found[scan].ranking = {int(jobs.labels[row]): float(jobs.best[row]) for row in rows}
        stays[rows[0]] = True
    jobs.keep(stays)


def _finish(G: OctGenerator, objective: Objective, jobs: _Jobs, done: Tensor, config: ProjectConfig,
            found: list[Projection]) -> None:
    """Store the results of jobs that are done, and drop them."""
    for row in done.nonzero()[:, 0].tolist():
        result, w = found[int(jobs.scans[row])], jobs.best_w[row]
        distance = float(jobs.best[row])
        if config.keep == "last":
            w = jobs.w[row]
            result.noise = {name: value[row].cpu() for name, value in jobs.noise.items()}
            with torch.no_grad():
                image = draw(G, w[None], {name: value[row:row + 1] for name, value in jobs.noise.items()})
                distance = float(objective(image, jobs.scans[row:row + 1]))
        result.w = w.expand(G.network.num_ws, -1).clone().cpu()
        result.label, result.distance = int(jobs.labels[row]), distance
    if bool(done.any()):
        jobs.keep(~done)
