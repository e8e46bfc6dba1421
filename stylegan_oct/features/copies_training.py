"""How the copy detector of `stylegan_oct.features.copies` is trained: by pictures alone, without labels.

Two views of one scan are the same, those of another patient's scan are not; scans of one patient are neither (van den
Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding", Eq. 4; Chen et al. 2020, "A Simple
Framework for Contrastive Learning of Visual Representations", Eq. 1). Speckle is imitated on the pictures themselves,
so that any archive will do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, cross_entropy, grid_sample, interpolate, normalize
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from dnnlib.errors import ConfigError, DataError
from stylegan_oct import limits
from stylegan_oct.data.archive import SYNTHETIC, Archive
from stylegan_oct.data.preprocess import to_grey
from stylegan_oct.features.copies import CopyInfo, CopyNetwork, save_copies
from stylegan_oct.limits import check_fields
from torch_utils.images import to_uint8, to_unit

RESOLUTIONS = (16, 32, 64, 128)
LEARNING_RATE = 3e-3
TEMPERATURE = 0.05   # of the softmax over similarities
SHIFT = 0.05         # of the size, up to which each view is moved; two views up to twice as far

Progress = Callable[..., object]


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyTraining:
    """How long and on what to train."""

    nimg: int = 64_000              # scans shown, each in two views
    batch: int = 128
    resolution: int = 32            # px at which it looks: speckle goes, anatomy stays
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, {"nimg": limits.SHOWN_IN_TRAINING, "batch": limits.BATCH.at_least(4), "seed": limits.SEED})
        if self.resolution not in RESOLUTIONS:
            raise ConfigError(f"The resolution must be one of {', '.join(map(str, RESOLUTIONS))}; got "
                              f"{self.resolution}. Try 32.")


def train_copies(archive: Path, out: Path, settings: CopyTraining = CopyTraining(), *,  # noqa: B008 (frozen)
                 device: str | torch.device = "cpu", progress: Progress = lambda *_: None) -> CopyInfo:
    """Train a copy detector on the train split of an archive and write it to `out`.

    The same archive, settings and device give the same file.

    Args:
        archive: of this project; needs no classes.
        out: .safetensors file, for the owner alone unless the scans are simulated.
        settings: length, resolution and seed.
        device: where to train.
        progress: called with (scans shown, total).
    Raises:
        ConfigError: `out` cannot be written; said before training where that can be known.
        DataError: the archive holds pictures of a generator, or scans of fewer than two patients.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot make the folder {out.parent}: {error.strerror}. Choose another place with --out."
                          ) from error
    source = Archive(archive)
    if source.source == SYNTHETIC:
        raise DataError(f"{archive} is a library of synthetic pictures. Give the archive that the generator was "
                        "trained on.")
    names = source.names("train")
    patients = patient_numbers(source, names)
    if len(np.unique(patients)) < 2:
        raise DataError(f"{archive} holds training scans of one patient alone: nothing to tell apart. Convert scans of "
                        "more patients.")
    side = settings.resolution
    info = CopyInfo(resolution=side, archive=source.fingerprint, source=source.source, nimg=settings.nimg,
                    seed=settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = CopyNetwork(side).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        _fit(network, read_grey(source, names, side), torch.from_numpy(patients), settings, progress)
    save_copies(network, info, out)
    return info


def patient_numbers(archive: Archive, names: list[str]) -> NDArray[np.int64]:
    """Return a number for each picture, equal for scans of one patient; its own where the patient is not known."""
    rows = archive.rows()
    _, numbers = np.unique([rows.get(name, {}).get("patient", name) for name in names], return_inverse=True)
    return numbers.astype(np.int64)


def read_grey(archive: Archive, names: list[str], side: int) -> Tensor:
    """Return pictures as uint8 [N, 1, side, side], averaged by area."""
    pixels = torch.empty(len(names), 1, side, side, dtype=torch.uint8)
    for i, name in enumerate(names):
        picture = torch.from_numpy(to_grey(archive.read_pixels(name)).copy())[None, None]
        if picture.shape[-1] != side:
            picture = to_uint8(interpolate(to_unit(picture), (side, side), mode="bilinear", antialias=True))
        pixels[i] = picture[0]
    return pixels


def _fit(network: CopyNetwork, pixels: Tensor, patients: Tensor, settings: CopyTraining, progress: Progress) -> None:
    """Train in place; every scan is shown once before any is shown again."""
    batch = min(settings.batch, len(pixels))
    steps = math.ceil(settings.nimg / batch)
    optimizer = AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=max(steps, 2))
    device = network.head.weight.device
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(pixels))
        rows, order = order[:batch], order[batch:]
        images = to_unit(pixels[rows]).to(device)
        features = normalize(network(torch.cat([disguise(images), disguise(images)])), dim=1)
        loss = contrast(features, patients[rows].to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        progress((step + 1) * batch, steps * batch)


def contrast(features: Tensor, patients: Tensor) -> Tensor:
    """Return the mean cross-entropy of finding each view's partner among the views of other patients.

    Args:
        features: unit vectors [2 N, D]: a view of each scan, then another view of each.
        patients: [N], equal for scans of one patient, which are neither partners nor strangers.
    """
    n, owners = len(patients), patients.repeat(2)
    partner = torch.arange(2 * n, device=features.device).roll(n)
    allowed = owners[:, None] != owners[None, :]
    allowed[torch.arange(2 * n), partner] = True
    scores = (features @ features.T / TEMPERATURE).masked_fill(~allowed, -math.inf)
    return cross_entropy(scores, partner)


def disguise(images: Tensor) -> Tensor:
    """Return images [N, 1, R, R] in [-1, 1] as copies of them might look.

    Each is moved by up to a twentieth of its size, half of them flipped; blurred, under new speckle, and with another
    gamma, gain and offset, each more or less.
    """
    n, side, device = len(images), images.shape[-1], images.device

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1).to(device)

    turn = torch.zeros(n, 2, 3)
    turn[:, 0, 0] = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    turn[:, 1, 1] = 1
    turn[:, :, 2] = (2 * torch.rand(n, 2) - 1) * (2 * SHIFT)
    grid = affine_grid(turn, [n, 1, side, side], align_corners=False).to(device)
    light = (grid_sample(images, grid, padding_mode="reflection", align_corners=False) + 1) / 2
    light = light + draw(0, 1) * (_blur(light) - light)
    # Speckle multiplies the light; the noise floor adds to it. New speckle is as coarse as old or coarser.
    grain = torch.randn_like(light)
    grain = torch.where(draw(0, 1) < 0.5, grain, 2 * _blur(grain))
    light = light * (1 + draw(0, 0.15) * grain) + draw(0, 0.04) * torch.randn_like(light)
    light = light.clamp(0, 1) ** draw(-0.35, 0.35).exp()
    return 2 * (light * draw(0.85, 1.15) + draw(-0.06, 0.06)) - 1


def _blur(light: Tensor) -> Tensor:
    return avg_pool2d(light, 3, 1, 1, count_include_pad=False)
