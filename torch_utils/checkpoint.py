"""Checkpoints without pickle: a directory of safetensors files, and meta.json, which is written last.

A directory is complete when it has its final name and every file that meta.json lists with its size. It gets the
name only after all of it is on the disk, so a kill at any instant leaves the older checkpoints as they were.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from dnnlib.config import Count, Name, from_dict
from dnnlib.errors import CheckpointError, ConfigError, TrainingError
from dnnlib.files import sync_directory
from dnnlib.stored import brief, is_inside, read_json, reading
from torch_utils.tensor_file import Budget, all_finite, load_header, load_tensors, take

FORMAT = 1
META = "meta.json"

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What meta.json says in every checkpoint."""

    format: Literal[1]
    files: dict[Name, Count]   # sizes in bytes

    def __post_init__(self) -> None:
        for name in self.files:
            if not is_inside(name) or "/" in name:
                raise ConfigError(f"files must be names of files beside {META}; got {brief(name)}.")


def optimizer_tensors(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """Return an optimizer's state under the names of the network's parameters: `conv.weight/exp_avg`."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in network.named_parameters()}
    return {f"{names[parameter]}/{key}": value
            for parameter, state in optimizer.state.items() for key, value in state.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned.

    Raises:
        CheckpointError: a parameter does not exist, or a moment does not fit it.
    """
    parameters = dict(network.named_parameters())
    optimizer.state.clear()
    for key in tensors:
        name, _, kind = key.rpartition("/")
        if name not in parameters or kind not in ("step", "exp_avg", "exp_avg_sq"):
            raise CheckpointError(f"The optimizer's state names {brief(key)}, which this network does not have.")
        with reading("The optimizer's state", CheckpointError, "Use an older checkpoint of the run."):
            value = take(tensors, key, *(() if kind == "step" else parameters[name].shape))
        place = "cpu" if kind == "step" and not optimizer.defaults.get("fused") else parameters[name].device
        optimizer.state[parameters[name]][kind] = value.to(place)


def save(path: Path, parts: Mapping[str, Mapping[str, Tensor]], meta: Mapping[str, Any], *,
         headers: Mapping[str, Mapping[str, str]] | None = None) -> None:
    """Write the named sets of tensors and the metadata as the directory `path`, whole or not at all.

    Args:
        path: the directory; a complete one of that name is kept as it is, an incomplete one replaced.
        parts: file stem -> tensors.
        meta: JSON types.
        headers: file stem -> strings for the header of its safetensors file.
    Raises:
        TrainingError: the disk is full or cannot be written.
    """
    if is_complete(path):
        return
    temporary = path.parent / f".tmp-{path.name}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for stem, tensors in parts.items():
            file = temporary / f"{stem}.safetensors"
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file,
                      metadata=dict((headers or {}).get(stem, {})))
            _sync(file)
        sizes = {file.name: file.stat().st_size for file in sorted(temporary.iterdir())}
        (temporary / META).write_text(json.dumps({"format": FORMAT, **meta, "files": sizes}, indent=2) + "\n",
                                      encoding="utf-8")
        _sync(temporary / META)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
        sync_directory(path.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise TrainingError(f"The checkpoint {path} could not be written ({reason}). Make room on the disk and run the "
                            "same command again: it goes on from the last complete checkpoint.") from error


def is_complete(path: Path) -> bool:
    """Whether the directory holds meta.json and every file it lists, each of its size."""
    try:
        listing = read_meta(path, Listing)
        return all((path / name).stat().st_size == size for name, size in listing.files.items())
    except (OSError, CheckpointError):
        return False


def read_meta(path: Path, cls: type[T]) -> T:
    """Return what a dataclass names of the metadata of a checkpoint.

    Raises:
        CheckpointError: there is none, it is of another format, or a field is missing, of another kind or out of
            bounds.
    """
    if not (path / META).is_file():
        raise CheckpointError(f"{path} is no complete checkpoint: {META} is missing. Use another one.")
    with reading(path / META, CheckpointError, "Use another checkpoint, or the release that wrote it."):
        data = read_json(path / META)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ConfigError(f"it has another format than {FORMAT}.")
        return from_dict(cls, data, where="meta", strict=False)


def encode_tensors(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> bytes:
    """Return a safetensors file: the same bytes for the same content. The library leaves the header's order open."""
    data = safetensors.torch.save(dict(tensors), metadata=dict(header))
    end = 8 + int.from_bytes(data[:8], "little")
    fields = json.loads(data[8:end])
    fields["__metadata__"] = dict(sorted(header.items()))
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + data[end:]


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with reading(file, CheckpointError, "Use another checkpoint."):
        return load_tensors(file)


def read_header(file: Path) -> dict[str, str]:
    """Return the strings in the header of a safetensors file.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with reading(file, CheckpointError, "Give a checkpoint of this project."):
        return load_header(file).texts


def load_network(build: Callable[[], M], file: Path) -> M:
    """Return a network with the weights of a file.

    It may hold no more numbers than the file: what a header claims beyond that is never allocated.

    Raises:
        CheckpointError: the file is damaged, or its tensors do not fit.
    """
    with reading(file, CheckpointError, "Give another file."), Budget(load_header(file).numbers):
        network = build()
    load_module(network, read_tensors(file), source=str(file))
    return network


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Load tensors into a module strictly; any floating type is converted to the module's.

    Raises:
        CheckpointError: names the missing and the unexpected tensors, or those of another shape or not finite.
    """
    check_fits(module, tensors, source=source)
    own = module.state_dict()
    wrong = [name for name, tensor in tensors.items()
             if tensor.is_floating_point() != own[name].is_floating_point() or not all_finite(tensor)]
    if wrong:
        raise CheckpointError(f"{source} is damaged: {wrong[0]} must hold finite numbers of the type "
                              f"{own[wrong[0]].dtype}. Use another file.")
    module.load_state_dict(tensors)


def check_fits(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Check that tensors have the names and shapes of a module, which may be one without numbers (device meta).

    Raises:
        CheckpointError: names the missing and the unexpected tensors, or those of another shape.
    """
    own = module.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    shapes = [f"{name}: {list(tensors[name].shape)} instead of {list(own[name].shape)}"
              for name in sorted(own.keys() & tensors.keys()) if own[name].shape != tensors[name].shape]
    problems = [f"{what} {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
                for what, names in (("missing", missing), ("unexpected", extra), ("other shapes", shapes)) if names]
    if problems:
        raise CheckpointError(f"{source} does not fit this network: {'; '.join(problems)}.")


def nimg_of(path: Path) -> int:
    """Return the image count in the name of a checkpoint directory."""
    match = re.fullmatch(r"nimg-(\d+)", path.name)
    assert match is not None, path
    return int(match[1])


def complete_checkpoints(directory: Path) -> list[Path]:
    """Return the complete checkpoints in a directory, oldest first."""
    found = [path for path in directory.glob("nimg-*") if re.fullmatch(r"nimg-\d+", path.name) and is_complete(path)]
    return sorted(found, key=nimg_of)


def prune(directory: Path, *, keep: int, reduce_to: str, snapshot_nimg: int, spare: Collection[int] = ()) -> None:
    """Thin out old checkpoints; the newest `keep` complete ones, and image counts in `spare`, stay as they are.

    Older ones whose image count is a multiple of `snapshot_nimg` are reduced to the file `reduce_to`.safetensors (a
    generator to draw from), the others removed; so are leftovers of a killed save.
    """
    kept = complete_checkpoints(directory)[-keep:]
    for path in directory.glob("nimg-*"):
        if not kept or path in kept or nimg_of(path) > nimg_of(kept[-1]) or nimg_of(path) in spare:
            continue
        if nimg_of(path) % snapshot_nimg == 0:
            for file in path.iterdir():
                if file.name not in (f"{reduce_to}.safetensors", META):
                    file.unlink()
        else:
            shutil.rmtree(path)
    for leftover in directory.glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync(file: Path) -> None:
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())
