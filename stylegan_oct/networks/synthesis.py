"""The synthesis network: w -> image (Karras et al. 2020, SG2, sections 2.2 and 4.1)."""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from stylegan_oct.networks.layers import (
    Architecture,
    Conv2dLayer,
    FullyConnectedLayer,
    MixedPrecisionBlock,
    as_float32,
    fp16_blocks,
    register_resampling,
)
from stylegan_oct.networks.modulation import modulated_conv2d_parts
from stylegan_oct.networks.sizes import block_resolutions, channels_at
from torch_utils.checks import assert_shape
from torch_utils.ops.conv2d import conv2d
from torch_utils.ops.layer_end import layer_end
from torch_utils.ops.upfirdn2d import upsample2d

NoiseMode = Literal["random", "const", "none"]
SPECKLE_LEVELS = 17  # greys at which the strength of speckle is given
CAMERAS = 64         # scans of whose speckle a picture has one


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU."""

    noise_const: Tensor
    resample_taps: Tensor

    def __init__(self, in_channels: int, out_channels: int, *, w_dim: int, resolution: int, up: int = 1,
                 conv_clamp: float | None = None) -> None:
        super().__init__()
        self.resolution, self.up, self.conv_clamp = resolution, up, conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        register_resampling(self)
        self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def forward(self, x: Tensor, w: Tensor, *, noise_mode: NoiseMode, gain: float = 1.0) -> Tensor:
        """Return [N, out_channels, R, R] for x [N, in_channels, R / up, R / up] and w [N, w_dim]."""
        y, scale = modulated_conv2d_parts(x, self.weight, self.affine(w), up=self.up, padding=1,
                                          resample_filter=self.resample_taps, flip_weight=self.up == 1)
        noise = self._noise(x, noise_mode)
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return layer_end(y, self.bias, scale=scale, noise=noise,
                         strength=None if noise is None else self.noise_strength, act="lrelu",
                         gain=math.sqrt(2) * gain, clamp=clamp)

    def _noise(self, x: Tensor, mode: NoiseMode) -> Tensor | None:
        """Return what is added to every channel, but for its strength: [N, 1, R, R] or [1, 1, R, R]."""
        if mode == "none":
            return None
        if mode == "const":
            return self.noise_const.reshape(-1, 1, self.resolution, self.resolution)  # fitted noise is [N, 1, R, R]
        return torch.randn(len(x), 1, self.resolution, self.resolution, device=x.device)


class ToRGBLayer(nn.Module):
    """Modulated 1x1 convolution without demodulation, to the channels of the image."""

    def __init__(self, in_channels: int, img_channels: int, *, w_dim: int, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(img_channels))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return [N, img_channels, H, W] for x [N, in_channels, H, W] and w [N, w_dim]."""
        y, _ = modulated_conv2d_parts(x, self.weight, self.affine(w) * self.weight_gain, demodulate=False)
        return layer_end(y, self.bias, clamp=self.conv_clamp)


