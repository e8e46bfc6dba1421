"""Perceptual path length: how far a picture changes for a small step of its latent.

Karras et al. 2019 ("A Style-Based Generator Architecture", Eq. 2 and 3): the mean of d(G(a), G(b)) / epsilon^2 for a
and b epsilon apart on the way between two latents, on the sphere in z, straight in w. A generator whose latents mean
something moves evenly; one that knows its training scans by heart jumps from one to the next.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from stylegan_oct.batches import at_once
from stylegan_oct.features.detector import Detector, resize
from stylegan_oct.features.perceptual import PerceptualDistance
from stylegan_oct.metrics.observers.observe import Progress, resize_rule
from stylegan_oct.metrics.statistics.values import Interval, Value
from stylegan_oct.model import OctGenerator
from torch_utils.distributed import World

Space = Literal["z", "w"]
SPACES: tuple[Space, ...] = ("z", "w")
Features = Callable[[Tensor], Tensor]   # images [N, C, R, R] in [-1, 1] -> [N, F]; squared differences are distances
Lengths = NDArray[np.float64]

EPSILON = 1e-4
TAIL = 1.0       # per cent that are left out at either end, as published
RESAMPLES = 500  # of the bootstrap


def measure_path_lengths(G: OctGenerator, labels: NDArray[np.int64], detectors: Sequence[Detector], *,
                         psi: float = 1.0, seed: int = 0, batch: int | None = None, world: World = World(),  # noqa: B008
                         progress: Progress = lambda *_: None) -> list[Value]:
    """Return `ppl_z_...` and `ppl_w_...` of every detector: over the whole way, overall, then by class.

    Args:
        G: generator.
        labels: class of each way, int64 [N]; zeros without classes.
        detectors: whose perceptual distance is taken, see `PerceptualDistance`.
        psi: truncation.
        seed: of the first latent; a way uses two seeds.
        batch: ways at once; None: as many as serve.
        world: the processes that share the work; all return the same.
        progress: called with the number of ways done, and of all.
    """
    values = []
    tasks = [(detector, space) for detector in detectors for space in SPACES]
    for number, (detector, space) in enumerate(tasks):
        def tell(done: int, _: int, before: int = number * len(labels)) -> None:
            progress(before + done, len(tasks) * len(labels))

        lengths = path_lengths(G, perceptual_features(detector), labels, space=space, psi=psi, seed=seed, batch=batch,
                               world=world, progress=tell)
        for label in (None, *range(len(G.info.classes))):
            some = lengths if label is None else lengths[labels == label]
            values.append(Value(
                metric=f"ppl_{space}_{detector.name}", value=trimmed_mean(some), interval=interval_of(some, seed),
                class_name=None if label is None else G.info.classes[label], n=len(some), better="lower",
                detector=detector.identity, resize=resize_rule(detector), seed=seed,
                note="" if len(some) else "no pictures of this class"))
    return values


def path_lengths(G: OctGenerator, features: Features, labels: NDArray[np.int64], *, space: Space,
                 sampling: Literal["full", "end"] = "full", epsilon: float = EPSILON, psi: float = 1.0, seed: int = 0,
                 noise_mode: Literal["const", "random"] = "const", batch: int | None = None,
                 world: World = World(), progress: Progress = lambda *_: None) -> Lengths:  # noqa: B008
    """Return the squared length of each way per unit of way, float64 [N].

    Args:
        G: generator; runs in float32, as half precision drowns such steps.
        features: of pictures.
        labels: class of each way, int64 [N]; both ends are of it.
        space: of the way.
        sampling: steps from anywhere on the way, or from its beginning.
        epsilon: length of a step, as a share of the way.
        psi: truncation.
        seed: of the first latent; the way i goes from seed + 2 i to the next.
        noise_mode: the fixed speckle, or new speckle for each way, the same at both ends of a step.
        batch: ways at once; None: as many as serve.
        world: the processes that share the work; all return the same.
        progress: called with the number of ways done, and of all.
    """
    places = np.random.default_rng(seed).random(len(labels)) * (sampling == "full")
    lengths = torch.zeros(len(labels), dtype=torch.float64)
    batch = at_once(G.layers, G.device, asked=batch)
    for begin in range(0, len(labels), batch)[world.rank::world.size]:
        rows = np.arange(begin, min(begin + batch, len(labels)))
        kinds = labels[rows].tolist() if G.info.classes else None
        t = torch.from_numpy(places[rows])[:, None]
        with torch.inference_mode():
            steps = _steps(G, kinds, [seed + 2 * int(row) for row in rows], t, space, epsilon, psi)
            first, second = (features(_draw(G, ws, noise_mode, seed + begin)) for ws in steps)
        lengths[rows] = ((first - second).double().square().sum(dim=1) / epsilon ** 2).cpu()
        progress(min(int(rows[-1]) + 1 + batch * (world.size - 1), len(labels)), len(labels))
    world.all_reduce_(lengths)
    return lengths.numpy()


def _steps(G: OctGenerator, kinds: list[int] | None, seeds: Sequence[int], t: Tensor, space: Space, epsilon: float,
           psi: float) -> tuple[Tensor, Tensor]:
    """Return the latents [N, layers, w_dim] at both ends of each step."""
    a, b = G.z(seeds), G.z([seed + 1 for seed in seeds])
    t = t.to(a)
    if space == "z":
        return G.ws(slerp(a, b, t), kinds, psi=psi), G.ws(slerp(a, b, t + epsilon), kinds, psi=psi)
    start, end = G.ws(a, kinds, psi=psi), G.ws(b, kinds, psi=psi)
    return start.lerp(end, t[:, None]), start.lerp(end, t[:, None] + epsilon)


def _draw(G: OctGenerator, ws: Tensor, noise_mode: Literal["const", "random"], seed: int) -> Tensor:
    devices = [G.device] if G.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        images: Tensor = G.network.synthesis(ws, noise_mode=noise_mode, force_fp32=True)
    return images


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return unit vectors [N, D] on the great circle from a to b [N, D], t [N, 1] of the way (Shoemake 1985)."""
    a, b = normalize(a, dim=1), normalize(b, dim=1)
    cosine = (a * b).sum(dim=1, keepdim=True)
    angle = t * cosine.clamp(-1, 1).acos()
    return a * angle.cos() + normalize(b - cosine * a, dim=1) * angle.sin()


def perceptual_features(detector: Detector) -> Features:
    """Return the features of `PerceptualDistance`, of pictures resized as the detector wants them."""
    distance = PerceptualDistance(detector)
    return lambda images: distance.features(resize(images.to(detector.device), detector.size))


def trimmed_mean(lengths: Lengths) -> float:
    """Return the mean of those within the percentiles 1 and 99, as published; NaN of none."""
    if not len(lengths):
        return float("nan")
    low = np.percentile(lengths, TAIL, method="lower")
    high = np.percentile(lengths, 100 - TAIL, method="higher")
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())


def interval_of(lengths: Lengths, seed: int) -> Interval | None:
    """Return the 95 % interval of `trimmed_mean` by the bootstrap, which serves here: ways are independent draws."""
    if len(lengths) < 2:
        return None
    rng = np.random.default_rng(seed)
    means = [trimmed_mean(rng.choice(lengths, len(lengths))) for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
