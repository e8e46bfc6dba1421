"""Wavelet filters, and the random amplification of frequency bands (ADA, appendix B.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_oct.augment.draws import Draws, change
from stylegan_oct.augment.spec import AugmentSpec
from torch_utils.ops.warp2d import reflect

# Low-pass filter of the orthonormal wavelet sym6, of six vanishing moments and least asymmetry (Daubechies 1992).
SYM6 = (0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.491055941926747,
        0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
        0.0017677118642428036, -0.007800708325034148)

# Low-pass filter of sym2 convolved with its mirror image and halved: zero phase, and 1 at frequency 0.
SYM2_ZERO_PHASE = (-1 / 32, 0.0, 9 / 32, 1 / 2, 9 / 32, 0.0, -1 / 32)

# Expected power of the lowest band of a natural image, whose spectrum falls with the square of frequency, in units of
# that of each of the others.
_LOWEST_POWER = 10


def geometry_filter() -> Tensor:
    """Return sym6 scaled to the sum 1, [12]."""
    f = torch.tensor(SYM6, dtype=torch.float64)
    return f / f.sum()


def filter_bank() -> Tensor:
    """Return filters of zero phase that split a signal into octaves, lowest first, and add up to it: [4, 43]."""
    low = torch.tensor(SYM2_ZERO_PHASE, dtype=torch.float64)
    high = -low
    high[3] += 1                                                     # low + high = 1
    passed, bands = torch.ones(1, dtype=torch.float64), []
    for octave in range(3):
        bands.append(_convolve(_stretch(high, 2 ** octave), passed))
        passed = _convolve(_stretch(low, 2 ** octave), passed)
    bands.append(passed)
    pads = [(len(passed) - len(band)) // 2 for band in bands]
    return torch.stack([F.pad(band, (pad, pad)) for band, pad in zip(bands, pads, strict=True)][::-1])


def draw_band_gains(spec: AugmentSpec, draws: Draws) -> Tensor:
    """Return the gain of each band, [N, 4]; each drawn gain keeps the expected power of an image."""
    gains = draws.constant(1.0)[:, None].repeat(1, 4)
    for band, strength in enumerate(spec.imgfilter_bands):
        drawn = torch.ones_like(gains)
        drawn[:, band] = draws.gated(spec.imgfilter * strength, 2 ** (draws.normal() * spec.imgfilter_std), 1.0)
        squares = drawn.square()
        power = squares.sum(dim=1, keepdim=True) + (_LOWEST_POWER - 1) * squares[:, :1]
        gains = gains * drawn / (power / (_LOWEST_POWER + 3)).sqrt()
    return gains


def amplify_bands(images: Tensor, gains: Tensor, bank: Tensor, *, everywhere: bool = False) -> Tensor:
    """Return images with each band of frequencies amplified along both axes, reflected at the border.

    Filter and border are one matrix per axis: two matrix products cost less than 43 taps up to some 1000 px, and work
    for images narrower than the filter.

    Args:
        images: [N, C, H, W].
        gains: [N, 4] of `draw_band_gains`; images whose gains are all 1 stay as they are.
        bank: [4, taps] of `filter_bank`, on the device of the images.
        everywhere: see `change`.
    """
    def amplify(some: Tensor, gains: Tensor) -> Tensor:
        taps = gains.to(some.dtype) @ bank.to(some.dtype)                         # [N, taps]
        columns, rows = (_filter_matrices(taps, size)[:, None] for size in some.shape[2:])
        return columns @ some @ rows.mT

    return change(images, (gains != 1).any(dim=1), amplify, gains, everywhere=everywhere)


def _filter_matrices(taps: Tensor, size: int) -> Tensor:
    """Return [N, size, size] matrices that filter a signal with taps [N, odd], reflected at its ends."""
    reach = taps.shape[1] // 2
    sources = reflect(torch.arange(size, device=taps.device)[:, None]
                      + torch.arange(-reach, reach + 1, device=taps.device), size)     # [size, taps]
    matrices = taps.new_zeros(len(taps), size, size)
    return matrices.scatter_add_(2, sources.expand(len(taps), -1, -1), taps[:, None].expand(-1, size, -1))


def downsampling_matrix(f: Tensor, size: int) -> Tensor:
    """Return the matrix [size, 2 size + len(f)] that halves the rate of a signal; its ends serve the filter alone."""
    # From sample 1 on: the mirrored filter then makes up for the delay of `upsampling_matrix`.
    fine = 2 * torch.arange(size, device=f.device)[:, None] + torch.arange(1, len(f) + 1, device=f.device)
    return f.new_zeros(size, 2 * size + len(f)).scatter_(1, fine, f.expand(size, -1))


def _stretch(taps: Tensor, factor: int) -> Tensor:
    """Return h(z^factor) for h(z)."""
    stretched = taps.new_zeros((len(taps) - 1) * factor + 1)
    stretched[::factor] = taps
    return stretched


def _convolve(a: Tensor, b: Tensor) -> Tensor:
    return F.conv1d(a[None, None], b.flip(0)[None, None], padding=len(b) - 1)[0, 0]
