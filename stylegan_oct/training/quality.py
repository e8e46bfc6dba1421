"""A quick evaluation of the snapshots of a run, and its best checkpoint."""

import contextlib
import dataclasses
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from dnnlib.config import Count, Finite, Measured, Name, from_dict
from dnnlib.errors import ConfigError
from dnnlib.files import atomic_write
from dnnlib.logs import append_jsonl, count_of, keep_rows, read_jsonl
from dnnlib.rundir import RunDir
from dnnlib.stored import brief, is_inside, read_json
from dnnlib.text import suggest
from stylegan_oct.config import TrainConfig
from stylegan_oct.features.detector import DETECTORS, Detector, load_detector
from stylegan_oct.metrics.distances.fidelity import METRICS, measure_fidelity
from stylegan_oct.metrics.distances.kernel import Draws, kernel_distance
from stylegan_oct.metrics.observers.observe import Embedding, observe
from stylegan_oct.metrics.observers.pictures import (
    ArchivePictures,
    DrawnPictures,
    Pictures,
    some_of_each,
    spread_labels,
)
from stylegan_oct.metrics.report.report import encode
from stylegan_oct.metrics.statistics.values import Value
from stylegan_oct.model import OctGenerator
from torch_utils.checkpoint import is_complete

log = logging.getLogger(__name__)

BY = "train"     # marks the lines of metrics.jsonl that the training wrote


def check_metrics(names: Sequence[str]) -> None:
    """Refuse metrics that cannot be measured at snapshots.

    Raises:
        ConfigError: names the nearest that can.
    """
    known = [f"{metric}_{detector}" for detector in DETECTORS for metric in METRICS]
    for name in names:
        if name not in known:
            raise ConfigError(f"There is no metric {name!r} to be measured at snapshots.{suggest(name, known)}")


