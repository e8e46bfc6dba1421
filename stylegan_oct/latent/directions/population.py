"""Samples of a generator and the biomarkers measured on them."""

import contextlib
import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.interrupt import end_children
from dnnlib.pictures import Picture
from stylegan_oct.latent.biomarkers.measure import NAMES, measure
from stylegan_oct.model import OctGenerator
from torch_utils.images import to_pictures

Progress = Callable[[int], object]       # gets how many pictures are done
Values = dict[str, NDArray[np.float64]]  # biomarker -> [N], NaN where it could not be measured


class Measure(Protocol):
    """Turns batches of pictures into biomarkers."""

    def __call__(self, batches: Iterable[Sequence[Picture]], progress: Progress = ...) -> Values:
        """Return the biomarkers of all pictures in their order."""


@dataclass(frozen=True)
class Population:
    """Samples, as many of each class."""

    ws: Tensor       # [N, layers, w_dim], float32, on the CPU
    labels: Tensor   # [N], int64; all 0 for a generator without classes
    values: Values   # empty before they are measured


def draw_ws(G: OctGenerator, classes: Sequence[str], count: int, *, seed: int, stream: int, psi: float = 1.0,
            layers: tuple[int, int] | None = None) -> Population:
    """Return latents of random samples, one class after the other, not measured yet.

    Args:
        G: the generator.
        classes: names; empty for a generator without classes.
        count: of all together, rounded up to a multiple of the classes.
        seed, stream: the same pair gives the same samples; other streams are independent of each other.
        psi: truncation.
        layers: outside of these the latents come from other samples of the class, so that what is measured depends on
            the latents of these layers apart from the others. Default: one w for all layers.
    """
    each = -(-count // max(len(classes), 1))
    labels = torch.arange(max(len(classes), 1)).repeat_interleave(each)
    rng = np.random.default_rng((seed, stream))

    def drawn() -> Tensor:
        z = torch.from_numpy(rng.standard_normal((len(labels), G.network.z_dim), dtype=np.float32))
        label = [classes[index] for index in labels.tolist()] if classes else None
        with torch.no_grad():
            return G.ws(z, label, psi=psi).cpu()

    ws = drawn()
    if layers is not None and layers != (0, G.network.num_ws - 1):
        first, last = layers
        others = drawn().clone()  # the layers may share memory
        others[:, first:last + 1] = ws[:, first:last + 1]
        ws = others
    return Population(ws, labels, {})


def pictures_of(G: OctGenerator, ws: Tensor, *, batch: int) -> Iterator[list[Picture]]:
    """Yield the pictures of latents [N, layers, w_dim], `batch` at once, with speckle held still."""
    for part in torch.split(ws, batch):
        with torch.no_grad():
            yield to_pictures(G.synthesize(part))


def measure_here(batches: Iterable[Sequence[Picture]], progress: Progress = lambda _: None) -> Values:
    """Return the biomarkers of pictures of one size, measured in this process."""
    parts, done = [], 0
    for pictures in batches:
        parts.append(measure_pictures(pictures))
        done += len(pictures)
        progress(done)
    return joined(parts)


@contextlib.contextmanager
def measuring_processes(workers: int | None = None) -> Iterator[Measure]:
    """Yield what measures as `measure_here` does, in a process a core, while this one draws the next pictures."""
    count = workers or os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")  # forking a process with threads (progress bars) can deadlock
    with ProcessPoolExecutor(count, mp_context=context, initializer=_leave_ctrl_c_to_the_parent) as pool:

        def measure(batches: Iterable[Sequence[Picture]], progress: Progress = lambda _: None) -> Values:
            parts: list[Values] = []
            waiting: deque[tuple[int, Future[Values]]] = deque()
            done = 0
            for pictures in itertools.chain(batches, itertools.repeat(None, 2 * count)):
                if pictures is not None:
                    waiting.append((len(pictures), pool.submit(measure_pictures, pictures)))
                if waiting and (pictures is None or len(waiting) > 2 * count):  # the queue keeps memory bounded
                    size, first = waiting.popleft()
                    parts.append(first.result())
                    done += size
                    progress(done)
            return joined(parts)

        try:
            yield measure
        except BaseException:
            end_children()
            raise
        finally:  # what was abandoned is not begun
            pool.shutdown(wait=False, cancel_futures=True)


def measure_pictures(pictures: Sequence[Picture]) -> Values:
    """Return the biomarkers of pictures of one size."""
    measurements = measure(np.stack(pictures))
    return {name: measurements.values[name] for name in NAMES}


def joined(parts: Sequence[Values]) -> Values:
    """Return the values of several parts, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in NAMES}


def after(before: int, progress: Progress) -> Progress:
    """Return what reports the pictures of one part of the work, `before` of them being done already."""
    return lambda done: progress(before + done)


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
