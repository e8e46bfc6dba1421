"""How far a picture is from a scan: what a projection makes small."""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from stylegan_oct.features.perceptual import PerceptualDistance
from torch_utils.images import to_unit

PIXEL_WEIGHT = 1.0     # of the mean squared difference in [-1, 1], beside the perceptual distance
PIXEL_SIDE = 64        # pixels at which it is taken: finer grain is speckle, which no latent holds


class Objective:
    """The distance of pictures to given scans: perceptual, plus squared difference of pixels averaged over areas.

    Args:
        perceptual: the distance over a detector's taps.
        targets: scans, uint8 [N, C, R, R].
        valid: [N, 1, R, R] bool, False where the scan shows nothing (repaired borders); default: all valid.
        pixel_weight: of the squared difference.
    """

    def __init__(self, perceptual: PerceptualDistance, targets: Tensor, valid: Tensor | None = None, *,
                 pixel_weight: float = PIXEL_WEIGHT) -> None:
        assert targets.dtype == torch.uint8 and targets.ndim == 4, (targets.dtype, targets.shape)
        self.perceptual, self.pixel_weight = perceptual, pixel_weight
        self.mask = None if valid is None or bool(valid.all()) else valid.to(torch.float32)
        images = to_unit(targets)
        with torch.no_grad():
            self.features = perceptual.features(images, self.mask)          # [N, F]
            self.pixels, self.shares = self._coarse(images, self.mask)      # [N, C, S, S], [N, 1, S, S]

    def __len__(self) -> int:
        return len(self.features)

    def __call__(self, images: Tensor, which: Tensor) -> Tensor:
        """Return the distance [M] of each picture to its scan.

        Args:
            images: [M, C, R, R], float32 in [-1, 1], attached to what is optimised.
            which: index of the scan of each picture, [M].
        """
        mask = None if self.mask is None else self.mask[which]
        distance = self.perceptual.distance(self.perceptual.features(images, mask), self.features[which])
        coarse, _ = self._coarse(images, mask)
        squares = ((coarse - self.pixels[which]).square() * self.shares[which]).sum(dim=(2, 3)).mean(dim=1)
        return distance + self.pixel_weight * squares

    @staticmethod
    def _coarse(images: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return pictures averaged over areas, and how much each place counts, of sum 1: [N, 1, S, S]."""
        side = min(images.shape[2], PIXEL_SIDE)
        if mask is None:
            return adaptive_avg_pool2d(images, side), images.new_full((1, 1, side, side), 1 / side**2).expand(
                len(images), -1, -1, -1)
        area = adaptive_avg_pool2d(mask, side)
        shares = area / area.sum(dim=(2, 3), keepdim=True).clamp_min(1e-8)
        return adaptive_avg_pool2d(images * mask, side) / area.clamp_min(1e-8), shares
