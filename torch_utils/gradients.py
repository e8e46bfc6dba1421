"""The gradients of a network in one flat buffer, summed over the processes while the backward pass still runs."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd import backward

from torch_utils.distributed import World

CHUNK_BYTES = 25 * 2**20  # of one message: long enough for the bandwidth of a link, short enough to leave early
ALIGNMENT = 16            # numbers of float32, 64 bytes: vectorised kernels take no slow path


class FlatGradients:
    """Within the block the parameters require gradients, and these are views into one buffer of zeros.

    Zeroing, summing and sanitising are then one or two kernels. A parameter that the loss does not reach has the
    gradient 0, so every parameter moves in every step, as in a network whose loss adds 0 times each output.

    With several processes the buffer is cut into chunks in the order in which gradients come, last layer first. While
    the last backward pass of a step runs, each chunk that is complete is sent (Li et al. 2020, "PyTorch Distributed:
    Experiences on Accelerating Data Parallel Training", section 3.2.3). Every process sends the chunks in the same
    order; the last one takes extra sums along. Which parameters get gradients at all is seen in the first step, which
    sends everything at its end; so there is one object for each kind of step.

    Args:
        parameters: float32, on one device, in the order in which the forward pass uses them.
        world: the processes that train together.
        extra: how many further numbers are summed with the gradients.
        storage: [>= flat_size(parameters) + extra] float32; kinds of step that take turns may share it. None makes one.
        chunk_bytes: least size of a message but the last.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], world: World, *, extra: int = 0,
                 storage: Tensor | None = None, chunk_bytes: int = CHUNK_BYTES) -> None:
        assert parameters and all(each.dtype == torch.float32 for each in parameters)
        self._parameters, self._world = list(reversed(parameters)), world
        size = flat_size(parameters)
        if storage is None:
            storage = torch.empty(size + extra, device=parameters[0].device)
        self._all = storage[:size + extra]
        self.flat = storage[:size]
        ends = list(itertools.accumulate(map(_padded, self._parameters)))
        self._views = [_view(storage, end - _padded(each), each)
                       for each, end in zip(self._parameters, ends, strict=True)]
        self._chunks, self._chunk_of = _cut(self._all, ends, chunk_bytes // storage.element_size())
        self._reached: set[int] = set()  # the parameters that have gradients
        self._first = True
        self._overlaps = False
        if world.size > 1:
            for index, parameter in enumerate(self._parameters):
                required = parameter.requires_grad
                parameter.requires_grad_(True)
                parameter.register_post_accumulate_grad_hook(self._hook(index))  # type: ignore[no-untyped-call]
                parameter.requires_grad_(required)

    def __enter__(self) -> "FlatGradients":
        self._all.zero_()
        self._missing = [set[int]() for _ in self._chunks]
        for index in self._reached:
            self._missing[self._chunk_of[index]].add(index)
        self._waits: list[Callable[[], None]] = []
        for parameter, view in zip(self._parameters, self._views, strict=True):
            parameter.requires_grad_(True)
            parameter.grad = view
        return self

    def __exit__(self, *_: object) -> None:
        self._overlaps = False
        for parameter in self._parameters:
            parameter.requires_grad_(False)
            parameter.grad = None

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradients of a scalar; `last` says that no more will be added in this step."""
        self._overlaps = last and self._world.size > 1
        backward(loss)
        self._overlaps = False

    def reduce(self, extra: Tensor | None = None) -> Tensor:
        """Finish the sums of the gradients over all processes; return those of further numbers, as float32.

        Args:
            extra: as many numbers as announced, floating, on the device of the gradients. Their sums, of the same
                shape, are valid until the next step.
        Raises:
            TrainingError: another process died or did not answer in time.
        """
        sums = self._all[len(self.flat):]
        if extra is not None:
            sums = sums.view_as(extra).copy_(extra)
        if self._world.size > 1:
            while len(self._waits) < len(self._chunks):
                self._send_next()
            for wait in self._waits:
                wait()
            self._first = self._first and not self._reached
        return sums

    def _hook(self, index: int) -> Callable[[Tensor], None]:
        def arrived(_: Tensor) -> None:
            if not self._overlaps:
                return
            if self._first:
                self._reached.add(index)
                return
            assert self._chunk_of[index] >= len(self._waits), f"gradient {index} came after its chunk was sent"
            self._missing[self._chunk_of[index]].discard(index)
            # The last one waits for the extra sums.
            while len(self._waits) < len(self._chunks) - 1 and not self._missing[len(self._waits)]:
                self._send_next()

        return arrived

    def _send_next(self) -> None:
        self._waits.append(self._world.all_reduce_later_(self._chunks[len(self._waits)]))


def flat_size(parameters: Sequence[nn.Parameter]) -> int:
    """Return how many numbers the flat gradients of these parameters take, with the gaps between them."""
    return sum(map(_padded, parameters))


@torch.no_grad()
def sanitise_(gradients: Tensor) -> Tensor:
    """Replace NaN by 0 and infinities by +-1e5 in place; return 1.0 if there were any, else 0.0."""
    low, high = gradients.aminmax()  # NaN if there is one; one pass, where isfinite() makes three and a copy
    torch.nan_to_num(gradients, nan=0.0, posinf=1e5, neginf=-1e5, out=gradients)
    return (~(low.isfinite() & high.isfinite())).float()


def _padded(parameter: Tensor) -> int:
    return -(-parameter.numel() // ALIGNMENT) * ALIGNMENT


def _view(storage: Tensor, start: int, parameter: Tensor) -> Tensor:
    """Return the part of the storage with the shape and the memory format of a parameter."""
    return storage.as_strided(parameter.shape, torch.empty_like(parameter).stride(), storage.storage_offset() + start)


def _cut(flat: Tensor, ends: Sequence[int], least: int) -> tuple[list[Tensor], list[int]]:
    """Return chunks of at least `least` numbers, the last taking what is left, and the chunk of each parameter."""
    starts, chunk_of = [0], []
    for begin in [0, *ends[:-1]]:
        if begin - starts[-1] >= least:
            starts.append(begin)
        chunk_of.append(len(starts) - 1)
    return [flat[start:stop] for start, stop in itertools.pairwise([*starts, len(flat)])], chunk_of
