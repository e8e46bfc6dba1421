"""The generator: mapping and synthesis."""

from torch import Tensor, nn

from stylegan_oct.networks.layers import Architecture
from stylegan_oct.networks.mapping import Center, MappingNetwork
from stylegan_oct.networks.synthesis import NoiseMode, SynthesisNetwork


class Generator(nn.Module):
    """StyleGAN2-ADA generator (Karras et al. 2020).

    Args:
        z_dim, w_dim: sizes of the latents.
        c_dim: number of classes; 0 is unconditional.
        img_resolution: power of two from 8 to 1024.
        img_channels: of the image.
        mapping_layers: fully connected layers of the mapping network.
        channel_base, channel_max, channel_min: feature maps at resolution r are channel_base / r within these bounds.
        architecture: of the synthesis network: "orig" one toRGB at the end, "skip" one a block, "resnet" shortcuts.
        num_fp16_res: how many of the highest resolutions run in float16 on a GPU.
        conv_clamp: bound on the absolute value of features; None is none.
        speckle: end with a `SpeckleLayer`.
    Raises:
        ConfigError: the resolution is not allowed.
    """

    def __init__(self, *, z_dim: int, c_dim: int, w_dim: int, img_resolution: int, img_channels: int,
                 mapping_layers: int, channel_base: int, channel_max: int, architecture: Architecture = "skip",
                 num_fp16_res: int = 0, conv_clamp: float | None = 256.0, channel_min: int = 1,
                 speckle: bool = False) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.synthesis = SynthesisNetwork(
            w_dim=w_dim, img_resolution=img_resolution, img_channels=img_channels, channel_base=channel_base,
            channel_max=channel_max, channel_min=channel_min, architecture=architecture, num_fp16_res=num_fp16_res,
            conv_clamp=conv_clamp, speckle=speckle)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, num_ws=self.num_ws, num_layers=mapping_layers)

    def forward(self, z: Tensor, c: Tensor | None = None, *, psi: float = 1.0, cutoff: int | None = None,
                center: Center = "global", noise_mode: NoiseMode = "random", force_fp32: bool = False) -> Tensor:
        """Return images [N, img_channels, R, R], float32, about [-1, 1].

        Args:
            z: [N, z_dim], standard normal.
            c: class indices [N], or one-hot [N, c_dim]; ignored where c_dim is 0.
            psi, cutoff, center: truncation, see `MappingNetwork.forward`.
            noise_mode, force_fp32: see `SynthesisNetwork.forward`.
        """
        ws = self.mapping(z, c, psi=psi, cutoff=cutoff, center=center)
        images: Tensor = self.synthesis(ws, noise_mode=noise_mode, force_fp32=force_fp32)
        return images
