"""Colour: one affine map of the channels for each image (ADA, appendix B.1)."""

import math

import torch
from torch import Tensor

from stylegan_oct.augment.draws import Draws
from stylegan_oct.augment.spec import AugmentSpec

# On the luma axis (1, 1, 1) / sqrt(3) lie the greys.
_AXIS = 1 / math.sqrt(3)


def draw_color(spec: AugmentSpec, draws: Draws, *, channels: int) -> Tensor:
    """Return the colour maps of a batch as 4x4 matrices on (r, g, b, 1), [N, 4, 4].

    Hue and saturation leave greys as they are, so one-channel images skip them.
    """
    identity = torch.eye(4, device=draws.constant(0.0).device, dtype=draws.constant(0.0).dtype)
    axis = torch.tensor([_AXIS, _AXIS, _AXIS, 0.0], device=identity.device, dtype=identity.dtype)
    luma = torch.outer(axis, axis)                                        # projects on the greys
    matrix = identity.expand(len(draws.constant(0.0)), 4, 4)
    if spec.brightness > 0:
        matrix = _offset(draws.gated(spec.brightness, draws.normal() * spec.brightness_std, 0.0)) @ matrix
    if spec.contrast > 0:
        factor = draws.gated(spec.contrast, 2 ** (draws.normal() * spec.contrast_std), 1.0)
        matrix = torch.stack([factor, factor, factor, torch.ones_like(factor)], dim=1).diag_embed() @ matrix
    if spec.lumaflip > 0:
        flipped = draws.gated(spec.lumaflip, draws.choice(2), 0.0)[:, None, None]
        matrix = (identity - 2 * luma * flipped) @ matrix
    if spec.hue > 0 and channels == 3:
        matrix = _turn(draws.gated(spec.hue, draws.uniform() * math.pi * spec.hue_max, 0.0), identity, luma) @ matrix
    if spec.saturation > 0 and channels == 3:
        factor = draws.gated(spec.saturation, 2 ** (draws.normal() * spec.saturation_std), 1.0)[:, None, None]
        last = torch.diag(torch.tensor([0.0, 0.0, 0.0, 1.0], device=identity.device, dtype=identity.dtype))
        matrix = (luma + last + (identity - luma - last) * factor) @ matrix
    return matrix


def apply_color(images: Tensor, matrix: Tensor) -> Tensor:
    """Return images [N, 1 or 3, H, W] under [N, 4, 4] of `draw_color`; one channel takes the mean of its rows."""
    n, channels = images.shape[:2]
    if channels == 1:
        row = matrix[:, :3].mean(dim=1)                                   # [N, 4]
        gain, offset = row[:, :3].sum(dim=1), row[:, 3]
        return torch.addcmul(offset[:, None, None, None], images, gain[:, None, None, None])
    mixed = torch.baddbmm(matrix[:, :3, 3:], matrix[:, :3, :3], images.reshape(n, 3, -1))
    return mixed.reshape(images.shape)


def _offset(value: Tensor) -> Tensor:
    """Return matrices that add value [N] to every channel, [N, 4, 4]."""
    matrix = torch.eye(4, device=value.device, dtype=value.dtype).repeat(len(value), 1, 1)
    matrix[:, :3, 3] = value[:, None]
    return matrix


def _turn(angle: Tensor, identity: Tensor, luma: Tensor) -> Tensor:
    """Return rotations by angle [N] about the luma axis, [N, 4, 4] (Rodrigues' formula)."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    cross = identity.new_zeros(4, 4)
    cross[:3, :3] = _AXIS * torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    turned = cos * identity + sin * cross + (1 - cos) * luma
    turned[:, 3, 3] = 1
    return turned
