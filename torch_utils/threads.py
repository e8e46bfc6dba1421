"""How many threads compute on a CPU: one where the work is small, since threads wait for each other in a loop.

The OpenMP of PyTorch's wheels lets a thread that is done spin until all are. Where another program has one of the
cores, that costs a slice of the scheduler's time in every layer: drawing a picture of 64 px took 500 ms instead of 7.
Large layers take longer than such a slice, and gain from all cores.
"""

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

SMALL = 100e6    # multiplications in a layer up to which one thread is taken: a few ms of one core
SPINS = "5000"   # of a waiting thread before it sleeps; costs nothing on a quiet machine
SET_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def wait_briefly(environ: MutableMapping[str, str] = os.environ) -> None:
    """Let waiting threads of this process sleep soon, unless the user has said how they wait.

    OpenMP reads it when torch is imported, so this is for programs of our own, before that.
    """
    if "OMP_WAIT_POLICY" not in environ:
        environ.setdefault("GOMP_SPINCOUNT", SPINS)


def choose(work: float, current: int, usual: int, environ: MutableMapping[str, str] = os.environ) -> int:
    """Return how many threads a piece of work gets.

    Args:
        work: multiplications in one of its layers.
        current: threads that PyTorch would use.
        usual: threads that it uses where nobody has chosen; another number is the user's.
        environ: of the process; where it names a number of threads, that is left as it is.
    """
    chosen = current != usual or any(environ.get(name) for name in SET_BY_USER)
    return current if chosen or work > SMALL else 1


@contextmanager
def for_work(work: float) -> Iterator[None]:
    """Compute with as many threads as the work is worth; afterwards the number is what it was."""
    import torch

    current = torch.get_num_threads()
    number = choose(work, current, _USUAL)
    if number == current:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(current)


def _cores() -> int:
    """Return the cores that this process may use, those that share one (hyperthreads) counted once."""
    try:
        mine = os.sched_getaffinity(0)
        cores = set()
        for cpu in mine:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", encoding="ascii") as file:
                cores.add(file.read())
        return len(cores)
    except (AttributeError, OSError):  # not Linux
        return os.cpu_count() or 1


_USUAL = _cores()   # what PyTorch takes by itself
