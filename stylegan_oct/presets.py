"""The usual configurations by name, and what fits a device.

Constants of the method: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data" (ADA).
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dnnlib.config import from_dict
from dnnlib.errors import ConfigError
from stylegan_oct import limits
from stylegan_oct.batches import learnt_at_once
from stylegan_oct.config import (
    Architecture,
    DataConfig,
    DiscriminatorConfig,
    EmaConfig,
    GeneratorConfig,
    OptimizerConfig,
    PathLengthConfig,
    R1Config,
    SaveConfig,
    StageConfig,
    TrainConfig,
)

LEAST = 2   # images of a micro-batch, where the batch can be shared so

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


def _small(name: str, channel_base: int, channel_max: int, kimg: float, *, lr: float, gamma: float, ema: float = 2.0,
           latent: int = 512, channel_min: int = 1, speckle: bool = False, grow: Sequence[StageConfig] = (),
           **more: Any) -> Preset:
    """Return a preset for a CPU: small batches, so that there are many updates in little time."""
    widths: dict[str, Any] = {"channel_base": channel_base, "channel_max": channel_max, "channel_min": channel_min}

    def build(data: DataConfig, _: int) -> TrainConfig:
        below = tuple(stage for stage in grow if stage.resolution < data.resolution)
        return TrainConfig(preset=name, data=data, batch=8, batch_gpu=8, total_kimg=kimg, style_mixing=0.0, grow=below,
                           G=GeneratorConfig(mapping_layers=2, z_dim=latent, w_dim=latent, speckle=speckle, **widths),
                           D=DiscriminatorConfig(mapping_layers=1, **widths),
                           **_learning(lr, gamma, ema, 0.1), **more)

    return build


def _grown(name: str, kimg: float, gamma: float, grow: Sequence[StageConfig]) -> Preset:
    """Return a preset for 256 px and more on a CPU: narrow networks that learn the shapes at 64 px, in minutes."""
    return _small(name, 2048, 128, kimg, lr=0.003, gamma=gamma, ema=3.0, latent=256, channel_min=16, speckle=True,
                  grow=grow, path_length=PathLengthConfig(weight=0),
                  save=SaveConfig(tick_kimg=0.4, snapshot_kimg=10, every_min=5))


def _adapt(data: DataConfig, _: int) -> TrainConfig:
    """Return the preset that goes on from a generator with a few scans; `adapted_to` gives it that one's networks."""
    data = dataclasses.replace(data, balanced=bool(data.classes))
    return TrainConfig(preset="adapt", data=data, batch=8, batch_gpu=8, total_kimg=40, style_mixing=0.0,
                       G=GeneratorConfig(), D=DiscriminatorConfig(freeze_layers=4),
                       path_length=PathLengthConfig(weight=0),
                       **_learning(0.0015, 4 * (data.resolution / 256) ** 2, 2.0, 0.05),
                       save=SaveConfig(tick_kimg=0.2, snapshot_kimg=1, every_min=5, metrics=("kd_lite0",),
                                       metrics_count=200, patience=5))


def adapted_to(config: TrainConfig, start: Mapping[str, Any], generator: Mapping[str, Any]) -> TrainConfig:
    """Return a configuration with the networks of the generator that it starts from.

    Args:
        config: of the preset `adapt`.
        start: configuration of that generator's run; {} where it is not known: D is then as wide as G.
        generator: what its file says of the network's arguments.
    """
    wanted = {field.name: generator[field.name] for field in dataclasses.fields(GeneratorConfig)
              if field.name in generator}
    like_G = {name: wanted[name] for name in ("channel_base", "channel_max", "channel_min") if name in wanted}
    known = start.get("D")
    D: dict[str, Any] = {**(known if isinstance(known, dict) else like_G | {"mapping_layers": 1}),
                         "freeze_layers": config.D.freeze_layers}
    return dataclasses.replace(config, G=from_dict(GeneratorConfig, wanted), D=from_dict(DiscriminatorConfig, D))


AT_64 = StageConfig(resolution=64, kimg=25, gamma=0.05, lr=0.003)
AT_128 = StageConfig(resolution=128, kimg=40, gamma=0.125, lr=0.003)
AT_256 = StageConfig(resolution=256, kimg=55, gamma=0.5, lr=0.003)

