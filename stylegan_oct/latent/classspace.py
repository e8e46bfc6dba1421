"""Where each class lies in w: its mean, its principal axes and its spread along them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stylegan_oct.model import OctGenerator

SAMPLES = 4096     # of z for each class; a second's work
LEAST_SPREAD = 0.02  # of the largest standard deviation: axes that the mapping hardly uses would else blow up steps


@dataclass(frozen=True)
class ClassSpace:
    """A Gaussian for each class, so that latents can be written as v of mean 0 and variance 1: w = mean + B (s v)."""

    means: Tensor    # [K, D]
    bases: Tensor    # [K, D, D], axes as columns, the widest first
    spreads: Tensor  # [K, D], standard deviations along them

    def to_w(self, v: Tensor, labels: Tensor) -> Tensor:
        """Return w of whitened latents.

        Args:
            v: [N, L, D].
            labels: class indices [N].
        """
        return self.means[labels][:, None] + (v * self.spreads[labels][:, None]) @ self.bases[labels].mT

    def to_v(self, w: Tensor, labels: Tensor) -> Tensor:
        """Return whitened latents of w; the inverse of `to_w`."""
        return (w - self.means[labels][:, None]) @ self.bases[labels] / self.spreads[labels][:, None]

    @property
    def spread(self) -> Tensor:
        """The square root of the mean squared distance of w from its class's mean, over all classes."""
        return self.spreads.square().sum(dim=1).mean().sqrt()


@torch.no_grad()
def fit_class_space(G: OctGenerator, *, samples: int = SAMPLES) -> ClassSpace:
    """Return the class space of a generator, from fixed random z; one class for a generator without classes."""
    random = torch.Generator().manual_seed(0)
    z = torch.randn(samples, G.network.z_dim, generator=random)
    means, bases, spreads = [], [], []
    for label in range(max(len(G.info.classes), 1)):
        w = G.ws(z, label if G.info.classes else None)[:, 0].double()
        covariance = torch.cov(w.T, correction=0).reshape(w.shape[1], w.shape[1])
        values, axes = torch.linalg.eigh(covariance)
        spread = values.flip(0).clamp(min=0).sqrt()
        means.append(w.mean(dim=0))
        bases.append(axes.flip(1))
        spreads.append(spread.clamp(min=LEAST_SPREAD * float(spread[0]) + 1e-12))
    return ClassSpace(*(torch.stack(part).float() for part in (means, bases, spreads)))
