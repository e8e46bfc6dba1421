"""Memory: what is free, what a failed allocation looks like, and freed memory that the C library keeps.

Large tensors would else pay for page faults again and again.
"""

import contextlib
import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch  # takes a second, which commands that need none are spared

UNKNOWN = 2**33          # bytes that are taken to be free where nothing tells
FAILED_ALLOCATION = ("DefaultCPUAllocator", "can't allocate memory", "out of memory", "bad_alloc", "bad allocation")

# Parameters of mallopt in glibc's malloc.h, and their values here.
_MALLOPT = {
    -4: 0,          # M_MMAP_MAX: map no block on its own, which would be unmapped when freed
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: never give back the top of the heap; mallopt takes an int
    -2: 2**20,      # M_TOP_PAD: grow the heap by 1 MiB at once; with 64 the peak is 0.2 GB higher at 256 px
}


def keep_freed_memory() -> bool:
    """Let this process reuse freed memory instead of returning it to the kernel; return whether that was possible.

    Else glibc maps every large block anew, and each of its pages faults at first use: 5 % of the time of a training
    step at 64 px, far more at 256 px. The process keeps its peak size. Does nothing without glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return all([mallopt(parameter, value) == 1 for parameter, value in _MALLOPT.items()])


def map_large_blocks() -> bool:
    """Let blocks above 32 MiB, the most that glibc takes, go back to the kernel when freed; return whether it does.

    Where they are many, the kept heap is up to twice as large as what is in use at once, as none fits the hole of
    another. Their pages fault at each use: a step at 512 px takes some per cent longer.
    """
    if not keep_freed_memory():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(parameter, value) == 1 for parameter, value in ((-4, 65536), (-3, 2**25 - 2**12))])


def free_memory(device: "torch.device") -> int:
    """Return the bytes that a device has left for this process: of the GPU, or by the kernel and this process's limits.

    A GPU counts what PyTorch keeps of freed memory too.
    """
    if device.type == "cuda":
        from torch import cuda

        if cuda.is_available():
            return cuda.mem_get_info(device)[0] + cuda.memory_reserved(device) - cuda.memory_allocated(device)
    return min((found for found in (_available(), _left_in_group(), _left_by_limit()) if found is not None),
               default=UNKNOWN)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory could not be had: Python's, PyTorch's of either device, or C++'s."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in FAILED_ALLOCATION)


def _available() -> int | None:
    """Return what Linux says could be used without swapping."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _left_in_group() -> int | None:
    """Return what a container's limit leaves, by version 2 of control groups."""
    with contextlib.suppress(OSError, ValueError):  # "max" is no number: there is no limit
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text(encoding="ascii"))
                       for name in ("max", "current"))
        return max(limit - used, 0)
    return None


def _left_by_limit() -> int | None:
    """Return what `ulimit -v` leaves."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return None if limit == resource.RLIM_INFINITY else max(limit - pages * resource.getpagesize(), 0)
    return None
