"""Convolution whose weights are scaled by a style (Karras et al. 2020, SG2, section 2.2)."""

import torch
from torch import Tensor

from torch_utils.checks import assert_shape
from torch_utils.ops.conv2d_resample import conv2d_resample


def modulated_conv2d(x: Tensor, weight: Tensor, styles: Tensor, *, noise: Tensor | None = None, up: int = 1,
                     padding: int = 0, resample_filter: Tensor | None = None, demodulate: bool = True,
                     flip_weight: bool = True) -> Tensor:
    """Return x convolved, for each sample, with weights w'_oik = s_i w_oik / sqrt(sum_ik (s_i w_oik)^2 + 1e-8).

    SG2, Eq. 1 and 3. Scaling the inputs by s and the outputs by the root gives the same as scaling the weights, which
    would be different for each sample.

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
    n, channels = x.shape[:2]
    assert_shape(weight, [None, channels, None, None])
    assert_shape(styles, [n, channels])
    if x.dtype == torch.float16 and demodulate:
        # Demodulation takes out any scale of weights and styles; with these the sums stay far from 65504.
        fan_in = weight[0].numel()
        weight = weight * (fan_in**-0.5 / weight.abs().amax(dim=(1, 2, 3), keepdim=True))
        styles = styles / styles.abs().amax(dim=1, keepdim=True)

    y = conv2d_resample(x * styles.to(x.dtype)[:, :, None, None], weight, resample_filter, up=up, padding=padding,
                        flip_weight=flip_weight)
    if not demodulate:
        return y if noise is None else y + noise.to(y.dtype)
    energy = weight.square().sum(dim=(2, 3))                                       # [O, C]
    scale = torch.addmm(energy.new_full((1,), 1e-8), styles.square(), energy.t()).rsqrt()  # [N, O]
    scale = scale.to(y.dtype)[:, :, None, None]
    return y * scale if noise is None else torch.addcmul(noise.to(y.dtype), y, scale)
