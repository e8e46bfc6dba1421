"""From what the user asked for to a run: data, preset, overrides, and the unfinished run to go on with."""

import dataclasses
import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dnnlib import logs
from dnnlib.config import from_dict, override, to_json
from dnnlib.errors import ConfigError, DataError, TrainingError
from dnnlib.files import atomic_write, sha256_of
from dnnlib.progress import progress_bar
from dnnlib.rundir import RunDir, create_run, find_run, runs_in
from stylegan_oct.batches import LEARNT
from stylegan_oct.classes import CLASSES
from stylegan_oct.config import DataConfig, TrainConfig
from stylegan_oct.data.archive import SYNTHETIC, Archive
from stylegan_oct.data.prepare import planned_resolution, prepare_archive
from stylegan_oct.model import find_generator, read_info, run_config
from stylegan_oct.presets import PRESETS, adapted_to, default_preset, fit_to_device, parse_grow
from stylegan_oct.training import loop
from stylegan_oct.training.quality import check_metrics
from torch_utils import checkpoint
from torch_utils.distributed import World
from torch_utils.memory import map_large_blocks
from torch_utils.precision import allow_tf32

log = logging.getLogger(__name__)

Bar = Callable[..., AbstractContextManager[Callable[..., object]]]   # of what, and how many

# Options of the command that set one field of the configuration.
OPTION_FIELDS = {"total_kimg": "total_kimg", "start_from": "start_from", "grow": "grow", "batch": "batch",
                 "batch_gpu": "batch_gpu",
                 "gamma": "r1.gamma", "aug": "augment.mode", "aug_groups": "augment.groups", "aug_p": "augment.p",
                 "target": "augment.target", "freeze_d": "D.freeze_layers", "mirror": "data.mirror",
                 "balanced": "data.balanced", "seed": "seed", "precision": "precision", "tf32": "tf32",
                 "graphs": "graphs",
                 "metrics": "save.metrics", "metrics_count": "save.metrics_count", "best_by": "save.best_by"}

ADAPTED = "demo256"  # what the preset `adapt` starts from where nothing else is named
FEWEST = 8            # scans that a generator can be adapted to
NARROW = 4_000_000  # numbers in the feature maps of a picture up to which a process a core is better than threads


def data_config(archive_path: Path, world: World) -> DataConfig:
    """Return what an archive says of itself.

    Raises:
        DataError: it cannot be read or holds nothing to train on.
    """
    archive = Archive(archive_path)
    if archive.source == SYNTHETIC:
        raise DataError(f"{archive_path} holds pictures that a generator drew; training on them teaches its "
                        "mistakes as truth. Give scans; to go on from that generator, add --start-from.")
    if "train" not in archive.splits:
        raise DataError(f"{archive_path} holds no training images. Convert again with a larger share for training.")
    return DataConfig(path=str(archive_path), fingerprint=archive.fingerprint, resolution=archive.resolution,
                      channels=archive.channels, classes=tuple(archive.classes),
                      workers=2 if world.device.type == "cuda" else 0)


def archive_for(data: str | None, resolution: int | None, preset: str | None, changes: Mapping[str, Any],
                alone: World, *, simulate: int | None = None, cache: Path = Path("data"),
                say: Callable[[str], object] = lambda _: None, bar: Bar = progress_bar) -> Path:
    """Return the archive to learn from; wrong options are refused before any data are made, which may take long.

    Args:
        data, resolution, preset, simulate, cache, say, bar: as `prepare_archive`.
        changes: as for `resolve`.
        alone: a world of one on the device.
    Raises:
        UserError: an option cannot work, or the data cannot be used.
    """
    resolution = resolution or adapted_resolution(preset, changes.get("start_from"))
    size = planned_resolution(data, resolution, preset)
    resolve(DataConfig(path="", fingerprint="", resolution=size, classes=CLASSES), preset, changes, alone)
    few = preset == "adapt"
    archive = prepare_archive(data, resolution, preset=preset, cache=cache, simulate=simulate, few=few, say=say,
                              bar=bar)
    if few:
        check_few(archive)
    return archive


