"""A GPU that is not there: the CPU computes, and what a GPU would refuse or wait for is an error.

    with FakeGpu() as gpu:
        state = create_state(config, gpu.device, "phantom")
        with gpu.strict():
            steps.generator(batch)

Tensors of the device say that they are on "cuda:0" and keep their numbers on the CPU, or with `values=False` only
their sizes (the meta device), so that networks of any size can be walked through. Errors are: tensors of host and
device in one op; a tensor that is read on a stream which does not wait for the one that wrote it; within `strict`, all
that lets the host wait for the device, copies from memory that is not pinned among it. Of the project's own ops the
planning of the kernels runs, and their results have the strides that the kernels write.

A CUDA graph is a list of ops, which replaying runs again on the same tensors; recording one leaves no trace in what was
there before. `programs` lists what each op did but for its numbers, to see whether two calls did the same.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from torch_utils.ops import bias_act, layer_end, upfirdn2d, warp2d
from torch_utils.ops.launches import Launch, Variant

aten = torch.ops.aten
WAITS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero, aten._unique2,
         aten.bincount, aten.repeat_interleave}
ON_GPU = {torch.ops.torch_utils.upfirdn2d: upfirdn2d._on_cuda, torch.ops.torch_utils.bias_act: bias_act._on_cuda,
          torch.ops.torch_utils.bias_act_grad: bias_act._grad_on_cuda,
          torch.ops.torch_utils.layer_end: layer_end._on_cuda,
          torch.ops.torch_utils.layer_end_grad: layer_end._grad_on_cuda,
          torch.ops.torch_utils.warp2d: warp2d._on_cuda, torch.ops.torch_utils.warp2d_adjoint: warp2d._adjoint_on_cuda}
READS = {getattr(Tensor, name) for name in ("tolist", "numpy", "cpu", "__array__", "item")}
FROM_DATA = {torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, Tensor.new_tensor}


class HostWaits(RuntimeError):
    """The host would wait for the device."""


class WrongDevice(RuntimeError):
    """An op got tensors of the host and of the device."""


class Race(RuntimeError):
    """A stream reads what another one may not have written yet."""


class OnDevice(Tensor):
    """A tensor that says it is on the GPU; `inner` holds its numbers, or its size alone."""

    inner: Tensor
    gpu: "FakeGpu"

    @staticmethod
    def __new__(cls, inner: Tensor, gpu: "FakeGpu") -> "OnDevice":
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[no-any-return, attr-defined]
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device="cpu")

    def __init__(self, inner: Tensor, gpu: "FakeGpu") -> None:
        self.inner, self.gpu, self.written = inner, gpu, gpu.stamp()

    device = property(lambda self: self.gpu.device)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        gpu = next(x.gpu for x in tree_flatten((args, kwargs))[0] if isinstance(x, OnDevice))
        return gpu.run(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = self.detach().clone().requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copied._is_param = True
        memo[id(self)] = copied
        return copied

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnDevice({list(self.shape)}, {self.dtype})"

    def record_stream(self, stream: "Stream") -> None:
        self.gpu.recorded.append((self.inner.data_ptr(), stream))


class Stream:
    """Work in order; `seen` tells up to where it has waited for the others."""

    def __init__(self, *_: object, **__: object) -> None:
        self.time, self.seen = 0, Counter[int]()

    def record_event(self) -> "Event":
        return Event(self.seen | Counter({id(self): self.time}))

    def wait_event(self, event: "Event") -> None:
        self.seen |= event

    def wait_stream(self, other: "Stream") -> None:
        self.wait_event(other.record_event())


class Event(Counter[int]):
    """What a stream had done and seen when it was recorded."""

    def synchronize(self) -> None:
        """The host waits for this, but for nothing after it."""


class Graph:
    """Ops to be run again on the tensors that they had, with what they change put back after recording."""

    def __init__(self) -> None:
        self.ops: list[Callable[[], object]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # storage: what it held, and a tensor of it
        self.gpu: FakeGpu | None = None

    def remember(self, x: Tensor) -> None:
        """Keep what the memory of a tensor holds, which is about to change."""
        whole = x.detach().as_strided((x.untyped_storage().nbytes() // x.element_size(),), (1,), 0)
        self.before.setdefault(x.untyped_storage().data_ptr(), (whole, whole.clone()))

    def replay(self) -> None:
        assert self.gpu is not None, "replayed before it was recorded"
        self.gpu.launches["graph"] += 1
        self.gpu.stream.time += 1
        with torch.no_grad():
            for op in self.ops:
                op()


class FakeGpu(TorchFunctionMode):
    """See above.

    Args:
        values: compute; else only sizes, dtypes and strides are known.
    """

    def __init__(self, *, values: bool = True) -> None:
        super().__init__()
        self.device, self._home = torch.device("cuda", 0), "cpu" if values else "meta"
        self.launches: Counter[str] = Counter()  # ops that run on the device, views left out
        self.variants: set[Variant] = set()      # kernels that were planned
        self.recorded: list[tuple[int, Stream]] = []
        self.stream, self._strict, self._pinned = Stream(), False, {}
        self.programs: list[list[tuple[Any, ...]]] = []
        self._graph: Graph | None = None
        self._patches = pytest.MonkeyPatch()

    def __enter__(self) -> "FakeGpu":
        patch = self._patches.setattr
        for module in (upfirdn2d, bias_act, warp2d, layer_end):
            patch(module, "kernels_run", lambda: True)
            patch(module, "launch", self._plan)
            patch(module, "use_reference", lambda x, impl: impl == "reference")
        patch(torch.cuda, "is_available", lambda: True)
        patch(torch.cuda, "mem_get_info", lambda *_: (2**36, 2**37))
        patch(torch.cuda, "memory_reserved", lambda *_: 0)
        patch(torch.cuda, "memory_allocated", lambda *_: 0)
        patch(torch.cuda, "max_memory_allocated", lambda *_: 0)
        patch(torch.cuda, "Stream", Stream)
        patch(torch.cuda, "current_stream", lambda *_: self.stream)
        patch(torch.cuda, "stream", self._on_stream)
        patch(torch.cuda, "set_stream", lambda stream: setattr(self, "stream", stream))
        patch(torch.cuda, "graph_pool_handle", object)
        patch(torch.cuda, "CUDAGraph", Graph)
        patch(torch.cuda, "graph", self._record)
        # `Module.to` then makes new parameters; it cannot put a tensor of the device into an old one.
        patch(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.undo()

    @contextlib.contextmanager
    def strict(self) -> Iterator[None]:
        """Let everything that makes the host wait be an error."""
        self._strict = True
        try:
            yield
        finally:
            self._strict = False

    def stamp(self) -> tuple[Stream, int]:
        """Return stream and time of what is written now."""
        return self.stream, self.stream.time

    def values(self, x: Tensor) -> Tensor:
        """Return the numbers of a tensor, for a test to look at."""
        return x.inner.detach() if isinstance(x, OnDevice) else x.detach()

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an op that has a tensor of the device among its arguments."""
        packet = func.overloadpacket
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        if any(x.is_meta for x in tensors if not isinstance(x, OnDevice)):  # autograd asks for the size of a result
            sizes = tree_map(lambda x: x.inner.to("meta") if isinstance(x, OnDevice) else x, (args, kwargs))
            return func(*sizes[0], **sizes[1])
        if packet in WAITS:
            self._wait(f"{func} returns to the host")
        self._note(func, args, kwargs)
        if packet is aten.copy_ and not isinstance(args[1], OnDevice):
            self._check_upload(args[1], bool(args[2]) if len(args) > 2 else kwargs.get("non_blocking", False))
            args = (args[0], self._upload(args[1]), *args[2:])
        elif packet is aten.copy_ and not isinstance(args[0], OnDevice):
            if not (self._is_pinned(args[0]) and len(args) > 2 and args[2]):
                self._wait("a copy to the host")
            args[0].copy_(args[1].inner)
            return args[0]
        elif packet in (aten.index, aten.index_put, aten.index_put_) and any(
                index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]):
            self._wait(f"{func} counts a mask")
        elif foreign := [x for x in tensors if not isinstance(x, OnDevice) and x.ndim > 0]:
            raise WrongDevice(f"{func}: {[list(x.shape) for x in foreign]} on the host, others on the device")
        self._check_streams(tensors)
        if not func.is_view:
            self.launches[packet._qualified_op_name.replace("::", ".")] += 1
            self.stream.time += 1
        known = {id(x.inner): x for x in tensors if isinstance(x, OnDevice)}
        inner_args, inner_kwargs = tree_map(self._unwrap, (args, kwargs))
        if "device" in inner_kwargs:
            inner_kwargs["device"] = self._home
        if self._graph is not None and func._schema.is_mutable:
            for x in known.values():
                self._graph.remember(x.inner)
        result = ON_GPU.get(packet, func)(*inner_args, **inner_kwargs)
        if packet in ON_GPU and self._home == "cpu":  # the planned kernel wrote nothing
            planned, result = result, func(*inner_args, **inner_kwargs)
            for one, other in zip(tree_flatten(planned)[0], tree_flatten(result)[0], strict=True):
                assert one.dtype == other.dtype and _steps(one) == _steps(other), (func, one.stride(), other.stride())
        if func._schema.is_mutable:
            for x in known.values():
                x.written = self.stamp()
        if self._graph is not None and not func.is_view:
            self._graph.ops.append(lambda: _again(func, inner_args, inner_kwargs, result))
        return tree_map(lambda x: self._wrap(x, known) if isinstance(x, Tensor) else x, result)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        on_device = isinstance(first, OnDevice)
        if func in READS and on_device:
            self._wait(f"{func.__name__} reads")
            return func(first.inner, *args[1:], **kwargs)
        if func is Tensor.data_ptr and on_device:
            return first.inner.data_ptr()
        if func is Tensor.pin_memory:
            pinned = first.clone()
            self._pinned[pinned.untyped_storage().data_ptr()] = pinned.untyped_storage()
            return pinned
        if func is Tensor.is_pinned:
            return self._is_pinned(first)
        if func is Tensor.to:
            return self._to(first, *args[1:], **kwargs)
        if func is Tensor.cuda:
            return self._to(first, self.device, **kwargs)
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            if func in FROM_DATA:
                self._wait(f"{func.__name__} with a device copies")
            made = func(*args, **{**kwargs, "device": self._home})
            if isinstance(made, OnDevice):
                return made
            self._note(func, args, kwargs)
            if self._graph is not None:
                inner_kwargs, inner = {**kwargs, "device": self._home}, made.detach()
                self._graph.ops.append(lambda: _again(func, args, inner_kwargs, inner))
            self.launches[f"torch.{func.__name__}"] += 1
            self.stream.time += 1
            return OnDevice(made.detach(), self).requires_grad_(made.requires_grad)
        if func is Tensor.new_tensor and on_device:
            self._wait("new_tensor copies")
            return OnDevice(torch.tensor(*args[1:], dtype=first.dtype, device=self._home), self)
        return func(*args, **kwargs)

    def _to(self, x: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        device, dtype, non_blocking, form = torch._C._nn._parse_to(*args, **kwargs)
        on_device = isinstance(x, OnDevice)
        options = {"dtype": dtype or x.dtype, "copy": copy, **({} if form is None else {"memory_format": form})}
        if device is None or (device.type == "cuda") == on_device:
            return torch._C.TensorBase.to(x, **options)
        if on_device:
            self._wait("a copy to the host")
            return torch._C.TensorBase.to(x.inner, **options)
        self._check_upload(x, non_blocking)
        wanted = torch._C.TensorBase.to(x.detach(), **{**options, "copy": True})
        return self._upload(wanted).requires_grad_(x.requires_grad)

    def _upload(self, x: Tensor) -> OnDevice:
        if self._graph is not None:
            raise RuntimeError("a copy from the host cannot be recorded")
        self.launches["upload"] += 1
        self.stream.time += 1
        return OnDevice(x.detach().to(self._home), self)

    def _check_upload(self, x: Tensor, non_blocking: bool) -> None:
        if not (non_blocking and self._is_pinned(x)):
            self._wait(f"{list(x.shape)} comes from memory that is not pinned, or is waited for")

    def _is_pinned(self, x: Tensor) -> bool:
        return x.untyped_storage().data_ptr() in self._pinned

    def _check_streams(self, tensors: list[Tensor]) -> None:
        for x in tensors:
            if isinstance(x, OnDevice):
                stream, time = x.written
                if stream is not self.stream and self.stream.seen[id(stream)] < time:
                    raise Race(f"{x} was written on another stream")

    def _note(self, func: Any, args: Any, kwargs: Any) -> None:
        """Add what an op does, but for numbers on the device, to the program."""
        if self.programs:
            facts = tree_map(lambda x: (tuple(x.shape), x.stride(), x.dtype, isinstance(x, OnDevice))
                             if isinstance(x, Tensor) else x, (args, kwargs))
            self.programs[-1].append((str(func), repr(facts)))

    @contextlib.contextmanager
    def _record(self, graph: Graph, **_: Any) -> Iterator[None]:
        random = torch.get_rng_state()
        self._graph = graph
        strict, self._strict = self._strict, True
        try:
            yield
        finally:
            self._graph, self._strict = None, strict
            torch.set_rng_state(random)
            with torch.no_grad():
                for whole, before in graph.before.values():
                    whole.copy_(before)
        graph.gpu = self

    def _wait(self, why: str) -> None:
        if self._strict:
            raise HostWaits(why)

    def _plan(self, what: Launch, device: torch.device) -> None:
        assert 0 < what.blocks < 2**31, what
        self.variants.add(what.variant)

    def _wrap(self, x: Tensor, known: dict[int, OnDevice]) -> OnDevice:
        """Return what an op returned: the argument that it changed, or a new tensor."""
        changed = known.get(id(x))
        return OnDevice(x, self) if changed is None else changed

    def _unwrap(self, x: Any) -> Any:
        return x.inner if isinstance(x, OnDevice) else x.to(self._home) if isinstance(x, Tensor) else x

    @contextlib.contextmanager
    def _on_stream(self, stream: Stream | None) -> Iterator[None]:
        before, self.stream = self.stream, stream or self.stream
        try:
            yield
        finally:
            self.stream = before


def _again(func: Any, args: Any, kwargs: Any, result: Any) -> None:
    """Run an op once more; its results take the place of those it had."""
    for old, new in zip(tree_flatten(result)[0], tree_flatten(func(*args, **kwargs))[0], strict=True):
        if isinstance(old, Tensor) and old is not new and old.data_ptr() != new.data_ptr():
            old.copy_(new)


def _steps(x: Tensor) -> list[int]:
    """Return the strides that tell where numbers lie: those of axes longer than one."""
    return [stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1]


def kernels(gpu: FakeGpu, run: Callable[[], object]) -> int:
    """Return how many ops a call runs on the device."""
    before = gpu.launches.total()
    run()
    return gpu.launches.total() - before
