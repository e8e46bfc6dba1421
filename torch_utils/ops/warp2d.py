"""Images under affine maps, read between the samples of their upsampled selves.

With the maps fixed the op is linear in the images. Its adjoint is an op too, and the derivative of either is the other:
gradients of any order, without the second derivative of `grid_sample`, which PyTorch 2.11 lacks.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops._build import launch
from torch_utils.ops.dispatch import Impl, kernels_run, use_reference
from torch_utils.ops.launches import warp2d_launch
from torch_utils.ops.operator import Operator


def warp2d(x: Tensor, maps: Tensor, f: Tensor, *, size: Sequence[int], impl: Impl = "auto") -> Tensor:
    """Return images upsampled by 2, read bilinearly at the places that affine maps say; any order of gradient in `x`.

    Beyond its border an image is reflected, to its own width; further out it is 0.

    Args:
        x: [N, C, H, W], float32 or float64.
        maps: [N, 2, 3]: the result's (column, row, 1) to the (column, row) of the upsampled image, of 2 H rows, where
            it is read. On the device of `x`; gets no gradient.
        f: low-pass filter of sum 1, [even], on the device of `x`; gets no gradient.
        size: rows and columns of the result.
        impl: "reference" is plain PyTorch; "kernel" raises where no kernel can run.
    Returns:
        [N, C, *size].
    Raises:
        KernelUnavailable: see `impl`.
    """
    assert maps.shape == (len(x), 2, 3), list(maps.shape)
    assert f.ndim == 1 and len(f) % 2 == 0, list(f.shape)
    maps, f = maps.to(x.dtype), f.to(x.dtype)
    run = _reference if use_reference(x, impl) else _warp2d
    result: Tensor = run(x, maps, f, list(size))
    return result


def upsampling_matrix(f: Tensor, size: int, margin: tuple[int, int]) -> Tensor:
    """Return the matrix [2 (before + size + after), size] that reflects a signal at its ends and doubles its rate.

    Args:
        f: low-pass filter of sum 1, [even].
        size: length of the signal.
        margin: samples (before, after) the ends, less than `size` each; beyond them the signal is 0.
    """
    padded = margin[0] + size + margin[1]
    fine = torch.arange(2 * padded, device=f.device)[:, None] + torch.arange(len(f), device=f.device) - len(f) // 2
    weights = 2 * f.flip(0) * ((fine % 2 == 0) & (fine >= 0) & (fine < 2 * padded))    # between the samples lie zeros
    sources = reflect(fine.div(2, rounding_mode="floor") - margin[0], size)
    return f.new_zeros(2 * padded, size).scatter_add_(1, sources, weights)


def reflect(positions: Tensor, size: int) -> Tensor:
    """Return whole-numbered positions folded into 0 .. size - 1 by reflection at the first and last sample."""
    period = max(2 * (size - 1), 1)
    folded = positions.remainder(period)
    return torch.minimum(folded, period - folded) if size > 1 else folded


def _reference(x: Tensor, maps: Tensor, f: Tensor, size: Sequence[int]) -> Tensor:
    """Plain PyTorch: padding and upsampling are one matrix an axis; images have few channels."""
    expand_x, expand_y, grid = _plan(x.shape[2:], maps, f, size)
    return F.grid_sample(expand_y @ x @ expand_x.mT, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _adjoint_reference(y: Tensor, maps: Tensor, f: Tensor, size: Sequence[int]) -> Tensor:
    """Return the gradient of the images, `size` = (H, W), for one of the results."""
    expand_x, expand_y, grid = _plan(size, maps, f, y.shape[2:])
    # The numbers of its first argument matter to the gradient of the grid alone.
    fine = y.new_zeros(()).expand(*y.shape[:2], len(expand_y), len(expand_x))
    fine, _ = torch.ops.aten.grid_sampler_2d_backward(y, fine, grid, 0, 0, False, [True, False])
    x: Tensor = expand_y.mT @ fine @ expand_x
    return x


def _plan(of_x: Sequence[int], maps: Tensor, f: Tensor, of_y: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices that reflect and upsample along x and y, and the grid [N, rows, columns, 2] to read at."""
    lengths, (rows, columns) = (of_x[1], of_x[0]), of_y
    margins = [(length - 1, length - 1) for length in lengths]
    if maps.device.type == "cpu":  # as wide as these maps need; a GPU is not asked for that
        corners = maps.new_tensor([[0, 0, 1], [columns - 1, 0, 1], [0, rows - 1, 1], [columns - 1, rows - 1, 1]])
        places = (maps @ corners.mT).transpose(0, 1).flatten(1)         # [2, 4 N]
        low, high = places.amin(dim=1).tolist(), places.amax(dim=1).tolist()
        margins = [_margin(low[axis], high[axis], length, len(f)) for axis, length in enumerate(lengths)]
    expand_x, expand_y = (upsampling_matrix(f, length, margin) for length, margin in
                          zip(lengths, margins, strict=True))
    # In coordinates of -1..1, whose ends are the outer edges of the first and the last sample of the fine plane.
    q, r = (torch.arange(count, dtype=maps.dtype, device=maps.device) for count in (columns, rows))
    at = []
    for axis, (expand, (before, _)) in enumerate(zip((expand_x, expand_y), margins, strict=True)):
        a, b, c = (maps[:, axis] * (2 / len(expand)))[:, :, None, None].unbind(dim=1)   # [N, 1, 1] each
        at.append(a * q + (b * r[:, None] + (c + ((4 * before + 1) / len(expand) - 1))))
    grid = torch.stack(at, dim=3)                                                       # [N, rows, columns, 2]
    return expand_x, expand_y, grid


