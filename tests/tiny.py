"""A tiny archive and a tiny run, for tests that train."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from dnnlib.config import override
from dnnlib.pictures import encode_png
from stylegan_oct.config import DataConfig, DiscriminatorConfig, GeneratorConfig, SaveConfig, TrainConfig
from stylegan_oct.data.archive import Archive, ArchiveWriter
from stylegan_oct.training import launch
from stylegan_oct.training.loop import Outcome
from torch_utils.checkpoint import read_tensors
from torch_utils.distributed import World

CLASSES = ("CNV", "DRUSEN")


def write_archive(path: Path, *, count: int = 12, held_out: int = 2, resolution: int = 8, channels: int = 1,
                  classes: tuple[str, ...] = CLASSES) -> Path:
    """Write pictures whose brightness tells the class: `count` in train, `held_out` in val."""
    rng = np.random.default_rng(0)
    with ArchiveWriter(path, resolution=resolution, channels=channels, classes=classes, source="scans") as writer:
        for i in range(count + held_out):
            label = i % max(len(classes), 1)
            shape = (resolution, resolution) if channels == 1 else (resolution, resolution, 3)
            picture = rng.integers(60 * label, 60 * label + 80, shape, dtype=np.uint8)
            writer.add_image("train" if i < count else "val", encode_png(picture), label if classes else None, {})
    return path


def tiny_config(archive: Path, **changes: Any) -> TrainConfig:
    """Return a run of the smallest networks on an archive: batches of 4 in micro-batches of 2, 8 batches."""
    data = Archive(archive)
    config = TrainConfig(
        preset="test", batch=4, batch_gpu=2, total_kimg=0.032,
        data=DataConfig(path=str(archive), fingerprint=data.fingerprint, resolution=data.resolution,
                        channels=data.channels, classes=tuple(data.classes)),
        G=GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=2, channel_base=64, channel_max=8),
        D=DiscriminatorConfig(mapping_layers=1, channel_base=64, channel_max=8, mbstd_group_size=2),
        save=SaveConfig(tick_kimg=0.008, snapshot_kimg=0.016, keep=2))
    return override(config, {"r1.interval": 2, "augment.ada_kimg": 0.1, "augment.interval": 2,
                             **{name.replace("__", "."): value for name, value in changes.items()}})


def train(config: TrainConfig, outdir: Path, *, new: bool = False) -> tuple[Outcome, launch.Choice]:
    """Train a run in this process, as the command does."""
    choice = launch.choose_run(config, outdir, new=new)
    return launch.start(config, choice, World(), Console(file=io.StringIO())), choice


def tensors(checkpoint: Path) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint by file and name."""
    return {f"{file.stem}/{name}": tensor for file in sorted(checkpoint.glob("*.safetensors"))
            for name, tensor in read_tensors(file).items()}


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""
