"""Wavelet filters, and the random amplification of frequency bands (ADA, appendix B.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_oct.augment.draws import Draws
from stylegan_oct.augment.spec import AugmentSpec

# Low-pass filter of the orthonormal wavelet sym6, of six vanishing moments and least asymmetry (Daubechies 1992).
SYM6 = (0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.491055941926747,
        0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
        0.0017677118642428036, -0.007800708325034148)

# Low-pass filter of sym2 convolved with its mirror image and halved: zero phase, and 1 at frequency 0.
SYM2_ZERO_PHASE = (-1 / 32, 0.0, 9 / 32, 1 / 2, 9 / 32, 0.0, -1 / 32)

# Expected share of each band in the power of a natural image, whose spectrum falls with the square of frequency.
_EXPECTED_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)


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
    """Return the gain of each band, [N, 4]; each drawn gain leaves the expected power of an image as it was."""
    gains = torch.ones_like(draws.constant(1.0))[:, None].repeat(1, 4)
    power = gains.new_tensor(_EXPECTED_POWER)
    for band, strength in enumerate(spec.imgfilter_bands):
        drawn = torch.ones_like(gains)
        drawn[:, band] = draws.gated(spec.imgfilter * strength, 2 ** (draws.normal() * spec.imgfilter_std), 1.0)
        gains = gains * drawn / (power * drawn.square()).sum(dim=1, keepdim=True).sqrt()
    return gains


def amplify_bands(images: Tensor, gains: Tensor, bank: Tensor) -> Tensor:
    """Return images with each band of frequencies amplified along both axes, reflected at the border.

    Filter and border are one matrix per axis: two matrix products cost less than 43 taps up to some 1000 px, and work
    for images narrower than the filter.

    Args:
        images: [N, C, H, W].
        gains: [N, 4].
        bank: [4, taps] of `filter_bank`.
    """
    height, width = images.shape[2:]
    taps = gains.to(images.dtype) @ bank.to(images.dtype)            # [N, taps]
    columns = _filter_matrices(taps, height)[:, None]                # [N, 1, H, H]
    rows = _filter_matrices(taps, width)[:, None]                    # [N, 1, W, W]
    return columns @ images @ rows.mT


def _filter_matrices(taps: Tensor, size: int) -> Tensor:
    """Return [N, size, size] matrices that filter a signal with taps [N, odd], reflected at its ends."""
    reach = taps.shape[1] // 2
    sources = reflect(torch.arange(size, device=taps.device)[:, None]
                      + torch.arange(-reach, reach + 1, device=taps.device), size)     # [size, taps]
    matrices = taps.new_zeros(len(taps), size, size)
    return matrices.scatter_add_(2, sources.expand(len(taps), -1, -1), taps[:, None].expand(-1, size, -1))


def reflect(positions: Tensor, size: int) -> Tensor:
    """Return whole-numbered positions folded into 0 .. size - 1 by reflection at the first and last sample."""
    period = max(2 * (size - 1), 1)
    folded = positions.remainder(period)
    return torch.minimum(folded, period - folded) if size > 1 else folded


def _stretch(taps: Tensor, factor: int) -> Tensor:
    """Return h(z^factor) for h(z)."""
    stretched = taps.new_zeros((len(taps) - 1) * factor + 1)
    stretched[::factor] = taps
    return stretched


def _convolve(a: Tensor, b: Tensor) -> Tensor:
    return F.conv1d(a[None, None], b.flip(0)[None, None], padding=len(b) - 1)[0, 0]