class SpeckleLayer(nn.Module):
    """Speckle: noise of the grain and strength that the training scans have, the strength by the grey there.

    Speckle multiplies, so that its strength follows the light that comes back; the noise of the layers below is equally
    strong at every pixel and in every feature map. The noise is added to the light, of which the display shows the
    fourth root: so in the dark it is a grey ground with black dots, where the sum falls below zero.

    Nothing here is learned: a discriminator that R1 keeps smooth hardly values noise, and training lets a strength that
    it may choose fade, while weights draw a woven pattern instead. So grain and strength are measured
    (`stylegan_oct.training.speckle`), and the layers below draw what lies under them. Scanners average more or fewer
    pictures: each picture has the speckle of one of CAMERAS scans, or of a typical one. Gradients pass as if weak noise
    were added to the image: those of a root are endless near black.

    Args:
        resolution: of the image.
    """

    grain: Tensor
    strength: Tensor
    camera_grain: Tensor
    camera_strength: Tensor
    noise_const: Tensor

    def __init__(self, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution
        white = torch.zeros(1, 1, 3, 3)
        white[0, 0, 1, 1] = 1
        self.register_buffer("grain", white)
        self.register_buffer("strength", torch.zeros(SPECKLE_LEVELS))  # SD of the grey at greys from 0 to 1, evenly
        self.register_buffer("camera_grain", white.repeat(CAMERAS, 1, 1, 1))
        self.register_buffer("camera_strength", torch.zeros(CAMERAS, SPECKLE_LEVELS))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def forward(self, img: Tensor, *, noise_mode: NoiseMode, speckle: Tensor | None = None) -> Tensor:
        """Return the image [N, C, R, R], float32, with speckle.

        Args:
            img: without it, of the same shape.
            noise_mode, speckle: of `SynthesisNetwork.forward`.
        """
        if noise_mode == "none":
            return img
        if noise_mode == "random":
            noise = torch.randn(len(img), 1, self.resolution, self.resolution, device=img.device)
            camera = torch.randint(CAMERAS, (len(img),), device=img.device)
        else:
            noise = self.noise_const.reshape(-1, 1, self.resolution, self.resolution)  # fitted noise is [N, 1, R, R]
            if speckle is None:
                noise = conv2d(noise, self.grain, padding=(1, 1))
                return _speckled(img, noise, self.strength[None])
            noise = torch.cat([noise.roll(moved, dims=(2, 3)) for moved in speckle[:, 1:].tolist()])
            camera = speckle[:, 0].to(img.device)
        noise = conv2d(noise.transpose(0, 1), self.camera_grain[camera], padding=(1, 1), groups=len(noise))
        return _speckled(img, noise.transpose(0, 1), self.camera_strength[camera])


def _speckled(img: Tensor, noise: Tensor, strength: Tensor) -> Tensor:
    """Return an image [N, C, R, R] with noise [N, 1, R, R] of a strength [N, levels].

    Where it is weak, light = grey^4 makes d light = 4 grey^3 d grey; that is what gradients see of it, everywhere. What
    is blacker than black or whiter than white stays so: hidden from the discriminator it would drift.
    """
    with torch.no_grad():
        grey = (img.clamp(-1, 1) + 1) / 2
        mean = grey.mean(dim=1, keepdim=True)
        size = read_off(strength, mean)
        light = torch.addcmul(grey.square().square_(), noise * size, mean.pow(3), value=4)
        change = 2 * (light.clamp_(min=0).sqrt_().sqrt_() - grey)
    weak = 2 * size * noise
    return img + weak + (change - weak).detach()


def read_off(curves: Tensor, at: Tensor) -> Tensor:
    """Return the values of curves at each place, given at K even steps from 0 to 1 and straight between them.

    Args:
        curves: [N, K], one for each row of `at`, or [1, K].
        at: [N, ...].
    Returns:
        As `at`.
    """
    last = curves.shape[1] - 1
    place = at.clamp(0, 1).flatten(1) * last
    left = place.floor().clamp(max=last - 1)
    number = left.long()
    curves = curves.expand(len(at), -1)
    return torch.lerp(curves.gather(1, number), curves.gather(1, number + 1), place - left).view_as(at)


class SynthesisBlock(MixedPrecisionBlock):
    """All layers of one resolution.

    Args:
        in_channels: of the block below; 0 starts from the learned constant.
        out_channels: feature maps of this one.
        is_last: it has the image's resolution.
        speckle: the last one ends with a `SpeckleLayer`.
    """

    resample_taps: Tensor

    def __init__(self, in_channels: int, out_channels: int, *, w_dim: int, resolution: int, img_channels: int,
                 is_last: bool, architecture: Architecture, in_half: bool, conv_clamp: float | None,
                 speckle: bool = False) -> None:
        super().__init__(in_half)
        self.in_channels, self.architecture = in_channels, architecture
        register_resampling(self)
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, w_dim=w_dim, resolution=resolution, up=2,
                                        conv_clamp=conv_clamp)
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim=w_dim, resolution=resolution,
                                    conv_clamp=conv_clamp)
        self.num_conv = 1 if in_channels == 0 else 2
        self.has_torgb = is_last or architecture == "skip"
        if self.has_torgb:
            self.torgb = ToRGBLayer(out_channels, img_channels, w_dim=w_dim, conv_clamp=conv_clamp)
        self.speckle = SpeckleLayer(resolution) if speckle and is_last else None
        if in_channels > 0 and architecture == "resnet":
            self.skip = Conv2dLayer(in_channels, out_channels, 1, bias=False, up=2)

    def forward(self, x: Tensor | None, img: Tensor | None, ws: Tensor, *, noise_mode: NoiseMode, force_fp32: bool,
                speckle: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return features and image of twice the size.

        Args:
            x: features [N, in_channels, H, W]; None at the constant.
            img: the sum so far, [N, img_channels, H, W], float32; None before the first toRGB.
            ws: [N, num_conv + 1, w_dim], the last of them for toRGB.
        """
        if x is None:
            x = as_float32(self.const[None]).expand(len(ws), -1, -1, -1)
            x = self.conv1(x, ws[:, 0], noise_mode=noise_mode)
        else:
            x = self.enter(x, force_fp32=force_fp32)
            # Half the variance from either branch keeps it at 1.
            gain = math.sqrt(0.5) if self.architecture == "resnet" else 1.0
            shortcut = self.skip(x, gain=gain) if self.architecture == "resnet" else None
            x = self.conv0(x, ws[:, 0], noise_mode=noise_mode)
            x = self.conv1(x, ws[:, 1], noise_mode=noise_mode, gain=gain)
            x = x if shortcut is None else x + shortcut
        if img is not None:
            img = upsample2d(img, self.resample_taps)
        if self.has_torgb:
            y = self.torgb(x, ws[:, -1]).to(torch.float32, memory_format=torch.contiguous_format)
            img = y if img is None else img + y
        if self.speckle is not None:
            img = self.speckle(img, noise_mode=noise_mode, speckle=speckle)
        return x, img


class SynthesisNetwork(nn.Module):
    """Blocks from 4x4 to the image's resolution. Arguments as those of `Generator`."""

    def __init__(self, *, w_dim: int, img_resolution: int, img_channels: int, channel_base: int, channel_max: int,
                 architecture: Architecture, num_fp16_res: int, conv_clamp: float | None, channel_min: int = 1,
                 speckle: bool = False) -> None:
        super().__init__()
        self.w_dim, self.architecture = w_dim, architecture
        self.resolutions = block_resolutions(img_resolution)
        halves = fp16_blocks(img_resolution, num_fp16_res)
        in_channels = 0
        for resolution in self.resolutions:
            out_channels = channels_at(resolution, channel_base=channel_base, channel_max=channel_max,
                                       channel_min=channel_min)
            self.add_module(f"b{resolution}", SynthesisBlock(
                in_channels, out_channels, w_dim=w_dim, resolution=resolution, img_channels=img_channels,
                is_last=resolution == img_resolution, architecture=architecture, in_half=resolution in halves,
                conv_clamp=conv_clamp, speckle=speckle))
            in_channels = out_channels
        self.num_ws = 2 * len(self.resolutions)  # two a block, less one at 4x4, and one more for the last toRGB

    def blocks(self) -> Iterator[SynthesisBlock]:
        """Yield the blocks from 4x4 on."""
        for resolution in self.resolutions:
            block = self.get_submodule(f"b{resolution}")
            assert isinstance(block, SynthesisBlock)
            yield block

    def forward(self, ws: Tensor, *, noise_mode: NoiseMode = "random", force_fp32: bool = False,
                speckle: Tensor | None = None) -> Tensor:
        """Return images [N, img_channels, R, R], float32, for ws [N, num_ws, w_dim].

        Args:
            noise_mode: new noise, the fixed one of the buffers, or none.
            force_fp32: all blocks in float32.
            speckle: int64 [N, 3], the camera whose speckle a picture has, and the pixels down and right by which the
                fixed noise is moved around for it, so that pictures do not share one; default that of a typical scan.
        """
        assert_shape(ws, [None, self.num_ws, self.w_dim])
        ws = ws.to(torch.float32)
        x: Tensor | None = None
        img: Tensor | None = None
        first = 0
        for block in self.blocks():
            # toRGB of a block shares the w of the next block's first convolution.
            x, img = block(x, img, ws[:, first:first + block.num_conv + 1], noise_mode=noise_mode,
                           force_fp32=force_fp32, speckle=speckle)
            first += block.num_conv
        assert img is not None
        return img
