"""Directions in w, and the file that holds them: safetensors with a JSON header, tied to one generator."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from dnnlib.config import Finite, Hash, Name, Within, from_dict, from_texts
from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_write
from dnnlib.stored import reading
from dnnlib.text import suggest
from stylegan_oct.model import OctGenerator
from torch_utils.tensor_file import load_header, load_tensors, take

Kind = Literal["pca", "sefa", "boundary", "regression"]

KIND = "stylegan_oct directions"
MAKE = "give a directions.safetensors written by: python -m tools directions"
_STEP, _READOUT = "/step", "/readout"


@dataclass(frozen=True, kw_only=True)
class Readout:
    """Predicts a quantity from w: `weight @ w + constant`."""

    weight: Tensor   # [w_dim], float32
    constant: float

    def __call__(self, w: Tensor) -> Tensor:
        """Return [N] for w [N, w_dim]."""
        return w.to(self.weight) @ self.weight + self.constant


@dataclass(frozen=True, kw_only=True)
class Direction:
    """What to add to w, in some layers, and what a step of 1 means."""

    name: str                       # "pca1", "central_thickness_um", "to_NORMAL"; with "@0-3" for a part of the layers
    kind: Kind
    class_name: str                 # of the samples it was found with; "" for those of all classes
    layers: tuple[int, int]         # the first and the last that it moves
    unit: str                       # what a step of 1 means, in words
    step: Tensor                    # what a step of 1 adds to w, [w_dim], float32
    readout: Readout | None = None  # of what a supervised direction is named after
    orthogonal_to: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """What it is named after, without the layers."""
        return self.name.partition("@")[0]

    @property
    def amount(self) -> float:
        """Predicted change, by a step of 1, of what it is named after; 0 for a direction without a name of its own."""
        return 0.0 if self.readout is None else float(self.readout.weight @ self.step)

    @property
    def has_unit(self) -> bool:
        """Whether it is named after a biomarker, whose unit a change can be given in."""
        return self.kind == "regression" and self.amount != 0

    def steps_for(self, change: float) -> float:
        """Return the steps that are predicted to change the biomarker it is named after; without one, `change`."""
        return change / self.amount if self.has_unit else change

    def move(self, ws: Tensor, steps: Tensor | float) -> Tensor:
        """Return latents moved along it.

        Args:
            ws: [N, layers, w_dim].
            steps: how far, the same for all or [N].
        """
        first, last = self.layers
        moved = ws.clone()
        distance = torch.as_tensor(steps, dtype=ws.dtype, device=ws.device).reshape(-1, 1, 1)
        moved[:, first:last + 1] += distance * self.step.to(ws)
        return moved


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """What the header says of one direction."""

    name: Name
    kind: Kind
    class_name: Name
    layers: tuple[int, int]
    unit: str
    constant: Finite | None
    orthogonal_to: tuple[Name, ...]


@dataclass(frozen=True, kw_only=True)
class _Header:
    kind: Literal["stylegan_oct directions"]
    format: Literal["1"]
    checkpoint_sha256: Hash
    directions: Annotated[tuple[dict[str, Any], ...], Within(0, 100_000)]

    def __post_init__(self) -> None:
        names = [entry.get("name") for entry in self.directions]
        if any(name in names[:place] for place, name in enumerate(names)):
            raise ConfigError("directions must have different names.")


def save_directions(path: Path, directions: Iterable[Direction], *, checkpoint_sha256: str) -> None:
    """Write directions of the generator with this hash, in their order.

    Raises:
        DataError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    entries = []
    for direction in directions:
        tensors[direction.name + _STEP] = direction.step.detach().to("cpu", torch.float32).clone()
        if direction.readout is not None:
            tensors[direction.name + _READOUT] = direction.readout.weight.detach().to("cpu", torch.float32).clone()
        entries.append({"name": direction.name, "kind": direction.kind, "class": direction.class_name,
                        "layers": list(direction.layers), "unit": direction.unit,
                        "constant": None if direction.readout is None else direction.readout.constant,
                        "orthogonal_to": list(direction.orthogonal_to)})
    header = {"kind": KIND, "format": "1", "checkpoint_sha256": checkpoint_sha256, "directions": json.dumps(entries)}
    try:
        with atomic_write(path, "wb") as file:
            file.write(save(tensors, metadata=header))
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error.strerror}. Choose another place with --out.") from error


def file_beside(G: OctGenerator, class_name: str) -> Path:
    """Return where the directions within a class that belong to a generator lie, or would lie, beside its file."""
    return G.info.path.parent / f"directions-{class_name}.safetensors"


def load_directions(path: Path, G: OctGenerator) -> list[Direction]:
    """Return the directions in a file, which must belong to this generator.

    Raises:
        DataError: the file is missing, holds something else, or belongs to another generator.
    """
    with reading(path, DataError, f"It holds no directions; {MAKE}"):
        header, tensors = from_texts(_Header, load_header(path).texts), load_tensors(path)
        if header.checkpoint_sha256 == G.info.sha256:
            return [_direction(entry, tensors, G) for entry in header.directions]
    raise DataError(f"The directions in {path} belong to another generator (checkpoint "
                    f"{header.checkpoint_sha256[:12]}, not {G.info.sha256[:12]}). Give that one with "
                    "--checkpoint, or find directions anew: python -m tools directions"
                    f"{' --beside' if path.parent == G.info.path.parent else ''}")


def _direction(entry: Mapping[str, Any], tensors: Mapping[str, Tensor], G: OctGenerator) -> Direction:
    """Return one direction of a file.

    Raises:
        ConfigError: it is damaged, or does not fit the generator.
    """
    found = from_dict(_Entry, {"class_name" if key == "class" else key: value for key, value in entry.items()},
                      where="direction")
    first, last = found.layers
    if not 0 <= first <= last < G.network.num_ws:
        raise ConfigError(f"layers of {found.name} must lie between 0 and {G.network.num_ws - 1}; got {first}-{last}.")
    width = G.network.w_dim
    readout = None if found.constant is None else Readout(weight=take(tensors, found.name + _READOUT, width),
                                                          constant=found.constant)
    return Direction(name=found.name, kind=found.kind, class_name=found.class_name, layers=found.layers,
                     unit=found.unit, step=take(tensors, found.name + _STEP, width), readout=readout,
                     orthogonal_to=found.orthogonal_to)


def pick(directions: Iterable[Direction], name: str) -> Direction:
    """Return the direction of that name.

    Raises:
        ConfigError: there is none; the nearest is named.
    """
    by_name = {direction.name: direction for direction in directions}
    if name not in by_name:
        raise ConfigError(f"There is no direction {name!r}.{suggest(name, by_name)}")
    return by_name[name]
