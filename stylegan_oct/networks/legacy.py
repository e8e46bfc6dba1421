"""Weights exchanged with the official StyleGAN2-ADA: the same names, except that it keeps no class means of w."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dnnlib.errors import CheckpointError
from stylegan_oct.networks.discriminator import Discriminator
from stylegan_oct.networks.generator import Generator
from stylegan_oct.networks.mapping import MappingNetwork
from torch_utils.checkpoint import load_module

OURS_ALONE = "mapping.w_avg_class"
CLASS_MEAN_SAMPLES = 4096


def read_official(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict in a .safetensors or a .pt file; code in the file is never run.

    Raises:
        CheckpointError: it is neither, as are the .pkl files in which the official program keeps whole networks.
    """
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _load_without_code(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist.") from error
    except Exception as error:  # a damaged or foreign pickle can fail in any way
        raise CheckpointError(
            f"{path} holds no plain state dict. Where the official code is installed, open the network there and "
            f'write torch.save(G_ema.state_dict(), "G_ema.pt"), then give that file.') from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds more than names and tensors. Give the state dict of one network.")
    return state


def from_official(tensors: Mapping[str, Tensor]) -> Generator | Discriminator:
    """Return the network that these official tensors belong to, with its size read from their names and shapes.

    Raises:
        CheckpointError: they are no complete StyleGAN2-ADA network.
    """
    try:
        network = (Generator(**_generator_options(tensors)) if "mapping.w_avg" in tensors
                   else Discriminator(**_discriminator_options(tensors)))
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"These tensors are no StyleGAN2-ADA network ({error} is missing).") from error
    load_official(network, tensors)
    return network


def load_official(network: Generator | Discriminator, tensors: Mapping[str, Tensor]) -> None:
    """Load official weights; the class means of w, which they lack, are estimated from the mapping network.

    Raises:
        CheckpointError: names the missing and the unexpected tensors, or those of another shape.
    """
    own = network.state_dict()
    added = {OURS_ALONE: own[OURS_ALONE]} if OURS_ALONE in own and OURS_ALONE not in tensors else {}
    load_module(network, {**tensors, **added}, source="the official state dict")
    if added and isinstance(network, Generator):
        estimate_class_means(network.mapping)


def official_state(network: Generator | Discriminator) -> dict[str, Tensor]:
    """Return the weights under the names that the official program expects."""
    return {name: tensor for name, tensor in network.state_dict().items() if name != OURS_ALONE}


@torch.no_grad()
def estimate_class_means(mapping: MappingNetwork) -> None:
    """Set the class means of w to those over fixed random z."""
    random = torch.Generator().manual_seed(0)
    z = torch.randn(CLASS_MEAN_SAMPLES, mapping.z_dim, generator=random).to(mapping.w_avg.device)
    for label in range(mapping.c_dim):
        c = torch.full((len(z),), label, device=z.device)
        mapping.w_avg_class[label] = mapping(z, c)[:, 0].mean(dim=0)


def _load_without_code(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the pickle protocol, before it fails anyway
        return torch.load(path, map_location="cpu", weights_only=True)


def _generator_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    resolutions = _resolutions(tensors, r"synthesis\.b(\d+)\.conv1\.weight")
    widths = {resolution: tensors[f"synthesis.b{resolution}.conv1.weight"].shape[0] for resolution in resolutions}
    label = tensors.get("mapping.embed.weight")
    return {
        "z_dim": tensors["mapping.fc0.weight"].shape[1] - (0 if label is None else len(label)),
        "c_dim": 0 if label is None else label.shape[1], "w_dim": len(tensors["mapping.w_avg"]),
        "img_resolution": resolutions[-1], "img_channels": len(tensors[f"synthesis.b{resolutions[-1]}.torgb.bias"]),
        "architecture": _architecture(tensors, "synthesis.b4.torgb.weight"), **_widths(widths),
        "mapping_layers": _mapping_layers(tensors)}


def _discriminator_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    resolutions = _resolutions(tensors, r"b(\d+)\.conv0\.weight")
    widths = {resolution: tensors[f"b{resolution}.conv0.weight"].shape[1] for resolution in resolutions}
    epilogue, label = tensors["b4.conv.weight"], tensors.get("mapping.embed.weight")
    return {
        "c_dim": 0 if label is None else label.shape[1], "cmap_dim": None if label is None else len(label),
        "img_resolution": resolutions[-1], "img_channels": tensors[f"b{resolutions[-1]}.fromrgb.weight"].shape[1],
        "architecture": _architecture(tensors, "b4.fromrgb.weight"), **_widths({4: len(epilogue), **widths}),
        "mapping_layers": _mapping_layers(tensors), "mbstd_channels": epilogue.shape[1] - epilogue.shape[0]}


def _resolutions(tensors: Mapping[str, Tensor], pattern: str) -> list[int]:
    return sorted(int(match[1]) for match in (re.fullmatch(pattern, name) for name in tensors) if match)


def _architecture(tensors: Mapping[str, Tensor], only_in_skip: str) -> str:
    if any(name.endswith(".skip.weight") for name in tensors):
        return "resnet"
    return "skip" if only_in_skip in tensors else "orig"


def _widths(widths: Mapping[int, int]) -> dict[str, int]:
    """Return channel_base and channel_max that give these feature maps by resolution."""
    channel_max = max(widths.values())
    narrow = [resolution * width for resolution, width in widths.items() if width < channel_max]
    return {"channel_base": max(narrow, default=max(widths) * channel_max), "channel_max": channel_max}


def _mapping_layers(tensors: Mapping[str, Tensor]) -> int:
    # An unconditional discriminator has no mapping network, whatever its number of layers.
    return sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", name)) for name in tensors)
