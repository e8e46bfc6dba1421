"""The next images travel to the GPU while it works on these."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from torch_utils.transfer import send

Rest = TypeVar("Rest")


def prefetch(items: Iterable[tuple[Tensor, Rest]], device: torch.device) -> Iterator[tuple[Tensor, Rest]]:
    """Pass (tensor of the host, anything) on with the tensor on a device; on a CPU as they are.

    For a GPU the next item is read, and its copy begun on a stream of its own, before this one is handed out. The host
    does that while the device still has the work of the last step to do, so that it needs no thread.
    """
    if device.type != "cuda":
        yield from items
        return
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: tuple[Tensor, Rest, torch.cuda.Event] | None = None
    for tensor, rest in items:
        with torch.cuda.stream(side):
            sent = send(tensor, device)
            arrived = side.record_event()
        if ahead is not None:
            yield _handed_over(*ahead)
        ahead = sent, rest, arrived
    if ahead is not None:
        yield _handed_over(*ahead)


def _handed_over(sent: Tensor, rest: Rest, arrived: torch.cuda.Event) -> tuple[Tensor, Rest]:
    """Return an item for the current stream, which waits for the copy; the host does not."""
    stream = torch.cuda.current_stream(sent.device)
    stream.wait_event(arrived)
    sent.record_stream(stream)  # else its memory could take the next copy while this stream still reads it
    return sent, rest
