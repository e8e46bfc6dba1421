"""Numbers of the host on their way to a device, without the host waiting for it."""

import torch
from torch import Tensor


def send(value: Tensor, device: torch.device) -> Tensor:
    """Return a host tensor on a device, or as it is for a CPU; every later op of the current stream sees its numbers.

    From memory that is not pinned the host would wait until the GPU has done all work before the copy. PyTorch keeps
    the pinned memory until the copy is done, and then hands it out again.
    """
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value


def send_like(value: Tensor, like: Tensor) -> Tensor:
    """Return a host tensor on the device of another, and in its dtype if both are floating."""
    return send(value.to(like.dtype) if value.is_floating_point() else value, like.device)
