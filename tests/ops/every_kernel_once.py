"""Runs every kind of kernel once on small, odd sizes: a program for a memory checker.

    compute-sanitizer python tests/ops/every_kernel_once.py
"""

import itertools

import torch

from torch_utils.ops.bias_act import ACTIVATIONS, bias_act
from torch_utils.ops.dispatch import Impl
from torch_utils.ops.layer_end import layer_end
from torch_utils.ops.upfirdn2d import upfirdn2d
from torch_utils.ops.warp2d import warp2d

RESAMPLING = [((4, 4), 2, 1, [2, 1, 2, 1]), ((4, 4), 1, 2, [1, 1, 1, 1]), ((4, 4), 1, 1, [2, 1, 2, 1]),
              ((12,), 2, 1, [6, 5, 6, 5]), ((12,), 1, 2, [-3, 5, 6, -2]), ((3, 5), 3, 2, [0, 4, 2, 1]),
              ((24, 24), 2, 2, [11, 12, 11, 12])]
SHAPES = [(1, 3, 17, 13), (2, 8, 16, 32)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def run_all(device: torch.device, impl: Impl) -> int:
    """Run forward, backward and second backward of every op; return how often."""
    count = 0
    forms = (torch.contiguous_format, torch.channels_last)
    for shape, dtype, form in itertools.product(SHAPES, DTYPES, forms):
        x = torch.randn(shape, device=device, dtype=dtype).contiguous(memory_format=form).requires_grad_()
        b = torch.randn(shape[1], device=device, dtype=dtype, requires_grad=True)
        for taps, up, down, padding in RESAMPLING:
            f = torch.rand(taps, device=device)
            _twice(upfirdn2d(x, f, up=up, down=down, padding=padding, impl=impl), x)
            count += 1
        for act in ACTIVATIONS:
            _twice(bias_act(x, b, act=act, clamp=0.75, impl=impl), x)
            count += 1
        noise = torch.randn(shape[0], 1, *shape[2:], device=device)
        scale, strength = torch.rand(shape[:2], device=device), torch.ones((), device=device)
        _twice(layer_end(x, b, scale=scale, noise=noise, strength=strength, act="lrelu", clamp=0.75, impl=impl), x)
        count += 1
    maps = torch.tensor([[[1.3, 0.9, -9.0], [-0.8, 1.1, 11.0]]], device=device)
    for shape, dtype in itertools.product(SHAPES, (torch.float32, torch.float64)):
        x = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
        size = (2 * shape[2] + 12, 2 * shape[3] + 12)
        _twice(warp2d(x, maps.expand(len(x), 2, 3), torch.rand(12, device=device), size=size, impl=impl), x)
        count += 1
    return count


def _twice(y: torch.Tensor, x: torch.Tensor) -> None:
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    torch.autograd.grad(first.square().sum(), x)


if __name__ == "__main__":
    number = run_all(torch.device("cuda"), "kernel")
    torch.cuda.synchronize()
    print(f"{number} ops, forward, backward and second backward")
