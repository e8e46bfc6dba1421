"""One pass over pictures, from which every metric is computed: what each observer sees, a row for each picture.

Rows are written to files that are mapped into memory, so that the memory needed does not grow with the number of
pictures. Observations of real scans are kept beside their archive, for the owner alone; a file's name carries the
hashes of the pictures and of the observer.
"""

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.arrays import holds_array, map_array
from dnnlib.errors import DataError
from dnnlib.files import hold_lock
from dnnlib.stored import reading
from stylegan_oct.features.detector import Detector
from stylegan_oct.metrics.observers.pictures import Pictures
from torch_utils.distributed import World

Progress = Callable[[int, int], object]
Rows = NDArray[np.float32]

MARK_SEC = 5.0  # between two marks of how far a pass is; what is lost by a kill
HEADER = 8      # bytes before the marks, which hold the size of the batches


class Observer(Protocol):
    """Something that looks at pictures."""

    identity: str  # the same text, the same rows; fit for a file's name
    dim: int

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return float32 [n, dim] for pictures uint8 [n, C, R, R]."""
        ...


class Embedding:
    """The pooled features of a detector."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.identity, self.dim = detector.identity, detector.dim

    def __call__(self, pixels: Tensor) -> Tensor:
        """As in `Observer`."""
        return self.detector.embed(pixels)


def resize_rule(detector: Detector) -> str:
    """Return what `Detector.embed` does to pictures first."""
    return "none" if detector.size is None else f"bilinear, antialiased, to {detector.size} px"


def observe(pictures: Pictures, observers: Sequence[Observer], cache: Path, *, world: World = World(),  # noqa: B008
            batch: int = 64, progress: Progress = lambda *_: None) -> dict[str, Rows]:
    """Return what each observer sees of each picture, [N, dim] by the observer's identity, mapped into memory.

    What is in `cache` already is not looked at again; the others see each picture in one common pass, in which the
    processes, all of one computer, take turns batch by batch. A pass that was cut short goes on where it stopped.

    Raises:
        DataError: the files cannot be written.
    """
    if not len(pictures):
        return {observer.identity: np.zeros((0, observer.dim), np.float32) for observer in observers}
    paths = [cache / f"{pictures.identity}-{observer.identity}.npy" for observer in observers]
    try:
        with contextlib.ExitStack() as locks:
            passes = _missing(observers, paths, len(pictures), world, locks)
            if passes:
                _look(pictures, passes, world, batch, progress)
        names = [observer.identity for observer in observers]
        shapes = [(len(pictures), observer.dim) for observer in observers]
        with reading(cache, DataError, "Remove the folder; the same command looks anew."):
            return {name: cast(Rows, map_array(path, shape, np.float32))
                    for name, path, shape in zip(names, paths, shapes, strict=True)}
    except OSError as error:
        raise DataError(f"Cannot write what was seen of the pictures into {cache}: {error.strerror}. Make room, or "
                        "choose another folder; the same command goes on from here.") from error


def _missing(observers: Sequence[Observer], paths: Sequence[Path], n: int, world: World,
             locks: contextlib.ExitStack) -> list["_Pass"]:
    """Return what is not there yet; the first process decides, as another command may be at work on the same files."""
    suffixes = []
    if world.is_first:
        for observer, path in zip(observers, paths, strict=True):
            suffixes.append("-" if _is_whole(path, (n, observer.dim)) else _suffix(path, locks))
    shared = world.share(" ".join(suffixes)).split(" ")
    return [_Pass(observer, path, "" if suffix == "." else suffix)
            for observer, path, suffix in zip(observers, paths, shared, strict=True) if suffix != "-"]


def _suffix(path: Path, locks: contextlib.ExitStack) -> str:
    """Return "." while holding the lock on the name of an unfinished file, else an addition that is nobody else's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = hold_lock(path.with_name(f".lock-{path.stem}"))
    if lock is None:
        return f".{secrets.token_hex(4)}"
    locks.enter_context(lock)
    return "."


def _is_whole(path: Path, shape: tuple[int, int]) -> bool:
    return holds_array(path, shape, np.float32)


def _look(pictures: Pictures, passes: Sequence["_Pass"], world: World, batch: int, progress: Progress) -> None:
    """Make the files, for the owner alone, under names that do not look finished."""
    count = -(-len(pictures) // batch)
    if world.is_first:
        for each in passes:
            each.prepare(len(pictures), batch, count)
    world.barrier()
    for each in passes:
        each.open()
    _take_turns(pictures, passes, world, batch, count, progress)
    world.barrier()
    if world.is_first:
        for each in passes:
            each.finish()
    world.barrier()


def _take_turns(pictures: Pictures, passes: Sequence["_Pass"], world: World, batch: int, count: int,
                progress: Progress) -> None:
    started = time.monotonic()
    unmarked = []
    for number in range(world.rank, count, world.size):
        rows = range(number * batch, min((number + 1) * batch, len(pictures)))
        waiting = [each for each in passes if not each.marks[number]]
        if waiting:
            pixels = pictures.read(rows)
            for each in waiting:
                each.rows[rows.start:rows.stop] = each.observer(pixels).numpy()
            unmarked.append(number)
        if time.monotonic() - started > MARK_SEC or number + world.size >= count:
            for each in passes:
                each.mark(unmarked)
            started, unmarked = time.monotonic(), []
        progress(min(rows.stop + batch * (world.size - 1), len(pictures)), len(pictures))


class _Pass:
    """The rows of one observer while they are being made, and a mark for each batch that is done."""

    def __init__(self, observer: Observer, path: Path, suffix: str) -> None:
        self.observer, self._path = observer, path
        self._rows_path = path.with_name(f".tmp-{path.name}{suffix}")
        self._marks_path = path.with_name(f".tmp-{path.stem}{suffix}.done")
        self.rows: np.memmap[tuple[int, ...], np.dtype[np.float32]]
        self.marks: np.memmap[tuple[int, ...], np.dtype[np.uint8]]

    def prepare(self, n: int, batch: int, count: int) -> None:
        """Make the files, or keep those of a pass with the same batches that was cut short."""
        shape, header = (n, self.observer.dim), batch.to_bytes(HEADER, "little")
        if _is_whole(self._rows_path, shape) and self._marks_path.exists():
            found = self._marks_path.read_bytes()
            if found[:HEADER] == header and len(found) == HEADER + count:
                return
        self._marks_path.unlink(missing_ok=True)
        for path in (self._rows_path, self._marks_path):
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
        np.lib.format.open_memmap(self._rows_path, "w+", np.float32, shape).flush()
        self._marks_path.write_bytes(header + bytes(count))

    def open(self) -> None:
        """Map the files into memory."""
        self.rows = np.lib.format.open_memmap(self._rows_path, "r+")
        self.marks = np.memmap(self._marks_path, np.uint8, "r+", offset=HEADER)

    def mark(self, batches: Sequence[int]) -> None:
        """Mark batches as done, after their rows have reached the disk."""
        self.rows.flush()
        self.marks[list(batches)] = 1
        self.marks.flush()

    def finish(self) -> None:
        """Give the rows the name of a finished file."""
        assert self.marks.all()
        self._rows_path.replace(self._path)
        self._marks_path.unlink()

