"""Convolution whose weights are scaled by a style (Karras et al. 2020, SG2, section 2.2).

    w'_oik = s_i w_oik / sqrt(sum_ik (s_i w_oik)^2 + 1e-8)        (Eq. 1 and 3)

Scaling the inputs by s and the outputs by the root gives the same as scaling the weights, which would be different for
each sample.
"""

import torch
from torch import Tensor

from torch_utils.checks import assert_shape
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.layer_end import layer_end


def modulated_conv2d(x: Tensor, weight: Tensor, styles: Tensor, *, noise: Tensor | None = None, up: int = 1,
                     padding: int = 0, resample_filter: Tensor | None = None, demodulate: bool = True,
                     flip_weight: bool = True) -> Tensor:
    """Return x convolved, for each sample, with weights w'.

    Args:
        x: [N, C, H, W].
        weight: [O, C, kh, kw], float32.
        styles: s, [N, C], float32.
        noise: added to the result, broadcast to it.
        up: factor of upsampling with `resample_filter`.
        padding: at the higher resolution.
        demodulate: False leaves the root out.
        flip_weight: True correlates, False convolves.
    Returns:
        [N, O, H * up, W * up] where the padding keeps the size, dtype of x.
    """
    y, scale = modulated_conv2d_parts(x, weight, styles, up=up, padding=padding, resample_filter=resample_filter,
                                      demodulate=demodulate, flip_weight=flip_weight)
    if scale is None:
        return y if noise is None else y + noise.to(y.dtype)
    scale = scale.to(y.dtype)[:, :, None, None]
    return y * scale if noise is None else torch.addcmul(noise.to(y.dtype), y, scale)


def modulated_conv2d_parts(x: Tensor, weight: Tensor, styles: Tensor, *, up: int = 1, padding: int = 0,
                           resample_filter: Tensor | None = None, demodulate: bool = True,
                           flip_weight: bool = True) -> tuple[Tensor, Tensor | None]:
    """Return x convolved with weights that are not demodulated yet, and what to scale each of its channels by.

    Args as those of `modulated_conv2d`.

    Returns:
        [N, O, H * up, W * up] where the padding keeps the size, dtype of x; and float32 [N, O], or None for 1.
    """
    n, channels = x.shape[:2]
    assert_shape(weight, [None, channels, None, None])
    assert_shape(styles, [n, channels])
    if x.dtype == torch.float16 and demodulate:
        # Demodulation takes out any scale of weights and styles; with these the sums stay far from 65504.
        fan_in = weight[0].numel()
        weight = weight * (fan_in**-0.5 / weight.abs().amax(dim=(1, 2, 3), keepdim=True))
        styles = styles / styles.abs().amax(dim=1, keepdim=True)

    y = conv2d_resample(layer_end(x, None, scale=styles), weight, resample_filter, up=up, padding=padding,
                        flip_weight=flip_weight)
    if not demodulate:
        return y, None
    energy = weight.square().sum(dim=(2, 3))                                       # [O, C]
    return y, torch.addmm(energy.new_full((1,), 1e-8), styles.square(), energy.t()).rsqrt()
