"""Official weights as a checkpoint of this project, to draw with and to start from."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dnnlib.errors import CheckpointError, ConfigError
from stylegan_oct.model import header_of
from stylegan_oct.networks.generator import Generator
from stylegan_oct.networks.legacy import from_official, official_options
from stylegan_oct.networks.official import OfficialNetwork, read_official
from stylegan_oct.training.transfer import of_channels
from torch_utils import checkpoint

MOST_CLASSES = 1000


@dataclass(frozen=True)
class Imported:
    """What an import wrote and what became of the parts of the file."""

    path: Path
    resolution: int
    channels: int
    classes: tuple[str, ...]
    lines: tuple[str, ...]


def import_weights(file: Path, out: Path, classes: Sequence[str] = (), *, grey: bool = False) -> Imported:
    """Write the networks of an official file as the checkpoint `out`; nothing in the file is run.

    Args:
        file: a .pkl of stylegan2-ada-pytorch or of stylegan3 (configuration stylegan2), or a state dict as .pt or
            .safetensors.
        out: a folder that is not there yet: G_ema, and G and D where the file holds them.
        classes: names in the order of the labels; default class0, class1 and so on.
        grey: make networks of colour pictures draw and judge grey ones.
    Raises:
        CheckpointError: the file cannot be read, or its networks are others than ours.
        ConfigError: the names do not fit, or `out` is there.
        TrainingError: `out` cannot be written.
    """
    if out.exists():
        raise ConfigError(f"{out} is there already. Choose another place.")
    found = read_official(file)
    if "G" in found:
        found.setdefault("G_ema", found["G"])
    if "G_ema" not in found:
        raise CheckpointError(f"{file} holds a discriminator alone; nothing can be drawn with it.")
    tensors = {name: _grey(network.tensors) if grey else network.tensors for name, network in found.items()}
    networks = {name: from_official(tensors[name], found[name].settings) for name in found}
    G = networks["G_ema"]
    if not isinstance(G, Generator):
        raise CheckpointError(f"What {file} calls G_ema is no generator.")
    names = _names(classes, G.c_dim)
    match = re.search(r"snapshot-(\d{6})", file.name)
    nimg = int(match[1]) * 1000 if match else 0
    header = header_of(official_options(tensors["G_ema"], found["G_ema"].settings), names, nimg=nimg, preset="official",
                       data_source="scans")
    copied = [f"{name}: {len(tensors[name])} tensors copied" for name in sorted(networks)]
    lines = (*copied, *_account(G, found, classes, grey))
    checkpoint.save(out, {name: network.state_dict() for name, network in networks.items()},
                    {"nimg": nimg, "augment_p": 0.0, "imported": {"file": file.name, "account": list(lines)}},
                    headers=dict.fromkeys(("G_ema", "G"), header))
    return Imported(out, G.img_resolution, G.img_channels, names, lines)


def _account(G: Generator, found: Mapping[str, OfficialNetwork], classes: Sequence[str], grey: bool) -> list[str]:
    """Return what was adapted, made anew, or is not there."""
    lines = []
    if G.c_dim:
        lines.append("means of w of each class: estimated, as official files hold that of all alone")
        lines.append("classes: by the order of the labels" if classes else
                     "classes: numbered, as official files hold no names; --classes gives them some")
    if grey:
        lines.append("channels: from 3 to 1, by means of toRGB's weights and sums of fromRGB's")
    elif G.img_channels == 3:
        lines.append("channels: 3 kept; --grey makes networks of grey pictures of them")
    if "D" not in found:
        lines.append("D: not in the file; a training that starts from here begins with a fresh one")
    return [*lines, "optimizers, strength of augmentation: not in such files; a training begins with its own"]


def _grey(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    def one(name: str, tensor: Tensor) -> Tensor:
        axis = 1 if "fromrgb.weight" in name else 0
        if ("torgb" not in name and "fromrgb.weight" not in name) or "affine" in name or tensor.ndim <= axis:
            return tensor
        value = of_channels(name, tensor, [1 if i == axis else size for i, size in enumerate(tensor.shape)])
        return tensor if value is None else value

    return {name: one(name, tensor) for name, tensor in tensors.items()}


def _names(classes: Sequence[str], count: int) -> tuple[str, ...]:
    if count > MOST_CLASSES:
        raise CheckpointError(f"The generator has {count} classes; at most {MOST_CLASSES} are taken.")
    names = tuple(name.strip() for name in classes) or tuple(f"class{label}" for label in range(count))
    if len(names) != count or len(set(names)) != count or not all(names):
        raise ConfigError(f"The generator has {count} classes; got {len(set(names))} different names. Name each of "
                          "them, in the order of the labels.")
    return names
