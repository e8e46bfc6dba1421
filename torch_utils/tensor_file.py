"""What a safetensors file says of itself, checked against its size before anything is allocated.

The library checks the same and more, but says it in its own words, reads a header of any length, and knows nothing of
the shapes that we expect.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dnnlib.config import Within, from_dict
from dnnlib.errors import ConfigError
from dnnlib.stored import brief, brief_error, is_line, parse_json

METADATA = "__metadata__"
LONGEST_HEADER = 16 * 2**20  # bytes; a generator's takes 20 kB
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8, "F64": 8}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """One tensor of a header."""

    dtype: str
    shape: Annotated[tuple[Annotated[int, Within(0, 2**40)], ...], Within(0, 8)]
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class Header:
    """The texts of a header, and the shapes of the tensors by name."""

    texts: dict[str, str]
    shapes: dict[str, Shape]

    @property
    def numbers(self) -> int:
        """How many numbers all tensors hold."""
        return sum(map(math.prod, self.shapes.values()))


class Budget(TorchFunctionMode):
    """Lets new tensors hold no more numbers, all together, than a file, and some that no file keeps.

    Args:
        numbers: of the file.
    """

    FREE = 2**20  # filters, grids of places
    MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.randn, torch.rand)

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self._numbers, self._left = numbers, numbers + self.FREE

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what is asked for.

        Raises:
            ConfigError: it is too much.
        """
        if func in self.MAKERS:
            size = args[0] if args and not isinstance(args[0], int) else args
            self._left -= math.prod(size)
            if self._left < 0:
                raise ConfigError(f"its header tells of a larger network than the {self._numbers} numbers in it make.")
        return func(*args, **(kwargs or {}))


def load_header(file: Path) -> Header:
    """Return what a file says of itself, for which its tensors are not read.

    Raises:
        ConfigError: its header is none, or does not fit its size.
        OSError: it cannot be read.
    """
    with open(file, "rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(0)
        return parse_header(opened.read(_header_length(opened.read(8), size)), size)


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file. Errors as in `load_header`."""
    load_header(file)
    try:
        with safe_open(file, framework="pt") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ConfigError(f"{brief_error(error)}.") from error


def decode_tensors(raw: bytes) -> dict[str, Tensor]:
    """Return the tensors of the bytes of a file.

    Raises:
        ConfigError: they are damaged.
    """
    parse_header(raw[8:8 + _header_length(raw[:8], len(raw))], len(raw))
    try:
        return safetensors.torch.load(raw)
    except SafetensorError as error:
        raise ConfigError(f"{brief_error(error)}.") from error


def _header_length(first: bytes, size: int) -> int:
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > min(size - 8, LONGEST_HEADER):
        raise ConfigError(f"a safetensors header must fit into the {size} bytes of the file and be at most "
                          f"{LONGEST_HEADER} bytes long; got {length}.")
    return length


def parse_header(raw: bytes, size: int) -> Header:
    """Return the header of a file of `size` bytes.

    Raises:
        ConfigError: it is none, or the tensors do not lie one after the other from the first byte to the last.
    """
    data = parse_json(raw, "the header", most=LONGEST_HEADER)
    if not isinstance(data, dict):
        raise ConfigError(f"the header must be an object; got {brief(data)}.")
    texts = data.pop(METADATA, None) or {}
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ConfigError(f"{METADATA} must be an object of texts; got {brief(texts)}.")
    entries = {name: _entry(name, fields) for name, fields in data.items()}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda pair: pair[1].data_offsets):
        wanted = (end, end + math.prod(entry.shape) * SIZES[entry.dtype])
        if entry.data_offsets != wanted:
            raise ConfigError(f"data_offsets of {name} must be {list(wanted)} for {entry.dtype} {list(entry.shape)}; "
                              f"got {list(entry.data_offsets)}.")
        end = wanted[1]
    if end != size - 8 - len(raw):
        raise ConfigError(f"the tensors must take {end} bytes by the header; the file holds {size - 8 - len(raw)}.")
    return Header(texts, {name: entry.shape for name, entry in entries.items()})


def _entry(name: str, fields: Any) -> Entry:
    if not is_line(name) or len(name) > 512:
        raise ConfigError(f"the name of a tensor must be one line of at most 512 characters; got {brief(name)}.")
    entry = from_dict(Entry, fields, where=name)
    if entry.dtype not in SIZES:
        raise ConfigError(f"dtype of {name} must be one of {', '.join(SIZES)}; got {brief(entry.dtype)}.")
    return entry


def take(tensors: Mapping[str, Tensor], name: str, *shape: int | None, whole: bool = False,
         finite: bool = True) -> Tensor:
    """Return a tensor that must be of a shape.

    Args:
        tensors: as they were read.
        name: of the one that is wanted.
        shape: None for a length that is free.
        whole: of whole numbers, else floating.
        finite: refuse infinite values and NaN.
    Raises:
        ConfigError: it is missing, or another.
    """
    found = tensors.get(name)
    if found is None:
        raise ConfigError(f"it lacks the tensor {name}.")
    if len(found.shape) != len(shape) or any(want not in (None, got) for want, got in
                                             zip(shape, found.shape, strict=True)):
        raise ConfigError(f"{name} must have the shape {['any' if size is None else size for size in shape]}; "
                          f"got {list(found.shape)}.".replace("'", ""))
    kind = found.dtype
    if (kind.is_floating_point or kind == torch.bool) if whole else not kind.is_floating_point:
        raise ConfigError(f"{name} must hold {'whole' if whole else 'floating'} numbers; got {kind}.")
    if finite and not all_finite(found):
        raise ConfigError(f"{name} holds numbers that are not finite.")
    return found


def check_numbers(tensor: Tensor, end: int, name: str) -> None:
    """Refuse whole numbers outside 0 .. end - 1.

    Raises:
        ConfigError: there is one.
    """
    if tensor.numel() and not 0 <= int(tensor.min()) <= int(tensor.max()) < end:
        raise ConfigError(f"{name} must lie between 0 and {end - 1}; got {int(tensor.min())} to {int(tensor.max())}.")


def all_finite(tensor: Tensor) -> bool:
    """Return whether no number is infinite or NaN; no copy is made."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    low, high = torch.aminmax(tensor)
    return bool(low.isfinite() & high.isfinite())
