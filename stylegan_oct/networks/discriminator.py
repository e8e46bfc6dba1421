"""The discriminator: image and class -> logit (SG2, section 4.1; projection of the label as Miyato and Koyama 2018)."""

import math

import torch
from torch import Tensor, nn

from dnnlib.errors import ConfigError
from stylegan_oct.networks.layers import (
    Architecture,
    Conv2dLayer,
    FullyConnectedLayer,
    MixedPrecisionBlock,
    as_float32,
    fp16_blocks,
    register_resampling,
)
from stylegan_oct.networks.mapping import MappingNetwork
from stylegan_oct.networks.sizes import block_resolutions, channels_at
from torch_utils.checks import assert_shape
from torch_utils.ops.upfirdn2d import downsample2d


class DiscriminatorBlock(MixedPrecisionBlock):
    """All layers of one resolution above 4x4.

    Args:
        in_channels: feature maps of this resolution.
        out_channels: those of the next, half the size.
        is_first: it has the image's resolution.
    """

    resample_taps: Tensor

    def __init__(self, in_channels: int, out_channels: int, *, img_channels: int, is_first: bool,
                 architecture: Architecture, in_half: bool, conv_clamp: float | None) -> None:
        super().__init__(in_half)
        self.architecture = architecture
        register_resampling(self)
        self.has_fromrgb = is_first or architecture == "skip"
        if self.has_fromrgb:
            self.fromrgb = Conv2dLayer(img_channels, in_channels, 1, activation="lrelu", conv_clamp=conv_clamp)
        self.conv0 = Conv2dLayer(in_channels, in_channels, 3, activation="lrelu", conv_clamp=conv_clamp)
        self.conv1 = Conv2dLayer(in_channels, out_channels, 3, activation="lrelu", down=2, conv_clamp=conv_clamp)
        if architecture == "resnet":
            self.skip = Conv2dLayer(in_channels, out_channels, 1, bias=False, down=2)

    def layers(self) -> list[Conv2dLayer]:
        """Return its layers from the image on."""
        fromrgb = [self.fromrgb] if self.has_fromrgb else []
        return [*fromrgb, self.conv0, self.conv1, *([self.skip] if self.architecture == "resnet" else [])]

    def forward(self, x: Tensor | None, img: Tensor, *, force_fp32: bool) -> tuple[Tensor, Tensor]:
        """Return features [N, out_channels, H / 2, W / 2] and the image for the next block.

        Args:
            x: features [N, in_channels, H, W]; None at the image's resolution.
            img: [N, img_channels, H, W], float32.
        """
        if x is not None:
            x = self.enter(x, force_fp32=force_fp32)
        if self.has_fromrgb:
            y = self.fromrgb(self.enter(img, force_fp32=force_fp32))
            x = y if x is None else x + y
        if self.architecture == "skip":
            img = downsample2d(img, self.resample_taps)
        if self.architecture != "resnet":
            return self.conv1(self.conv0(x)), img
        # Half the variance from either branch keeps it at 1.
        shortcut = self.skip(x, gain=math.sqrt(0.5))
        return shortcut + self.conv1(self.conv0(x), gain=math.sqrt(0.5)), img


