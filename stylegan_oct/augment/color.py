"""Colour: one affine map of the channels for each image (ADA, appendix B.1)."""

import math

import torch
from torch import Tensor, nn

from stylegan_oct.augment.draws import Draws, compose
from stylegan_oct.augment.spec import AugmentSpec


def draw_color(spec: AugmentSpec, draws: Draws, *, channels: int) -> Tensor:
    """Return the colour maps of a batch as 4x4 matrices on (r, g, b, 1), [N, 4, 4].

    Hue and saturation leave greys as they are, so one-channel images skip them.
    """
    identity, constant, luma, chroma = _projections(draws.device)
    matrix = identity.expand(len(draws.constant(0.0)), 4, 4)
    if spec.brightness > 0:
        matrix = compose(_offset(draws.gated(spec.brightness, draws.normal() * spec.brightness_std, 0.0)), matrix)
    if spec.contrast > 0:
        factor = draws.gated(spec.contrast, 2 ** (draws.normal() * spec.contrast_std), 1.0)[:, None, None]
        matrix = compose((identity - constant) * factor + constant, matrix)
    if spec.lumaflip > 0:
        flipped = draws.gated(spec.lumaflip, draws.choice(2), 0.0)[:, None, None]
        matrix = compose(identity - 2 * luma * flipped, matrix)
    if spec.hue > 0 and channels == 3:
        angle = draws.gated(spec.hue, draws.uniform() * math.pi * spec.hue_max, 0.0)[:, None, None]
        # Rodrigues' formula.
        matrix = compose(constant + luma + chroma * angle.cos() + _cross(draws.device) * angle.sin(), matrix)
    if spec.saturation > 0 and channels == 3:
        factor = draws.gated(spec.saturation, 2 ** (draws.normal() * spec.saturation_std), 1.0)[:, None, None]
        matrix = compose(constant + luma + chroma * factor, matrix)
    return matrix


def apply_color(images: Tensor, matrix: Tensor) -> Tensor:
    """Return images [N, 1 or 3, H, W] under [N, 4, 4] of `draw_color`; one channel takes the mean of its rows."""
    n, channels = images.shape[:2]
    if channels == 1:
        row = matrix[:, :3].mean(dim=1)                                   # [N, 4]
        gain, offset = row[:, :3].sum(dim=1).to(images.dtype), row[:, 3].to(images.dtype)
        return torch.addcmul(offset[:, None, None, None], images, gain[:, None, None, None])
    matrix = matrix.to(images.dtype)
    mixed = torch.baddbmm(matrix[:, :3, 3:], matrix[:, :3, :3], images.reshape(n, 3, -1))
    return mixed.reshape(images.shape)


def _projections(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the identity and its parts: the projections on the constant 1, on the luma axis (greys) and the rest."""
    identity = torch.eye(4, dtype=torch.float64, device=device)
    constant = torch.zeros_like(identity)
    constant[3, 3].fill_(1)
    luma = torch.zeros_like(identity)
    luma[:3, :3].fill_(1 / 3)
    return identity, constant, luma, identity - constant - luma


def _cross(device: torch.device) -> Tensor:
    """Return the matrix of the cross product with the luma axis (1, 1, 1) / sqrt(3)."""
    turn = torch.eye(3, dtype=torch.float64, device=device).roll(1, dims=0)  # r to g to b to r
    return nn.functional.pad(turn - turn.t(), (0, 1, 0, 1)) / 3 ** 0.5


def _offset(value: Tensor) -> Tensor:
    """Return matrices that add value [N] to every channel, [N, 4, 4]."""
    matrix = torch.eye(4, dtype=value.dtype, device=value.device).repeat(len(value), 1, 1)
    matrix[:, :3, 3] = value[:, None]
    return matrix
