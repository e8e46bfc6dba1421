"""Geometry: one affine map of the plane for each image, applied with little aliasing (ADA, appendix B.1).

Coordinates are pixels from the centre of the image, x to the right and y downwards. A matrix `inverse` [3, 3] takes
(x, y, 1) in the result to the place in the original where the value is read.
"""

import math

import torch
from torch import Tensor

from stylegan_oct.augment.draws import Draws, change, compose
from stylegan_oct.augment.filtering import downsampling_matrix
from stylegan_oct.augment.spec import AugmentSpec
from torch_utils.ops.warp2d import reflect, warp2d


def draw_geometry(spec: AugmentSpec, draws: Draws, *, width: int, height: int) -> Tensor:
    """Return the inverse matrices of a batch, [N, 3, 3], float64."""
    inverse = _matrix(draws.constant(1.0), draws.constant(0.0), draws.constant(0.0), draws.constant(1.0))
    if spec.xflip > 0:
        inverse = compose(inverse, _scaling(1 - 2 * draws.gated(spec.xflip, draws.choice(2), 0.0), draws.constant(1.0)))
    if spec.rotate90 > 0:
        turns = draws.gated(spec.rotate90, draws.choice(4), 0.0) * (math.pi / 2)
        inverse = compose(inverse, _rotation(turns).round())
    if spec.xint > 0:
        x, y = _shift(spec.xint, draws, draws.uniform() * spec.xint_max, draws.uniform() * spec.xint_max)
        inverse = compose(inverse, _translation(-(x * width).round(), -(y * height).round()))
    if spec.scale > 0:
        factor = draws.gated(spec.scale, 2 ** (draws.normal() * spec.scale_std), 1.0)
        inverse = compose(inverse, _scaling(1 / factor, 1 / factor))
    if spec.rotate > 0:
        inverse = compose(inverse, _rotation(_angle(spec, draws)))
    if spec.aniso > 0:
        factor = draws.gated(spec.aniso, 2 ** (draws.normal() * spec.aniso_std), 1.0)
        inverse = compose(inverse, _scaling(1 / factor, factor))
    if spec.rotate > 0 and draws.percentile is None:  # quantiles of both rotations would add up
        inverse = compose(inverse, _rotation(_angle(spec, draws)))
    if spec.xfrac > 0:
        x, y = _shift(spec.xfrac, draws, draws.normal() * spec.xfrac_std, draws.normal() * spec.xfrac_std)
        inverse = compose(inverse, _translation(-x * width, -y * height))
    return inverse


def transform(images: Tensor, inverse: Tensor, f: Tensor, *, everywhere: bool = False) -> Tensor:
    """Return images [N, C, H, W] under the maps `inverse` [N, 3, 3]; arguments as in `warp`.

    Shifts by whole pixels need not be resampled, which changes no number. Flips and quarter turns are, as the method
    has it: `f` is not symmetric, so that they differ from flipped pixels by a tenth of a pixel and at high frequencies.
    """
    if everywhere:  # one resampling for all, the same work whatever was drawn
        return warp(images, inverse, f)
    linear, shift = inverse[:, :2, :2], inverse[:, :2, 2]
    whole = (linear == torch.eye(2)).flatten(1).all(dim=1) & (shift == shift.round()).all(dim=1)
    shifted = whole & (shift != 0).any(dim=1)
    images = change(images, shifted, shift_pixels, shift)
    return change(images, ~whole, lambda x, inverse: warp(x, inverse, f), inverse)


def shift_pixels(images: Tensor, source: Tensor) -> Tensor:
    """Return images [N, C, H, W] read `source` [N, 2] = (x, y) pixels further on, whole; reflected at the border."""
    n, channels, height, width = images.shape
    columns = reflect(torch.arange(width) + source[:, :1].long(), width)                       # [N, W]
    rows = reflect(torch.arange(height) + source[:, 1:].long(), height)                        # [N, H]
    sources = rows[:, :, None] * width + columns[:, None, :]
    return images.flatten(2).gather(2, sources.reshape(n, 1, -1).expand(-1, channels, -1)).reshape(images.shape)


def warp(images: Tensor, inverse: Tensor, f: Tensor) -> Tensor:
    """Return images under affine maps: upsampled by 2, sampled bilinearly, and downsampled by 2.

    Beyond the border lies the reflected image, to the width of the image; further out it is 0.

    Args:
        images: [N, C, H, W].
        inverse: [N, 3, 3], on the device of the images.
        f: low-pass filter of an orthonormal wavelet, [taps], on the device of the images: up- and downsampling alone
            restore the image.
    """
    height, width = images.shape[2:]
    # The sampled plane is as large as the result and the reach of the filter around it, at twice the resolution.
    rows, columns = 2 * height + len(f), 2 * width + len(f)
    # From its centre, where a pixel is two samples and half a sample off its middle, to the sample read there.
    linear, shift = inverse[:, :2, :2], inverse[:, :2, 2]
    first = linear[:, :, 0] * (1 - columns / 2) + linear[:, :, 1] * (1 - rows / 2) + 2 * shift
    maps = _shifted(torch.cat([linear, first[:, :, None]], dim=2), width - 1, height - 1)
    sampled = warp2d(images, maps.to(images.dtype), f, size=(rows, columns))
    f = f.to(images.dtype)
    return downsampling_matrix(f, height) @ sampled @ downsampling_matrix(f, width).mT


def _shift(multiplier: float, draws: Draws, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return both shifts where they are applied, else 0."""
    applied = draws.applied(multiplier)
    return torch.where(applied, x, 0.0), torch.where(applied, y, 0.0)


def _angle(spec: AugmentSpec, draws: Draws) -> Tensor:
    """Return the angle of one of two rotations; the probability that either is applied is that of `rotate`."""
    neither = draws.constant(1.0) - spec.rotate * draws.p
    angle = draws.uniform() * math.pi * spec.rotate_max
    return torch.where(draws.below(1 - neither.clamp(min=0).sqrt()), angle, 0.0)


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Return the linear maps [[a, b], [c, d]] of [N] entries, [N, 3, 3]."""
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack([a, b, zero, c, d, zero, zero, zero, one], dim=1).reshape(-1, 3, 3)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return _matrix(x, torch.zeros_like(x), torch.zeros_like(x), y)


def _rotation(angle: Tensor) -> Tensor:
    return _matrix(angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def _translation(x: Tensor, y: Tensor) -> Tensor:
    return _shifted(_scaling(torch.ones_like(x), torch.ones_like(y)), x, y)


def _shifted(matrix: Tensor, x: Tensor | float, y: Tensor | float) -> Tensor:
    """Return the maps followed by a shift."""
    shifted = matrix.clone()
    shifted[:, 0, 2] += x
    shifted[:, 1, 2] += y
    return shifted
