"""Layers with equalised learning rate, and what both networks need to know of resolutions and labels.

Equalised learning rate (Karras et al. 2018, "Progressive Growing of GANs", section 4.1): weights start as N(0, 1) and
are scaled by 1 / sqrt(fan_in) at run time, so that Adam moves all of them equally fast.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from stylegan_oct.networks.sizes import block_resolutions
from torch_utils.checks import assert_shape
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.filters import setup_filter
from torch_utils.ops.layer_end import layer_end

Architecture = Literal["orig", "skip", "resnet"]
# auto: float16 on a GPU, float32 on a CPU; bf16: bfloat16 on either.
Precision = Literal["auto", "fp32", "fp16", "bf16"]

RESAMPLE_TAPS = (1.0, 3.0, 3.0, 1.0)  # SG2, appendix B
MIN_FP16_RESOLUTION = 8


def register_resampling(module: nn.Module) -> None:
    """Give a module the filter of resampling: its taps along an axis, and for exchange the official buffer, unused."""
    module.register_buffer("resample_filter", setup_filter(RESAMPLE_TAPS))
    module.register_buffer("resample_taps", setup_filter(RESAMPLE_TAPS, separable=True), persistent=False)


class FullyConnectedLayer(nn.Module):
    """Matrix product, bias and activation.

    Args:
        in_features, out_features: sizes.
        activation: of `bias_act`.
        lr_multiplier: how fast it learns relative to the others; the function computed at the start is the same.
        bias_init: start of the bias.
    """

    def __init__(self, in_features: int, out_features: int, *, activation: str = "linear", lr_multiplier: float = 1.0,
                 bias_init: float = 0.0) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.weight_gain, self.bias_gain = lr_multiplier / math.sqrt(in_features), lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, out_features] for x [N, in_features]."""
        bias = self.bias if self.bias_gain == 1 else self.bias * self.bias_gain
        if self.activation == "linear":
            return torch.addmm(bias.to(x.dtype), x, self.weight.to(x.dtype).t(), alpha=self.weight_gain)
        y = x @ (self.weight * self.weight_gain).to(x.dtype).t()
        return bias_act(y, bias, act=self.activation)


class Conv2dLayer(nn.Module):
    """Convolution that keeps the size, with resampling by 2, bias and activation.

    Args:
        in_channels, out_channels, kernel_size: of the convolution.
        bias: add one.
        activation: linear or lrelu.
        up, down: resampling factors, at most one above 1.
        conv_clamp: bound on the absolute value of the output, times the gain of the call.
    """

    resample_taps: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = True,
                 activation: str = "linear", up: int = 1, down: int = 1, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.activation, self.up, self.down, self.conv_clamp = activation, up, down, conv_clamp
        self.padding = kernel_size // 2
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.act_gain = math.sqrt(2) if activation == "lrelu" else 1.0
        register_resampling(self)

    def forward(self, x: Tensor, *, gain: float = 1.0) -> Tensor:
        """Return [N, out_channels, H * up / down, W * up / down], in the dtype of x; `gain` scales it."""
        w = self.weight * self.weight_gain
        # As SG2 upsampled by a transposed convolution, whose kernel is not flipped.
        y = conv2d_resample(x, w, self.resample_taps, up=self.up, down=self.down, padding=self.padding,
                            flip_weight=self.up == 1)
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return layer_end(y, self.bias, act=self.activation, gain=self.act_gain * gain, clamp=clamp)


def normalize_second_moment(x: Tensor) -> Tensor:
    """Return [N, C] scaled so that the mean square of each row is 1."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def label_vectors(c: Tensor, c_dim: int) -> Tensor:
    """Return labels as float32 [N, c_dim].

    Args:
        c: class indices [N], an integer dtype; or one-hot or mixed [N, c_dim].
        c_dim: number of classes.
    """
    if c.ndim == 1:
        return nn.functional.one_hot(c.long(), c_dim).to(torch.float32)
    assert_shape(c, [None, c_dim])
    return c.to(torch.float32)


def fp16_blocks(img_resolution: int, num_fp16_res: int) -> set[int]:
    """Return the resolutions that run in float16 on a GPU: the highest `num_fp16_res`, none below 8."""
    highest = block_resolutions(img_resolution)[-num_fp16_res:] if num_fp16_res else []
    return {resolution for resolution in highest if resolution >= MIN_FP16_RESOLUTION}


def set_precision(network: nn.Module, precision: Precision) -> None:
    """Let the blocks of a network work in a precision: float32 weights stay as they are."""
    for module in network.modules():
        if isinstance(module, MixedPrecisionBlock):
            module.precision = precision


def block_dtype(device_type: str, in_half: bool, precision: Precision) -> torch.dtype:
    """Return what a block computes in.

    On a GPU only the highest resolutions leave float32. On a CPU bfloat16 saves time at every size where the
    processor knows it, so that all blocks take it; float16 is slow there and stays float32.
    """
    if precision == "bf16" and (in_half or device_type == "cpu"):
        return torch.bfloat16
    return torch.float16 if precision in ("auto", "fp16") and in_half and device_type == "cuda" else torch.float32


class MixedPrecisionBlock(nn.Module):
    """All layers of one resolution, which enter and leave its precision together.

    Args:
        in_half: one of the highest resolutions, which work in half precision on a GPU.
    """

    precision: Precision

    def __init__(self, in_half: bool) -> None:
        super().__init__()
        self.in_half, self.precision = in_half, "auto"

    def enter(self, x: Tensor, *, force_fp32: bool) -> Tensor:
        """Return features in the dtype and memory format that the block works in."""
        dtype = block_dtype(x.device.type, self.in_half, "fp32" if force_fp32 else self.precision)
        return x.to(dtype, memory_format=torch.channels_last)


def as_float32(x: Tensor) -> Tensor:
    """Return features in float32, in the memory format that blocks work in."""
    return x.to(torch.float32, memory_format=torch.channels_last)
