"""The augmentations that the discriminator sees, of one overall strength p.

Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data" (ADA), section 2 and appendix B.
"""

from typing import Any, Self

from torch import Tensor, nn

from dnnlib.errors import ConfigError
from stylegan_oct.augment import color, corruption, filtering, geometry
from stylegan_oct.augment.draws import Draws
from stylegan_oct.augment.spec import AugmentSpec, parse_groups


class AugmentPipe(nn.Module):
    """Random transformations of images, each applied with probability multiplier * p; differentiable at any order."""

    f_geom: Tensor
    f_bank: Tensor

    def __init__(self, groups: str = "bgc", *, channels: int = 1, spec: AugmentSpec | None = None) -> None:
        """Make the pipeline of some groups, each transformation with multiplier 1, or of a specification.

        Args:
            groups: b, bg, bgc, bgcf, bgcfn, bgcfnc, or a list such as "blit,scale,brightness" (see `parse_groups`).
            channels: 1 or 3.
            spec: multipliers and constants; `groups` is then ignored.
        Raises:
            ConfigError: a group does not exist, or `channels` is neither 1 nor 3.
        """
        super().__init__()
        if channels not in (1, 3):
            raise ConfigError(f"Images have 1 or 3 channels; got {channels}.")
        self.channels = channels
        multipliers: dict[str, Any] = dict.fromkeys(parse_groups(groups), 1.0)
        self.spec = spec or AugmentSpec(**multipliers)
        # Constants, not state: a checkpoint has no need of them.
        self.register_buffer("f_geom", filtering.geometry_filter().float(), persistent=False)
        self.register_buffer("f_bank", filtering.filter_bank().float(), persistent=False)

    @classmethod
    def from_multipliers(cls, *, channels: int = 1, **settings: Any) -> Self:
        """Return a pipeline by the fields of `AugmentSpec`: from_multipliers(xflip=1, scale=0.5, scale_std=0.1)."""
        return cls(channels=channels, spec=AugmentSpec(**settings))

    def forward(self, images: Tensor, p: float | Tensor, *, percentile: float | None = None,
                everywhere: bool | None = None) -> Tensor:
        """Return augmented images.

        All is drawn from the global generator of the images' device; the draws do not depend on p.

        Args:
            images: [N, C, H, W], float32 in [-1, 1]; the result may leave this range.
            p: overall strength in 0..1, a number or a tensor of one on the images' device.
            percentile: in place of random draws, apply every transformation that is on, at this quantile of its
                distribution; p is not used. (The pattern of the noise stays random.)
            everywhere: every transformation is computed for every image: the same operations whatever was drawn. Else
                for those alone that it touches, and at p = 0 the images are returned as they are, without drawing. Both
                give the same but for rounding. By default on a GPU, which would have to be asked what was drawn.
        """
        assert images.ndim == 4 and images.shape[1] == self.channels, (list(images.shape), self.channels)
        everywhere = images.device.type != "cpu" if everywhere is None else everywhere
        if not everywhere and percentile is None and p == 0:
            return images
        spec, draws = self.spec, Draws(len(images), p, percentile, device=images.device)
        if spec.uses("blit", "geom"):
            height, width = images.shape[2:]
            inverse = geometry.draw_geometry(spec, draws, width=width, height=height)
            images = geometry.transform(images, inverse, self.f_geom, everywhere=everywhere)
        if spec.uses("color"):
            images = color.apply_color(images, color.draw_color(spec, draws, channels=self.channels))
        if spec.uses("filter"):
            images = filtering.amplify_bands(images, filtering.draw_band_gains(spec, draws), self.f_bank,
                                             everywhere=everywhere)
        if spec.uses("noise"):
            images = corruption.add_noise(images, spec, draws)
        if spec.uses("cutout"):
            images = corruption.cut_out(images, spec, draws, everywhere=everywhere)
        return images
