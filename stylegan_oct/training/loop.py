"""The training loop: StyleGAN2 with adaptive discriminator augmentation."""

import contextlib
import gc
import itertools
import logging
import math
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
from stylegan_oct.model import layers_of
from stylegan_oct.training.bar import Bar, work_left
from stylegan_oct.training.monitor import Monitor
from stylegan_oct.training.quality import Quality
from stylegan_oct.training.snapshots import Snapshots, draws_of_a_class
from stylegan_oct.training.speckle import measure_speckle
from stylegan_oct.training.state import State, build_networks, create_state
from stylegan_oct.training.steps import Microbatch, Steps
from stylegan_oct.training.transfer import grow_from, start_from
from torch_utils import checkpoint
from torch_utils.distributed import World
from torch_utils.images import to_unit
from torch_utils.memory import is_out_of_memory
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
    measured = [measure_speed(stage) for stage in stages] if on_cpu else []
    costs = [speed.step for speed in measured] or [stage.feature_numbers() for stage in stages]
    console = console if world.is_first else Console(quiet=True)
    with Interrupt() as interrupt, Bar(stages, costs, nimg, console) as bar:
        if on_cpu:
            grids = sum(map(sec_of_grids, stages, measured, [0, *(stage.total_nimg for stage in stages)],
                            itertools.repeat(nimg)))
            _announce_cpu(work_left(stages, costs, nimg), grids)
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
    snapshots = Snapshots(config, state.G_ema, dataset, stopped=lambda: interrupt.requested) if world.is_first else None
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


def _announce_cpu(steps: float, grids: float) -> None:
    """Say that there is no GPU and how many seconds the rest will take, the sample grids apart where they count."""
    apart = f", {format_seconds(grids)} of it for sample grids" if grids > 60 else ""
    log.info("No GPU: training on the CPU with %d threads, about %s%s.", torch.get_num_threads(),
             format_seconds(steps + grids), apart)
    if steps + grids > 86400:
        log.warning("That is long; a GPU does it in hours. Narrow presets are demo256, small512 and demo (RES=64); a "
                    "run can be stopped whenever its samples are good enough.")


@dataclass(frozen=True)
class Speed:
    """Seconds on this machine's CPU."""

    step: float   # for a training image
    grid: float   # for a grid of samples


def measure_speed(config: TrainConfig) -> Speed:
    """Return what to expect of this machine's CPU, from forward passes of both networks.

    A training image costs about four passes through G and seven through D in the main steps and R1, and where path
    lengths are regularised 1.5 more through G. Random numbers of the run are not touched.
    """
    n = min(config.batch_gpu, 4)
    labels = torch.zeros(n, len(config.data.classes))
    if config.data.classes:
        labels[:, 0] = 1
    cpu = torch.device("cpu")
    passes = 4 + 1.5 * (config.path_length.weight > 0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        G, D = build_networks(config, cpu)

        def seconds() -> tuple[float, float]:
            begin = time.perf_counter()
            images = G(torch.zeros(n, G.z_dim), labels, noise_mode="const")
            middle = time.perf_counter()
            D(images, labels)
            return (middle - begin) / n, (time.perf_counter() - middle) / n

        draw, judge = (min(times) for times in zip(*(seconds() for _ in range(3)), strict=True))
    grid = draws_of_a_class(layers_of(G, cpu), cpu) * max(len(config.data.classes), 1)
    return Speed(passes * draw + 7 * judge, grid * draw)


def sec_of_grids(config: TrainConfig, speed: Speed, begin_nimg: int, nimg: int) -> float:
    """Return the seconds that the sample grids of a stage will take from an image count on."""
    shown = max(config.total_nimg - max(begin_nimg, nimg), 0)
    first = begin_nimg == nimg == 0
    return (math.ceil(shown / (config.save.snapshot_kimg * 1000)) + first) * speed.grid


def check_memory(error: RuntimeError, config: TrainConfig) -> TrainingError | None:
    """Return what to do about a failed allocation, or None for any other error."""
    if not is_out_of_memory(error):
        return None
    group = min(config.D.mbstd_group_size, config.batch_gpu)
    smaller = [n for n in range(group, config.batch_gpu, group) if config.batch % n == 0]
    advice = f"Try --batch-gpu {smaller[-1]}: the same batch is then gathered in smaller pieces." if smaller else \
        "Try a smaller resolution, or a preset with a smaller channel_base."
    return TrainingError(f"Out of memory with {config.batch_gpu} images of {config.data.resolution} px at once. "
                         f"{advice}")
