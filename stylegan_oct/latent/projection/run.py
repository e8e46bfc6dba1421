"""From files to reports: scans are projected batch by batch, and what is done is never done again."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.latent.intake import Refused, prepare
from stylegan_oct.latent.projection import report
from stylegan_oct.latent.projection.calibration import Calibration
from stylegan_oct.latent.projection.engine import Engine, Progress, Result
from stylegan_oct.latent.projection.report import Task
from stylegan_oct.phantom import render

SIMULATED_SEED = 20_260_100   # of the scans that are projected when there are none; no training set has it


@dataclass(frozen=True)
class Options:
    """What is written."""

    out: Path
    film: bool = False
    again: bool = False       # project also what is done


def simulated(settings: Preprocess, classes: Sequence[str]) -> list[Task]:
    """Return one simulated scan of each class that the phantom knows.

    Raises:
        ConfigError: it knows none.
    """
    from stylegan_oct.classes import CLASSES
    from stylegan_oct.data.readers.bscan import BScan
    tasks = []
    for index, label in enumerate(CLASSES):
        if label in classes or not classes:
            scan = render(SIMULATED_SEED, index, label=label, border=False)
            um_x = 1000 * scan.factors.width_mm / scan.image.shape[1]
            bscan = BScan(pixels=scan.image, number=1, um_per_px_z=496 * 3.872 / len(scan.image), um_per_px_x=um_x)
            tasks.append(Task(prepare(bscan, settings), None, patient=False))
    if not tasks:
        raise ConfigError(f"Simulated scans show {', '.join(CLASSES)}, and this generator draws none of these. Name a "
                          "scan.")
    return tasks


def project_all(engine: Engine, items: Iterable[Task | Refused], calibration: Calibration, options: Options, *,
                say: Callable[[str], object] = lambda _: None,
                progress: Progress = lambda *_: None) -> Iterator[dict[str, Any]]:
    """Yield the facts of each scan, in order, after its files have been written; Ctrl-C ends with whole files.

    A scan that cannot be used is reported and left out. Scans done before in the same manner are read, not repeated.

    Args:
        engine: the manner of projecting.
        items: scans, and files that could not be read.
        calibration: usual distances.
        options: what is written where.
        say: called with a line for each scan that is left out or odd.
        progress: called with (done, total, what) within a batch.
    Raises:
        DataError: no scan could be used, or the files cannot be written.
    """
    count = 0
    usable = _usable(items, say)
    while batch := list(islice(usable, engine.scans_at_once)):
        done = {} if options.again else {task.key: facts for task in batch
                                         if (facts := report.read_facts(options.out, task, engine)) is not None}
        fresh = [task for task in batch if task.key not in done]
        if fresh:
            for task, facts in zip(fresh, _project(engine, fresh, calibration, options, progress), strict=True):
                done[task.key] = facts
        for task in batch:
            count += 1
            yield done[task.key]
    if count == 0:
        raise DataError("No scan could be used; see the lines above.")


def _usable(items: Iterable[Task | Refused], say: Callable[[str], object]) -> Iterator[Task]:
    for item in items:
        if isinstance(item, Refused):
            say(f"left out: {item}")
        else:
            yield item


def _project(engine: Engine, tasks: Sequence[Task], calibration: Calibration, options: Options,
             progress: Progress) -> Iterator[dict[str, Any]]:
    results = find_latents(engine, tasks, path_every=1 if options.film else 0, progress=progress)
    for task, result in zip(tasks, results, strict=True):
        yield report.save(options.out, task, result, engine, calibration, film=options.film)


def find_latents(engine: Engine, tasks: Sequence[Task], *, path_every: int = 0,
                 progress: Progress = lambda *_: None) -> list[Result]:
    """Return the projections of scans, all optimised together, with nothing written; arguments as `Engine.run`."""
    pixels = np.stack([task.target.pixels for task in tasks])
    targets = torch.from_numpy(pixels.reshape(*pixels.shape[:3], -1)).permute(0, 3, 1, 2).contiguous()
    valid = torch.from_numpy(np.stack([task.target.valid for task in tasks]))[:, None]
    return engine.run(targets, None if bool(valid.all()) else valid, [task.class_name for task in tasks],
                      patient=any(task.patient for task in tasks), path_every=path_every, progress=progress)


def write_summary(out: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write one table of all scans and return its path."""
    path = out / f"{'private' if any(row['derived_from_patient'] for row in rows) else 'simulated'}-summary.csv"
    report.write_table(path, rows)
    return path


def to_json(rows: Sequence[dict[str, Any]]) -> str:
    """Return the facts of all scans as JSON; what could not be measured is null."""
    return json.dumps(rows, allow_nan=False)


def summary_lines(number: int, facts: Mapping[str, Any]) -> list[str]:
    """Return what is printed of one scan."""
    beyond = facts["percentile_among_samples"]
    usual = "" if beyond is None else f", farther than {beyond:.0f} % of generated"
    held_out = facts["percentile_among_held_out"]
    usual += "" if held_out is None else f" and {held_out:.0f} % of held-out scans"
    ranked = facts["distances_of_the_classes"]
    others = f" (early distances: {', '.join(f'{n} {d:.3f}' for n, d in ranked.items())})" if len(ranked) > 1 else ""
    changed = [report.biomarker_line(name, row) for name, row in facts["biomarkers"].items() if row["beyond_error"]]
    quality = f"PSNR {facts['psnr'] or float('inf'):.1f} dB, SSIM {facts['ssim']:.3f}"
    lines = [f"{number}  {facts['scan']}  distance {facts['distance']:.4f}{usual}",
             f"   nearest class {facts['class'] or '-'}{others}; {quality}"]
    if changed:
        lines.append(f"   changed beyond the measurement's error: {', '.join(changed)}")
    return [*lines, *(f"   note: {note}" for note in facts["notes"])]
