"""Telling the C library to keep freed memory, so that large tensors do not pay for page faults again and again."""

import ctypes
import sys

# glibc, malloc.h: parameters of mallopt.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 2**31 - 1  # mallopt takes an int
_TOP_PAD = 2**26


def keep_freed_memory() -> bool:
    """Let this process reuse freed memory instead of returning it to the kernel; return whether that was possible.

    glibc maps each block of 32 MiB and more anew (and smaller ones at first) and unmaps it when freed; every page then
    faults at its first use. Affects allocations from now on, in this process alone. Does nothing off Linux/glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    options = {_M_MMAP_THRESHOLD: _LARGEST, _M_TRIM_THRESHOLD: _LARGEST, _M_TOP_PAD: _TOP_PAD}
    return all([mallopt(option, value) == 1 for option, value in options.items()])
