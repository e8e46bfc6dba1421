"""Noise and cutout (ADA, appendix B.1)."""

import torch
from torch import Tensor

from stylegan_oct.augment.draws import Draws
from stylegan_oct.augment.spec import AugmentSpec


def add_noise(images: Tensor, spec: AugmentSpec, draws: Draws) -> Tensor:
    """Return images [N, C, H, W] with Gaussian noise, of one standard deviation for each image."""
    sigma = draws.gated(spec.noise, draws.half_normal() * spec.noise_std, 0.0)
    return torch.addcmul(images, torch.randn_like(images), sigma[:, None, None, None])


def cut_out(images: Tensor, spec: AugmentSpec, draws: Draws) -> Tensor:
    """Return images [N, C, H, W] with a rectangle set to 0, cut off where it crosses the border."""
    height, width = images.shape[2:]
    half = draws.gated(spec.cutout, draws.constant(spec.cutout_size / 2), 0.0)[:, None]
    kept = [(_centres(size, images) - draws.unit()[:, None]).abs() >= half for size in (width, height)]
    return images * (kept[0][:, None, :] | kept[1][:, :, None])[:, None]


def _centres(size: int, like: Tensor) -> Tensor:
    """Return the centres of pixels as shares of the axis, [size]."""
    return (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) / size
