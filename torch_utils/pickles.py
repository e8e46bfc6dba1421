"""Pickles read without being run: plain data and tensors, and nothing else.

A pickle is a program for a small machine. Most of its instructions put numbers, texts, lists and dictionaries
together; some call a function by its name, which may be any function there is. Here `_Machine` carries out the first
kind itself, and for the second knows a table of names, each with a function of ours that puts data together. Any other
name is refused. Nothing that a file names is imported, and none of its source text is run.

PyTorch keeps tensors in pickles in three ways, all of which are read: beside it in a zip (torch.save), after it in the
same file (torch.save before 1.6), and as texts of bytes within it (pickle.dump), each such a file of the second kind.
"""

import io
import math
import mmap
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dnnlib.errors import CheckpointError

MOST_BYTES = 8 * 2**30
MOST_INSTRUCTIONS = 5_000_000  # a network of 30 million weights takes 10,000
MOST_AXES = 8
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # what files of torch.save before 1.6 begin with
LEGACY_PROTOCOL = 1001

DTYPES = {"Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
          "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
          "Bool": torch.bool}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8"})
EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
FROM_MARK: dict[str, Callable[[list[Any]], Any]] = {
    "LIST": list, "TUPLE": tuple, "DICT": lambda items: _dict(items),
    "FROZENSET": lambda items: frozenset(_keys(items))}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

Builder = Callable[..., Any]


class RefusedError(Exception):
    """What is in a pickle that this machine does not do; says it in a few words."""


def read_pickle(path: Path, builders: Mapping[str, Builder] | None = None) -> Any:
    """Return what a file of pickle.dump or torch.save holds: plain Python data and tensors on the CPU.

    Tensors may share memory with each other, as they did when they were written.

    Args:
        path: the file.
        builders: functions for further names, such as {"collections.Counter": dict}; each gets what the pickle gives
            the function of that name, and is to believe none of it: it may raise TypeError, ValueError or
            RefusedError.
    Raises:
        CheckpointError: it is missing, damaged, too large, or names anything that is not known to build data.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise RefusedError(f"it has {size / 2**30:.1f} GB, and at most {MOST_BYTES // 2**30} are read")
        if zipfile.is_zipfile(path):
            return _read_zip(path, size, dict(builders or {}))
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
            return _read_stream(stream, _Budget.of(size), dict(builders or {}))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist.") from error
    except (RefusedError, OSError, ValueError, zipfile.BadZipFile) as error:
        reason = error if isinstance(error, RefusedError) else "it is damaged, or no pickle"
        raise CheckpointError(f"{path} is not read: {reason}. Nothing in it was run.") from error


@dataclass
class _Budget:
    """How many bytes a file may still speak of, however often it shows the same ones: some times what it has."""

    left: int

    @classmethod
    def of(cls, size: int) -> "_Budget":
        return cls(4 * size + 2**20)

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise RefusedError("it speaks of more numbers than it holds")


@dataclass(frozen=True)
class _Name:
    """A function or class, by its name alone."""

    full: str


@dataclass(frozen=True)
class _Storage:
    """Numbers in a row, [N], that tensors are cut from."""

    numbers: Tensor


class _NumpyType:
    """A dtype of numpy's, of a single number."""

    def __init__(self, kind: str, *_: Any) -> None:
        if kind not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
            raise RefusedError("it holds numbers of numpy's of an unusual kind")
        self.kind = kind

    def number(self, data: bytes) -> int | float:
        import numpy as np

        return np.frombuffer(data, dtype=f"<{self.kind}", count=1)[0].item()  # type: ignore[no-any-return]


