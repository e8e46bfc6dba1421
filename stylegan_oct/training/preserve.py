"""Weights of larger networks that at first compute what the smaller ones did.

Wider layers as in Chen et al. 2016 ("Net2Net"), but by zeros and not by copies: what is new is drawn at random and not
yet listened to. Higher resolutions: G draws the picture below, enlarged, and D judges the picture reduced to below.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stylegan_oct.networks.discriminator import Discriminator, DiscriminatorBlock
from stylegan_oct.networks.generator import Generator

SLOPE = 0.2  # of the leaky ReLU below 0


def widened(name: str, old: Tensor, own: Tensor, *, is_generator: bool) -> Tensor | None:
    """Return a tensor of a block with more feature maps: the old one's numbers, and none read from new maps.

    Args:
        name: of the parameter, such as `synthesis.b64.conv0.weight` or `b64.conv0.bias`.
        old: its value in the narrower network.
        own: its fresh value, from which the rows of new maps are taken.
        is_generator: whose modulated convolutions have no gain by the number of inputs; those of toRGB and all of D do.
    Returns:
        The value, or None where the parameter is no part of a block above 4x4, or no wider one.
    """
    block, _, rest = name.removeprefix("synthesis.").partition(".")
    is_block = block.startswith("b") and block[1:].isdecimal() and (is_generator or block != "b4")
    larger = old.ndim == own.ndim and all(a <= b for a, b in zip(old.shape, own.shape, strict=True))
    kernel = old.shape[2:] == own.shape[2:]
    if not (is_block and larger and kernel) or old.ndim not in (1, 2, 4) or (old.ndim == 2 and "affine" not in rest):
        return None
    result = own.clone()
    place = tuple(slice(size) for size in old.shape)
    if old.ndim == 4:
        result[:old.shape[0]] = 0
        demodulated = is_generator and "torgb" not in rest and "skip" not in rest
        old = old if demodulated else old * math.sqrt(own.shape[1] / old.shape[1])  # gains are 1 / sqrt(inputs)
    result[place] = old
    return result


@torch.no_grad()
def draw_the_picture_below(G: Generator, resolution: int) -> bool:
    """Set the toRGB layers above a resolution to 0: G draws what it drew there, enlarged, and learns to add to it.

    Returns:
        Whether that is possible: only pictures that are sums of those of all resolutions can begin so.
    """
    if G.synthesis.architecture != "skip":
        return False
    for above in (r for r in G.synthesis.resolutions if r > resolution):
        nn.init.zeros_(G.get_parameter(f"synthesis.b{above}.torgb.weight"))
        nn.init.zeros_(G.get_parameter(f"synthesis.b{above}.torgb.bias"))
    return True


@torch.no_grad()
def judge_the_picture_below(D: Discriminator, resolution: int, from_below: Mapping[str, Tensor]) -> bool:
    """Let the blocks above a resolution carry the picture down to it, reduced, and do what fromRGB did there.

    The picture v travels as the difference of two feature maps, since lrelu(v) - lrelu(-v) = (1 + slope) v: through the
    shortcuts of the upper blocks, and through both convolutions of the last, whose bias and activation become those of
    fromRGB. All other maps are fresh; what is computed from them is not yet listened to.

    Args:
        D: whose blocks up to `resolution` hold the weights of a discriminator of that resolution.
        resolution: below that of D.
        from_below: `weight` [O, C, 1, 1], as stored, and `bias` [O] of that one's fromRGB.
    Returns:
        Whether that is possible: D has shortcuts, and room for the picture of each channel.
    """
    weight, bias = from_below["weight"] / math.sqrt(from_below["weight"].shape[1]), from_below["bias"]
    above = [D.get_submodule(f"b{r}") for r in D.resolutions if r > resolution]
    blocks = [block for block in above if isinstance(block, DiscriminatorBlock)]
    channels = D.img_channels
    last = blocks[-1]
    fits = last.conv1.weight.shape[0] >= weight.shape[0] and weight.shape[1] == channels
    if not fits or not hasattr(last, "skip") or any(block.conv0.weight.shape[0] < 2 * channels for block in blocks):
        return False
    top = blocks[0].fromrgb
    assert top.bias is not None
    for c in range(channels):
        for sign, row in ((1.0, 2 * c), (-1.0, 2 * c + 1)):
            top.weight[row] = 0
            top.weight[row, c] = sign / top.weight_gain
            top.bias[row] = 0
    # What of the block's input makes up the picture's channel c: [channels, inputs].
    carrier = torch.zeros(channels, top.weight.shape[0])
    for c in range(channels):
        carrier[c, 2 * c], carrier[c, 2 * c + 1] = (sign / (top.act_gain * (1 + SLOPE)) for sign in (1, -1))
    for block, below in zip(blocks, [*blocks[1:], None], strict=True):
        if below is None:
            _become_from_rgb(block, carrier, weight, bias)
        else:
            assert block.conv1.bias is not None
            for part in (block.skip.weight, block.conv1.weight, block.conv1.bias):
                part[:channels] = 0
            block.skip.weight[:channels, :, 0, 0] = carrier / (block.skip.weight_gain * math.sqrt(0.5))
            carrier = torch.eye(channels, block.skip.weight.shape[0])
    return True


def _become_from_rgb(block: DiscriminatorBlock, carrier: Tensor, weight: Tensor, bias: Tensor) -> None:
    """Let a block halve the picture that `carrier` finds in its input and apply fromRGB to it."""
    channels = len(carrier)
    first, second = block.conv0, block.conv1
    assert first.bias is not None and second.bias is not None
    for c in range(channels):
        for sign, row in ((1.0, 2 * c), (-1.0, 2 * c + 1)):
            first.weight[row] = 0
            first.weight[row, :, 1, 1] = sign * carrier[c] / first.weight_gain
            first.bias[row] = 0
    known = len(weight)  # maps that are read below, if the block there is a wider one
    block.skip.weight[:known] = 0
    second.weight[:known] = 0
    scale = math.sqrt(2)  # the branch is weighed by sqrt(1/2), which passes through the activation
    for c in range(channels):
        each = scale * weight[:, c, 0, 0] / (first.act_gain * (1 + SLOPE) * second.weight_gain)
        second.weight[:known, 2 * c, 1, 1], second.weight[:known, 2 * c + 1, 1, 1] = each, -each
    second.bias[:known] = scale * bias
