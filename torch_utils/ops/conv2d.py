"""Convolution and transposed convolution, whose gradients of any order are again convolutions.

For images x [N, I, H, W], weights w [O, I, kh, kw] and results y [N, O, h, w], with stride s and padding p,
    <y, conv(x, w)> = sum_nohw sum_ikl y[n, o, h, w] w[o, i, k, l] x[n, i, s h + k - p, s w + l - p]
is linear in each of the three. Leaving one out gives three ops: the convolution (y), the transposed convolution (x) and
the gradient of the weights (w). The derivative of each with respect to its operands is one of the other two, so that
second gradients, which R1 and path length regularisation need, cost no more than first ones; PyTorch's own treat
feature maps as weights as large as the image.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops import winograd
from torch_utils.ops.operator import Operator

_weight_gradients = True


@contextlib.contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Within, backward passes leave out the gradients of convolution weights.

    For gradients with respect to images or latents alone, where the weights require gradients of a later pass: the
    autograd engine does not tell an op which of its gradients will be used.
    """
    global _weight_gradients
    before, _weight_gradients = _weight_gradients, False
    try:
        yield
    finally:
        _weight_gradients = before


def conv2d(x: Tensor, w: Tensor, *, stride: int = 1, padding: Sequence[int] = (0, 0), groups: int = 1) -> Tensor:
    """Return images correlated with weights; any order of gradient in both.

    Args:
        x: [N, I, H, W], any floating dtype and memory format.
        w: [O, I / groups, kh, kw], of the same dtype.
        stride: along both axes.
        padding: (y, x), on both sides.
        groups: of channels that do not mix.
    Returns:
        [N, O, (H + 2 y - kh) // stride + 1, likewise W].
    """
    result: Tensor = _conv2d(x, w, stride, padding, groups)
    return result


def conv_transpose2d(x: Tensor, w: Tensor, *, stride: int = 1, groups: int = 1) -> Tensor:
    """Return the adjoint of `conv2d` without padding, applied to images; any order of gradient.

    Args:
        x: [N, I, H, W].
        w: [I, O / groups, kh, kw].
        stride, groups: of the convolution whose adjoint it is.
    Returns:
        [N, O, (H - 1) * stride + kh, likewise W].
    """
    size = [(length - 1) * stride + taps for length, taps in zip(x.shape[2:], w.shape[2:], strict=True)]
    result: Tensor = _conv2d_input(x, w, size, stride, (0, 0), groups)
    return result


def _conv(x: Tensor, w: Tensor, stride: int, padding: Sequence[int], groups: int) -> Tensor:
    return F.conv2d(x, w, stride=stride, padding=tuple(padding), groups=groups)


def _input(y: Tensor, w: Tensor, size: Sequence[int], stride: int, padding: Sequence[int], groups: int) -> Tensor:
    """Return the gradient of the images, `size` = (H, W), for one of the results."""
    cut = [length + 2 * pad - (part - 1) * stride - taps for length, pad, part, taps in
           zip(size, padding, y.shape[2:], w.shape[2:], strict=True)]
    return F.conv_transpose2d(y, w, stride=stride, padding=tuple(padding), output_padding=cut, groups=groups)