class _Machine:
    """Carries out one pickle.

    Args:
        builders: functions by name.
        storage: returns the numbers of a persistent id, which is how torch.save refers to them.
    """

    def __init__(self, builders: Mapping[str, Builder], storage: Callable[[Any], _Storage], budget: _Budget) -> None:
        self._builders = {**_plain_builders(budget), **builders}
        self._storage, self._budget = storage, budget
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: Any) -> Any:
        """Return what the pickle at the place of a stream (read, readline, tell) builds; leave the stream after it."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MOST_INSTRUCTIONS:
                raise RefusedError(f"it has more than {MOST_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                return self._pop()
            self._do(opcode.name, argument)
        raise RefusedError("it ends before its end")

    def _do(self, name: str, argument: Any) -> None:
        push = self._stack.append
        if name in VALUES:
            push(argument)
        elif name in CONSTANTS:
            push(CONSTANTS[name])
        elif name in EMPTY:
            push(EMPTY[name]())
        elif name in FROM_MARK:
            push(FROM_MARK[name](self._pop_mark()))
        elif name in TUPLES:
            push(tuple(self._pop() for _ in range(TUPLES[name]))[::-1])
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = self._top(object)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self._memo:
                raise RefusedError("it refers to what it has not built")
            push(self._memo[argument])
        elif name in ("APPEND", "APPENDS"):
            items = [self._pop()] if name == "APPEND" else self._pop_mark()
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [self._pop(), self._pop()][::-1] if name == "SETITEM" else self._pop_mark()
            self._top(dict).update(_dict(items))
        elif name == "ADDITEMS":
            items = self._pop_mark()
            self._top(set).update(_keys(items))
        elif name in ("POP", "POP_MARK"):
            self._pop_mark() if name == "POP_MARK" or self._marks[-1:] == [len(self._stack)] else self._pop()
        elif name == "DUP":
            push(self._top(object))
        else:
            self._call(name, argument)

    def _call(self, name: str, argument: Any) -> None:
        """The instructions that name something outside of the pickle."""
        push = self._stack.append
        if name == "GLOBAL":
            push(_Name(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            last, module = self._pop(), self._pop()
            if not (isinstance(last, str) and isinstance(module, str)):
                raise RefusedError("it names a function by something else than text")
            push(_Name(f"{module}.{last}"))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = self._pop(), self._pop()
            push(self._built(function, arguments))
        elif name == "BUILD":  # sets attributes: of containers and tensors of no interest, others have none
            self._pop()
            self._top((dict, Tensor, _NumpyType))
        elif name in ("PERSID", "BINPERSID"):
            push(self._storage(argument if name == "PERSID" else self._pop()))
        else:
            raise RefusedError(f"the instruction {name} has no place in a network's file")

    def _built(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise RefusedError("it calls what is no function")
        builder = self._builders.get(function.full)
        if builder is None:
            raise RefusedError(f"it would call {_shown(function.full)}, which is not known to build data")
        self._budget.spend(sum(len(part) for part in arguments if isinstance(part, list | tuple | bytes | str)))
        try:
            return builder(*arguments)
        except (TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
            raise RefusedError(f"it gives {_shown(function.full)} something else than that takes") from error

    def _top(self, kind: type | tuple[type, ...]) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0) or not isinstance(self._stack[-1], kind):
            raise RefusedError("its instructions do not fit together")
        return self._stack[-1]

    def _pop(self) -> Any:
        self._top(object)
        return self._stack.pop()

    def _pop_mark(self) -> list[Any]:
        if not self._marks:
            raise RefusedError("its instructions do not fit together")
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items


def _plain_builders(budget: _Budget) -> dict[str, Builder]:
    """Return what the pickles of PyTorch's modules are known to call."""

    def tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
        return _tensor(storage, offset, size, stride, budget)

    def embedded(data: Any) -> _Storage:
        if not isinstance(data, bytes):
            raise TypeError
        storage = _read_stream(io.BytesIO(data), budget, {})
        if not isinstance(storage, _Storage):
            raise TypeError
        return storage

    scalar = {f"numpy.{core}.multiarray.scalar": _NumpyType.number for core in ("core", "_core")}
    return {
        "collections.OrderedDict": lambda pairs=(): _dict([item for pair in _items(pairs) for item in _pair(pair)]),
        "builtins.set": lambda items=(): set(_keys(items)), "__builtin__.set": lambda items=(): set(_keys(items)),
        "numpy.dtype": _NumpyType, **scalar,
        "_codecs.encode": lambda text, form: text.encode("latin1") if form == "latin1" else None,
        "torch.Size": lambda sizes=(): tuple(_items(sizes)), "torch.device": lambda *place: None,
        "torch._utils._rebuild_tensor": tensor, "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_parameter": _parameter, "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.storage._load_from_bytes": embedded}


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, budget: _Budget) -> Tensor:
    """Return a part of a storage, without copying it."""
    if not isinstance(storage, _Storage) or not _counts([offset]) or not (
            isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= MOST_AXES
            and _counts(size) and _counts(stride)):
        raise TypeError
    numbers = storage.numbers
    count = math.prod(size)
    budget.spend(count * numbers.element_size())
    if count and offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= len(numbers):
        raise RefusedError("a tensor of it is larger than its numbers")
    return numbers.as_strided(size, stride, offset) if count else numbers.new_empty(size)