class MinibatchStd(nn.Module):
    """Appends how much the images of a group differ (Karras et al. 2018, "Progressive Growing", section 3).

    Args:
        group_size: images that are compared; None is the whole batch.
        num_channels: feature maps appended, each from its share of the input's.
    """

    def __init__(self, group_size: int | None, num_channels: int = 1) -> None:
        super().__init__()
        self.group_size, self.num_channels = group_size, num_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C + num_channels, H, W]. A batch that is no multiple of the group size has smaller groups."""
        n, channels, height, width = x.shape
        group = min(self.group_size or n, n)
        group = next(size for size in range(group, 0, -1) if n % size == 0)
        # Member m of group g is image m * (n / group) + g.
        y = x.reshape(group, n // group, self.num_channels, channels // self.num_channels, height, width)
        std = (y.var(dim=0, correction=0) + 1e-8).sqrt()                      # [n / group, F, C / F, H, W]
        std = std.mean(dim=(2, 3, 4)).repeat(group, 1)[:, :, None, None]      # [N, F, 1, 1]
        return torch.cat([x, std.expand(-1, -1, height, width)], dim=1)


class DiscriminatorEpilogue(nn.Module):
    """The layers at 4x4, down to one number a sample.

    Args:
        in_channels: feature maps at 4x4.
        cmap_dim: size of the mapped label; 0 is unconditional.
    """

    resample_taps: Tensor

    def __init__(self, in_channels: int, *, cmap_dim: int, img_channels: int, architecture: Architecture,
                 mbstd_group_size: int | None, mbstd_channels: int, conv_clamp: float | None) -> None:
        super().__init__()
        self.cmap_dim = cmap_dim
        self.has_fromrgb = architecture == "skip"
        if self.has_fromrgb:
            self.fromrgb = Conv2dLayer(img_channels, in_channels, 1, activation="lrelu")
        self.mbstd = MinibatchStd(mbstd_group_size, mbstd_channels)
        self.conv = Conv2dLayer(in_channels + mbstd_channels, in_channels, 3, activation="lrelu",
                                conv_clamp=conv_clamp)
        self.fc = FullyConnectedLayer(in_channels * 4**2, in_channels, activation="lrelu")
        self.out = FullyConnectedLayer(in_channels, cmap_dim or 1)

    def forward(self, x: Tensor, img: Tensor, cmap: Tensor | None) -> Tensor:
        """Return logits [N, 1].

        Args:
            x: features [N, in_channels, 4, 4].
            img: [N, img_channels, 4, 4], of use to the architecture "skip".
            cmap: mapped label [N, cmap_dim], or None.
        """
        x = as_float32(x)
        if self.has_fromrgb:
            x = x + self.fromrgb(img)
        x = self.conv(self.mbstd(x))                     # [N, in_channels, 4, 4]
        x = self.out(self.fc(x.flatten(1)))              # [N, cmap_dim or 1]
        if cmap is None:
            return x
        return (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)


class Discriminator(nn.Module):
    """StyleGAN2-ADA discriminator (Karras et al. 2020).

    Args:
        c_dim: number of classes; 0 is unconditional.
        img_resolution: power of two from 8 to 1024.
        img_channels: of the image.
        mapping_layers: fully connected layers between the label's embedding and the projection.
        channel_base, channel_max, channel_min: feature maps at resolution r are channel_base / r within these bounds.
        architecture: "orig" one fromRGB at the start, "skip" one a block, "resnet" shortcuts.
        num_fp16_res: how many of the highest resolutions run in float16 on a GPU.
        conv_clamp: bound on the absolute value of features; None is none.
        cmap_dim: size of the mapped label; None is the number of feature maps at 4x4.
        mbstd_group_size: images compared by the minibatch standard deviation; None is the whole batch.
        mbstd_channels: feature maps that it appends.
    Raises:
        ConfigError: the resolution is not allowed.
    """

    def __init__(self, *, c_dim: int, img_resolution: int, img_channels: int, mapping_layers: int, channel_base: int,
                 channel_max: int, architecture: Architecture = "resnet", num_fp16_res: int = 0,
                 conv_clamp: float | None = 256.0, cmap_dim: int | None = None, mbstd_group_size: int | None = 4,
                 mbstd_channels: int = 1, channel_min: int = 1) -> None:
        super().__init__()
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        self.resolutions = block_resolutions(img_resolution)[:0:-1]
        halves = fp16_blocks(img_resolution, num_fp16_res)
        widths = {resolution: channels_at(resolution, channel_base=channel_base, channel_max=channel_max,
                                          channel_min=channel_min) for resolution in (*self.resolutions, 4)}
        for resolution in self.resolutions:
            self.add_module(f"b{resolution}", DiscriminatorBlock(
                widths[resolution], widths[resolution // 2], img_channels=img_channels,
                is_first=resolution == img_resolution, architecture=architecture, in_half=resolution in halves,
                conv_clamp=conv_clamp))
        cmap_dim = 0 if c_dim == 0 else widths[4] if cmap_dim is None else cmap_dim
        if c_dim > 0:
            self.mapping = MappingNetwork(0, c_dim, cmap_dim, num_ws=None, num_layers=mapping_layers)
        self.b4 = DiscriminatorEpilogue(
            widths[4], cmap_dim=cmap_dim, img_channels=img_channels, architecture=architecture,
            mbstd_group_size=mbstd_group_size, mbstd_channels=mbstd_channels, conv_clamp=conv_clamp)

    def forward(self, img: Tensor, c: Tensor | None = None, *, force_fp32: bool = False) -> Tensor:
        """Return logits [N, 1], float32, high for what looks real.

        Args:
            img: [N, img_channels, R, R] in [-1, 1].
            c: class indices [N], or one-hot [N, c_dim]; ignored where c_dim is 0.
            force_fp32: all blocks in float32.
        """
        assert_shape(img, [None, self.img_channels, self.img_resolution, self.img_resolution])
        x, img = None, img.to(torch.float32)
        for block in self._blocks():
            x, img = block(x, img, force_fp32=force_fp32)
        logits: Tensor = self.b4(x, img, self.mapping(None, c) if self.c_dim > 0 else None)
        return logits

    def frozen_parameters(self, n: int) -> list[nn.Parameter]:
        """Return the parameters of the `n` layers nearest to the image (Mo et al. 2020, "Freeze the Discriminator").

        Layers are counted in the order fromRGB, conv0, conv1, skip, block by block; those at 4x4 are never frozen.

        Raises:
            ConfigError: there are fewer layers.
        """
        layers = [layer for block in self._blocks() for layer in block.layers()]
        if not 0 <= n <= len(layers):
            raise ConfigError(f"The discriminator has {len(layers)} layers that can be frozen; got {n}.")
        return [parameter for layer in layers[:n] for parameter in layer.parameters()]

    def _blocks(self) -> list[DiscriminatorBlock]:
        blocks = [self.get_submodule(f"b{resolution}") for resolution in self.resolutions]
        return [block for block in blocks if isinstance(block, DiscriminatorBlock)]
