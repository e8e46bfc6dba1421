"""How many pictures are worked on at once: the one place that every command asks.

On a CPU the numbers in the widest layer decide. From some 16 million on, 4 pictures of 256 px or one of 512 px with the
widths of the papers, a larger batch is no faster and only needs more memory (docs/performance.md). What needs gradients
keeps all layers in place of two or three. On a GPU, and where little memory is free, the memory decides.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from torch_utils.memory import free_memory

Work = Literal["draw", "learn"]   # without gradients, or with them

WIDEST = 2**24       # numbers in the widest layer of a batch, on a CPU
KEPT = 2**24         # numbers in all layers of a batch that are kept for gradients, on a CPU
LEARNT = 48_000_000  # numbers in the feature maps of a training step on a CPU, which holds 25 bytes for each
SEEN = 2**20         # pixels that a detector looks at at once, on a CPU
CHEAP = 2**21        # numbers in all layers of a picture that a CPU draws in a tenth of a second
STEADY_CPU, STEADY_GPU = 8, 16   # pictures at most where as many must be drawn together each time
MOST_CPU, MOST_GPU = 16, 64
MOST_SEEN_CPU, MOST_SEEN_GPU = 32, 256
SHARE = 0.5          # of the free memory that a batch may take

# Held at the peak, with what the heap keeps of freed memory: copies of the widest layer, copies of all layers (with a
# detector's), and the bytes that a pixel takes in detectors. benchmarks/resolutions.py measures them.
DRAW_COPIES, LEARN_COPIES, SEEN_BYTES = 10, 14, 600


@dataclass(frozen=True, kw_only=True)
class Layers:
    """The feature maps of one picture."""

    widest: int              # numbers in the largest
    total: int               # numbers in all of them, one a block
    bytes_each: int = 4      # of a number

    def memory(self, work: Work) -> int:
        """Return the bytes that a picture takes at the peak, beside weights and programs."""
        return self.bytes_each * (DRAW_COPIES * self.widest if work == "draw" else LEARN_COPIES * self.total)


def at_once(layers: Layers, device: torch.device, work: Work = "draw", *, asked: int | None = None) -> int:
    """Return how many pictures to draw at once: what is asked for, else a power of two.

    Args:
        layers: of what is computed of a picture.
        device: where.
        work: without gradients, or with them.
        asked: what the user wants.
    """
    if asked is not None:
        return asked
    most = MOST_GPU
    if device.type == "cpu":
        most = min(MOST_CPU, WIDEST // layers.widest if work == "draw" else KEPT // layers.total)
    return _power_of_two(min(most, _that_fit(layers.memory(work), device)))


def learnt_at_once(numbers: int) -> int:
    """Return how many pictures a training step on a CPU works on at once: as many whatever memory is free today.

    Args:
        numbers: in the feature maps of one picture, in both networks.
    """
    return min(MOST_CPU, max(LEARNT // numbers, 1))


def steady(layers: Layers, device: torch.device, *, asked: int | None = None) -> int:
    """Return how many pictures to draw together, always as many, whatever memory is free today."""
    if asked is not None:
        return asked
    return _power_of_two(min(STEADY_CPU, WIDEST // layers.widest)) if device.type == "cpu" else STEADY_GPU


def seen_at_once(side: int, device: torch.device) -> int:
    """Return how many pictures of `side` x `side` pixels a detector looks at at once, a power of two."""
    most = min(MOST_SEEN_CPU, SEEN // side**2) if device.type == "cpu" else MOST_SEEN_GPU
    return _power_of_two(min(most, _that_fit(SEEN_BYTES * side**2, device)))


def usual_count(layers: Layers, device: torch.device, most: int, *, least: int = 1) -> int:
    """Return how many pictures to draw where nobody says: `most`, or a part of it where each takes a CPU long.

    With the widths of the papers that is half at 256 px, a quarter at 512.
    """
    slow = max(1, round((layers.total / CHEAP) ** 0.5)) if device.type == "cpu" else 1
    return max(min(least, most), most // slow)


def _that_fit(bytes_each: int, device: torch.device) -> int:
    return int(SHARE * free_memory(device)) // max(bytes_each, 1)


def _power_of_two(number: int) -> int:
    """Return the largest up to a number, 1 at least."""
    return 1 << max(number, 1).bit_length() - 1
