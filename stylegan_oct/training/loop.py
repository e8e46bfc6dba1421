"""The training loop: StyleGAN2 with adaptive discriminator augmentation."""

import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from dnnlib.errors import DataError, TrainingError
from dnnlib.interrupt import Interrupt
from dnnlib.rundir import RunDir
from dnnlib.text import format_seconds
from stylegan_oct.config import TrainConfig
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.training.monitor import Monitor
from stylegan_oct.training.quality import Quality
from stylegan_oct.training.snapshots import Snapshots
from stylegan_oct.training.state import State, create_state
from stylegan_oct.training.steps import Microbatch, Steps
from stylegan_oct.training.transfer import start_from
from torch_utils import checkpoint
from torch_utils.distributed import World
from torch_utils.images import to_unit
from torch_utils.prefetch import prefetch
from torch_utils.sampler import MicrobatchSampler, Stream, microbatch_offsets
from torch_utils.stats import Stats

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    finished: bool
    nimg: int
    grid: Path | None
    checkpoint: Path | None


def train(config: TrainConfig, run: RunDir, world: World, console: Console) -> Outcome:
    """Train until the configured number of images or a signal, from the run's newest checkpoint on.

    Raises:
        UserError: the data, a checkpoint or the disk fails; the last complete checkpoint stays.
    """
    data = config.data
    dataset = ArchiveDataset(Path(data.path), split="train", mirror=data.mirror, cached=data.cache, world=world)
    state = create_state(config, world.device, dataset.source, dataset.preprocess)
    _resume_or_start(state, run, world)
    if world.is_first:
        log.info("R1 gamma %g: blurred or drifting samples ask for less, unstable ones for more (docs/training.md)",
                 config.r1.gamma)
    stats = Stats(world)
    steps = Steps(config, state, world, stats, torch.from_numpy(dataset.labels))
    batches = _batches(config, dataset, state.nimg, world)
    snapshots = Snapshots(config, state.G_ema, dataset) if world.is_first else None
    quality = Quality(config, run, snapshots.G, state.nimg) if snapshots and config.save.metrics else None
    if world.is_first and world.device.type == "cpu" and state.nimg < config.total_nimg:
        _announce_cpu(config, state)
    with Interrupt() as interrupt, Monitor(config, run, state, world, stats, snapshots, console,
                                             quality) as monitor:
        monitor.start()
        while state.nimg < config.total_nimg and not world.any(interrupt.requested):
            batch = next(batches)
            steps.generator(batch)
            if config.path_length.weight > 0 and state.step % config.path_length.interval == 0:
                steps.path_length(batch)
            if state.step % config.augment.interval == 0:
                state.update_strength()  # here, where a GPU has G's step to do while it is asked for D's signs
            steps.discriminator(batch)
            if config.r1.gamma > 0 and state.step % config.r1.interval == 0:
                steps.r1(batch)
            state.update_average()
            state.nimg += config.batch
            if state.step % config.augment.interval == 0:
                state.fetch_signs()
            monitor.after_step()
        monitor.save()
    newest = checkpoint.complete_checkpoints(run.checkpoints)
    return Outcome(state.nimg >= config.total_nimg, state.nimg, monitor.grid, newest[-1] if newest else None)


def _resume_or_start(state: State, run: RunDir, world: World) -> None:
    """Load the newest complete checkpoint of the run, or the weights that the run is to start from."""
    complete = checkpoint.complete_checkpoints(run.checkpoints)
    if complete:
        state.load(complete[-1])
        if world.is_first:
            log.info("going on from %s", complete[-1])
    elif state.config.start_from:
        for line in start_from(state, Path(state.config.start_from)).lines():
            if world.is_first:
                log.info("starting from %s: %s", state.config.start_from, line)


def _batches(config: TrainConfig, dataset: ArchiveDataset, start_nimg: int, world: World) -> Iterator[list[Microbatch]]:
    """Yield the micro-batches of this process, batch by batch, from an image count on."""
    stream = Stream(dataset.labels, seed=config.seed, balanced=config.data.balanced)
    place = {"rank": world.rank, "world_size": world.size}
    sampler = MicrobatchSampler(stream, start_nimg=start_nimg, batch=config.batch, batch_gpu=config.batch_gpu, **place)
    workers = 0 if dataset.is_cached else config.data.workers
    loader: DataLoader[tuple[Tensor, int]] = DataLoader(
        dataset, batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0,
        generator=torch.Generator())
    offsets = microbatch_offsets(config.batch, config.batch_gpu, world.rank, world.size)
    micros = prefetch(_readable(iter(loader)), world.device)
    while True:
        yield [Microbatch(offset, to_unit(pixels), labels)
               for offset, (pixels, labels) in zip(offsets, itertools.islice(micros, len(offsets)), strict=True)]


def _readable(micros: Iterator[Any]) -> Iterator[Any]:
    """Pass micro-batches on; of an unreadable image leave the one line that says which, not a worker's traceback."""
    try:
        yield from micros
    except DataError as error:
        raise DataError(str(error).strip().splitlines()[-1].removeprefix("dnnlib.errors.DataError: ")) from None


def _announce_cpu(config: TrainConfig, state: State) -> None:
    """Say that there is no GPU and how long the rest will take."""
    seconds = estimate_sec_per_image(config, state) * (config.total_nimg - state.nimg)
    message = f"No GPU: training on the CPU with {torch.get_num_threads()} threads, about {format_seconds(seconds)}."
    if seconds > 86400:
        message += " That is long; a GPU does it in hours. Try KIMG=10 for a first look, or the demo preset (RES=64)."
    log.warning(message) if seconds > 86400 else log.info(message)


def estimate_sec_per_image(config: TrainConfig, state: State) -> float:
    """Return the expected seconds per training image, from one forward pass of each network on this machine.

    A training image costs about four passes through G and seven through D in the main steps and R1, and where path
    lengths are regularised 1.5 more through G. Weights and random numbers of the run are not touched.
    """
    n = min(config.batch_gpu, 4)
    labels = torch.zeros(n, len(config.data.classes))
    if config.data.classes:
        labels[:, 0] = 1
    G, D = state.G_ema, state.D
    passes = 4 + 1.5 * (config.path_length.weight > 0)

    def seconds() -> float:
        begin = time.perf_counter()
        images = G(torch.zeros(n, G.z_dim), labels, noise_mode="const")
        middle = time.perf_counter()
        D(images, labels)
        return (passes * (middle - begin) + 7 * (time.perf_counter() - middle)) / n

    with torch.no_grad():
        return min(seconds() for _ in range(3))


def check_memory(error: RuntimeError, config: TrainConfig) -> TrainingError | None:
    """Return what to do about a failed allocation, or None for any other error."""
    is_memory = isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
    if not is_memory:
        return None
    group = min(config.D.mbstd_group_size, config.batch_gpu)
    smaller = [n for n in range(group, config.batch_gpu, group) if config.batch % n == 0]
    advice = f"Try --batch-gpu {smaller[-1]}: the same batch is then gathered in smaller pieces." if smaller else \
        "Try a smaller resolution, or a preset with a smaller channel_base."
    return TrainingError(f"Out of memory with {config.batch_gpu} images of {config.data.resolution} px at once. "
                         f"{advice}")
