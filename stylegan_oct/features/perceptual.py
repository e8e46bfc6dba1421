"""A distance between images over the layers of a detector: shallow ones see speckle, deep ones lesions.

Zhang et al. 2018 ("The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", Eq. 1): features are scaled
to unit length over the channels, and squared differences averaged over the picture and summed over the layers. Our
weights grow with the depth of the layer instead of being learned from photographs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from stylegan_oct.features.detector import Detector

BACKGROUND = -0.75  # grey in [-1, 1] that stands where there is no scan: about the vitreous of a real one
EPS = 1e-8          # below the squared length of any feature but that of a dead position


class PerceptualDistance(nn.Module):
    """Squared distance between features of several depths.

    Args:
        detector: whose taps are compared.
        weights: of the taps; default: those of the detector's channels where it has any, as LPIPS does; else each tap
            counts twice the one before it, and the sum is 1.
    """

    def __init__(self, detector: Detector, *, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.detector, self.weights = detector, weights

    def features(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the features that `distance` compares, [N, F].

        Args:
            images: [N, C, H, W], float32 in [-1, 1], C = 1 or 3; gradients flow to them.
            mask: [N, 1, H, W] or [1, 1, H, W], 1 where the picture is valid, 0 where its content must not count, such
                as repaired borders. Both sides of a distance need the same mask and size.
        """
        if mask is not None:
            assert mask.shape[1:] == (1, *images.shape[2:]), (mask.shape, images.shape)
            mask = mask.to(images)
            images = images * mask + BACKGROUND * (1 - mask)
        taps = self.detector.taps(images)
        return torch.cat([_flatten(tap, weight, mask)
                          for tap, weight in zip(taps, self._weights(len(taps)), strict=True)], dim=1)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances [N] between features [N, F]: 0 for equal images, at most 4."""
        return (a - b).square().sum(dim=1)

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the distances [N] between images as `features` takes them."""
        return self.distance(self.features(a, mask), self.features(b, mask))

    def _weights(self, count: int) -> Sequence[float | Tensor]:
        if self.weights is not None:
            return self.weights
        return self.detector.channel_weights() or depth_weights(count)


def depth_weights(count: int) -> list[float]:
    """Return weights of sum 1 of so many taps, each twice the one before it."""
    return [2.0**place / (2**count - 1) for place in range(count)]


def _flatten(tap: Tensor, weight: float | Tensor, mask: Tensor | None) -> Tensor:
    """Return a tap as [N, c * h * w], so that squared differences sum to the weighted mean over its valid positions.

    The weight is that of the tap, or those of its channels, [c].
    """
    unit = tap * (tap.square().sum(dim=1, keepdim=True) + EPS).rsqrt()
    if mask is None:
        share = torch.full_like(unit[:, :1], 1 / (unit.shape[2] * unit.shape[3]))
    else:
        area = adaptive_avg_pool2d(mask, (unit.shape[2], unit.shape[3]))
        share = area / area.sum(dim=(2, 3), keepdim=True).clamp_min(EPS)
    each = torch.as_tensor(weight, dtype=unit.dtype, device=unit.device).reshape(1, -1, 1, 1)
    return (unit * (each * share).sqrt()).flatten(1)
