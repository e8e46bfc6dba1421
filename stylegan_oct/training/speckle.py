"""The grain of the speckle in the training scans, which the speckle layer takes over.

It is measured and not learned: noise looks alike with either sign, so that what D says of a sample moves the strength
of noise well, but its correlation hardly, and into shapes that other layers' patterns make up for.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from stylegan_oct.data.dataset import ArchiveDataset
from torch_utils.images import to_unit

SCANS = 64          # that are looked at, spread over the data set
SIDE = 16           # of the squares of which the calmest show noise alone
CALM = 0.2          # share of the squares that count as calm
WINDOW = 9          # side of the mean that is taken away, so that slow changes of brightness are no correlation
HIGHEST = 0.7       # correlation of neighbours that three taps can give is below sqrt(1/2)


@torch.no_grad()
def measure_grain(dataset: ArchiveDataset) -> Tensor:
    """Return filter taps [1, 1, 3, 3] of unit energy that give white noise the correlation of neighbours in the scans.

    Taps (a, 1, a) correlate neighbours by r = 2 a / (1 + 2 a^2), so that a = (1 - sqrt(1 - 2 r^2)) / (2 r); the filter
    is the product of those for rows and columns.

    Args:
        dataset: training scans, of which up to SCANS are looked at.
    """
    places = torch.linspace(0, len(dataset) - 1, min(SCANS, len(dataset))).round().long().tolist()
    sums = torch.zeros(3, dtype=torch.float64)  # of squares, of products of neighbours down, and across
    for place in places:
        image = to_unit(dataset[place][0]).double().mean(dim=0)[None, None]       # [1, 1, R, R]
        sums += _products(image)
    down, across = (_tap(float(sums[axis] / sums[0].clamp_min(1e-12))) for axis in (1, 2))
    grain = torch.outer(torch.tensor([down, 1.0, down]), torch.tensor([across, 1.0, across]))
    return (grain / grain.square().sum().sqrt())[None, None].float()


def _products(image: Tensor) -> Tensor:
    """Return sums over the calm squares of an image: squares of what is no slow change, and products of neighbours."""
    side = min(SIDE, image.shape[-1])
    smooth = avg_pool2d(pad(image, [WINDOW // 2] * 4, mode="reflect"), WINDOW, stride=1)
    rest = image - smooth
    squares = torch.stack([rest.square(), rest * rest.roll(-1, dims=2), rest * rest.roll(-1, dims=3)], dim=1)[:, :, 0]
    means = avg_pool2d(squares, side)[0].flatten(1)                               # [3, squares]
    # Squares of one grey, such as black borders, hold no noise.
    alive = means[:, means[0] > 1e-6]
    calmest = alive[0].argsort()[:max(1, math.ceil(CALM * alive.shape[1]))]
    return alive[:, calmest].sum(dim=1)


def _tap(correlation: float) -> float:
    """Return a for the correlation of neighbours that taps (a, 1, a) give, nothing below 0."""
    r = min(max(correlation, 0.0), HIGHEST)
    return (1 - math.sqrt(1 - 2 * r * r)) / (2 * r) if r > 1e-6 else 0.0
