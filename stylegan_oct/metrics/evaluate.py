"""An evaluation from a generator and an archive to report.json and report.html."""

import dataclasses
import datetime
import logging
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib.errors import DataError, UserError
from dnnlib.logs import append_jsonl
from dnnlib.rundir import RunDir
from stylegan_oct import __version__
from stylegan_oct.metrics.ground import Ground
from stylegan_oct.metrics.observers.observe import Observer, observe
from stylegan_oct.metrics.observers.pictures import Pictures
from stylegan_oct.metrics.report.report import FILE, PARTS, Part, Report, encode, read_report, write_report
from stylegan_oct.metrics.report.verdict import judge
from stylegan_oct.metrics.sides import SIDES
from stylegan_oct.metrics.statistics.values import Value

log = logging.getLogger(__name__)

PAGE = "report.html"
GROUND = ("subject", "reference", "detectors", "settings", "versions")   # equal ones, comparable parts
METRICS_FILE = "metrics.jsonl"


def evaluate(ground: Ground, out: Path, *, show_scans: bool = False,
             say: Callable[[str], object] = lambda _: None) -> Report:
    """Measure, and write `report.json` after each part and `report.html` at the end; return the report.

    An evaluation that was stopped goes on with what it lacks; a finished one is measured again, from what was seen of
    the pictures before. Parts that are not asked for are taken over from an earlier report of the same ground. A part
    that cannot be measured says why, and the others go on. With several processes, the first writes.

    Args:
        ground: generator, archive and settings.
        out: folder.
        show_scans: put scans into the page though they are of patients; it is then `private-report.html`.
        say: called with a line about a part that is not measured.
    Raises:
        DataError: files cannot be written.
        KeyboardInterrupt: stopped; what is measured is in the report.
    """
    report = _begin(ground, out, say)
    wanted = [name for name in PARTS if name in ground.settings.only]
    todo = [name for name in wanted if report.part(name) is None]
    run = _run_of(ground)
    try:
        _look(ground, todo)
        for name in todo:
            part = _measure(ground, name)
            if part.reason:
                say(f"{name} is not measured: {part.reason}")
            report = _with_part(report, part)
            if ground.world.is_first:
                write_report(out / FILE, report)
                if run is not None:
                    append_values(run, report, part.values)
    finally:
        if ground.world.is_first and report.parts:
            _write_page(ground, report, out, show_scans)
    report = dataclasses.replace(report, complete=True)
    if ground.world.is_first:
        write_report(out / FILE, report)
    return report


def append_values(run: Path, report: Report, values: Sequence[Value]) -> None:
    """Append a line for each value to the run's metrics.jsonl."""
    for value in values:
        append_jsonl(run / METRICS_FILE, {
            "nimg": report.subject.nimg, "time": time.time(), **encode(value), "psi": report.subject.psi,
            "reference": report.reference.fingerprint, "checkpoint_sha256": report.subject.sha256})


def describe(ground: Ground) -> dict[str, Any]:
    """Return the settings as the report tells them."""
    settings = ground.settings
    counts = np.bincount(ground.fake.labels, minlength=max(len(ground.fake.classes), 1)).tolist()
    found: dict[str, Any] = encode({
        "count": len(ground.fake), "classes": dict(zip(ground.fake.classes, counts, strict=False)),
        "detectors": list(settings.detectors), "official": settings.official, "psi": settings.psi,
        "seed": settings.seed, "weights": sorted(settings.weights)})
    return found


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {"stylegan_oct": __version__, "python": platform.python_version(), "torch": torch.__version__,
            "numpy": np.__version__}


def _begin(ground: Ground, out: Path, say: Callable[[str], object]) -> Report:
    """Return a report without the parts that are to be measured now; put a report of something else aside."""
    fresh = Report(made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), subject=ground.subject(),
                   reference=ground.reference(), detectors=ground.seers(), settings=describe(ground),
                   versions=versions(), parts=(), warnings=ground.warnings())
    before = _earlier(out)
    ground.world.barrier()  # before the first process writes what the others have read
    if before is None:
        return fresh
    if any(getattr(before, name) != getattr(fresh, name) for name in GROUND):
        if ground.world.is_first:
            aside = out / f"report-{before.subject.sha256[:12]}.json"
            os.replace(out / FILE, aside)
            say(f"{out} held a report of another generator, archive or settings; it is now {aside.name}")
        return fresh
    kept = tuple(part for part in before.parts if not part.reason and
                 (not before.complete or part.name not in ground.settings.only))
    return dataclasses.replace(fresh, parts=kept)


def _earlier(out: Path) -> Report | None:
    try:
        return read_report(out / FILE) if (out / FILE).exists() else None
    except DataError:  # of another release, or damaged: measured anew
        return None


def _look(ground: Ground, names: Sequence[str]) -> None:
    """Draw the samples once for all parts; a part whose networks are missing says so when its turn comes."""
    observers: dict[str, dict[str, Observer]] = defaultdict(dict)
    pictures: dict[str, Pictures] = {}
    for name in names:
        try:
            chosen = SIDES[name].pictures(ground)
            pictures[chosen.identity] = chosen
            observers[chosen.identity].update({found.identity: found for found in SIDES[name].observers(ground)})
        except UserError as error:
            log.debug("%s has no observers: %s", name, error)
    for identity, found in observers.items():
        if found:
            observe(pictures[identity], list(found.values()), ground.cache, world=ground.world,
                    batch=ground.batch, progress=ground.telling("drawing samples"))


def _measure(ground: Ground, name: str) -> Part:
    begin = time.monotonic()
    try:
        part = SIDES[name].measure(ground)
    except UserError as error:
        part = Part(name=name, reason=str(error))
    return dataclasses.replace(part, seconds=round(time.monotonic() - begin, 1))


def _with_part(report: Report, part: Part) -> Report:
    parts = sorted((*report.parts, part), key=lambda found: PARTS.index(found.name))
    changed = dataclasses.replace(report, parts=tuple(parts))
    return dataclasses.replace(changed, verdict=judge(changed.values))


def _run_of(ground: Ground) -> Path | None:
    """Return the run that the generator's checkpoint lies in."""
    folders = ground.G.info.path.resolve().parents
    inside = len(folders) > 2 and folders[1].name == "checkpoints" and RunDir(folders[2]).read_config() is not None
    return folders[2] if inside else None


def _write_page(ground: Ground, report: Report, out: Path, show_scans: bool) -> None:
    from stylegan_oct.metrics.report.page import save_page  # matplotlib takes seconds to import
    from stylegan_oct.metrics.report.showing import pictures_of

    private = show_scans and report.reference.source != "phantom"
    pictures = pictures_of(ground, report, show_scans=show_scans or report.reference.source == "phantom")
    save_page(out / (f"private-{PAGE}" if private else PAGE), report, pictures, private=private)
