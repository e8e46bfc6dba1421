"""How the classifier of `stylegan_oct.features.oct` is trained and measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from dnnlib.errors import ConfigError, DataError
from stylegan_oct import limits
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.features.oct import OctDetector, OctInfo, OctNetwork, save_oct
from stylegan_oct.limits import check_fields
from torch_utils.images import to_uint8, to_unit

LARGEST = 128         # px: what tells the four classes apart is still seen
LEARNING_RATE = 2e-3
SHIFT = 1 / 16        # of the size, up to which pictures are moved in training
SMOOTHING = 0.05      # of the labels: some of them are wrong in every set of scans


@dataclass(frozen=True, kw_only=True, slots=True)
class OctTraining:
    """How long and on what to train."""

    nimg: int = 32_000              # images shown
    batch: int = 64
    resolution: int | None = None   # px; default: that of the archive, at most 128
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, {"nimg": limits.SHOWN_IN_TRAINING, "batch": limits.BATCH.at_least(2), "seed": limits.SEED,
                            "resolution": limits.RESOLUTION})


@dataclass(frozen=True)
class Split:
    """All pictures of a split."""

    pixels: Tensor  # uint8 [N, C, R, R]
    labels: Tensor  # int64 [N]


def train_oct(archive: Path, out: Path, settings: OctTraining = OctTraining(), *,  # noqa: B008 (frozen)
              device: str | torch.device = "cpu", progress: Callable[..., object] = lambda *_: None) -> OctInfo:
    """Train a classifier on the train split of an archive, measure it on the others, and write it to `out`.

    The same archive, settings and device give the same file.

    Args:
        archive: of this project, with classes.
        out: .safetensors file.
        settings: length, resolution and seed.
        device: where to train.
        progress: called with (images shown, total).
    Raises:
        ConfigError: `out` cannot be written; said before training where that can be known.
        DataError: the archive has fewer than two classes.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot make the folder {out.parent}: {error.strerror}. Choose another place with --out."
                          ) from error
    train = ArchiveDataset(archive, "train")
    missing = [name for i, name in enumerate(train.classes) if not (train.labels == i).any()]
    if train.n_classes < 2 or missing:
        what = f"none of {', '.join(missing)} for training" if missing else "no classes to tell apart"
        raise DataError(f"{archive} holds {what}. Convert scans in class folders: python -m tools convert")
    side = min(settings.resolution or LARGEST, train.resolution)
    info = OctInfo(classes=train.classes, resolution=side, channels=train.channels, archive=train.fingerprint,
                   source=train.source, nimg=settings.nimg, right={}, count={})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = OctNetwork(side, train.channels, train.n_classes)
        data = read_split(train, side)
        members = [np.flatnonzero(data.labels.numpy() == i) for i in range(train.n_classes)]
        fit(network.to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
            data, members, settings, progress)
    network.half().float()  # measured as it is stored
    detector = OctDetector(network, info, "").eval().requires_grad_(False)
    for split in (split for split in train.archive.splits if split != "train"):
        held_out = read_split(ArchiveDataset(archive, split), side)
        hits = detector.classify(held_out.pixels).argmax(dim=1) == held_out.labels
        info.right[split] = {name: int(hits[held_out.labels == i].sum()) for i, name in enumerate(train.classes)}
        info.count[split] = {name: int((held_out.labels == i).sum()) for i, name in enumerate(train.classes)}
    save_oct(network, info, out)
    return info


def read_split(dataset: ArchiveDataset, side: int) -> Split:
    """Return all pictures of a split, averaged by area to side x side pixels."""
    pixels = torch.empty(len(dataset), dataset.channels, side, side, dtype=torch.uint8)
    for i in range(len(dataset)):
        picture = dataset[i][0]
        pixels[i] = shrink(picture[None], side)[0]
    return Split(pixels, torch.from_numpy(dataset.labels))


def shrink(pixels: Tensor, side: int) -> Tensor:
    """Return pictures uint8 [N, C, R, R] averaged by area to side x side pixels; those of that size as they are."""
    if pixels.shape[-1] == side:
        return pixels
    return to_uint8(interpolate(to_unit(pixels), (side, side), mode="area"))


def fit(network: OctNetwork, data: Split, pools: Sequence[NDArray[np.int64]], settings: OctTraining,
        progress: Callable[..., object] = lambda *_: None) -> None:
    """Train in place. The caller seeds torch, which draws the augmentations.

    Args:
        network: on its device.
        data: pictures and labels.
        pools: places in `data`, drawn from equally often. One pool for each class keeps the network from learning
            which is frequent.
        settings: length, batch and the seed of the drawing.
        progress: called with (images shown, total).
    """
    device = network.classifier.weight.device
    steps = -(-settings.nimg // settings.batch)
    optimizer = AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=max(steps, 2))
    rng = np.random.default_rng(settings.seed)
    for step in range(steps):
        drawn = rng.integers(len(pools), size=settings.batch)
        index = torch.from_numpy(np.array([rng.choice(pools[pool]) for pool in drawn]))
        images = augment(to_unit(data.pixels[index].to(device)))
        loss = cross_entropy(network(images), data.labels[index].to(device), label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        progress((step + 1) * settings.batch, steps * settings.batch)


def augment(images: Tensor) -> Tensor:
    """Return images [N, C, H, W] moved a little, half of them flipped, brightened or darkened, some blurred."""
    reach = max(round(SHIFT * images.shape[-1]), 1)
    dy, dx = torch.randint(-reach, reach + 1, (2,)).tolist()
    images = images.roll((dy, dx), dims=(2, 3))
    flip, blur, gain, offset = (torch.rand(len(images), 1, 1, 1).to(images.device) for _ in range(4))
    images = torch.where(flip < 0.5, images.flip(3), images)
    # A generator's pictures are softer than scans.
    soft = torch.nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    images = torch.where(blur < 0.3, images + (soft - images) * (blur / 0.3), images)
    return images * (0.85 + 0.3 * gain) + 0.15 * (offset - 0.5)