def resolve(data: DataConfig, preset: str | None, changes: Mapping[str, Any], world: World) -> TrainConfig:
    """Return the whole configuration of a run.

    Args:
        data: what is learned from.
        preset: a name in PRESETS, or None for the one of the resolution.
        changes: dotted fields and values; None leaves the preset's.
        world: whose number of processes and device decide the micro-batch.
    Raises:
        UserError: an option cannot work, with the nearest that can.
    """
    on_gpu = world.device.type == "cuda"
    base = PRESETS[preset or default_preset(data.resolution, on_gpu=on_gpu)](data, world.size)
    changes = dict(changes)
    start, grow = changes.pop("start_from", None), changes.pop("grow", None)
    if grow is None and start is not None:
        grow = "off"  # whoever has weights to start from has the shapes
    if grow is not None:
        stages = parse_grow(grow, base, gamma=changes.get("r1.gamma"))
        changes["grow"] = [dataclasses.asdict(stage) for stage in stages]
    if base.preset == "adapt":
        start = start or ADAPTED
        info = read_info(find_generator(Path(start)))
        base = adapted_to(base, run_config(info.path), info.options)
    fitted = changes.get("batch_gpu") is None
    config = override(base, {**changes, "batch_gpu": 1} if fitted else changes)
    check_metrics(config.save.metrics)
    if config.precision == "fp16" and world.device.type == "cpu":
        raise ConfigError("Float16 needs a GPU: CPUs are slow at it. Try --precision bf16.")
    if start is not None:
        file = find_generator(Path(start))
        config = dataclasses.replace(config, start_from=str(start), start_sha256=sha256_of(file))
    if fitted:
        return fit_to_device(config, base.batch_gpu, on_gpu=on_gpu, processes=world.size)
    if config.batch % (config.batch_gpu * world.size):
        raise ConfigError(f"batch must be a multiple of processes * batch-gpu = {world.size * config.batch_gpu}; got "
                          f"{config.batch}. Leave --batch-gpu out to have it chosen.")
    return config


def adapted_resolution(preset: str | None, start_from: str | None) -> int | None:
    """Return the resolution of the generator that the preset `adapt` goes on from; None for other presets."""
    return read_info(find_generator(Path(start_from or ADAPTED))).resolution if preset == "adapt" else None


def check_few(archive_path: Path) -> None:
    """Refuse scans from which the preset `adapt` cannot learn, or by which it cannot be judged.

    Raises:
        DataError: says what is missing.
    """
    archive = Archive(archive_path)
    count = len(archive.names("train"))
    if not archive.classes:
        raise DataError(f"{archive_path} holds scans without classes. Put the scans into a folder for each class, "
                        "one is enough: scans/DRUSEN/1.png.")
    if count < FEWEST:
        raise DataError(f"{archive_path} holds {count} scans to learn from; a generator needs at least {FEWEST} to be "
                        "adapted. Bring more, or draw with the generator as it is.")
    if archive.splits == ("train",):
        raise DataError(f"All scans of {archive_path} are of one patient, or of no held-out one: nothing is left by "
                        "which to tell when to stop. Bring scans of another patient.")


