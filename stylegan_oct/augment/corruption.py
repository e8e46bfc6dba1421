"""Noise and cutout (ADA, appendix B.1)."""

import torch
from torch import Tensor

from stylegan_oct.augment.draws import Draws, change
from stylegan_oct.augment.spec import AugmentSpec


def add_noise(images: Tensor, spec: AugmentSpec, draws: Draws) -> Tensor:
    """Return images [N, C, H, W] with Gaussian noise, of one standard deviation for each image."""
    sigma = draws.gated(spec.noise, draws.half_normal() * spec.noise_std, 0.0).to(images.dtype)
    # Noise for every image, used or not: what is drawn next must not depend on p.
    return torch.addcmul(images, torch.randn_like(images), sigma[:, None, None, None])


def cut_out(images: Tensor, spec: AugmentSpec, draws: Draws, *, everywhere: bool = False) -> Tensor:
    """Return images [N, C, H, W] with a rectangle set to 0, cut off where it crosses the border; see `change`."""
    height, width = images.shape[2:]
    chosen = draws.applied(spec.cutout)
    columns, rows = (_outside(size, draws.unit(), spec.cutout_size) for size in (width, height))
    kept = columns[:, None, None, :] | rows[:, None, :, None] | ~chosen[:, None, None, None]      # [N, 1, H, W]
    return change(images, chosen, torch.mul, kept, everywhere=everywhere)


def _outside(size: int, centre: Tensor, side: float) -> Tensor:
    """Return which pixels of an axis lie outside an interval, centre and side as shares of the axis, [N, size]."""
    places = (torch.arange(size, dtype=centre.dtype, device=centre.device) + 0.5) / size
    return (places - centre[:, None]).abs() >= side / 2
