"""Biomarkers of drawn pictures, in a process a core where a GPU draws and the cores are idle."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray

from dnnlib.interrupt import end_children
from stylegan_oct.latent.biomarkers.measure import NAMES, measure

Pictures = NDArray[np.uint8]             # [N, R, R]
Values = dict[str, NDArray[np.float64]]  # biomarker -> [N], NaN where it cannot be measured
Measure = Callable[[Pictures, tuple[float, float]], Values]


def measure_here(pictures: Pictures, um_per_px: tuple[float, float]) -> Values:
    """Return the biomarkers of grey pictures with pixels of (z, x) um, measured in this process."""
    return measure(pictures, um_per_px).values


@contextlib.contextmanager
def measuring_processes(workers: int) -> Iterator[Measure]:
    """Yield what measures as `measure_here` does, the pictures shared out to processes; in this one for one worker."""
    if workers <= 1:
        yield measure_here
        return
    context = multiprocessing.get_context("spawn")  # forking a process with threads (progress bars) can deadlock
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_ctrl_c_to_the_parent) as pool:

        def measure_there(pictures: Pictures, um_per_px: tuple[float, float]) -> Values:
            shares = np.array_split(pictures, min(workers, len(pictures)))
            parts = list(pool.map(measure_here, shares, [um_per_px] * len(shares)))
            return {name: np.concatenate([part[name] for part in parts]) for name in NAMES}

        try:
            yield measure_there
        except BaseException:
            end_children()
            raise


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