def _weight(x: Tensor, y: Tensor, taps: Sequence[int], stride: int, padding: Sequence[int], groups: int) -> Tensor:
    """Return the gradient of the weights, `taps` = (kh, kw), for one of the results."""
    w = x.new_empty(y.shape[1], x.shape[1] // groups, *taps)  # of which only the shape is used
    result: Tensor = torch.ops.aten.convolution_backward(y, x, w, None, [stride] * 2, padding, [1, 1], False, [0, 0],
                                                         groups, [False, True, False])[1]
    return result


def _conv_or_product(x: Tensor, w: Tensor, stride: int, padding: Sequence[int], groups: int) -> Tensor:
    if _is_thin(x, w.shape, stride, padding, groups):
        return (x.permute(0, 2, 3, 1) @ w[:, :, 0, 0].t()).permute(0, 3, 1, 2)
    return _conv(x, w, stride, padding, groups)


def _input_or_product(y: Tensor, w: Tensor, size: Sequence[int], stride: int, padding: Sequence[int],
                  groups: int) -> Tensor:
    if _is_thin(y, w.shape, stride, padding, groups):
        return (y.permute(0, 2, 3, 1) @ w[:, :, 0, 0]).permute(0, 3, 1, 2)
    return _input(y, w, size, stride, padding, groups)


def _conv_on_cpu(x: Tensor, w: Tensor, stride: int, padding: Sequence[int], groups: int) -> Tensor:
    if stride == groups == 1 and winograd.pays(x, w.shape, channels=winograd.MIN_CHANNELS):
        return winograd.conv3x3(x, w, padding)
    return _conv_or_product(x, w, stride, padding, groups)


def _input_on_cpu(y: Tensor, w: Tensor, size: Sequence[int], stride: int, padding: Sequence[int],
                  groups: int) -> Tensor:
    if stride == groups == 1 and winograd.pays(y, w.shape, channels=winograd.MIN_CHANNELS):
        return winograd.conv3x3_input(y, w, padding)
    return _input_or_product(y, w, size, stride, padding, groups)


def _weight_on_cpu(x: Tensor, y: Tensor, taps: Sequence[int], stride: int, padding: Sequence[int],
                   groups: int) -> Tensor:
    shape = (y.shape[1], x.shape[1], *taps)
    if stride == groups == 1 and winograd.pays(y, shape, channels=winograd.MIN_CHANNELS_OF_WEIGHTS):
        return winograd.conv3x3_weight(x, y, padding)
    if stride > 1 and groups == 1 and max(padding) == 0 and min(shape[:2]) >= 64:
        return _strided_weight(x, y, taps, stride)
    return _weight(x, y, taps, stride, padding, groups)


def _is_thin(x: Tensor, weights: Sequence[int], stride: int, padding: Sequence[int], groups: int) -> bool:
    """Return whether it is a product with few channels in or out.

    For these oneDNN takes up to five times as long, and cuDNN a kernel without tensor cores.
    """
    return (min(weights[:2]) < 16 and tuple(weights[2:]) == (1, 1) and stride == groups == 1 and max(padding) == 0
            and x.is_contiguous(memory_format=torch.channels_last))


def _strided_weight(x: Tensor, y: Tensor, taps: Sequence[int], stride: int) -> Tensor:
    """Return `_weight` by one matrix product a row of taps: oneDNN takes up to three times as long."""
    (kh, kw), (height, width) = taps, y.shape[2:]
    images, results = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)  # [N, H, W, I], [N, h, w, O]
    results = results.reshape(-1, y.shape[1]).t()                   # [O, N h w]
    rows = []
    for k in range(kh):
        read = images[:, k:k + stride * height:stride, :stride * (width - 1) + kw]
        windows = read.unfold(2, kw, stride).transpose(3, 4)        # [N, h, w, kw, I]
        rows.append(results @ windows.reshape(-1, kw * x.shape[1]))
    w = torch.stack(rows, dim=1).view(y.shape[1], kh, kw, x.shape[1])
    return w.permute(0, 3, 1, 2)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.set_materialize_grads(False)  # zeros that no loss reaches would be convolved
    (first, second, *rest), (for_first, for_second, *_) = inputs, ctx.needs_input_grad
    ctx.options = tuple(rest[-3:])  # stride, padding, groups
    ctx.sizes = first.shape[2:], second.shape[2:]
    # Either is of use to the other's gradient alone: images of a network that does not learn can be freed.
    ctx.save_for_backward(first if for_second else None, second if for_first else None)


def _conv_backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
    if dy is None:
        return (None,) * 5
    (x, w), (size, taps) = ctx.saved_tensors, ctx.sizes
    for_x, for_w, *_ = ctx.needs_input_grad
    dx = _conv2d_input(dy, w, size, *ctx.options) if for_x else None
    dw = _conv2d_weight(x, dy, taps, *ctx.options) if for_w and _weight_gradients else None
    return dx, dw, None, None, None


def _input_backward(ctx: Any, dx: Tensor | None) -> tuple[Tensor | None, ...]:
    if dx is None:
        return (None,) * 6
    (y, w), (_, taps) = ctx.saved_tensors, ctx.sizes
    for_y, for_w, *_ = ctx.needs_input_grad
    dy = _conv2d(dx, w, *ctx.options) if for_y else None
    dw = _conv2d_weight(dx, y, taps, *ctx.options) if for_w and _weight_gradients else None
    return dy, dw, None, None, None, None


def _weight_backward(ctx: Any, dw: Tensor | None) -> tuple[Tensor | None, ...]:
    if dw is None:
        return (None,) * 6
    (x, y), (size, _) = ctx.saved_tensors, ctx.sizes
    for_x, for_y, *_ = ctx.needs_input_grad
    dx = _conv2d_input(y, dw, size, *ctx.options) if for_x else None
    dy = _conv2d(x, dw, *ctx.options) if for_y else None
    return dx, dy, None, None, None, None


_OPTIONS = "int stride, int[] padding, int groups"
_conv2d = Operator(f"conv2d(Tensor x, Tensor w, {_OPTIONS}) -> Tensor", cpu=_conv_on_cpu, cuda=_conv_or_product,
                   fake=_conv, save=_save, backward=_conv_backward)
_conv2d_input = Operator(f"conv2d_input(Tensor y, Tensor w, int[] size, {_OPTIONS}) -> Tensor", cpu=_input_on_cpu,
                         cuda=_input_or_product, fake=_input, save=_save, backward=_input_backward)
_conv2d_weight = Operator(f"conv2d_weight(Tensor x, Tensor y, int[] taps, {_OPTIONS}) -> Tensor", cpu=_weight_on_cpu,
                          cuda=_weight, fake=_weight, save=_save, backward=_weight_backward)
