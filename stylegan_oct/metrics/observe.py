"""One pass over pictures, from which every metric is computed: what each observer sees, a row for each picture.

Rows are written to files that are mapped into memory, so that the memory needed does not grow with the number of
pictures. Observations of real scans are kept beside their archive, for the owner alone; a file's name carries the
hashes of the pictures and of the observer.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.errors import DataError
from stylegan_oct.features.detector import Detector
from stylegan_oct.metrics.pictures import Pictures
from torch_utils.distributed import World

Progress = Callable[[int, int], object]
Rows = NDArray[np.float32]


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


def observe(pictures: Pictures, observers: Sequence[Observer], cache: Path, *, world: World = World(),  # noqa: B008
            batch: int = 64, progress: Progress = lambda *_: None) -> dict[str, Rows]:
    """Return what each observer sees of each picture, [N, dim] by the observer's identity, mapped into memory.

    What is in `cache` already is not looked at again; the others see each picture in one common pass, in which the
    processes take turns batch by batch (they must share the file system).

    Raises:
        DataError: the files cannot be written.
    """
    paths = {observer.identity: cache / f"{pictures.identity}-{observer.identity}.npy" for observer in observers}
    missing = [observer for observer in observers if not paths[observer.identity].exists()]
    world.barrier()
    try:
        if missing and len(pictures):
            _look(pictures, missing, paths, world, batch, progress)
    except OSError as error:
        raise DataError(f"Cannot write what was seen of the pictures into {cache}: {error.strerror}.") from error
    return {identity: np.load(path, mmap_mode="r") for identity, path in paths.items()}


def _look(pictures: Pictures, observers: Sequence[Observer], paths: dict[str, Path], world: World, batch: int,
          progress: Progress) -> None:
    unfinished = {observer.identity: paths[observer.identity].with_name(f".tmp-{paths[observer.identity].name}")
                  for observer in observers}
    if world.is_first:
        for observer in observers:
            path = unfinished[observer.identity]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            np.lib.format.open_memmap(path, "w+", np.float32, (len(pictures), observer.dim)).flush()
    world.barrier()
    files = {identity: np.lib.format.open_memmap(path, "r+") for identity, path in unfinished.items()}
    begins = range(0, len(pictures), batch)
    for begin in begins[world.rank::world.size]:
        rows = range(begin, min(begin + batch, len(pictures)))
        pixels = pictures.read(rows)
        for observer in observers:
            files[observer.identity][rows.start:rows.stop] = observer(pixels).numpy()
        progress(min(rows.stop + batch * (world.size - 1), len(pictures)), len(pictures))
    for file in files.values():
        file.flush()
    world.barrier()
    if world.is_first:
        for identity, path in unfinished.items():
            path.replace(paths[identity])
    world.barrier()
