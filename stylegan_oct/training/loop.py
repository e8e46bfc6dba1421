"""The training loop: StyleGAN2 with adaptive discriminator augmentation."""

import contextlib
import gc
import itertools
import logging
import time
from collections.abc import Generator, Iterator
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
from stylegan_oct.training.bar import Bar, work_left
from stylegan_oct.training.monitor import Monitor
from stylegan_oct.training.quality import Quality
from stylegan_oct.training.snapshots import Snapshots
from stylegan_oct.training.speckle import measure_speckle
from stylegan_oct.training.state import State, build_networks, create_state
from stylegan_oct.training.steps import Microbatch, Steps
from stylegan_oct.training.transfer import grow_from, start_from
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
    stages = config.stages()
    nimg = _shown(run)
    # Most of a step on a GPU reads and writes feature maps. On a CPU small pictures cost more than these say.
    on_cpu = world.is_first and world.device.type == "cpu" and nimg < config.total_nimg
    costs = [estimate_sec_per_image(stage) if on_cpu else stage.feature_numbers() for stage in stages]
    console = console if world.is_first else Console(quiet=True)
    with Interrupt() as interrupt, Bar(stages, costs, nimg, console) as bar:
        if on_cpu:
            _announce_cpu(work_left(stages, costs, nimg))
        outcome = Outcome(False, nimg, None, None)
        for stage, begin_nimg in zip(stages, [0, *(stage.total_nimg for stage in stages)], strict=False):
            if stage.total_nimg > nimg or stage is stages[-1]:
                outcome = _train_stage(stage, begin_nimg, run, world, bar, interrupt)
                gc.collect()  # networks and records of a stage refer to each other in circles
                if not outcome.finished:
                    break
    return outcome


def _train_stage(config: TrainConfig, begin_nimg: int, run: RunDir, world: World, bar: Bar,
                 interrupt: Interrupt) -> Outcome:
    """Train a stage from its beginning, or from the run's newest checkpoint where that lies within."""
    data = config.data
    dataset = ArchiveDataset(Path(data.path), split="train", mirror=data.mirror, resolution=data.resolution,
                             cached=data.cache, world=world)
    state = create_state(config, world.device, dataset.source, dataset.preprocess)
    if _resume_or_start(state, begin_nimg, run, world) and config.G.speckle:
        state.set_speckle(measure_speckle(dataset))
    if world.is_first:
        log.info("R1 gamma %g: blurred or drifting samples ask for less, unstable ones for more (docs/training.md)",
                 config.r1.gamma)
    stats = Stats(world)
    steps = Steps(config, state, world, stats, torch.from_numpy(dataset.labels))
    snapshots = Snapshots(config, state.G_ema, dataset) if world.is_first else None
    quality = Quality(config, run, snapshots.G, state.nimg) if snapshots and config.save.metrics else None
    with (contextlib.closing(_batches(config, dataset, state.nimg, world)) as batches,
          Monitor(config, run, state, world, stats, snapshots, bar, quality) as monitor):
        monitor.start()
        while state.nimg < config.total_nimg and not world.any(interrupt.requested or monitor.exhausted):
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
    world.barrier()  # the next stage begins on every process with what the first one has saved
    complete = checkpoint.complete_checkpoints(run.checkpoints)
    newest = complete[-1] if complete else None
    if monitor.exhausted:
        newest = run.path / "best"
        log.info("no better after %d snapshots: the run ends, the best checkpoint is %s", config.save.patience, newest)
    finished = state.nimg >= config.total_nimg or world.any(monitor.exhausted)
    return Outcome(finished, state.nimg, monitor.grid, newest)


def _shown(run: RunDir) -> int:
    """Return how many images the newest complete checkpoint of a run has seen."""
    complete = checkpoint.complete_checkpoints(run.checkpoints)
    return checkpoint.nimg_of(complete[-1]) if complete else 0


def _resume_or_start(state: State, begin_nimg: int, run: RunDir, world: World) -> bool:
    """Load the newest complete checkpoint of the run, or the weights that the run or the stage is to start from.

    Returns:
        Whether the run or the stage begins.
    """
    complete = checkpoint.complete_checkpoints(run.checkpoints)
    say = log.info if world.is_first else log.debug
    if complete and checkpoint.nimg_of(complete[-1]) > begin_nimg:
        state.load(complete[-1])
        say("going on from %s", complete[-1])
        return False
    if begin_nimg:
        report = grow_from(state, complete[-1])
        say("growing to %d px: %s", state.config.data.resolution, "; ".join(report.lines()))
    elif state.config.start_from:
        for line in start_from(state, Path(state.config.start_from)).lines():
            say("starting from %s: %s", state.config.start_from, line)
    return True


def _batches(config: TrainConfig, dataset: ArchiveDataset, start_nimg: int, world: World,
             ) -> Generator[list[Microbatch]]:
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


def _announce_cpu(seconds: float) -> None:
    """Say that there is no GPU and how long the rest will take."""
    message = f"No GPU: training on the CPU with {torch.get_num_threads()} threads, about {format_seconds(seconds)}."
    if seconds > 86400:
        message += (" That is long; a GPU does it in hours. Narrow presets are demo256, small512 and demo (RES=64); a "
                    "run can be stopped whenever its samples are good enough.")
    log.warning(message) if seconds > 86400 else log.info(message)


def estimate_sec_per_image(config: TrainConfig) -> float:
    """Return the expected seconds per training image on this machine's CPU, from one forward pass of each network.

    A training image costs about four passes through G and seven through D in the main steps and R1, and where path
    lengths are regularised 1.5 more through G. Random numbers of the run are not touched.
    """
    n = min(config.batch_gpu, 4)
    labels = torch.zeros(n, len(config.data.classes))
    if config.data.classes:
        labels[:, 0] = 1
    passes = 4 + 1.5 * (config.path_length.weight > 0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        G, D = build_networks(config, torch.device("cpu"))

        def seconds() -> float:
            begin = time.perf_counter()
            images = G(torch.zeros(n, G.z_dim), labels, noise_mode="const")
            middle = time.perf_counter()
            D(images, labels)
            return (passes * (middle - begin) + 7 * (time.perf_counter() - middle)) / n

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
