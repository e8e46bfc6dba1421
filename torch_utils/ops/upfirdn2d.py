"""Upsample, filter and downsample images in one step: zero insertion, padding, FIR filter, decimation.

Along each axis, with `h` the taps in the order of a correlation (the filter reversed, unless `flip_filter`):
    y[i] = gain * sum_k h[k] * u[i * down + k - p0],    u[j * up] = x[j], and 0 elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops._build import launch
from torch_utils.ops.dispatch import Impl, kernels_run, use_reference
from torch_utils.ops.filters import SEPARABLE_FROM
from torch_utils.ops.launches import is_separable_launch, upfirdn2d_launch
from torch_utils.ops.operator import Operator

Padding = int | Sequence[int]


def upfirdn2d(x: Tensor, f: Tensor | None, *, up: int | Sequence[int] = 1, down: int | Sequence[int] = 1,
              padding: Padding = 0, flip_filter: bool = False, gain: float = 1.0, impl: Impl = "auto") -> Tensor:
    """Return images upsampled by zero insertion, padded, filtered and downsampled; any order of gradient in `x`.

    Args:
        x: [N, C, H, W], any floating dtype and memory format.
        f: constant float32 filter from `setup_filter`: [fh, fw], [n] for two passes, or None for a single tap of 1.
        up: factor, or [x, y].
        down: factor, or [x, y].
        padding: of the upsampled image: one number, [x, y] or [x before, x after, y before, y after]; negative crops.
        flip_filter: False convolves, True correlates.
        gain: factor on the result.
        impl: "reference" is plain PyTorch; "kernel" raises where no kernel can run.
    Returns:
        [N, C, (H * up + padding - fh) // down + 1, likewise W], dtype and memory format of `x`.
    Raises:
        KernelUnavailable: see `impl`.
    """
    up_xy, down_xy, pads = _pair(up), _pair(down), parse_padding(padding)
    assert f is None or not f.requires_grad, "the filter of upfirdn2d is a constant; it gets no gradient"
    run = _reference if use_reference(x, impl) else _upfirdn2d
    result: Tensor = run(x, f, up_xy, down_xy, pads, flip_filter, gain)
    return result


def filter2d(x: Tensor, f: Tensor | None, *, padding: Padding = 0, flip_filter: bool = False, gain: float = 1.0,
             impl: Impl = "auto") -> Tensor:
    """Return filtered images of the same size; `padding` is added on top. Arguments as in `upfirdn2d`."""
    return upfirdn2d(x, f, padding=centred_padding(f, padding), flip_filter=flip_filter, gain=gain, impl=impl)


def upsample2d(x: Tensor, f: Tensor | None, *, up: int | Sequence[int] = 2, padding: Padding = 0,
               flip_filter: bool = False, gain: float = 1.0, impl: Impl = "auto") -> Tensor:
    """Return images `up` times as large, of unchanged brightness. Arguments as in `upfirdn2d`."""
    ux, uy = _pair(up)
    pads = centred_padding(f, padding, up=(ux, uy))
    return upfirdn2d(x, f, up=up, padding=pads, flip_filter=flip_filter, gain=gain * ux * uy, impl=impl)


def downsample2d(x: Tensor, f: Tensor | None, *, down: int | Sequence[int] = 2, padding: Padding = 0,
                 flip_filter: bool = False, gain: float = 1.0, impl: Impl = "auto") -> Tensor:
    """Return filtered images reduced `down` times. Arguments as in `upfirdn2d`."""
    pads = centred_padding(f, padding, down=_pair(down))
    return upfirdn2d(x, f, down=down, padding=pads, flip_filter=flip_filter, gain=gain, impl=impl)


def _reference(x: Tensor, f: Tensor | None, up: Sequence[int], down: Sequence[int], padding: Sequence[int],
               flip_filter: bool, gain: float) -> Tensor:
    """Plain PyTorch: strided and transposed depthwise convolutions, so that no inserted zero is multiplied."""
    fmt = _memory_format(x)
    if f is None:
        f = torch.ones(1, 1, device=x.device)
    # Half precision has no fast depthwise convolution on CPUs.
    dtype = torch.float32 if x.device.type == "cpu" and x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    y, f = x.to(dtype), f.to(dtype)
    if f.ndim == 1 and len(f) < SEPARABLE_FROM:
        f = torch.outer(f, f)
    scaled = f if gain == 1 else f * gain
    if f.ndim == 2:
        y = _filter(y, scaled, up, down, padding, flip_filter)
    else:
        (ux, uy), (dx, dy), (x0, x1, y0, y1) = up, down, padding
        y = _filter(y, f[None, :], (ux, 1), (dx, 1), (x0, x1, 0, 0), flip_filter)
        y = _filter(y, scaled[:, None], (1, uy), (1, dy), (0, 0, y0, y1), flip_filter)
    return y.to(x.dtype).contiguous(memory_format=fmt)


def _filter(x: Tensor, f: Tensor, up: Sequence[int], down: Sequence[int], padding: Sequence[int],
            flip_filter: bool) -> Tensor:
    """Return one pass with a filter [fh, fw]."""
    channels, (ux, uy), (dx, dy), (x0, x1, y0, y1) = x.shape[1], up, down, padding
    fh, fw = f.shape
    by_convolution = ux == 1 and uy == 1
    # PyTorch's convolution correlates; its transposed one, which adds a filter at every sample, convolves.
    weight = (f if flip_filter == by_convolution else f.flip((0, 1))).expand(channels, 1, fh, fw)
    if by_convolution:
        inner = (y0, x0) if y0 == y1 >= 0 and x0 == x1 >= 0 else (0, 0)
        if inner != (y0, x0) or x0 != x1 or y0 != y1:
            x = F.pad(x, [x0, x1, y0, y1])
        return F.conv2d(x, weight, stride=(dy, dx), padding=inner, groups=channels)

    # The transposed convolution starts its output fw - 1 - x0 samples before ours and ends it x1 - x0 later, where
    # its own cropping can express that; else the full result is cropped or padded.
    crop, extra = (fh - 1 - y0, fw - 1 - x0), (y1 - y0 + uy - 1, x1 - x0 + ux - 1)
    fits = min(crop) >= 0 and 0 <= extra[0] < max(uy, 1) and 0 <= extra[1] < max(ux, 1)
    if fits:
        y = F.conv_transpose2d(x, weight, stride=(uy, ux), padding=crop, output_padding=extra, groups=channels)
    else:
        y = F.conv_transpose2d(x, weight, stride=(uy, ux), groups=channels)
        height, width = x.shape[2] * uy + y0 + y1 - fh + 1, x.shape[3] * ux + x0 + x1 - fw + 1
        left, top = x0 - fw + 1, y0 - fh + 1
        y = F.pad(y, [left, width - y.shape[3] - left, top, height - y.shape[2] - top])
    return y[:, :, ::dy, ::dx]


def _on_cpu(x: Tensor, f: Tensor | None, up: Sequence[int], down: Sequence[int], padding: Sequence[int],
            flip_filter: bool, gain: float) -> Tensor:
    y = _reference(x, f, up, down, padding, flip_filter, gain)
    return y.clone() if y.data_ptr() == x.data_ptr() else y  # an op may not return its input


def _on_cuda(x: Tensor, f: Tensor | None, up: Sequence[int], down: Sequence[int], padding: Sequence[int],
             flip_filter: bool, gain: float) -> Tensor:
    run = _by_kernel if kernels_run() else _on_cpu
    return run(x, f, up, down, padding, flip_filter, gain)


def _by_kernel(x: Tensor, f: Tensor | None, up: Sequence[int], down: Sequence[int], padding: Sequence[int],
               flip_filter: bool, gain: float) -> Tensor:
    """One launch; two for taps along each axis where images are not contiguous or the taps are many."""
    taps = torch.ones(1, 1, device=x.device) if f is None else f.to(torch.float32).contiguous()
    if taps.ndim == 1 and not is_separable_launch(x, up, down, len(taps)):
        (ux, uy), (dx, dy), (x0, x1, y0, y1) = up, down, padding
        x = _by_kernel(x, taps[None, :], (ux, 1), (dx, 1), (x0, x1, 0, 0), flip_filter, 1.0)
        return _by_kernel(x, taps[:, None], (1, uy), (1, dy), (0, 0, y0, y1), flip_filter, gain)
    y = _fake(x, taps, up, down, padding, flip_filter, gain)
    if y.numel():
        launch(upfirdn2d_launch(y, x, taps, up=up, down=down, padding=padding, flip_filter=flip_filter, gain=gain),
               x.device)
    return y


def _fake(x: Tensor, f: Tensor | None, up: Sequence[int], down: Sequence[int], padding: Sequence[int],
          flip_filter: bool, gain: float) -> Tensor:
    fh, fw = _filter_size(f)
    height = (x.shape[2] * up[1] + padding[2] + padding[3] - fh) // down[1] + 1
    width = (x.shape[3] * up[0] + padding[0] + padding[1] - fw) // down[0] + 1
    return torch.empty(x.shape[0], x.shape[1], height, width, dtype=x.dtype, device=x.device,
                       memory_format=_memory_format(x))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    x, f, ctx.up, ctx.down, ctx.padding, ctx.flip_filter, ctx.gain = inputs
    ctx.size = x.shape[2:]
    ctx.save_for_backward(f)


def _backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
    """The adjoint exchanges up and down, flips the filter, and starts where the filter's last tap met x[0]."""
    if dy is None:
        return (None,) * 7
    (f,) = ctx.saved_tensors
    (ux, uy), (dx, dy_), (x0, _, y0, _) = ctx.up, ctx.down, ctx.padding
    (fh, fw), (height, width) = _filter_size(f), ctx.size
    padding = [fw - 1 - x0, (width - 1) * ux + 1 - dy.shape[3] * dx + x0,
               fh - 1 - y0, (height - 1) * uy + 1 - dy.shape[2] * dy_ + y0]
    grad = _upfirdn2d(dy, f, ctx.down, ctx.up, padding, not ctx.flip_filter, ctx.gain)
    return grad, None, None, None, None, None, None


_upfirdn2d = Operator("upfirdn2d(Tensor x, Tensor? f, int[] up, int[] down, int[] padding, bool flip_filter, "
                      "float gain) -> Tensor",
                      cpu=_on_cpu, cuda=_on_cuda, fake=_fake, save=_setup_context, backward=_backward)


def _pair(value: int | Sequence[int]) -> list[int]:
    """Return [x, y]."""
    pair = [value, value] if isinstance(value, int) else list(value)
    assert len(pair) == 2 and min(pair) >= 1, f"a factor is a number or [x, y], each at least 1; got {value}"
    return pair


def parse_padding(padding: Padding) -> list[int]:
    """Return [x before, x after, y before, y after]."""
    pads = [padding] * 4 if isinstance(padding, int) else list(padding)
    if len(pads) == 2:
        pads = [pads[0], pads[0], pads[1], pads[1]]
    assert len(pads) == 4, f"padding is a number, [x, y] or [x0, x1, y0, y1]; got {padding}"
    return pads


def _filter_size(f: Tensor | None) -> tuple[int, int]:
    """Return (height, width)."""
    return (1, 1) if f is None else (f.shape[0], f.shape[-1])


def centred_padding(f: Tensor | None, padding: Padding, *, up: Sequence[int] = (1, 1),
                    down: Sequence[int] = (1, 1)) -> list[int]:
    """Return the padding that keeps the filter centred on the resampling grid, on top of the given one."""
    (fh, fw), pads = _filter_size(f), parse_padding(padding)
    result = []
    for size, u, d, before, after in ((fw, up[0], down[0], *pads[:2]), (fh, up[1], down[1], *pads[2:])):
        lead = (size + u - 1) // 2 if u > 1 or d == 1 else (size - d + 1) // 2
        trail = (size - u) // 2 if u > 1 or d == 1 else (size - d) // 2
        result += [before + lead, after + trail]
    return result


def _memory_format(x: Tensor) -> torch.memory_format:
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
