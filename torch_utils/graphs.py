"""Work for a GPU that is recorded once and then started by one call: CUDA graphs.

    graphs = Graphs(device, on=True)
    step = graphs.recorded(step)
    loss = step(images, labels)

A step of a training is thousands of small pieces of work, each of which takes the host longer to start than the GPU to
do. Recorded, a step is one piece. That needs a function that does the same in every call but for the numbers in its
tensors: the same ops on the same sizes, nothing read on the host, everything kept between calls changed in place.
"""

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
        if self.on:
            self.stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self.pool: Any = torch.cuda.graph_pool_handle()

    def recorded(self, function: Callable[..., Any]) -> "Recorded":
        """Return a function that does the same from its record."""
        return Recorded(function, self)


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
        self._calls = 0
        self._record: Any = None
        self._inputs: list[Tensor] = []
        self._outputs: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        """Return what the function returns, in tensors of their own."""
        if not self._graphs.on:
            return self._function(*inputs)
        if self._record is None:
            self._calls += 1
            if self._calls <= WARM_UP:
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
        record = torch.cuda.CUDAGraph()
        try:
            # Other threads may go on calling CUDA, such as those that watch over the processes.
            with torch.cuda.graph(record, pool=self._graphs.pool, stream=self._graphs.stream,
                                  capture_error_mode="thread_local"):
                self._outputs = self._function(*self._inputs)
        except RuntimeError as error:
            self._graphs.on = False
            logger.warning("without CUDA graphs, which make steps shorter: %s", str(error).strip().splitlines()[0])
            return False
        self._record = record
        return True