def _parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError
    return tensor


def _read_zip(path: Path, size: int, builders: Mapping[str, Builder]) -> Any:
    """Return what torch.save has written since 1.6: archive/data.pkl and archive/data/0, 1 and so on, as they are."""
    found: dict[str, _Storage] = {}
    budget = _Budget.of(size)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        folder = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
        if folder is None or f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
            raise RefusedError("it is a zip, but none of torch.save on a usual machine")

        def content(name: str) -> bytes:
            info = members.get(folder + name)
            if info is None or info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                raise RefusedError(f"its part {_shown(name)} is missing or damaged")
            return archive.read(info)

        def storage(reference: Any) -> _Storage:
            dtype, key, count = _storage_reference(reference)
            if key not in found:
                budget.spend(count * dtype.itemsize)
                data = content(f"data/{key}")
                if len(data) != count * dtype.itemsize:
                    raise RefusedError("a tensor of it has another size than it says")
                found[key] = _Storage(torch.frombuffer(bytearray(data), dtype=dtype) if data
                                      else torch.empty(0, dtype=dtype))
            return found[key]

        return _Machine(builders, storage, budget).run(io.BytesIO(content("data.pkl")))


def _read_stream(stream: Any, budget: _Budget, builders: Mapping[str, Builder]) -> Any:
    """Return what one pickle holds, or one of torch.save before 1.6 with the numbers after it."""
    buffers: dict[str, tuple[bytearray, _Storage]] = {}

    def storage(reference: Any) -> _Storage:
        dtype, key, count = _storage_reference(reference)
        if key not in buffers:
            budget.spend(count * dtype.itemsize)
            buffer = bytearray(count * dtype.itemsize)
            buffers[key] = buffer, _Storage(torch.frombuffer(buffer, dtype=dtype) if buffer
                                            else torch.empty(0, dtype=dtype))
        return buffers[key][1]

    def one() -> Any:
        return _Machine(builders, storage, budget).run(stream)

    first = one()
    if type(first) is not int or first != LEGACY_MAGIC:
        return first
    protocol, machine, result, keys = one(), one(), one(), one()
    if type(protocol) is not int or protocol != LEGACY_PROTOCOL or not (
            isinstance(machine, dict) and machine.get("little_endian") is True):
        raise RefusedError("it was written by an unknown version of torch.save")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(buffers):
        raise RefusedError("the list of its tensors does not fit them")
    for key in keys:
        buffer, whole = buffers[key]
        count, data = stream.read(8), stream.read(len(buffer))
        if int.from_bytes(count, "little") != len(whole.numbers) or len(data) != len(buffer):
            raise RefusedError("a tensor of it has another size than it says")
        buffer[:] = data
    return result


def _storage_reference(reference: Any) -> tuple[torch.dtype, str, int]:
    """Return dtype, key and count of numbers of a persistent id: ("storage", type, key, device, count[, None])."""
    match reference:
        case ("storage", _Name(full), str(key), str(), int(count), *rest) if count >= 0 and all(
                part is None for part in rest):
            kind = full.removeprefix("torch.").removeprefix("cuda.").removesuffix("Storage")
            if kind in DTYPES and full.endswith("Storage"):
                return DTYPES[kind], key, count
    raise RefusedError("it keeps tensors in an unknown form")


def _counts(numbers: Any) -> bool:
    return all(type(number) is int and 0 <= number < 2**48 for number in numbers)


def _items(values: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError
    return values


def _keys(values: Any) -> list[Any]:
    """Return values that may be keys: the hash of nested tuples could fill the machine's own stack."""
    keys = list(_items(values))
    if not all(key is None or isinstance(key, str | int | float | bytes) for key in keys):
        raise RefusedError("a key in it is no number or text")
    return keys


def _pair(pair: Any) -> tuple[Any, Any]:
    key, value = pair
    return key, value


def _dict(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise RefusedError("its instructions do not fit together")
    return dict(zip(_keys(items[::2]), items[1::2], strict=True))


def _shown(name: str) -> str:
    """Return a name of a file for a message: short, and without what a terminal would obey."""
    return repr(name[:80])[1:-1]
