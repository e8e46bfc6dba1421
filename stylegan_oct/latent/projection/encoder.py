"""An encoder: a guess of w from a picture, learned from the generator's own samples, so that no real scan is needed.

It is trained end to end through the generator, by the distance between a sample and the picture of the guess. Learning
w itself fails: many w draw the same picture.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, one_hot

from dnnlib.config import Hash, Name, from_texts
from dnnlib.errors import CheckpointError, ConfigError
from dnnlib.files import atomic_write
from dnnlib.stored import reading
from stylegan_oct.batches import at_once, usual_count
from stylegan_oct.features.detector import Detector
from stylegan_oct.features.perceptual import PerceptualDistance
from stylegan_oct.latent.classspace import ClassSpace, fit_class_space
from stylegan_oct.latent.projection.objective import Objective
from stylegan_oct.model import OctGenerator
from torch_utils.checkpoint import load_module, read_tensors
from torch_utils.images import to_uint8, to_unit
from torch_utils.tensor_file import load_header

KIND = "stylegan_oct encoder"
WIDTH = 1024
GRID = 4           # positions along an axis that are kept of each tap
TAPS = 3           # deepest taps that it sees
THUMBNAIL = 16     # pixels of the picture itself that it sees too
STEPS = 2000       # of the training, where each takes little time
BATCH = 16         # samples in a step
LR = 5e-4
PRIOR = 0.01       # weight of the mean square of whitened w

Progress = Callable[[int], object]


class Encoder(nn.Module):
    """Layers over a detector's features of the picture, out comes w.

    Args:
        detector: that looks at the pictures; stays as it is.
        space: where each class lies in w; the guess is counted from its mean, in its spread.
        channels, resolution: of the pictures.
    """

    means: Tensor
    bases: Tensor
    spreads: Tensor

    def __init__(self, detector: Detector, space: ClassSpace, *, channels: int, resolution: int) -> None:
        super().__init__()
        self._detector = [detector]     # in a list: no part of this module's weights
        classes, width = space.means.shape
        with torch.no_grad():
            blank = torch.zeros(1, channels, resolution, resolution, device=space.means.device)
            inputs = self._look(blank).shape[1]
        self.norm = nn.LayerNorm(inputs)
        self.layers = nn.Sequential(nn.Linear(inputs + classes, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, WIDTH),
                                    nn.LeakyReLU(0.2), nn.Linear(WIDTH, width))
        for name, value in (("means", space.means), ("bases", space.bases), ("spreads", space.spreads)):
            self.register_buffer(name, value.clone())

    def _look(self, images: Tensor) -> Tensor:
        """Return what the layers see of images [N, C, R, R] in [-1, 1]: [N, F]."""
        taps = self._detector[0].taps(images)[-TAPS:]
        parts = [adaptive_avg_pool2d(tap, min(GRID, tap.shape[2])) for tap in taps]
        return torch.cat([part.flatten(1) for part in (*parts, adaptive_avg_pool2d(images, THUMBNAIL))], dim=1)

    def whitened(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Return the guess as whitened w [N, w_dim] for uint8 pictures [N, C, R, R] and class indices [N]."""
        device = self.means.device
        with torch.no_grad():
            seen = self._look(to_unit(pixels.to(device)))
        classes = one_hot(labels.to(device), len(self.means)).to(seen)
        v: Tensor = self.layers(torch.cat([self.norm(seen), classes], dim=1))
        return v

    def forward(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Return w [N, w_dim] for uint8 pictures [N, C, R, R] and class indices [N]."""
        space = ClassSpace(self.means, self.bases, self.spreads)
        return space.to_w(self.whitened(pixels, labels)[:, None], labels.to(self.means.device))[:, 0]


def train_encoder(G: OctGenerator, detector: Detector, *, steps: int, batch: int = BATCH, seed: int = 0,
                  progress: Progress = lambda _: None) -> tuple[Encoder, list[float]]:
    """Return an encoder of a generator, and the distance at each step.

    Args:
        G: whose samples are learned from, new ones at every step.
        detector: that the encoder sees through, and that its guesses are judged by.
        steps: of Adam.
        batch: samples in a step; their gradients are gathered in pieces that memory has room for.
        seed: of weights and samples.
        progress: called with the number of steps done.
    """
    random = torch.Generator().manual_seed(seed)
    size = min(batch, at_once(G.layers, G.device, "learn"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = _untrained(G, detector, fit_class_space(G)).to(G.device)
    perceptual = PerceptualDistance(detector)
    optimizer = torch.optim.Adam(encoder.parameters(), LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps + 1, pct_start=0.1)
    distances = []
    for step in range(steps):
        labels = torch.randint(max(len(G.info.classes), 1), (batch,), generator=random)
        z = torch.randn(batch, G.network.z_dim, generator=random)
        optimizer.zero_grad()
        distance = sum(_learn(G, encoder, perceptual, *part, share=len(part[0]) / batch)
                       for part in zip(torch.split(z, size), torch.split(labels, size), strict=True))
        optimizer.step()
        schedule.step()
        distances.append(distance)
        progress(step + 1)
    return encoder.eval().requires_grad_(False), distances


def _learn(G: OctGenerator, encoder: Encoder, perceptual: PerceptualDistance, z: Tensor, labels: Tensor, *,
           share: float) -> float:
    """Add the gradients of some samples, `share` of a step, to the encoder's; return their share of the distance."""
    with torch.no_grad():
        pixels = to_uint8(G(z, labels if G.info.classes else None))
    v = encoder.whitened(pixels, labels)
    space = ClassSpace(encoder.means, encoder.bases, encoder.spreads)
    images = G.synthesize(space.to_w(v[:, None], labels.to(G.device))[:, 0])
    distance = share * Objective(perceptual, pixels)(images, torch.arange(len(z), device=G.device)).mean()
    (distance + share * PRIOR * v.square().mean()).backward()  # type: ignore[no-untyped-call]
    return distance.item()


@dataclass(frozen=True, kw_only=True)
class _Header:
    kind: Literal["stylegan_oct encoder"]
    format: Literal["1"]
    checkpoint_sha256: Hash
    detector: tuple[Name, Hash]


def save_encoder(path: Path, encoder: Encoder, G: OctGenerator) -> None:
    """Write an encoder with what it belongs to.

    Raises:
        ConfigError: the file cannot be written.
    """
    detector = encoder._detector[0]
    header = {"kind": KIND, "format": "1", "checkpoint_sha256": G.info.sha256,
              "detector": json.dumps([detector.name, detector.sha256])}
    tensors = {name: value.cpu().contiguous() for name, value in encoder.state_dict().items()}
    try:
        with atomic_write(path, "wb") as file:
            file.write(save(tensors, metadata=header))
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}. Choose another place with --out.") from error


