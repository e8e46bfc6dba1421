"""Work for a GPU that is recorded once and then started by one call: CUDA graphs.

    graphs = Graphs(device, on=True)
    step = graphs.recorded(step)
    loss = step(images, labels)

A step of a training is thousands of small pieces of work, each of which takes the host longer to start than the GPU to
do. Recorded, a step is one piece. That needs a function that does the same in every call but for the numbers in its
tensors: the same ops on the same sizes, nothing read on the host, everything kept between calls changed in place.
"""

import contextlib
import gc
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

WARM_UP = 2  # calls before one is recorded: libraries choose their ways and optimizers make their tensors in the first

logger = logging.getLogger(__name__)


class Graphs:
    """What recorded functions share: a stream to record on, a pool of memory, and whether recording is on.

    Args:
        device: that the functions work on.
        on: whether to record; never on a CPU.
    """

    def __init__(self, device: torch.device, *, on: bool) -> None:
        self.device, self.on = device, on and device.type == "cuda"
        self._functions: list[Recorded] = []
        if self.on:
            self.stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self.pool: Any = torch.cuda.graph_pool_handle()

    def recorded(self, function: Callable[..., Any]) -> "Recorded":
        """Return a function that does the same from its record."""
        self._functions.append(Recorded(function, self))
        return self._functions[-1]

    @property
    def warm(self) -> bool:
        """Whether every function that was called has been often enough: until then none is recorded.

        What a record needs of memory stays in the pool, where a function that still runs as it is cannot use it.
        """
        return all(function.calls == 0 or function.calls >= WARM_UP for function in self._functions)

    def give_up(self, error: RuntimeError, current: Any) -> None:
        """Go on without records after one that failed, whose capture PyTorch leaves half open.

        Args:
            error: what recording raised.
            current: stream to go on with.
        """
        self.on = False
        reason = str(error.__context__ or error).strip().splitlines()[0]
        logger.warning("without CUDA graphs, which make steps shorter: %s. If the run ends, add --no-graphs.", reason)
        with contextlib.suppress(Exception):
            torch.cuda.set_stream(current)
        with contextlib.suppress(Exception):
            torch._C._cuda_endAllocateToPool(self.device.index or 0, self.pool)
        # A capture that succeeds puts the state of the random numbers in order.
        again = torch.cuda.CUDAGraph()
        with contextlib.suppress(Exception), torch.cuda.graph(again, capture_error_mode="thread_local"):
            torch.zeros(1, device=self.device)


class Recorded:
    """A function of tensors that runs as it is at first, then from its record.

    Random numbers are those of the device's global generator, as it was seeded before the call. Where recording fails
    one line says why, and all functions of these `Graphs` run as they are from then on.

    Args:
        function: takes tensors by position, returns tensors, in tuples or dictionaries, or None. See the module.
        graphs: what it shares with others.
    """

    def __init__(self, function: Callable[..., Any], graphs: Graphs) -> None:
        self._function, self._graphs = function, graphs
        self.calls = 0  # not from the record
        self._record: Any = None
        self._inputs: list[Tensor] = []
        self._outputs: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        """Return what the function returns, in tensors of their own."""
        if not self._graphs.on:
            return self._function(*inputs)
        if self._record is None:
            self.calls += 1
            if self.calls <= WARM_UP or not self._graphs.warm:
                return self._aside(*inputs)
            if not self._recorded(inputs):
                return self._function(*inputs)
        for held, given in zip(self._inputs, inputs, strict=True):
            held.copy_(given)
        self._record.replay()
        return tree_map_only(Tensor, torch.clone, self._outputs)

    def _aside(self, *inputs: Tensor) -> Any:
        """Run on the stream on which it will be recorded."""
        stream, current = self._graphs.stream, torch.cuda.current_stream(self._graphs.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            outputs = self._function(*inputs)
        current.wait_stream(stream)
        return outputs

    def _recorded(self, inputs: tuple[Tensor, ...]) -> bool:
        """Record the function, which runs nothing; return whether that was possible."""
        self._inputs = [x.clone() for x in inputs]
        record, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._graphs.device)
        gc.collect()  # what an earlier stage of the run has left behind
        try:
            # Other threads may go on calling CUDA, such as those that watch over the processes.
            with torch.cuda.graph(record, pool=self._graphs.pool, stream=self._graphs.stream,
                                  capture_error_mode="thread_local"):
                self._outputs = self._function(*self._inputs)
        except RuntimeError as error:
            self._graphs.give_up(error, current)
            return False
        self._record = record
        return True
