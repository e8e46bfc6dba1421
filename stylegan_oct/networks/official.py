"""What files of the official programs hold: snapshots of training, single networks, or plain tensors by name.

A snapshot is a pickle of a dictionary with G, D and G_ema. Each of their layers is there as a call of one function with
its class's name, its source text and its attributes. The attributes are read; the source text is not even looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dnnlib.errors import CheckpointError
from stylegan_oct.networks.legacy import Setting, is_generator
from torch_utils.pickles import RefusedError, read_pickle

NETWORKS = ("G_ema", "G", "D")
MOST_LAYERS = 10_000
MOST_DEPTH = 16


@dataclass(frozen=True)
class OfficialNetwork:
    """Tensors of a network, and the attributes of its layers where the file holds whole networks; both by name."""

    tensors: dict[str, Tensor]
    settings: dict[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class _Layer:
    """A layer or network of the official program."""

    attributes: Mapping[Any, Any]


def read_official(path: Path) -> dict[str, OfficialNetwork]:
    """Return the networks of a .pkl of the official programs, a .pt or a .safetensors, by G_ema, G and D.

    Code in the file is never run (`torch_utils.pickles`).

    Raises:
        CheckpointError: it cannot be read, or holds no network.
    """
    content = _read(path)
    if isinstance(content, _Layer):
        network = _network(content, path)
        return {_name_of(network.tensors): network}
    if isinstance(content, dict):
        if content and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
            return {_name_of(content): OfficialNetwork(dict(content))}
        found = {name: _network(content[name], path) for name in NETWORKS if content.get(name) is not None}
        if found:
            return found
    raise CheckpointError(f"{path} holds no network. Give a network-snapshot-*.pkl of stylegan2-ada-pytorch or "
                          "stylegan3, or the state dict of one network.")


def _read(path: Path) -> Any:
    if path.suffix != ".safetensors":
        return read_pickle(path, {"torch_utils.persistence._reconstruct_persistent_obj": _layer,
                                  "dnnlib.util.EasyDict": _easy_dict})
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist.") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not read: it is damaged.") from error


def _easy_dict() -> dict[Any, Any]:
    return {}


def _layer(meta: Any) -> _Layer:
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
        raise RefusedError("a layer of it is kept in an unknown form")
    return _Layer(meta["state"])


def _name_of(tensors: Mapping[str, Tensor]) -> str:
    return "G_ema" if is_generator(tensors) else "D"


def _network(content: Any, path: Path) -> OfficialNetwork:
    """Return the tensors and settings of a network and all layers within it."""
    if isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values()):
        return OfficialNetwork({str(name): value for name, value in content.items()})
    network, count = OfficialNetwork({}), 0
    pending = [("", content)]
    while pending:
        prefix, layer = pending.pop()
        count += 1
        if not isinstance(layer, _Layer) or count > MOST_LAYERS or prefix.count(".") > MOST_DEPTH:
            raise CheckpointError(f"{path} holds something else where a network or a layer of one should be.")
        for name, value in layer.attributes.items():
            if isinstance(name, str) and (value is None or isinstance(value, int | float | str)):
                network.settings[prefix + name] = value
        for name, value in _named(layer, "_parameters", path) + _named(layer, "_buffers", path):
            if isinstance(value, Tensor):
                network.tensors[prefix + name] = value
        pending += [(f"{prefix}{name}.", value) for name, value in _named(layer, "_modules", path)
                    if value is not None]
    return network


def _named(layer: _Layer, kind: str, path: Path) -> list[tuple[str, Any]]:
    found = layer.attributes.get(kind, {})
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise CheckpointError(f"{path} holds something else where the {kind[1:]} of a layer should be.")
    return list(found.items())
