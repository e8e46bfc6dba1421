"""Weights exchanged with the official StyleGAN2-ADA: the same names, except that it keeps no class means of w."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dnnlib.errors import CheckpointError
from stylegan_oct.networks.discriminator import Discriminator
from stylegan_oct.networks.generator import Generator
from stylegan_oct.networks.layers import RESAMPLE_TAPS
from stylegan_oct.networks.mapping import LR_MULTIPLIER, MappingNetwork
from torch_utils.checkpoint import check_fits, load_module
from torch_utils.ops.filters import setup_filter

OURS_ALONE = "mapping.w_avg_class"
CLASS_MEAN_SAMPLES = 4096
SOURCE = "the official state dict"
ACTIVATIONS = {"lrelu", "linear"}

Setting = int | float | str | None


def from_official(tensors: Mapping[str, Tensor],
                  settings: Mapping[str, Setting] | None = None) -> Generator | Discriminator:
    """Return the network that these official tensors belong to, with its size read from their names and shapes.

    Args:
        tensors: by name.
        settings: attributes of its layers by name, such as {"synthesis.b64.conv1.conv_clamp": 256.0}: what no tensor
            tells. Without them those are the defaults of this project.
    Raises:
        CheckpointError: they are no complete StyleGAN2-ADA network, or one that computes something else than ours.
    """
    options = official_options(tensors, settings or {})
    kind = Generator if is_generator(tensors) else Discriminator
    with torch.device("meta"):  # a few numbers of a file may claim a network of any size
        empty = kind(**options)
    check_fits(empty, _completed(empty, tensors), source=SOURCE)
    network = kind(**options)
    load_official(network, tensors)
    return network


def is_generator(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether official tensors are those of a generator, which alone keeps a mean of w."""
    return "mapping.w_avg" in tensors


def official_options(tensors: Mapping[str, Tensor], settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Return the constructor arguments of the network that official tensors belong to; arguments as `from_official`.

    Raises:
        CheckpointError: as `from_official`.
    """
    if any(re.match(r"synthesis\.L\d+_", name) for name in tensors):
        raise CheckpointError("This is a network of StyleGAN3's configurations T or R, which are built otherwise. "
                              "Networks of StyleGAN2-ADA, and of StyleGAN3's configuration stylegan2, are read.")
    try:
        sizes = _generator_options(tensors) if is_generator(tensors) else _discriminator_options(tensors)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"These tensors are no StyleGAN2-ADA network ({error} is missing).") from error
    _check_filters(tensors)
    return {**sizes, **_options_of(settings)}


def load_official(network: Generator | Discriminator, tensors: Mapping[str, Tensor]) -> None:
    """Load official weights; the class means of w, which they lack, are estimated from the mapping network.

    Raises:
        CheckpointError: names the missing and the unexpected tensors, or those of another shape.
    """
    load_module(network, _completed(network, tensors), source=SOURCE)
    if isinstance(network, Generator) and OURS_ALONE not in tensors:
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


def _completed(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return official tensors with the class means that they lack, as the network has them."""
    own = network.state_dict()
    return {**({OURS_ALONE: own[OURS_ALONE]} if OURS_ALONE in own else {}), **tensors}


def _check_filters(tensors: Mapping[str, Tensor]) -> None:
    ours = setup_filter(RESAMPLE_TAPS)
    for name, tensor in tensors.items():
        if name.endswith("resample_filter") and not (tensor.shape == ours.shape
                                                     and torch.allclose(tensor.float(), ours, atol=1e-4)):
            raise CheckpointError(f"{name} is not the filter {RESAMPLE_TAPS} that this project resamples with.")


def _options_of(settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Return constructor arguments that no tensor tells; refuse what our networks compute otherwise."""
    options: dict[str, Any] = {}
    clamps: set[Setting] = set()
    for name, value in settings.items():
        if name.endswith(".activation") and value not in ACTIVATIONS:
            raise CheckpointError(f"{name} is {value!r}; this project's networks have leaky ReLU.")
        if re.fullmatch(r"mapping\.fc\d+\.bias_gain", name) and value != LR_MULTIPLIER:
            raise CheckpointError(f"{name} is {value!r}; this project's mapping networks have {LR_MULTIPLIER}.")
        if re.search(r"\.(conv|conv0|conv1|torgb|fromrgb)\.conv_clamp$", name) and not name.startswith("b4.fromrgb"):
            clamps.add(value)
        if name == "b4.mbstd.group_size":
            options["mbstd_group_size"] = value
    if len(clamps) > 1 or not all(clamp is None or _is_positive(clamp) for clamp in clamps):
        raise CheckpointError("Its layers are clamped at several values, or at one that is no number.")
    if not _is_positive(options.get("mbstd_group_size") or 1):
        raise CheckpointError("The groups of its minibatch standard deviation have no size.")
    if clamps:
        options["conv_clamp"] = clamps.pop()
    if settings:
        options["num_fp16_res"] = sum(bool(value) for name, value in settings.items() if name.endswith(".use_fp16"))
    return options


def _is_positive(value: Setting) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


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
