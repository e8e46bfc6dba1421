"""The noise of the synthesis layers as something to be fitted (SG2, appendix D)."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import avg_pool2d

from stylegan_oct.model import OctGenerator

_SUFFIX = "noise_const"
_SMALLEST = 8    # side at which the pyramid of the penalty ends


def draw_noise(G: OctGenerator, count: int, random: torch.Generator) -> dict[str, Tensor]:
    """Return noise for every layer and picture, name -> [count, 1, R, R] of N(0, 1)."""
    return {name: torch.randn(count, 1, *buffer.shape, generator=random).to(buffer.device)
            for name, buffer in G.network.synthesis.named_buffers() if name.endswith(_SUFFIX)}


def synthesize_with(G: OctGenerator, ws: Tensor, replaced: Mapping[str, Tensor]) -> Tensor:
    """Return images [N, C, R, R] of ws [N, layers, w_dim] with other weights or noise in the synthesis network."""
    images = functional_call(G.network.synthesis, dict(replaced), (ws,), {"noise_mode": "const"})
    assert isinstance(images, Tensor)
    return images


def structure(noise: Mapping[str, Tensor]) -> Tensor:
    """Return how far noise is from white, [N]: squared correlation of neighbours over scales (SG2, Eq. 5)."""
    total = torch.zeros(())
    for value in noise.values():
        while True:
            total = total + sum((value * value.roll(1, dims=axis)).mean(dim=(1, 2, 3)).square() for axis in (2, 3))
            if value.shape[2] <= _SMALLEST:
                break
            value = avg_pool2d(value, 2)
    return total


def normalize(noise: Mapping[str, Tensor]) -> None:
    """Bring each noise back to mean 0 and variance 1, in place."""
    for value in noise.values():
        value.sub_(value.mean(dim=(1, 2, 3), keepdim=True))
        value.mul_(value.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt())
