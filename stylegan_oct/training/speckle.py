"""The speckle of the training scans: its grain and its strength, which the speckle layer of G takes over.

It is measured and not learned: noise looks alike with either sign, so that what D says of a sample moves its strength
weakly, and its correlation hardly.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.networks.synthesis import SPECKLE_LEVELS
from torch_utils.images import to_unit

SCANS = 64          # that are looked at, spread over the data set
SIDE = 16           # of the squares of which the calmest show noise alone
CALM = 0.2          # share of the squares that count as calm
WINDOW = 9          # side of the mean that is taken away, so that slow changes of brightness are no correlation
HIGHEST = 0.7       # correlation of neighbours that three taps can give is below sqrt(1/2)
ROUGH = (1.0, -4.0, 6.0, -4.0, 1.0)  # fourth difference along a row: nothing of what changes slowly
ALONG = 7           # pixels of a row that tell the brightness at its middle
FEWEST = 32         # pixels of a scan of a grey that say something of it
DARKEST = 1 / 64    # grey below which noise is told as there
QUARTER = 0.25      # of the pixels, the smoothest, from which the noise of all is told
NORMAL = 0.3186     # below which |x| is in a quarter of the draws of N(0, 1)


@dataclass(frozen=True)
class Speckle:
    """What the speckle layer takes over: `grain` [1, 1, 3, 3] of unit energy, `strength` [SPECKLE_LEVELS] by grey."""

    grain: Tensor
    strength: Tensor


@torch.no_grad()
def measure_speckle(dataset: ArchiveDataset) -> Speckle:
    """Return grain and strength of the speckle in training scans, of which up to SCANS are looked at."""
    places = torch.linspace(0, len(dataset) - 1, min(SCANS, len(dataset))).round().long().tolist()
    scans = torch.cat([to_unit(dataset[place][0]).double().mean(dim=0)[None, None] for place in places])
    grain = _grain(scans)
    return Speckle(grain.float(), _strength(scans, grain).float())


def _grain(scans: Tensor) -> Tensor:
    """Return taps [1, 1, 3, 3] of unit energy that give white noise the correlation of neighbours in calm squares.

    Taps (a, 1, a) correlate neighbours by r = 2 a / (1 + 2 a^2), so that a = (1 - sqrt(1 - 2 r^2)) / (2 r); the filter
    is the product of those for rows and columns.

    Args:
        scans: [N, 1, R, R] in [-1, 1].
    """
    energy, *neighbours = torch.stack([_products(scan[None]) for scan in scans]).mean(dim=0).tolist()
    down, across = (_tap(product / max(energy, 1e-12)) for product in neighbours)
    grain = torch.outer(scans.new_tensor([down, 1.0, down]), scans.new_tensor([across, 1.0, across]))
    return (grain / grain.square().sum().sqrt())[None, None]


def _products(image: Tensor) -> Tensor:
    """Return means over the calm squares of an image: squares of what is no slow change, and products of neighbours."""
    side = min(SIDE, image.shape[-1])
    smooth = avg_pool2d(pad(image, [WINDOW // 2] * 4, mode="reflect"), WINDOW, stride=1)
    rest = image - smooth
    squares = torch.stack([rest.square(), rest * rest.roll(-1, dims=2), rest * rest.roll(-1, dims=3)], dim=1)[:, :, 0]
    means = avg_pool2d(squares, side)[0].flatten(1)                               # [3, squares]
    # Squares of one grey, such as black borders, hold no noise.
    alive = means[:, means[0] > 1e-6]
    calmest = alive[0].argsort()[:math.ceil(CALM * alive.shape[1])]
    return alive[:, calmest].mean(dim=1) if len(calmest) else torch.zeros(3, dtype=means.dtype)


def _tap(correlation: float) -> float:
    """Return a for the correlation of neighbours that taps (a, 1, a) give, nothing below 0."""
    r = min(max(correlation, 0.0), HIGHEST)
    return (1 - math.sqrt(1 - 2 * r * r)) / (2 * r) if r > 1e-6 else 0.0


def _strength(scans: Tensor, grain: Tensor) -> Tensor:
    """Return the SD of the grey in a typical scan, at SPECKLE_LEVELS greys from 0 to 1.

    The display shows the fourth root of the light; noise is told in the light, where it is symmetric, and given in
    greys, d grey = d light / (4 grey^3). Layers run along the rows, so that fourth differences along a row hold little
    but noise; and vessels and edges are in few pixels, so that the SD is told from a quartile. It is the mean over the
    scans, by their pixels. At a grey that no scan has it is that of the nearest one that is known.

    Args:
        scans: [N, 1, R, R] in [-1, 1].
        grain: of their speckle.
    """
    light = ((scans + 1) / 2).pow(4)
    rough = scans.new_tensor(ROUGH)[None, None, None]
    gain = float(conv2d(pad(grain, [4] * 4), rough).square().sum().sqrt())
    grey = avg_pool2d(pad(light, [ALONG // 2, ALONG // 2, 0, 0], mode="reflect"), (1, ALONG), stride=1).sqrt().sqrt()
    differences = conv2d(pad(light, [2, 2, 0, 0], mode="reflect"), rough).abs() / (gain * NORMAL)
    differences /= 4 * grey.clamp(min=DARKEST).pow(3)
    levels = (grey * (SPECKLE_LEVELS - 1)).round().long()
    total, pixels = scans.new_zeros(SPECKLE_LEVELS), scans.new_zeros(SPECKLE_LEVELS)
    for scan_differences, scan_levels in zip(differences, levels, strict=True):
        for level in scan_levels.unique().tolist():
            found = scan_differences[scan_levels == level]
            if len(found) >= FEWEST:
                total[level] += len(found) * found.quantile(QUARTER)
                pixels[level] += len(found)
    known = torch.nonzero(pixels)[:, 0]
    if not len(known):
        return total
    nearest = (torch.arange(SPECKLE_LEVELS)[:, None] - known).abs().argmin(dim=1)
    return (total[known] / pixels[known])[nearest]