def useful_processes(config: TrainConfig, device: torch.device) -> int:
    """Return how many processes on this computer train fastest without being asked for.

    One on a GPU. On a CPU large layers keep all cores busy. Narrow networks do better with a process a core, as far as
    the batch can be shared in groups of the minibatch standard deviation: at 64 px no faster than threads on a quiet
    machine, but twice as fast where another program is busy on one of two cores, since processes do not wait in a loop.
    """
    if device.type != "cpu" or config.feature_numbers() > NARROW:
        return 1
    most = min(os.cpu_count() or 1, config.batch // config.D.mbstd_group_size)
    return max(n for n in range(1, max(most, 1) + 1) if config.batch % n == 0)


@dataclass(frozen=True)
class Choice:
    """The run to train, and whether it is already done."""

    run: RunDir
    resumes: bool
    finished: bool
    note: str = ""  # why another run is not gone on with


def choose_run_together(config: TrainConfig, outdir: Path, *, new: bool, world: World) -> Choice:
    """Return the first process's `choose_run` on every process."""
    text = ""
    if world.is_first:
        choice = choose_run(config, outdir, new=new)
        text = json.dumps([str(choice.run.path), choice.resumes, choice.finished, choice.note])
    path, *rest = json.loads(world.share(text))
    return Choice(RunDir(Path(path)), *rest)


def choose_run(config: TrainConfig, outdir: Path, *, new: bool) -> Choice:
    """Return the newest run with the same identity, or a new directory.

    A run is finished when it has seen the configured number of images, so a longer `total_kimg` goes on with it.
    """
    def same(stored: dict[str, Any]) -> bool:
        try:
            return from_dict(TrainConfig, stored).identity() == config.identity()
        except ConfigError:  # written by another release
            return False

    run = None if new else find_run(outdir, same)
    if run is None:
        note = "" if new else _nearly(config, outdir)
        name = f"{config.preset}-{config.data.resolution}px-b{config.batch}"
        return Choice(create_run(outdir, name), False, False, note)
    complete = checkpoint.complete_checkpoints(run.checkpoints)
    done = checkpoint.nimg_of(complete[-1]) if complete else 0
    return Choice(run, True, done >= config.total_nimg)


def _nearly(config: TrainConfig, outdir: Path) -> str:
    """Return in what the newest run on the same data differs from a configuration, "" where there is none."""
    for run in runs_in(outdir):
        stored = run.read_config() or {}
        try:
            other = from_dict(TrainConfig, stored).identity()
        except ConfigError:
            continue
        if stored["data"]["fingerprint"] != config.data.fingerprint:
            continue
        wanted = _flat(config.identity())
        found = _flat(other)
        names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        told = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        return f"{run.path} has other settings ({told}), and goes on only with its own"
    return ""


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested fields by their dotted names."""
    parts = ({f"{prefix}{key}": value} if not isinstance(value, dict) else _flat(value, f"{prefix}{key}.")
             for key, value in data.items())
    return {key: value for part in parts for key, value in part.items()}


def set_up_device(config: TrainConfig, world: World) -> None:
    """Set what this process's device computes with, for a whole run."""
    if world.device.type == "cpu":
        if config.batch_gpu * config.feature_numbers() > LEARNT:
            map_large_blocks()
        return
    torch.backends.cudnn.benchmark = True  # every step has the same shapes
    allow_tf32(config.tf32)


def run(config: TrainConfig, outdir: Path, *, new: bool, world: World,
        console: Console) -> tuple[Choice, loop.Outcome | None]:
    """Train the newest unfinished run of the same configuration, or a new one; no outcome where it is finished.

    Raises:
        UserError: the run cannot go on.
    """
    choice = choose_run_together(config, outdir, new=new, world=world)
    return choice, None if choice.finished else start(config, choice, world, console)


def start(config: TrainConfig, choice: Choice, world: World, console: Console) -> loop.Outcome:
    """Train the chosen run with its log open; only the first process writes and speaks.

    Raises:
        UserError: the run cannot go on; the reason is in the log too.
    """
    run = choice.run
    lock = run.lock() if world.is_first else None
    set_up_device(config, world)
    try:
        if world.is_first:
            with atomic_write(run.config) as file:
                file.write(to_json(config) + "\n")
            logs.open_log(run.log, _ConsoleHandler(console))
            log.info("%s %s", "going on with" if choice.resumes else "training in", run.path)
            if choice.note:
                log.info("a run of its own: %s", choice.note)
        return loop.train(config, run, world, console)
    except OSError as error:
        raise TrainingError(f"A file of the run could not be written or read ({error.strerror or error}). Make room, "
                            "or give access, and run the same command again: it goes on from the last complete "
                            "checkpoint.") from error
    except RuntimeError as error:
        advice = loop.check_memory(error, config)
        if advice is None:
            raise
        raise advice from error
    finally:
        logs.close_log()
        if lock:
            lock.close()


class _ConsoleHandler(logging.Handler):
    """Prints log lines above the progress bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        self._console.print(prefix + record.getMessage(), highlight=False, markup=False, soft_wrap=True)
