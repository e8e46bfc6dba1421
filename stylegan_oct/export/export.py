"""Exports samples of a generator: prepared, drawn part by part by one process or many, described, sealed."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dnnlib.errors import DataError, UserError
from stylegan_oct.export.description.manifest import Samples
from stylegan_oct.export.drawing.draw import Artist, Tally, draw_pixels
from stylegan_oct.export.drawing.measuring import measuring_processes
from stylegan_oct.export.drawing.rules import Rule
from stylegan_oct.export.drawing.select import KEPT
from stylegan_oct.export.folder import folder
from stylegan_oct.export.folder.folder import Record
from stylegan_oct.export.folder.seal import seal
from stylegan_oct.export.layouts import complete_parts, make_layout, write_part
from stylegan_oct.export.prepare import Job, Progress, Settings, prepare
from torch_utils.distributed import World


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What an export holds."""

    out: Path
    pictures: int
    record: Record
    seconds: float            # that this call took to draw and write
    drawn_now: int            # pictures that this call exported
    shares: dict[str, float]  # of the time of this process, by kind of work


def export(settings: Settings, *, world: World = World(), progress: Progress = lambda *_: None,  # noqa: B008
           say: Callable[[str], object] = lambda _: None) -> Summary:
    """Export samples into a folder, or go on with an unfinished export of the same plan.

    Args:
        settings: what is asked for.
        world: processes that share the work; they must share the file system.
        progress: called with (done, all, what).
        say: gets warnings, a line each.
    Raises:
        ConfigError, DataError, CheckpointError: something is wrong, or the disk is full; what is written stays.
        KeyboardInterrupt: stopped; what is written stays.
    """
    job = _one_after_the_other(world, lambda: prepare(settings, device=world.device, progress=progress,
                                                      say=say if world.is_first else lambda _: None))
    with contextlib.ExitStack() as stack:
        _first_alone(world, lambda: _begin(job, stack, progress))
        record = folder.read_record(settings.out)
        begin = time.perf_counter()
        new = 0
        if not folder.is_complete(settings.out):
            measure = stack.enter_context(measuring_processes(_idle_cores(world)))
            try:
                new = _draw_parts(job, job.artist(record.rules, measure), world, progress)
            except KeyboardInterrupt:
                kept = sum(map(job.plan.part_size, complete_parts(settings.out)))
                say(f"{kept} of {job.plan.total} pictures are kept in {settings.out}; the same command goes on.")
                raise
            with job.clock("writing"):
                _first_alone(world, lambda: _finish(job, record))
    return Summary(out=settings.out, pictures=job.plan.total, record=folder.read_record(settings.out), drawn_now=new,
                   seconds=time.perf_counter() - begin, shares=job.clock.shares())


def _begin(job: Job, stack: contextlib.ExitStack, progress: Progress) -> None:
    """Take the folder, and write the record where the export is new."""
    out = job.settings.out
    if folder.earlier(out, job.plan) is None:
        record = Record(plan=job.plan, rules=tuple(_with_limits(job, progress)))
        stack.enter_context(folder.lock(out))
        folder.write_record(out, record)
        return
    if folder.is_complete(out):
        folder.clear(out)  # a kill may have come just before
    else:
        stack.enter_context(folder.lock(out))


def _with_limits(job: Job, progress: Progress) -> Iterator[Rule]:
    """Yield the rules of the plan; those that ask for a third once for each class, with its limits."""
    plan = job.plan
    for rule in plan.rules:
        if not rule.third:
            yield rule
            continue
        for label, count in enumerate(plan.counts):
            if count and rule.class_name in (None, plan.class_name(label)):
                progress(0, None, f"measuring {rule.biomarker} in {plan.class_name(label)}")
                yield rule.resolved(plan.class_name(label), _pilot(job, label, rule.biomarker))


def _pilot(job: Job, label: int, biomarker: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return a biomarker of the pictures of the pilot that nothing else rejects, [n]."""
    selection = job.artist().selection
    found: list[float] = []
    for seeds in job.plan.pilot(label):
        pixels = draw_pixels(job.G, seeds, label, job.plan.psi)
        found += [seen.biomarkers[biomarker] for seen in selection.look(pixels, label, len(seeds))
                  if seen.reason == KEPT and seen.biomarkers is not None]
    return np.array(found)


def _idle_cores(world: World) -> int:
    """Return how many cores each process may measure with: one where the cores draw."""
    return max((os.cpu_count() or 1) // world.size, 1) if world.device.type == "cuda" else 1


def _draw_parts(job: Job, artist: Artist, world: World, progress: Progress) -> int:
    """Draw and write the missing parts, the processes taking turns; return how many pictures they hold."""
    out, plan = job.settings.out, job.plan
    layout = make_layout(plan.layout, out, job.collection, corner=plan.corner_mark, mapping=job.mapping)
    there = set(complete_parts(out))
    missing = [part for part in range(plan.parts) if part not in there]
    world.barrier()
    done = before = sum(plan.part_size(part) for part in there)

    def samples(part: int, tally: Tally) -> Samples:
        yield from artist.samples(part, tally, advance)
        folder.write_tally(out, part, tally)

    def advance(more: int) -> None:
        nonlocal done
        done += more * world.size
        progress(min(done, plan.total), plan.total, "exporting")

    advance(0)
    for begin in range(0, len(missing), world.size):
        turn = missing[begin:begin + world.size]
        error: UserError | None = None
        if world.rank < len(turn):
            try:
                write_part(layout, out, turn[world.rank], samples(turn[world.rank], {}))
            except UserError as caught:
                error = caught
        _raise_together(world, error)
    return plan.total - before


def _finish(job: Job, record: Record) -> None:
    """Write what tells of all pictures; the list of hashes last."""
    out, plan = job.settings.out, job.plan
    layout = make_layout(plan.layout, out, job.collection, corner=plan.corner_mark, mapping=job.mapping)
    record = replace(record, drawn=folder.read_tallies(out), evaluated=job.review is not None)
    folder.write_record(out, record)
    seal(job, layout, record)
    folder.clear(out)


def _one_after_the_other(world: World, work: Callable[[], Job]) -> Job:
    """Do something in the first process, which writes what it finds into caches, and then in the others."""
    job: Job | None = None
    error: UserError | None = None
    for turn in (True, False):
        if world.is_first is turn:
            try:
                job = work()
            except UserError as caught:
                error = caught
        _raise_together(world, error)
        if world.size == 1:
            break
    assert job is not None
    return job


def _first_alone(world: World, work: Callable[[], object]) -> None:
    """Do something in the first process alone; when it fails, all fail."""
    error: UserError | None = None
    if world.is_first:
        try:
            work()
        except UserError as caught:
            error = caught
    _raise_together(world, error)


def _raise_together(world: World, error: UserError | None) -> None:
    if world.any(error is not None):
        raise error or DataError("Another process stopped; its message tells why.")
