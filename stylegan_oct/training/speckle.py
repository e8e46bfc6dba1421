"""The speckle of the training scans: its grain, which the speckle layer takes over, and its energy.

It is measured and not learned: noise looks alike with either sign, so that what D says of a sample moves the strength
of noise well, but its correlation hardly, and into shapes that other layers' patterns make up for.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from dnnlib.errors import ConfigError
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.model import OctGenerator
from stylegan_oct.networks.synthesis import SpeckleLayer
from torch_utils.images import to_uint8, to_unit

SCANS = 64          # that are looked at, spread over the data set
SIDE = 16           # of the squares of which the calmest show noise alone
CALM = 0.2          # share of the squares that count as calm
WINDOW = 9          # side of the mean that is taken away, so that slow changes of brightness are no correlation
FIRST_SEED = 900_000
HIGHEST = 0.7       # correlation of neighbours that three taps can give is below sqrt(1/2)


@torch.no_grad()
def measure_grain(dataset: ArchiveDataset) -> Tensor:
    """Return filter taps [1, 1, 3, 3] of unit energy that give white noise the correlation of neighbours in the scans.

    Taps (a, 1, a) correlate neighbours by r = 2 a / (1 + 2 a^2), so that a = (1 - sqrt(1 - 2 r^2)) / (2 r); the filter
    is the product of those for rows and columns.

    Args:
        dataset: training scans, of which up to SCANS are looked at.
    """
    energy, *neighbours = _moments(_scans(dataset)).tolist()
    down, across = (_tap(product / max(energy, 1e-12)) for product in neighbours)
    grain = torch.outer(torch.tensor([down, 1.0, down]), torch.tensor([across, 1.0, across]))
    return (grain / grain.square().sum().sqrt())[None, None].float()


@torch.no_grad()
def calibrate_speckle(G: OctGenerator, dataset: ArchiveDataset) -> float:
    """Scale a generator's speckle so that its calm squares have the energy of those of the scans; return by what.

    A discriminator that R1 keeps smooth hardly values noise, and training lets it fade. Energies add: where s scales
    the strength, e(s) = e(0) + s^2 (e(1) - e(0)).

    Args:
        G: with a speckle layer, changed in place.
        dataset: training scans.
    Raises:
        ConfigError: there is no such layer, or nothing to scale.
    """
    network = G.network.synthesis
    layer = network.get_submodule(f"b{network.resolutions[-1]}.speckle") if G.network.has_speckle else None
    if not isinstance(layer, SpeckleLayer):
        raise ConfigError("This generator has no speckle layer to be calibrated; leave the option out.")
    labels = [place % max(len(G.info.classes), 1) for place in range(SCANS)]

    def energy(noise_mode: Literal["none", "random"]) -> float:
        kinds = labels if G.info.classes else [None] * SCANS
        images = (to_unit(to_uint8(G(G.z([FIRST_SEED + place]), kind, noise_mode=noise_mode)))[0].cpu()
                  for place, kind in enumerate(kinds))
        return float(_moments(images)[0])

    wanted, still, speckled = float(_moments(_scans(dataset))[0]), energy("none"), energy("random")
    if not still < min(wanted, speckled):
        raise ConfigError("The speckle cannot be calibrated: even without it the pictures are as rough as the scans.")
    factor = math.sqrt((wanted - still) / (speckled - still))
    for parameter in (layer.strength.weight, layer.strength.bias):
        parameter.mul_(factor)
    return factor


def _scans(dataset: ArchiveDataset) -> Iterator[Tensor]:
    """Yield up to SCANS scans [C, R, R] in [-1, 1], spread over a data set."""
    for place in torch.linspace(0, len(dataset) - 1, min(SCANS, len(dataset))).round().long().tolist():
        yield to_unit(dataset[place][0])


def _moments(images: Iterable[Tensor]) -> Tensor:
    """Return means [3] over the calm squares of images [C, R, R]: squares, products of neighbours down, across."""
    found = [_products(image.double().mean(dim=0)[None, None]) for image in images]
    return torch.stack(found).mean(dim=0)


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
