"""What is shown and written while training: progress, statistics, sample grids, checkpoints."""

import contextlib
import logging
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch

from dnnlib.errors import TrainingError
from dnnlib.logs import append_jsonl, count_of, keep_rows
from dnnlib.rundir import RunDir
from stylegan_oct.config import TrainConfig
from stylegan_oct.training.bar import Bar
from stylegan_oct.training.quality import Quality
from stylegan_oct.training.snapshots import Snapshots
from stylegan_oct.training.state import State
from torch_utils import checkpoint
from torch_utils.distributed import World
from torch_utils.stats import Moments, Stats

log = logging.getLogger(__name__)

MASKED_LIMIT = 0.5      # share of steps in a tick whose gradients may be masked before the run stops
LEAK_LIMIT = 0.8        # p from which augmentations may show in the samples (ADA, section 2.2)
COLLAPSE_LIMIT = 0.4    # diversity of a class against the real scans below which a warning is given
COLLAPSE_AFTER = 50000  # images to be seen before it, since every class starts as one picture


class Monitor:
    """Stands behind the loop: `after_step` once a step, on every process.

    Args:
        config, run, state, world, stats: of the run.
        snapshots: draws the grids; only on the first process.
        bar: where the progress goes.
        quality: measures the snapshots; only on the first process, and where the run asks for it.
    """

    def __init__(self, config: TrainConfig, run: RunDir, state: State, world: World, stats: Stats,
                 snapshots: Snapshots | None, bar: Bar, quality: Quality | None = None) -> None:
        self._config, self._run, self._state, self._world = config, run, state, world
        self._stats, self._snapshots, self._bar, self._quality = stats, snapshots, bar, quality
        self._tick_nimg = max(round(config.save.tick_kimg * 1000 / config.batch), 1) * config.batch
        self._snapshot_nimg = max(round(config.save.snapshot_kimg * 1000 / config.batch), 1) * config.batch
        self._events: Any = None
        self._warned_of_leaks = False

    def __enter__(self) -> "Monitor":
        now = time.monotonic()
        self._start = self._tick_start = self._saved = now
        self._tick_start_nimg = self._state.nimg
        self._bar.begin_stage(self._state.nimg)
        self._latest: dict[str, Moments] = {}
        if self._world.is_first:
            keep_rows(self._run.stats, lambda row: count_of(row, "nimg") <= self._state.nimg)
            self._events = _event_writer(self._run.events, self._state.nimg)
        return self

    def __exit__(self, *_: object) -> None:
        if self._events:
            self._events.close()

    def start(self) -> None:
        """Write what stands at the beginning: the training images and the untrained samples, or those gone on with."""
        if self._snapshots is not None:
            self._run.samples.mkdir(exist_ok=True)
            self._snapshots.save_reals(self._run.samples / "reals.png", self._state.data_source)
            if self._state.nimg == 0:
                self._save_grid()
        if self._state.nimg and self._state.nimg % self._snapshot_nimg == 0:
            self._measure()  # a kill may have come between a snapshot and its evaluation

    def after_step(self) -> None:
        """Show progress; at a tick write statistics; at a snapshot write samples and a checkpoint."""
        nimg, total = self._state.nimg, self._config.total_nimg
        last = nimg >= total
        if nimg % self._tick_nimg == 0 or last:
            self._tick()
        if self._world.is_first:
            self._bar.show(nimg, self._losses())
        if nimg % self._snapshot_nimg == 0 or last:
            self._save_grid()
            self.save()
            self._measure()
        else:
            overdue = time.monotonic() - self._saved > self._config.save.every_min * 60
            if self._world.any(self._world.is_first and overdue):
                self.save()

    def save(self) -> None:
        """Write a checkpoint, unless weights are not finite or nothing was learned yet, and thin out old ones.

        Raises:
            TrainingError: weights are not finite, or the disk is full.
        """
        self._saved = time.monotonic()
        if not self._world.is_first or self._state.nimg == 0:
            return
        self._refuse_broken_weights()
        path = self._state.save(self._run.checkpoints, {"elapsed_sec": time.monotonic() - self._start})
        best = self._quality.best_nimg if self._quality else None
        checkpoint.prune(self._run.checkpoints, keep=self._config.save.keep, reduce_to="G_ema",
                         snapshot_nimg=self._snapshot_nimg, spare=() if best is None else (best,))
        log.debug("saved %s", path)

    @property
    def exhausted(self) -> bool:
        """Whether the run is to end because it gets no better; known to the first process alone."""
        return self._quality is not None and self._quality.exhausted

    @property
    def grid(self) -> Path | None:
        """The newest sample grid."""
        return max(self._run.samples.glob("nimg-*.png"), default=None)

    def _tick(self) -> None:
        """Gather the statistics of all processes, and stop a run that no longer learns."""
        self._latest = self._stats.flush()
        if self._world.is_first:
            now = time.monotonic()
            rate = (self._state.nimg - self._tick_start_nimg) / max(now - self._tick_start, 1e-9)
            self._tick_start, self._tick_start_nimg = now, self._state.nimg
            row = {"nimg": self._state.nimg, "resolution": self._config.data.resolution, "time": time.time(),
                   "img_per_sec": round(rate, 3),
                   "elapsed_sec": round(now - self._start, 1), "memory_gb": round(_peak_memory(self._world) / 2**30, 3),
                   "augment_p": self._state.p, "path_length": float(self._state.pl_mean)}
            row.update({name: moments.mean for name, moments in self._latest.items()})
            append_jsonl(self._run.stats, row)
            self._write_events(row)
            self._bar.tick(self._state.nimg, self._losses())
        masked = max((self._latest[name].mean for name in self._latest if name.startswith("nonfinite/")), default=0)
        if masked > MASKED_LIMIT:
            raise TrainingError(f"{masked:.0%} of the steps up to {self._state.nimg} images had gradients that are not "
                                f"numbers; the run stops.{self._last_good()} Lower the learning rate or raise gamma, "
                                "or look for broken images in the data.")
        if self._state.p >= LEAK_LIMIT and not self._warned_of_leaks:
            self._warned_of_leaks = True
            log.warning("augmentation strength p is %.2f; from 0.8 on its effects may leak into the samples. Look for "
                        "rotated or shifted ones (docs/augmentation.md)", self._state.p)
        if masked > 0:
            log.warning("%.1f %% of the steps had gradients that are not numbers; they were masked", 100 * masked)

    def _save_grid(self) -> None:
        """Write the sample grid and watch over the variety within each class."""
        if self._snapshots is None:
            return
        shares = self._snapshots.save(self._run.samples / f"nimg-{self._state.nimg:08d}.png", self._state.nimg)
        if self._state.nimg:
            row = {"nimg": self._state.nimg, **{f"diversity/{name}": share for name, share in shares.items()}}
            append_jsonl(self._run.stats, row)
            self._write_events(row)
        if self._state.nimg >= COLLAPSE_AFTER:
            for name, share in shares.items():
                if share < COLLAPSE_LIMIT:
                    log.warning("the samples of %s vary only %.0f %% as much as the real scans; see "
                                "docs/training.md, 'A class collapses'", name, 100 * share)

    def _measure(self) -> None:
        """Evaluate the snapshot that was just saved."""
        nimg = self._state.nimg
        if self._quality is None or self._quality.knows(nimg):
            return
        found = self._quality.measure(nimg, self._run.checkpoints / f"nimg-{nimg:08d}")
        if found:
            row = {"nimg": nimg, **{f"metrics/{name}": value for name, value in found.items()}}
            append_jsonl(self._run.stats, row)
            self._write_events(row)

    def _losses(self) -> str:
        """Return the losses at the last tick, and p."""
        losses = "".join(f"  {name} {self._latest[key].mean:.2f}"
                         for name, key in (("G", "loss/G"), ("D", "loss/D")) if key in self._latest)
        return f"{losses}  p {self._state.p:.3f}"

    def _write_events(self, row: dict[str, Any]) -> None:
        if self._events:
            for name, value in row.items():
                if name not in ("nimg", "time"):
                    self._events.add_scalar(name, value, row["nimg"])
            self._events.flush()

    def _refuse_broken_weights(self) -> None:
        for name, network in (("G", self._state.G), ("D", self._state.D), ("G_ema", self._state.G_ema)):
            if not all(bool(tensor.isfinite().all()) for tensor in network.parameters()):
                raise TrainingError(f"The weights of {name} are no longer numbers after {self._state.nimg} images; the "
                                    f"run stops.{self._last_good()} Lower the learning rate or raise gamma.")

    def _last_good(self) -> str:
        complete = checkpoint.complete_checkpoints(self._run.checkpoints)
        return f" The last good checkpoint is {complete[-1]}." if complete else ""


def _event_writer(directory: Path, purge_step: int) -> Any:
    """Return a TensorBoard writer, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("TensorBoard is not installed, so only stats.jsonl is written (pip install tensorboard).")
        return None
    return SummaryWriter(str(directory), purge_step=purge_step)


def _peak_memory(world: World) -> float:
    """Return the most bytes in use so far: of the GPU, or of this process."""
    if world.device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(world.device))
    with contextlib.suppress(AttributeError):
        unit = 1 if sys.platform == "darwin" else 1024
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
    return 0.0
