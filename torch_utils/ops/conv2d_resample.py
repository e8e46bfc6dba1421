"""Convolution with resampling: FIR-filtered zero insertion before it, or FIR-filtered decimation after it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops.conv2d import conv2d, conv_transpose2d
from torch_utils.ops.upfirdn2d import Padding, centred_padding, parse_padding, upfirdn2d


def conv2d_resample(x: Tensor, w: Tensor, f: Tensor | None = None, *, up: int = 1, down: int = 1, padding: Padding = 0,
                    groups: int = 1, flip_weight: bool = True) -> Tensor:
    """Return images upsampled with the filter, padded and convolved, or padded, convolved and downsampled with it.

    Filter and convolution commute, so that both run where they cost least: the convolution at the lower resolution,
    a transposed one before the filter when upsampling, a strided one after it when downsampling.

    Args:
        x: [N, C, H, W], any floating dtype and memory format.
        w: [O, C / groups, kh, kw], cast to the dtype of x.
        f: constant float32 filter from `setup_filter`, used where `up` or `down` exceeds 1; None is no filter.
        up, down: factors, of which at least one is 1.
        padding: at the higher resolution: one number, [x, y] or [x before, x after, y before, y after].
        groups: of channels that do not mix.
        flip_weight: True correlates like `torch.nn.functional.conv2d`, False convolves.
    Returns:
        [N, O, H * up / down, W * up / down] with the padding of a convolution that keeps the size.
    """
    assert up == 1 or down == 1, (up, down)
    kh, kw = w.shape[2:]
    w = w.to(x.dtype)
    if up > 1:
        pads = centred_padding(f, padding, up=(up, up))
        if kh == kw == 1:
            return upfirdn2d(conv2d(x, w, groups=groups), f, up=up, padding=pads, gain=up**2)
        y = conv_transpose2d(x, _laid_out(_transposed(w, groups, flip=flip_weight), x), stride=up, groups=groups)
        # The transposed convolution starts k - 1 samples early and lacks the zeros after the last sample.
        pads = [pads[0] - kw + 1, pads[1] - kw + up, pads[2] - kh + 1, pads[3] - kh + up]
        return upfirdn2d(y, f, padding=pads, gain=up**2)
    w = _laid_out(w if flip_weight else w.flip((2, 3)), x)
    if down > 1:
        pads = centred_padding(f, padding, down=(down, down))
        if kh == kw == 1:
            return conv2d(upfirdn2d(x, f, down=down, padding=pads), w, groups=groups)
        return conv2d(upfirdn2d(x, f, padding=pads), w, stride=down, groups=groups)
    x0, x1, y0, y1 = parse_padding(padding)
    if x0 == x1 >= 0 and y0 == y1 >= 0:
        return conv2d(x, w, padding=(y0, x0), groups=groups)
    return conv2d(F.pad(x, [x0, x1, y0, y1]), w, groups=groups)


def _laid_out(w: Tensor, x: Tensor) -> Tensor:
    """Return weights in the memory format of images, which spares every op on them a copy of either."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    return w.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _transposed(w: Tensor, groups: int, *, flip: bool) -> Tensor:
    """Return [O, C / groups, kh, kw] as [C, O / groups, kh, kw]."""
    out_channels, per_group, kh, kw = w.shape
    if flip:
        w = w.flip((2, 3))
    if groups == 1:
        return w.transpose(0, 1)
    split = w.reshape(groups, out_channels // groups, per_group, kh, kw).transpose(1, 2)
    return split.reshape(groups * per_group, out_channels // groups, kh, kw)
