"""3x3 convolutions by Winograd's minimal filtering: a quarter of the multiplications, as matrix products.

Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308), section 4.3, F(4x4, 3x3):
a tile of 4x4 results needs 36 products per pair of channels in place of 144,
    Y = A^T [(G w G^T) * (B^T d B)] A   with d the 6x6 images below the tile, summed over the channels within [ ].
The sum over the channels is a product of matrices for each of the 36 places. All is linear, so that the gradient of the
weights is G^T [(B^T d B) * (A dY A^T)] G.

What is saved in multiplications is paid in passes over memory: it pays for many channels. Rounding is three times
that of the direct sum (relative error 2.5e-6 in place of 0.9e-6 at 256 channels in float32).
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Lavin and Gray 2015, section 4.3: interpolation at 0, 1, -1, 2, -2 and infinity.
_B_T = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1))
_G = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6), (1 / 24, 1 / 12, 1 / 6),
      (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))
_A_T = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def _both_axes(matrix: Sequence[Sequence[float]]) -> Tensor:
    """Return what applies a transformation to the rows and columns of flattened tiles."""
    one = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(one, one).to(torch.float32)


_TO_DATA, _TO_WEIGHTS, _TO_RESULTS = _both_axes(_B_T), _both_axes(_G), _both_axes(_A_T)  # [36, 36], [36, 9], [16, 36]
_TO_FLIPPED_WEIGHTS = _TO_WEIGHTS.flip(1)

MIN_SIDE = 16
MIN_CHANNELS = 256             # from which it is faster than oneDNN's direct convolution
MIN_CHANNELS_OF_WEIGHTS = 128  # likewise for the gradient of the weights, which is slower there


def pays(x: Tensor, weights: Sequence[int], *, channels: int) -> bool:
    """Return whether a convolution of `x` with weights of a shape [O, I, kh, kw] is faster this way."""
    return (len(x) > 0 and x.dtype == torch.float32 and tuple(weights[2:]) == (3, 3) and min(weights[:2]) >= channels
            and min(x.shape[2:]) >= MIN_SIDE and x.is_contiguous(memory_format=torch.channels_last))


def conv3x3(x: Tensor, w: Tensor, padding: Sequence[int]) -> Tensor:
    """Return images [N, I, H, W], padded by (y, x), correlated with weights [O, I, 3, 3]: [N, O, h, w]."""
    return _convolve(x, _transformed(w, _TO_WEIGHTS).mT, padding)


def conv3x3_input(y: Tensor, w: Tensor, padding: Sequence[int]) -> Tensor:
    """Return the gradient [N, I, H, W] of the images of `conv3x3` for one [N, O, h, w] of its results."""
    return _convolve(y, _transformed(w, _TO_FLIPPED_WEIGHTS), [2 - pad for pad in padding])


def conv3x3_weight(x: Tensor, y: Tensor, padding: Sequence[int]) -> Tensor:
    """Return the gradient [O, I, 3, 3] of the weights of `conv3x3` for one [N, O, h, w] of its results."""
    rows, columns = _tiles(x, padding)
    below, beside = 4 * rows - y.shape[2], 4 * columns - y.shape[3]
    products = x.new_zeros(36, y.shape[1], x.shape[1])
    for images, part in _parts(x, y, rows * columns):
        tiles = F.pad(part.permute(0, 2, 3, 1), [0, 0, 0, beside, 0, below])
        tiles = tiles.view(len(part), rows, 4, columns, 4, -1).permute(2, 4, 0, 1, 3, 5)
        results = (_TO_RESULTS.mT @ tiles.reshape(16, -1)).view(36, -1, y.shape[1])  # [36, tiles, O]
        products.baddbmm_(results.mT, _data(images, padding))
    weights = (_TO_WEIGHTS.mT @ products.flatten(1)).view(3, 3, *products.shape[1:]).permute(2, 3, 0, 1)
    return weights.contiguous(memory_format=torch.channels_last)


def _convolve(x: Tensor, weights: Tensor, padding: Sequence[int]) -> Tensor:
    """Return [N, O, h, w] for transformed weights [36, I, O]."""
    height, width = (length + 2 * pad - 2 for length, pad in zip(x.shape[2:], padding, strict=True))
    rows, columns = _tiles(x, padding)
    y = x.new_empty(len(x), rows, 4, columns, 4, weights.shape[2])
    for images, part in _parts(x, y, rows * columns):
        products = torch.bmm(_data(images, padding), weights).flatten(1)             # [36, tiles * O]
        tiles = (_TO_RESULTS @ products).view(4, 4, len(images), rows, columns, -1)
        part.copy_(tiles.permute(2, 3, 0, 4, 1, 5))
    y = y.view(len(x), 4 * rows, 4 * columns, -1)[:, :height, :width]
    return y.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _tiles(x: Tensor, padding: Sequence[int]) -> tuple[int, int]:
    """Return how many tiles cover the results of images, below and beside another."""
    rows, columns = (-(-(length + 2 * pad - 2) // 4) for length, pad in zip(x.shape[2:], padding, strict=True))
    return rows, columns


def _parts(x: Tensor, y: Tensor, tiles: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and results of `tiles` each, together so many as fill matrices but stay small enough for caches."""
    size = max(256 // tiles, 1)
    return zip(torch.split(x, size), torch.split(y, size), strict=True)


def _data(x: Tensor, padding: Sequence[int]) -> Tensor:
    """Return the transformed tiles of images [N, C, H, W]: [36, tiles, C]."""
    (rows, columns), (top, left), (height, width) = _tiles(x, padding), padding, x.shape[2:]
    right, bottom = 4 * columns + 2 - width - left, 4 * rows + 2 - height - top
    images = F.pad(x.permute(0, 2, 3, 1), [0, 0, left, right, top, bottom])
    tiles = images.unfold(1, 6, 4).unfold(2, 6, 4).permute(4, 5, 0, 1, 2, 3)         # [6, 6, N, rows, columns, C]
    return (_TO_DATA @ tiles.reshape(36, -1)).view(36, -1, x.shape[1])


def _transformed(w: Tensor, to_weights: Tensor) -> Tensor:
    """Return weights [O, I, 3, 3] as [36, O, I]."""
    return (to_weights @ w.permute(2, 3, 0, 1).reshape(9, -1)).view(36, *w.shape[:2])
