"""Everything that decides a training run, and the presets.

Constants of the method: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (SG2) and
"Training Generative Adversarial Networks with Limited Data" (ADA).
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from dnnlib.config import to_dict
from dnnlib.errors import ConfigError
from stylegan_oct.augment.spec import parse_groups

Architecture = Literal["orig", "skip", "resnet"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]


def _at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise ConfigError(f"{name} must be at least {least}; got {value}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """What is learned from."""

    path: str                        # archive written by `convert` or `phantom`
    fingerprint: str                 # hash of its contents; a run goes on only with the same data
    resolution: int                  # pixels, a power of two
    channels: int = 1
    classes: tuple[str, ...] = ()    # names by label; empty for unconditional
    mirror: bool = False             # add every image flipped; doubles the data, hides which eye it is
    balanced: bool = False           # draw the classes equally often instead of as they come
    workers: int = 0                 # loader processes, where the pictures are not decoded once
    cache: bool = True               # decode the pictures once, into a file beside the archive


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorConfig:
    """Mapping and synthesis networks."""

    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = 16384        # channels at resolution r: min(channel_base / r, channel_max)
    channel_max: int = 512
    architecture: Architecture = "skip"
    num_fp16_res: int = 4            # highest resolutions in float16 on a GPU; float32 on a CPU
    conv_clamp: float = 256.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscriminatorConfig:
    """Discriminator."""

    mapping_layers: int = 8
    channel_base: int = 16384
    channel_max: int = 512
    architecture: Architecture = "resnet"
    num_fp16_res: int = 4
    conv_clamp: float = 256.0
    mbstd_group_size: int = 4
    freeze_layers: int = 0           # highest-resolution layers that are not trained (freeze-D)


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Adaptive discriminator augmentation (ADA, sections 2 and 3)."""

    mode: Literal["ada", "fixed", "off"] = "ada"
    groups: str = "bgc"
    p: float = 0.0                   # strength at the start, or all along when fixed
    target: float = 0.6              # of the mean sign of D on real images
    interval: int = 4                # batches between two moves of p
    ada_kimg: float = 500.0          # images over which p could move by 1
    p_max: float = 0.85              # beyond it the augmentations leak into the samples

    def __post_init__(self) -> None:
        parse_groups(self.groups)
        _at_least("augment.interval", self.interval, 1)
        if not 0 <= self.p <= 1 or not 0 < self.p_max <= 1:
            raise ConfigError(f"augment.p and augment.p_max must lie in 0..1; got {self.p} and {self.p_max}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class R1Config:
    """Gradient penalty on real images (SG2, section 3.1 and appendix B)."""

    gamma: float = 1.0
    interval: int = 16               # batches between two penalty steps

    def __post_init__(self) -> None:
        _at_least("r1.interval", self.interval, 1)
        _at_least("r1.gamma", self.gamma, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class PathLengthConfig:
    """Path length regularisation (SG2, section 3.2)."""

    weight: float = 2.0              # 0 turns it off
    interval: int = 4
    decay: float = 0.01              # of the running mean length
    batch_shrink: int = 2            # done on this fraction of each micro-batch

    def __post_init__(self) -> None:
        _at_least("path_length.interval", self.interval, 1)
        _at_least("path_length.batch_shrink", self.batch_shrink, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Adam for both networks."""

    G_lr: float = 0.0025
    D_lr: float = 0.0025
    beta1: float = 0.0
    beta2: float = 0.99
    eps: float = 1e-8


@dataclass(frozen=True, kw_only=True, slots=True)
class EmaConfig:
    """Average of the generator's weights, from which samples are drawn."""

    kimg: float = 10.0               # half-life
    ramp: float | None = 0.05        # half-life at most this share of the images seen


@dataclass(frozen=True, kw_only=True, slots=True)
class SaveConfig:
    """What is written when. Changes nothing in what is learned."""

    tick_kimg: float = 4.0           # between two lines of statistics
    snapshot_kimg: float = 200.0     # between two sample grids with a checkpoint
    every_min: float = 10.0          # minutes between two checkpoints besides the snapshots
    keep: int = 3                    # newest checkpoints kept whole; older snapshots keep their generator
    metrics: tuple[str, ...] = ()    # measured at every snapshot, such as kd_lite0
    metrics_count: int = 1000        # samples for them
    best_by: str = ""                # the metric by which the best checkpoint is kept; "": the first of `metrics`

    def __post_init__(self) -> None:
        _at_least("save.keep", self.keep, 1)
        _at_least("save.metrics_count", self.metrics_count, 16)
        if self.best_by and self.best_by not in self.metrics:
            raise ConfigError(f"The best checkpoint cannot be told by {self.best_by!r}, which is not measured. "
                              f"--metrics has: {', '.join(self.metrics) or 'nothing'}.")
        if not (self.tick_kimg > 0 and self.snapshot_kimg > 0):
            raise ConfigError("save.tick_kimg and save.snapshot_kimg must be above 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """A whole run. Two runs with equal `identity()` learn the same."""

    preset: str
    data: DataConfig
    batch: int                       # images per update, over all processes
    batch_gpu: int                   # images at once in one process; a batch is gathered from several
    total_kimg: float
    G: GeneratorConfig = field(default_factory=GeneratorConfig)
    D: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    r1: R1Config = field(default_factory=R1Config)
    path_length: PathLengthConfig = field(default_factory=PathLengthConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    save: SaveConfig = field(default_factory=SaveConfig)
    precision: Precision = "auto"    # of the blocks: float16 on a GPU, float32 on a CPU; fp32, fp16 or bf16
    tf32: bool = False               # let a GPU round the factors of float32 products to 10 bits
    style_mixing: float = 0.9        # probability of mixing two latents
    seed: int = 0
    start_from: str | None = None    # checkpoint whose weights the run begins with
    start_sha256: str | None = None  # of that checkpoint's generator

    def __post_init__(self) -> None:
        resolution = self.data.resolution
        if resolution not in {2**n for n in range(3, 11)}:
            raise ConfigError(f"The resolution must be a power of two from 8 to 1024; got {resolution}. "
                              "Convert the scans with --resolution 256.")
        _at_least("batch_gpu", self.batch_gpu, 1)
        _at_least("batch", self.batch, 1)
        if self.batch % self.batch_gpu:
            better = math.ceil(self.batch / self.batch_gpu) * self.batch_gpu
            raise ConfigError(f"batch must be a multiple of batch-gpu = {self.batch_gpu}; got {self.batch}. "
                              f"Try --batch {better}.")
        group = min(self.D.mbstd_group_size, self.batch_gpu)
        if self.batch_gpu % group:
            raise ConfigError(f"batch-gpu must be a multiple of the minibatch-std group of {group}; got "
                              f"{self.batch_gpu}. Try --batch-gpu {math.ceil(self.batch_gpu / group) * group}.")

    @property
    def total_nimg(self) -> int:
        """Images to be shown in all, a whole number of batches."""
        return math.ceil(self.total_kimg * 1000 / self.batch) * self.batch

    def identity(self) -> dict[str, Any]:
        """Return what tells runs apart: all but the length, the places of files, the saving and the loader.

        A run that was started from another goes on from its own checkpoint, whatever has become of the other since.
        """
        data = to_dict(self)
        for key in ("total_kimg", "save", "start_sha256"):
            del data[key]
        for key in ("path", "workers", "cache"):
            del data["data"][key]
        return data


Preset = Callable[[DataConfig, int], TrainConfig]


def _network(channel_base: int, mapping: int, group: int, *,
             d_architecture: Architecture = "resnet") -> dict[str, Any]:
    return {"G": GeneratorConfig(channel_base=channel_base, mapping_layers=mapping),
            "D": DiscriminatorConfig(channel_base=channel_base, mbstd_group_size=group, architecture=d_architecture)}


def _learning(lr: float, gamma: float, ema_kimg: float, ramp: float | None) -> dict[str, Any]:
    return {"optimizer": OptimizerConfig(G_lr=lr, D_lr=lr), "r1": R1Config(gamma=gamma),
            "ema": EmaConfig(kimg=ema_kimg, ramp=ramp)}


def _fixed(name: str, *, kimg: float, batch: int, gpus: int, group: int, base: int, lr: float, gamma: float, ema: float,
           ramp: float | None = None, mapping: int = 8, d_architecture: Architecture = "resnet", **more: Any) -> Preset:
    """Return a preset whose numbers do not depend on the data, as the papers' experiments."""

    def build(data: DataConfig, _: int) -> TrainConfig:
        return TrainConfig(preset=name, data=data, batch=batch, batch_gpu=batch // gpus, total_kimg=kimg,
                           **_network(base, mapping, group, d_architecture=d_architecture),
                           **_learning(lr, gamma, ema, ramp), **more)

    return build


def heuristic_gamma(resolution: int, batch: int) -> float:
    """Return the R1 weight of the `auto` rule: larger images and smaller batches need more."""
    return 0.0002 * resolution**2 / batch


def _auto(data: DataConfig, gpus: int) -> TrainConfig:
    """Return the rule of the official `auto` preset for this resolution and number of GPUs."""
    resolution = data.resolution
    batch = max(min(gpus * min(4096 // resolution, 32), 64), gpus)
    return TrainConfig(preset="auto", data=data, batch=batch, batch_gpu=batch // gpus, total_kimg=25000,
                       **_network(32768 if resolution >= 512 else 16384, 2, min(batch // gpus, 4)),
                       **_learning(0.002 if resolution >= 1024 else 0.0025, heuristic_gamma(resolution, batch),
                                   batch * 10 / 32, 0.05))


def _oct(name: str, base: int, batch: int, kimg: float) -> Preset:
    """Return our preset for one or two GPUs: the `auto` rule at a steady batch, whatever the number of GPUs."""

    def build(data: DataConfig, gpus: int) -> TrainConfig:
        batch_gpu = min(batch // max(gpus, 1), 16)
        return TrainConfig(preset=name, data=data, batch=batch, batch_gpu=batch_gpu, total_kimg=kimg,
                           **_network(base, 8, 4),
                           **_learning(0.0025, heuristic_gamma(data.resolution, batch), batch * 10 / 32, 0.05))

    return build


def _small(name: str, channel_base: int, channel_max: int, kimg: float, *, lr: float, gamma: float,
           **more: Any) -> Preset:
    """Return a preset for 64 px on a CPU: small batches, so that there are many updates in little time."""
    widths: dict[str, Any] = {"channel_base": channel_base, "channel_max": channel_max}

    def build(data: DataConfig, _: int) -> TrainConfig:
        return TrainConfig(preset=name, data=data, batch=8, batch_gpu=8, total_kimg=kimg, style_mixing=0.0,
                           G=GeneratorConfig(mapping_layers=2, **widths),
                           D=DiscriminatorConfig(mapping_layers=1, **widths),
                           **_learning(lr, gamma, 2.0, 0.1), **more)

    return build


PRESETS: dict[str, Preset] = {
    "demo": _small("demo", 1024, 64, 26, lr=0.0035, gamma=0.05, path_length=PathLengthConfig(weight=0),
                   save=SaveConfig(tick_kimg=0.4, snapshot_kimg=4, every_min=2)),
    "oct64": _small("oct64", 2048, 128, 400, lr=0.0025, gamma=0.1,
                    save=SaveConfig(tick_kimg=1, snapshot_kimg=20, every_min=5)),
    "oct256": _oct("oct256", 16384, 32, 10000),
    "oct512": _oct("oct512", 32768, 32, 10000),
    "auto": _auto,
    "stylegan2": _fixed("stylegan2", kimg=25000, batch=32, gpus=8, group=4, base=32768, lr=0.002, gamma=10, ema=10),
    "paper256": _fixed("paper256", kimg=25000, batch=64, gpus=8, group=8, base=16384, lr=0.0025, gamma=1, ema=20),
    "paper512": _fixed("paper512", kimg=25000, batch=64, gpus=8, group=8, base=32768, lr=0.0025, gamma=0.5, ema=20),
    "paper1024": _fixed("paper1024", kimg=25000, batch=32, gpus=8, group=4, base=32768, lr=0.002, gamma=2, ema=10),
    "cifar": _fixed("cifar", kimg=100000, batch=64, gpus=2, group=32, base=32768, lr=0.0025, gamma=0.01, ema=500,
                    ramp=0.05, mapping=2, d_architecture="orig", style_mixing=0.0,
                    path_length=PathLengthConfig(weight=0)),
}


def default_preset(resolution: int) -> str:
    """Return the preset that `train` takes when none is named."""
    return "demo" if resolution <= 64 else "oct512" if resolution >= 512 else "oct256"


def fit_to_device(config: TrainConfig, most: int, *, on_gpu: bool, processes: int) -> TrainConfig:
    """Return the configuration with the largest micro-batch up to `most` that fits device and number of processes.

    On a CPU a micro-batch holds at most 16 images up to 64 px, 4 above, so that 256 px trains within a few GB.

    Raises:
        ConfigError: no micro-batch divides the batch over so many processes.
    """
    if config.batch % processes:
        raise ConfigError(f"batch must be a multiple of the {processes} processes; got {config.batch}. "
                          f"Try --batch {math.ceil(config.batch / processes) * processes}.")
    if not on_gpu:
        most = min(most, 16 if config.data.resolution <= 64 else 4)
    share = config.batch // processes
    group = config.D.mbstd_group_size
    sizes = [n for n in range(1, min(most, share) + 1) if share % n == 0 and n % min(group, n) == 0]
    return dataclasses.replace(config, batch_gpu=sizes[-1])
