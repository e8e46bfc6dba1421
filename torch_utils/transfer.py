"""Numbers on their way between host and device, without the one waiting for the other."""

from collections.abc import Callable

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


def fetch(value: Tensor) -> Callable[[], Tensor]:
    """Begin to bring a tensor of a device to the host; return what waits for the copy, but for no work after it."""
    if value.device.type != "cuda":
        copied = value.clone()
        return lambda: copied
    host = torch.empty(value.shape, dtype=value.dtype).pin_memory()
    host.copy_(value, non_blocking=True)
    arrived = torch.cuda.current_stream(value.device).record_event()

    def wait() -> Tensor:
        arrived.synchronize()
        return host

    return wait
