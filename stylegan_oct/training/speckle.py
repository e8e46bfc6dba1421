"""The speckle of the training scans: its grain and its strength, which the speckle layer of G takes over.

It is measured and not learned: noise looks alike with either sign, so that what D says of a sample moves its strength
weakly, and its correlation hardly.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.networks.synthesis import CAMERAS, SPECKLE_LEVELS, SpeckleLayer
from torch_utils.images import to_unit

SIDE = 16           # of the squares of which the calmest show noise alone
CALM = 0.2          # share of the squares that count as calm
WINDOW = 9          # side of the mean that is taken away, so that slow changes of brightness are no correlation
HIGHEST = 0.7       # correlation of neighbours that three taps can give is below sqrt(1/2)
ROUGH = (1.0, -4.0, 6.0, -4.0, 1.0)  # fourth difference along a row: nothing of what changes slowly
ALONG = 7           # pixels of a row that tell the grey at its middle
FEWEST = 32         # pixels of a scan of a grey that say something of it
DARKEST = 1 / 64    # grey below which noise is told as there
TISSUE = 4          # level from which on a grey is tissue, not noise of the detector
SURE = 256          # pixels of a scan that count as much as the typical scan
QUARTER = 0.25      # of the pixels, the smoothest, from which the noise of all is told
NORMAL = 0.3186     # below which |x| is in a quarter of the draws of N(0, 1)


@dataclass(frozen=True)
class Speckle:
    """What the speckle layer takes over.

    `grain` [1, 1, 3, 3] of unit energy and `strength` [SPECKLE_LEVELS] of a typical scan; `camera_grain`
    [CAMERAS, 1, 3, 3] and `camera_strength` [CAMERAS, SPECKLE_LEVELS] of single ones.
    """

    grain: Tensor
    strength: Tensor
    camera_grain: Tensor
    camera_strength: Tensor

    def give_to(self, layer: SpeckleLayer) -> None:
        """Let a layer add this speckle."""
        for field in dataclasses.fields(self):
            getattr(layer, field.name).copy_(getattr(self, field.name))


@torch.no_grad()
def measure_speckle(dataset: ArchiveDataset) -> Speckle:
    """Return the speckle of training scans, of which CAMERAS are looked at, or all, some of them again."""
    measured = []
    for place in torch.linspace(0, len(dataset) - 1, CAMERAS).round().long().tolist():
        scan = to_unit(dataset[place][0]).double().mean(dim=0)[None, None]
        moments = _moments(scan)
        grain = _grain(moments)
        measured.append([moments, grain[0], *_strength(scan, grain)])
    moments, grains, sizes, pixels = (torch.stack(parts) for parts in zip(*measured, strict=True))
    strength = _filled((sizes * pixels).sum(dim=0) / pixels.sum(dim=0).clamp(min=1), pixels.sum(dim=0) > 0)
    # What a scan says of a grey counts by its pixels; the rest is the typical scan's, as strong as this one's tissue.
    tissue = pixels[:, TISSUE:]
    gain = ((sizes[:, TISSUE:] * tissue).sum(dim=1) + SURE * strength[-1]) / (
        (strength[TISSUE:] * tissue).sum(dim=1) + SURE * strength[-1]).clamp(min=1e-12)
    each = (sizes * pixels + SURE * gain[:, None] * strength) / (pixels + SURE)
    return Speckle(_grain(moments.mean(dim=0)).float(), strength.float(), grains.float(), each.float())


def _grain(moments: Tensor) -> Tensor:
    """Return taps [1, 1, 3, 3] of unit energy that give white noise the correlation of neighbours in `_moments` [3].

    Taps (a, 1, a) correlate neighbours by r = 2 a / (1 + 2 a^2), so that a = (1 - sqrt(1 - 2 r^2)) / (2 r); the filter
    is the product of those for rows and columns.
    """
    energy, *neighbours = moments.tolist()
    down, across = (_tap(product / max(energy, 1e-12)) for product in neighbours)
    grain = torch.outer(moments.new_tensor([down, 1.0, down]), moments.new_tensor([across, 1.0, across]))
    return (grain / grain.square().sum().sqrt())[None, None]


def _moments(image: Tensor) -> Tensor:
    """Return means [3] over an image's calm squares: squares of what is no slow change, products of neighbours.

    Args:
        image: [1, 1, R, R] in [-1, 1].
    """
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


def _strength(scan: Tensor, grain: Tensor) -> tuple[Tensor, Tensor]:
    """Return the SD of grey in a scan at SPECKLE_LEVELS greys from 0 to 1, and from how many pixels it was told.

    The display shows the fourth root of the light; noise is told in the light, where it is symmetric, and given in
    greys, d grey = d light / (4 grey^3). Layers run along the rows, so that fourth differences along a row hold little
    but noise; and vessels and edges are in few pixels, so that the SD is told from a quartile.

    Args:
        scan: [1, 1, R, R] in [-1, 1].
        grain: of its speckle, [1, 1, 3, 3].
    """
    light = ((scan + 1) / 2).pow(4)
    rough = scan.new_tensor(ROUGH)[None, None, None]
    gain = conv2d(pad(grain, [4] * 4), rough).square().sum().sqrt()
    grey = avg_pool2d(pad(light, [ALONG // 2, ALONG // 2, 0, 0], mode="reflect"), (1, ALONG), stride=1).sqrt().sqrt()
    differences = conv2d(pad(light, [2, 2, 0, 0], mode="reflect"), rough).abs() / (gain * NORMAL)
    differences /= 4 * grey.clamp(min=DARKEST).pow(3)
    levels = (grey * (SPECKLE_LEVELS - 1)).round().long()
    sizes, pixels = scan.new_zeros(2, SPECKLE_LEVELS)
    for level in set(levels.flatten().tolist()):
        found = differences[levels == level]
        if len(found) >= FEWEST:
            sizes[level], pixels[level] = found.quantile(QUARTER), len(found)
    return sizes, pixels


def _filled(values: Tensor, known: Tensor) -> Tensor:
    """Return values [K] with those that are not known taken over from the nearest known one."""
    places = torch.nonzero(known)[:, 0]
    nearest = (torch.arange(len(values))[:, None] - places).abs().argmin(dim=1) if len(places) else None
    return values if nearest is None else values[places][nearest]
