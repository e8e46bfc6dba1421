"""Everything that decides a training run; `stylegan_oct.presets` has the usual ones.

Constants of the method: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (SG2) and
"Training Generative Adversarial Networks with Limited Data" (ADA).
"""

import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from dnnlib.config import FilePath, to_dict
from dnnlib.errors import ConfigError
from stylegan_oct import limits
from stylegan_oct.augment.spec import parse_groups
from stylegan_oct.limits import Limits, check_fields, shortened
from stylegan_oct.networks.sizes import block_resolutions, channels_at

Architecture = Literal["orig", "skip", "resnet"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]


def _check_resolution(resolution: int) -> None:
    if not limits.RESOLUTION.allow(resolution):
        raise ConfigError(f"The resolution must be a power of two from 8 to 1024; got {shortened(resolution)}. "
                          "Convert the scans with --resolution 256.")


# What both networks are made of.
NETWORK = {"mapping_layers": Limits(least=1, most=64), "channel_base": Limits(least=1, most=2**18),
           "channel_max": limits.CHANNELS, "channel_min": limits.CHANNELS,
           "num_fp16_res": Limits(least=0, most=16), "conv_clamp": Limits(least=1, most=60_000, whole=False)}


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """What is learned from."""

    path: FilePath                   # archive written by `convert` or `phantom`
    fingerprint: str                 # hash of its contents; a run goes on only with the same data
    resolution: int                  # pixels, a power of two
    channels: int = 1
    classes: tuple[str, ...] = ()    # names by label; empty for unconditional
    mirror: bool = False             # add every image flipped; doubles the data, hides which eye it is
    balanced: bool = False           # draw the classes equally often instead of as they come
    workers: int = 0                 # loader processes, where the pictures are not decoded once
    cache: bool = True               # decode the pictures once, into a file beside the archive

    def __post_init__(self) -> None:
        limits.PROCESSES.at_least(0).check("data.workers", self.workers)
        if self.channels not in (1, 3):
            raise ConfigError(f"data.channels must be 1 (grey) or 3 (RGB); got {shortened(self.channels)}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorConfig:
    """Mapping and synthesis networks."""

    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = 16384        # channels at resolution r: channel_base / r, within the next two
    channel_max: int = 512
    channel_min: int = 1
    architecture: Architecture = "skip"
    num_fp16_res: int = 4            # highest resolutions in float16 on a GPU; float32 on a CPU
    conv_clamp: float = 256.0
    speckle: bool = False            # noise like that of the training scans, over what the layers draw

    def __post_init__(self) -> None:
        check_fields(self, {**NETWORK, "z_dim": limits.WIDTH, "w_dim": limits.WIDTH}, where="G.")


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscriminatorConfig:
    """Discriminator."""

    mapping_layers: int = 8
    channel_base: int = 16384
    channel_max: int = 512
    channel_min: int = 1
    architecture: Architecture = "resnet"
    num_fp16_res: int = 4
    conv_clamp: float = 256.0
    mbstd_group_size: int = 4
    freeze_layers: int = 0           # highest-resolution layers that are not trained (freeze-D)

    def __post_init__(self) -> None:
        check_fields(self, {**NETWORK, "mbstd_group_size": limits.BATCH, "freeze_layers": limits.FROZEN}, where="D.")


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
        check_fields(self, {"p": limits.SHARE, "target": limits.SIGN, "interval": limits.INTERVAL,
                            "ada_kimg": limits.KIMG, "p_max": limits.SHARE.at_least(0.001)}, where="augment.")


@dataclass(frozen=True, kw_only=True, slots=True)
class R1Config:
    """Gradient penalty on real images (SG2, section 3.1 and appendix B)."""

    gamma: float = 1.0
    interval: int = 16               # batches between two penalty steps

    def __post_init__(self) -> None:
        check_fields(self, {"gamma": limits.GAMMA, "interval": limits.INTERVAL}, where="r1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class PathLengthConfig:
    """Path length regularisation (SG2, section 3.2)."""

    weight: float = 2.0              # 0 turns it off
    interval: int = 4
    decay: float = 0.01              # of the running mean length
    batch_shrink: int = 2            # done on this fraction of each micro-batch

    def __post_init__(self) -> None:
        check_fields(self, {"weight": limits.GAMMA, "interval": limits.INTERVAL, "decay": limits.SHARE,
                            "batch_shrink": limits.BATCH}, where="path_length.")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Adam for both networks."""

    G_lr: float = 0.0025
    D_lr: float = 0.0025
    beta1: float = 0.0
    beta2: float = 0.99
    eps: float = 1e-8

    def __post_init__(self) -> None:
        rate, beta = limits.RATE, limits.BETA
        check_fields(self, {"G_lr": rate, "D_lr": rate, "beta1": beta, "beta2": beta,
                            "eps": limits.SHARE.at_least(1e-12)}, where="optimizer.")


@dataclass(frozen=True, kw_only=True, slots=True)
class EmaConfig:
    """Average of the generator's weights, from which samples are drawn."""

    kimg: float = 10.0               # half-life
    ramp: float | None = 0.05        # half-life at most this share of the images seen

    def __post_init__(self) -> None:
        check_fields(self, {"kimg": limits.KIMG, "ramp": limits.KIMG}, where="ema.")


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
    patience: int = 0                # snapshots in a row, none of them the best, after which the run ends; 0: never

    def __post_init__(self) -> None:
        check_fields(self, {"tick_kimg": limits.KIMG, "snapshot_kimg": limits.KIMG, "every_min": limits.MINUTES,
                            "keep": limits.INTERVAL, "metrics_count": limits.SAMPLES.at_least(16),
                            "patience": limits.INTERVAL.at_least(0)}, where="save.")
        if self.patience and not self.metrics:
            raise ConfigError("A run that ends when a metric gets worse needs one. Add --metrics kd_lite0.")
        if self.best_by and self.best_by not in self.metrics:
            raise ConfigError(f"The best checkpoint cannot be told by {self.best_by!r}, which is not measured. "
                              f"--metrics has: {', '.join(self.metrics) or 'nothing'}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class StageConfig:
    """A part of a run before its last, at a smaller resolution (Karras et al. 2018, "Progressive Growing of GANs").

    It learns from the same pictures, averaged by area. The next stage begins with its averaged generator and its
    discriminator; layers of resolutions that it had not are new.
    """

    resolution: int
    kimg: float                      # length
    gamma: float                     # weight of R1: smaller pictures need less
    lr: float                        # of both networks

    def __post_init__(self) -> None:
        _check_resolution(self.resolution)
        check_fields(self, {"kimg": limits.KIMG, "gamma": limits.GAMMA, "lr": limits.RATE}, where="grow.")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """A whole run. Two runs with equal `identity()` learn the same.

    With `grow` the other fields are those of the last stage, and `total_kimg` counts the images of all.
    """

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
    graphs: bool = True              # let a GPU run its steps from records
    tf32: bool = False               # let a GPU round the factors of float32 products to 10 bits
    style_mixing: float = 0.9        # probability of mixing two latents
    seed: int = 0
    grow: tuple[StageConfig, ...] = ()  # stages before the last, their resolutions rising
    start_from: FilePath | None = None  # checkpoint whose weights the run begins with
    start_sha256: str | None = None  # of that checkpoint's generator

    def __post_init__(self) -> None:
        _check_resolution(self.data.resolution)
        check_fields(self, {"total_kimg": limits.KIMG, "batch_gpu": limits.BATCH, "batch": limits.BATCH,
                            "seed": limits.SEED, "style_mixing": limits.SHARE})
        self._check_stages()
        if self.batch % self.batch_gpu:
            better = math.ceil(self.batch / self.batch_gpu) * self.batch_gpu
            raise ConfigError(f"batch must be a multiple of batch-gpu = {self.batch_gpu}; got {self.batch}. "
                              f"Try --batch {better}.")
        group = min(self.D.mbstd_group_size, self.batch_gpu)
        if self.batch_gpu % group:
            raise ConfigError(f"batch-gpu must be a multiple of the minibatch-std group of {group}; got "
                              f"{self.batch_gpu}. Try --batch-gpu {math.ceil(self.batch_gpu / group) * group}.")

    def _check_stages(self) -> None:
        rising = [stage.resolution for stage in self.grow] + [self.data.resolution]
        if any(low >= high for low, high in itertools.pairwise(rising)):
            raise ConfigError(f"The resolutions of the stages must rise up to that of the run; got "
                              f"{', '.join(map(str, rising))}. Try --grow 64,{self.data.resolution}.")
        before = sum(stage.kimg for stage in self.grow)
        if before >= self.total_kimg:
            raise ConfigError(f"Stages below {self.data.resolution} px take {before:g} of {self.total_kimg:g} kimg, "
                              "so that the last never begins. Give more --kimg, or shorter stages such as --grow "
                              f"{rising[0]}:{self.total_kimg / 3:.3g},{self.data.resolution}.")

    def stages(self) -> list["TrainConfig"]:
        """Return the stages, each as a run of its own that ends when `total_kimg` images of all have been shown."""
        stages, end = [], 0.0
        for stage in self.grow:
            end += stage.kimg
            stages.append(dataclasses.replace(
                self, grow=(), total_kimg=end, data=dataclasses.replace(self.data, resolution=stage.resolution),
                r1=dataclasses.replace(self.r1, gamma=stage.gamma),
                optimizer=dataclasses.replace(self.optimizer, G_lr=stage.lr, D_lr=stage.lr),
                save=dataclasses.replace(self.save, metrics=(), best_by="", patience=0)))
        return [*stages, dataclasses.replace(self, grow=())]

    def feature_numbers(self) -> int:
        """Return how many numbers the feature maps of one picture hold: what a step's memory and time grow with."""
        resolutions = block_resolutions(self.data.resolution)
        widths = [{name: getattr(part, name) for name in ("channel_base", "channel_max", "channel_min")}
                  for part in (self.G, self.D)]
        return sum(channels_at(r, **bounds) * r**2 for r in resolutions for bounds in widths)

    @property
    def total_nimg(self) -> int:
        """Images to be shown in all, a whole number of batches."""
        return math.ceil(self.total_kimg * 1000 / self.batch) * self.batch

    def identity(self) -> dict[str, Any]:
        """Return what tells runs apart: all but the length, the places of files, the saving, the loader and the graphs.

        A run that was started from another goes on from its own checkpoint, whatever has become of the other since.
        """
        data = to_dict(self)
        for key in ("total_kimg", "save", "start_sha256", "graphs"):
            del data[key]
        for key in ("path", "workers", "cache"):
            del data["data"][key]
        return data