PRESETS: dict[str, Preset] = {
    "demo": _small("demo", 1024, 64, 26, lr=0.0035, gamma=0.05, path_length=PathLengthConfig(weight=0),
                   save=SaveConfig(tick_kimg=0.4, snapshot_kimg=4, every_min=2)),
    "oct64": _small("oct64", 2048, 128, 400, lr=0.0025, gamma=0.1,
                    save=SaveConfig(tick_kimg=1, snapshot_kimg=20, every_min=5)),
    "demo256": _grown("demo256", 100, 0.5, [AT_64, AT_128]),
    "small512": _grown("small512", 160, 2.0, [AT_64, AT_128, AT_256]),
    "oct256": _oct("oct256", 16384, 32, 10000),
    "oct512": _oct("oct512", 32768, 32, 10000),
    "adapt": _adapt,
    "auto": _auto,
    "stylegan2": _fixed("stylegan2", kimg=25000, batch=32, gpus=8, group=4, base=32768, lr=0.002, gamma=10, ema=10),
    "paper256": _fixed("paper256", kimg=25000, batch=64, gpus=8, group=8, base=16384, lr=0.0025, gamma=1, ema=20),
    "paper512": _fixed("paper512", kimg=25000, batch=64, gpus=8, group=8, base=32768, lr=0.0025, gamma=0.5, ema=20),
    "paper1024": _fixed("paper1024", kimg=25000, batch=32, gpus=8, group=4, base=32768, lr=0.002, gamma=2, ema=10),
    "cifar": _fixed("cifar", kimg=100000, batch=64, gpus=2, group=32, base=32768, lr=0.0025, gamma=0.01, ema=500,
                    ramp=0.05, mapping=2, d_architecture="orig", style_mixing=0.0,
                    path_length=PathLengthConfig(weight=0)),
}


def default_preset(resolution: int, *, on_gpu: bool) -> str:
    """Return the preset that `train` takes when none is named."""
    if resolution <= 64:
        return "demo"
    small, large = ("oct256", "oct512") if on_gpu else ("demo256", "small512")
    return small if resolution <= 256 else large


def parse_grow(text: str, preset: TrainConfig, *, gamma: float | None = None) -> tuple[StageConfig, ...]:
    """Return the stages before the last for "64,256", "64:30,128:20,256", or "off".

    Args:
        text: resolutions, each with its length in kimg after a colon; the last is that of the run, without one.
        preset: whose stages keep their numbers; another takes a tenth of its length, its rate, and gamma in proportion
            to the number of pixels.
        gamma: of the last stage; default the preset's.
    Raises:
        ConfigError: it cannot be read, or does not end with the run's resolution.
    """
    last = preset.data.resolution
    if text == "off":
        return ()
    known = {stage.resolution: stage for stage in preset.grow}
    *below, end = text.split(",")
    if end.strip() != str(last):
        raise ConfigError(f"--grow ends with the resolution of the run, {last}; got {text!r}. "
                          f"Try --grow 64,{last}, or --grow off.")
    stages = []
    for part in below:
        match = re.fullmatch(r"(\d+)(?::(\d+(?:\.\d+)?))?", part.strip())
        if match is None:
            raise ConfigError(f"--grow takes resolutions with lengths in kimg, such as 64:30,128:20,{last}; "
                              f"got {part!r}.")
        resolution = int(match[1])
        limits.RESOLUTION.check("The resolution of a stage", resolution)
        stage = known.get(resolution) or StageConfig(
            resolution=resolution, kimg=preset.total_kimg / 10, lr=preset.optimizer.G_lr,
            gamma=(preset.r1.gamma if gamma is None else gamma) * (resolution / last) ** 2)
        stages.append(dataclasses.replace(stage, kimg=float(match[2])) if match[2] else stage)
    return tuple(stages)


def fit_to_device(config: TrainConfig, most: int, *, on_gpu: bool, processes: int) -> TrainConfig:
    """Return the configuration with the largest micro-batch up to `most` that fits device and number of processes.

    On a CPU memory decides, see `batches.learnt_at_once`; but one image alone would leave the minibatch standard
    deviation without meaning.

    Raises:
        ConfigError: no micro-batch divides the batch over so many processes.
    """
    if config.batch % processes:
        raise ConfigError(f"batch must be a multiple of the {processes} processes; got {config.batch}. "
                          f"Try --batch {math.ceil(config.batch / processes) * processes}.")
    if not on_gpu:
        most = min(most, max(LEAST, learnt_at_once(config.feature_numbers())))
    share = config.batch // processes
    group = config.D.mbstd_group_size
    sizes = [n for n in range(1, min(most, share) + 1) if share % n == 0 and n % min(group, n) == 0]
    return dataclasses.replace(config, batch_gpu=sizes[-1])