def load_encoder(path: Path, G: OctGenerator, detector: Detector) -> Encoder:
    """Return an encoder from a file.

    Raises:
        CheckpointError: it is missing, something else, or belongs to another generator or detector.
    """
    with reading(path, CheckpointError, "It is no encoder; make one with: python -m tools train-encoder"):
        header = from_texts(_Header, load_header(path).texts)
    if (header.checkpoint_sha256, *header.detector) != (G.info.sha256, detector.name, detector.sha256):
        raise CheckpointError(f"{path} was trained for another generator or detector. Train one for this generator "
                              "with: python -m tools train-encoder")
    encoder = _untrained(G, detector, fit_class_space(G, samples=2))
    load_module(encoder, read_tensors(path), source=str(path))
    return encoder.eval().requires_grad_(False).to(G.device)


def usual_steps(G: OctGenerator) -> int:
    """Return how many steps an encoder is trained for when nobody says."""
    return usual_count(G.layers, G.device, STEPS)


def _untrained(G: OctGenerator, detector: Detector, space: ClassSpace) -> Encoder:
    return Encoder(detector, space, channels=G.info.channels, resolution=G.info.resolution)


def default_encoder_path(G: OctGenerator) -> Path:
    """Return where the encoder of a generator is kept when nobody names a place."""
    return Path("data") / f"encoder-{G.info.sha256[:12]}.safetensors"