class Quality:
    """Measures the averaged generator against held-out scans, with few samples; on the first process alone.

    Nothing that goes wrong here ends a run, and nothing changes what it learns: samples are drawn from seeds of their
    own.

    Args:
        config: of the run; `save.metrics` is what is measured.
        run: where metrics.jsonl and best.json are.
        G: the averaged generator, with the names of its classes.
        nimg: images shown when the run goes on; what was written of later ones is dropped.
    """

    def __init__(self, config: TrainConfig, run: RunDir, G: OctGenerator, nimg: int) -> None:
        self._save, self._run, self._G = config.save, run, G
        self._archive = Path(config.data.path)
        self._best_by = config.save.best_by or config.save.metrics[0]
        self._since: int | None = None  # snapshots since the best; None: to be counted
        keep_rows(run.metrics, lambda row: row.get("by") != BY or count_of(row, "nimg") <= nimg)

    @property
    def best_nimg(self) -> int | None:
        """Images shown at the best checkpoint by the chosen metric; None where there is none yet."""
        best = self._best()
        return None if best is None else best.nimg

    @property
    def exhausted(self) -> bool:
        """Whether the last snapshots, as many as the run's patience, were all worse than the best."""
        if self._since is None:
            self._since = self._snapshots_since_best()
        return 0 < self._save.patience <= self._since

    def _snapshots_since_best(self) -> int:
        best = self.best_nimg
        if best is None:
            return 0
        since = {count_of(row, "nimg") for row in read_jsonl(self._run.metrics)
                 if row.get("by") == BY and count_of(row, "nimg") > best}
        return len(since)

    def knows(self, nimg: int) -> bool:
        """Whether the generator of that image count was measured."""
        return any(row.get("by") == BY and row.get("nimg") == nimg for row in read_jsonl(self._run.metrics))

    def measure(self, nimg: int, checkpoint: Path) -> dict[str, float]:
        """Measure, write it down, keep the checkpoint if it is the best; return the numbers, {} where it failed."""
        self._since = None
        try:
            with torch.random.fork_rng(devices=[]):
                values = self._values(nimg)
            for value in values:
                append_jsonl(self._run.metrics, {"nimg": nimg, "time": time.time(), "by": BY, **encode(value)})
            chosen = next((value for value in values if value.metric == self._best_by), None)
            if chosen is not None:
                self._keep_best(nimg, checkpoint, chosen)
            return {value.metric: value.value for value in values}
        except Exception as error:  # whatever it is, it must not end a run of days
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            log.warning("the evaluation after %d images failed, and training goes on: %s", nimg, reason)
            return {}

    def _values(self, nimg: int) -> list[Value]:
        held_out = self._held_out
        basis = held_out if held_out is not None else self._training
        counts = np.bincount(basis.labels, minlength=max(len(basis.classes), 1))
        wanted = np.maximum(np.round(counts * self._save.metrics_count / counts.sum()), counts).astype(int)
        fake = DrawnPictures(self._G, spread_labels(wanted.tolist()))
        cache = self._archive.with_name(f"{self._archive.stem}-seen")
        with tempfile.TemporaryDirectory() as folder:  # the next snapshot's samples are others
            values = measure_fidelity(self._training, held_out, fake, self._detectors, cache=cache,
                                      fake_cache=Path(folder), halvings=4)
            wanted = [value for value in values if value.metric in self._save.metrics and value.class_name is None]
            return [value if math.isfinite(value.value) or not value.metric.startswith("kd_") else
                    self._to_all(value, basis, fake, cache, Path(folder)) for value in wanted]

    def _to_all(self, value: Value, scans: Pictures, fake: Pictures, cache: Path, fake_cache: Path) -> Value:
        """Return the kernel distance to all scans, which are too few to be halved: without bias, but without floor."""
        detector = next(found for found in self._detectors if value.metric == f"kd_{found.name}")
        real, drawn = (observe(pictures, [Embedding(detector)], folder)[detector.identity]
                       for pictures, folder in ((scans, cache), (fake, fake_cache)))
        distance = kernel_distance(Draws(real, scans.groups), Draws(drawn))
        return dataclasses.replace(value, value=distance, n=len(fake), n_real=len(scans),
                                   note="to all held-out scans, which are too few to be halved")

    @cached_property
    def _detectors(self) -> list[Detector]:
        names = [name for name in DETECTORS if any(metric.endswith(f"_{name}") for metric in self._save.metrics)]
        return [load_detector(name, device=self._G.device) for name in names]

    @cached_property
    def _training(self) -> Pictures:
        return some_of_each(ArchivePictures(self._archive, ["train"]), self._save.metrics_count)

    @cached_property
    def _held_out(self) -> Pictures | None:
        splits = [split for split in ArchivePictures(self._archive).splits if split != "train"]
        return some_of_each(ArchivePictures(self._archive, splits), self._save.metrics_count) if splits else None

    def _keep_best(self, nimg: int, checkpoint: Path, value: Value) -> None:
        loss, best = _loss(value), self._best()
        if not math.isfinite(loss) or (best is not None and best.loss <= loss):
            return
        with atomic_write(self._run.best) as file:
            json.dump({"nimg": nimg, "checkpoint": checkpoint.name, "metric": value.metric, "value": value.value,
                       "floor": value.floor, "loss": loss}, file, indent=1)
        log.info("the best so far by %s: %.4g after %d images", value.metric, value.value, nimg)
        link = self._run.path / "best"
        with contextlib.suppress(OSError):  # Windows makes no links for everybody; best.json says it all the same
            temporary = self._run.path / ".tmp-best"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(checkpoint.relative_to(self._run.path), target_is_directory=True)
            os.replace(temporary, link)

    def _best(self) -> "Best | None":
        """Return what best.json says, if it is by the same metric and its checkpoint is there."""
        try:
            best = from_dict(Best, read_json(self._run.best, nan=True))
        except (OSError, ConfigError):
            return None
        there = best.metric == self._best_by and is_complete(self._run.checkpoints / best.checkpoint)
        return best if there else None


@dataclass(frozen=True, kw_only=True)
class Best:
    """What best.json says of the best checkpoint."""

    nimg: Count
    checkpoint: Name
    metric: Name
    value: Finite
    floor: Measured | None
    loss: Finite

    def __post_init__(self) -> None:
        if not is_inside(self.checkpoint) or "/" in self.checkpoint:
            raise ConfigError(f"checkpoint must be the name of a folder; got {brief(self.checkpoint)}.")


def _loss(value: Value) -> float:
    """Return a number that is lower for a better value."""
    if value.better == "floor" and value.floor is not None:
        return abs(value.value - value.floor)
    return -value.value if value.better == "higher" else value.value
