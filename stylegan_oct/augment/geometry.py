"""Geometry: one affine map of the plane for each image, applied with little aliasing (ADA, appendix B.1).

Coordinates are pixels from the centre of the image, x to the right and y downwards. A matrix `inverse` [3, 3] takes
(x, y, 1) in the result to the place in the original where the value is read.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_oct.augment.draws import Draws
from stylegan_oct.augment.filtering import reflect
from stylegan_oct.augment.spec import AugmentSpec
from torch_utils.ops.upfirdn2d import downsample2d, upsample2d


def draw_geometry(spec: AugmentSpec, draws: Draws, *, width: int, height: int) -> Tensor:
    """Return the inverse matrices of a batch, [N, 3, 3]; the first transformation of the table is applied first.

    Only flips, quarter turns and shifts by whole pixels are used where `spec` uses no other: then every entry is a
    whole number.
    """
    inverse = _matrix(draws.constant(1.0), draws.constant(0.0), draws.constant(0.0), draws.constant(1.0))
    if spec.xflip > 0:
        inverse = inverse @ _scaling(1 - 2 * draws.gated(spec.xflip, draws.choice(2), 0.0), draws.constant(1.0))
    if spec.rotate90 > 0:
        turns = draws.gated(spec.rotate90, draws.choice(4), 0.0) * (math.pi / 2)
        inverse = inverse @ _rotation(turns).round()
    if spec.xint > 0:
        x, y = _shift(spec.xint, draws, draws.uniform() * spec.xint_max, draws.uniform() * spec.xint_max)
        inverse = inverse @ _translation(-(x * width).round(), -(y * height).round())
    if spec.scale > 0:
        factor = draws.gated(spec.scale, 2 ** (draws.normal() * spec.scale_std), 1.0)
        inverse = inverse @ _scaling(1 / factor, 1 / factor)
    if spec.rotate > 0:
        inverse = inverse @ _rotation(_angle(spec, draws))
    if spec.aniso > 0:
        factor = draws.gated(spec.aniso, 2 ** (draws.normal() * spec.aniso_std), 1.0)
        inverse = inverse @ _scaling(1 / factor, factor)
    if spec.rotate > 0 and draws.percentile is None:  # quantiles of both rotations would add up
        inverse = inverse @ _rotation(_angle(spec, draws))
    if spec.xfrac > 0:
        x, y = _shift(spec.xfrac, draws, draws.normal() * spec.xfrac_std, draws.normal() * spec.xfrac_std)
        inverse = inverse @ _translation(-x * width, -y * height)
    return inverse


def transform(images: Tensor, inverse: Tensor, f: Tensor, *, whole: bool) -> Tensor:
    """Return images [N, C, H, W] under the maps `inverse` [N, 3, 3].

    Args:
        images: see `warp`.
        inverse: of `draw_geometry`.
        f: see `warp`.
        whole: every map takes pixels onto pixels.
    """
    if whole:
        return move_pixels(images, inverse)
    if images.is_cuda:  # looking at the matrices would stall it
        return warp(images, inverse, f)
    moves_whole = (inverse == inverse.round()).flatten(1).all(dim=1)
    some, others = moves_whole.nonzero()[:, 0], (~moves_whole).nonzero()[:, 0]
    if len(some) == 0:
        return warp(images, inverse, f)
    if len(others) == 0:
        return move_pixels(images, inverse)
    parts = move_pixels(images[some], inverse[some]), warp(images[others], inverse[others], f)
    return torch.cat(parts)[torch.cat([some, others]).argsort()]


def move_pixels(images: Tensor, inverse: Tensor) -> Tensor:
    """Return images [N, C, H, W] under maps that take pixels onto pixels, exactly; reflected at the border."""
    n, channels, height, width = images.shape
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
    a, b, tx, c, d, ty = inverse[:, :2].reshape(n, 6, 1, 1).unbind(dim=1)
    columns = reflect((a * x + b * y + tx + (width - 1) / 2).round().long(), width)           # [N, H, W]
    rows = reflect((c * x + d * y + ty + (height - 1) / 2).round().long(), height)
    sources = (rows * width + columns).reshape(n, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, sources).reshape(images.shape)


def warp(images: Tensor, inverse: Tensor, f: Tensor) -> Tensor:
    """Return images under affine maps: upsampled by 2, sampled bilinearly, and downsampled by 2.

    Beyond the border lies the reflected image, to the width of the image; further out it is 0.

    Args:
        images: [N, C, H, W].
        inverse: [N, 3, 3].
        f: low-pass filter of an orthonormal wavelet, [taps]: up- and downsampling alone restore the image.
    """
    n, channels, height, width = images.shape
    reach = len(f) // 2
    left, right, top, bottom = _margins(inverse, width=width, height=height, reach=reach)
    fine = upsample2d(F.pad(images, [left, right, top, bottom], mode="reflect"), f)

    # The sampled plane is as large as the result and the reach of the filter around it, at twice the resolution.
    # There, the centre of the image lies half a sample off the centre of the plane: the filter's own delay.
    rows, columns = 2 * (height + reach), 2 * (width + reach)
    inverse = _shifted(inverse, (left - right) / 2, (top - bottom) / 2)
    inverse = inverse * inverse.new_tensor([[1, 1, 2], [1, 1, 2], [0.5, 0.5, 1]])
    inverse = _shifted(inverse, -0.5, -0.5) @ _translation(inverse.new_tensor([0.5]), inverse.new_tensor([0.5]))
    to_unit = inverse.new_tensor([2 / fine.shape[3], 2 / fine.shape[2], 1])
    from_unit = inverse.new_tensor([columns / 2, rows / 2, 1])
    theta = (to_unit[:, None] * inverse * from_unit)[:, :2]
    grid = F.affine_grid(theta, [n, channels, rows, columns], align_corners=False)
    sampled = F.grid_sample(fine, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return downsample2d(sampled, f, padding=-reach, flip_filter=True)


def _margins(inverse: Tensor, *, width: int, height: int, reach: int) -> list[int]:
    """Return how far beyond left, right, top and bottom the maps read; at most what reflecting once can give."""
    centre = inverse.new_tensor([(width - 1) / 2, (height - 1) / 2])
    extent = inverse[:, :2, :2].abs() @ centre                                         # [N, 2]
    shift = inverse[:, :2, 2]
    beyond = torch.stack([extent - shift, extent + shift], dim=2) - centre[:, None] + reach
    # Reading the maximum stalls a GPU; constant margins of size - 1 need no reading, but nine times the area.
    worst = beyond.amax(dim=0).ceil().tolist()
    return [int(min(max(value, 0), size - 1))
            for pair, size in zip(worst, (width, height), strict=True) for value in pair]


def _shift(multiplier: float, draws: Draws, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return both shifts where they are applied, else 0."""
    applied = draws.applied(multiplier * draws.p)
    return torch.where(applied, x, 0.0), torch.where(applied, y, 0.0)


def _angle(spec: AugmentSpec, draws: Draws) -> Tensor:
    """Return the angle of one of two rotations; the probability that either is applied is that of `rotate`."""
    probability = 1 - (1 - spec.rotate * torch.as_tensor(draws.p)).clamp(min=0).sqrt()
    angle = draws.uniform() * math.pi * spec.rotate_max
    return torch.where(draws.applied(probability), angle, 0.0)


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