def _margin(low: float, high: float, length: int, taps: int) -> tuple[int, int]:
    """Return how far a signal is read before and after its ends, at most what reflecting once can give."""
    def limited(beyond: float) -> int:
        return int(min(max(beyond / 2 + taps / 2, 0), length - 1))

    return limited(-low), limited(high - 2 * length + 1)


def _on_cuda(x: Tensor, maps: Tensor, f: Tensor, size: Sequence[int]) -> Tensor:
    return _by_kernel(x, maps, f, size, adjoint=False) if kernels_run() else _reference(x, maps, f, size)


def _adjoint_on_cuda(y: Tensor, maps: Tensor, f: Tensor, size: Sequence[int]) -> Tensor:
    return _by_kernel(y, maps, f, size, adjoint=True) if kernels_run() else _adjoint_reference(y, maps, f, size)


def _by_kernel(x: Tensor, maps: Tensor, f: Tensor, size: Sequence[int], *, adjoint: bool) -> Tensor:
    y = x.new_empty(*x.shape[:2], *size)
    if y.numel():
        launch(warp2d_launch(y, x.contiguous(), maps.contiguous(), f.contiguous(), adjoint=adjoint), x.device)
    return y


def _fake(x: Tensor, maps: Tensor, f: Tensor, size: Sequence[int]) -> Tensor:
    return x.new_empty(*x.shape[:2], *size)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    x, maps, f, _ = inputs
    ctx.size = list(x.shape[2:])
    ctx.save_for_backward(maps, f)


def _backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
    return (None if dy is None else _adjoint(dy, *ctx.saved_tensors, ctx.size)), None, None, None


def _adjoint_backward(ctx: Any, dx: Tensor | None) -> tuple[Tensor | None, ...]:
    return (None if dx is None else _warp2d(dx, *ctx.saved_tensors, ctx.size)), None, None, None


_warp2d = Operator("warp2d(Tensor x, Tensor maps, Tensor f, int[] size) -> Tensor", cpu=_reference, cuda=_on_cuda,
                   fake=_fake, save=_save, backward=_backward)
_adjoint = Operator("warp2d_adjoint(Tensor y, Tensor maps, Tensor f, int[] size) -> Tensor", cpu=_adjoint_reference,
                    cuda=_adjoint_on_cuda, fake=_fake, save=_save, backward=_adjoint_backward)
