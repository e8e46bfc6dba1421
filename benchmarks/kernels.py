"""How fast the CUDA kernels move memory, against a copy, the PyTorch reference and torch.compile of it.

    python -m benchmarks.kernels                  # the sizes of training at 256 px
    python -m benchmarks.kernels --resolution 512 --batch 16

Prints for each op the bytes of its inputs and output over its time, as a share of what a copy of as many bytes reaches
on the same device in the same run. Also the time to compile a kernel, cold and from its file, and what a launch costs
beside that of one of PyTorch's pointwise ops. Expected before measuring: 80 % of a copy in the fast paths, 0.2 s to
compile a kernel, 15 microseconds a launch where PyTorch takes 5.
"""

import argparse
import functools
import os
import tempfile
import time
import unittest.mock
from collections.abc import Callable

import torch
from torch import Tensor

from torch_utils.ops import _build
from torch_utils.ops import bias_act as bias_act_module
from torch_utils.ops import layer_end as layer_end_module
from torch_utils.ops import warp2d as warp2d_module
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.dispatch import why_unavailable
from torch_utils.ops.filters import setup_filter
from torch_utils.ops.layer_end import layer_end
from torch_utils.ops.upfirdn2d import upfirdn2d
from torch_utils.ops.warp2d import warp2d
from torch_utils.precision import allow_tf32

REPEATS, CALLS = 7, 10
AHEAD = 20_000_000  # clock cycles, some 10 ms, for which the device waits while the host prepares the calls


def seconds(run: Callable[[], object]) -> float:
    """Return the median time of a call on the device, without that of the host to launch it."""
    for _ in range(3):
        run()
    times = []
    for _ in range(REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(AHEAD)
        begin.record()
        for _ in range(CALLS):
            run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1000 / CALLS)
    return sorted(times)[REPEATS // 2]


def copy_bandwidth(size: int) -> float:
    """Return the bytes a second, read and written, of a copy of `size` bytes read and written in all."""
    x = torch.empty(max(size // 2, 1), dtype=torch.uint8, device="cuda")
    y = torch.empty_like(x)
    return 2 * x.numel() / seconds(lambda: y.copy_(x))


def compare_(name: str, run: Callable[[str], Tensor], *inputs: Tensor, compiles: bool = True) -> None:
    """Print one line."""
    moved = sum(x.numel() * x.element_size() for x in (*inputs, run("reference")))
    bandwidth = copy_bandwidth(moved)
    times = [seconds(lambda: run("kernel")), seconds(lambda: run("reference"))]
    if compiles:
        torch.compiler.reset()
        times.append(seconds(torch.compile(lambda: run("reference"))))
    shares = "  ".join(f"{moved / taken / bandwidth:7.1%}" for taken in times)
    print(f"{name:58s} {1e6 * times[0]:8.1f} us  {shares}", flush=True)


def gradient_of_bias_act(g: Tensor, y: Tensor, impl: str) -> Tensor:
    """Return what the backward pass of the clamped activation computes, by the kernel or by PyTorch."""
    options = (None, 1, 1, "lrelu", 0.2, 2 ** 0.5, 256.0)
    return (torch.ops.torch_utils.bias_act_grad if impl == "kernel" else bias_act_module._grad_on_cpu)(g, y, *options)


def gradient_of_layer_end(x: Tensor, y: Tensor, scale: Tensor, noise: Tensor, impl: str) -> Tensor:
    """Return what the backward pass of the end of a layer computes, by the kernel or by PyTorch."""
    run = torch.ops.torch_utils.layer_end_grad if impl == "kernel" else layer_end_module._grad_on_cpu
    return run(x, y, x, scale, noise, "lrelu", 2 ** 0.5, 256.0)[0]


def gradient_of_warp2d(y: Tensor, maps: Tensor, f: Tensor, resolution: int, impl: str) -> Tensor:
    """Return what the backward pass of the warp computes, by the kernel or by PyTorch."""
    run = torch.ops.torch_utils.warp2d_adjoint if impl == "kernel" else warp2d_module._adjoint_reference
    return run(y, maps, f, [resolution, resolution])


def ops(resolution: int, batch: int, *, compiles: bool = True) -> None:
    """Print the ops of training, both dtypes and layouts; `compiles`: torch.compile of the reference beside them."""
    compare = functools.partial(compare_, compiles=compiles)
    f, wide = (setup_filter(taps, separable=True).cuda() for taps in ([1, 3, 3, 1], [0.01, 0.07, 0.34, 0.79] * 3))
    print(f"{resolution} px, batch {batch}: share of a copy's bandwidth")
    print(f"{'':58s} {'kernel':>11s}  kernel   reference  compiled")
    for dtype in (torch.float16, torch.float32):
        for form, layout in ((torch.contiguous_format, "contiguous"), (torch.channels_last, "channels last")):
            for size, channels in ((resolution, 64), (resolution // 4, 256)):
                x = torch.randn(batch, channels, size, size, device="cuda", dtype=dtype).contiguous(memory_format=form)
                b = torch.randn(channels, device="cuda", dtype=dtype)
                where = f"{channels} x {size}^2 {str(dtype).removeprefix('torch.')} {layout}"
                compare(f"bias_act lrelu clamp {where}",
                        lambda impl, x=x, b=b: bias_act(x, b, act="lrelu", clamp=256.0, impl=impl), x)
                y = bias_act(x, b, act="lrelu", clamp=256.0)
                compare(f"its gradient {where}",
                        lambda impl, x=x, y=y: gradient_of_bias_act(x, y, impl), x, y)
                scale = torch.rand(batch, channels, device="cuda", dtype=dtype)
                noise, strength = torch.randn_like(x[:, :1]), torch.ones((), device="cuda", dtype=dtype)
                compare(f"end of a layer {where}",
                        lambda impl, x=x, b=b, s=scale, n=noise, k=strength: layer_end(
                            x, b, scale=s, noise=n, strength=k, act="lrelu", clamp=256.0, impl=impl), x)
                compare(f"its gradient, sums too {where}",
                        lambda impl, x=x, y=y, s=scale, n=noise: gradient_of_layer_end(x, y, s, n, impl), x, y, x)
                compare(f"blur {where}", lambda impl, x=x: upfirdn2d(x, f, padding=[2, 1, 2, 1], impl=impl), x)
                compare(f"up 2 {where}",
                        lambda impl, x=x: upfirdn2d(x, f, up=2, padding=[2, 1, 2, 1], gain=4, impl=impl), x)
                compare(f"down 2 {where}", lambda impl, x=x: upfirdn2d(x, f, down=2, padding=1, impl=impl), x)
    images = torch.randn(batch, 1, resolution, resolution, device="cuda")
    turned = torch.tensor([[0.9, 0.4, -80.0], [-0.4, 0.9, 150.0]], device="cuda").expand(batch, 2, 3).contiguous()
    size = (2 * resolution + 12,) * 2
    compare("warp", lambda impl: warp2d(images, turned, wide, size=size, impl=impl), images)
    sampled = torch.randn(batch, 1, *size, device="cuda")
    compare("its gradient", lambda impl: gradient_of_warp2d(sampled, turned, wide, resolution, impl), sampled)


def overhead() -> None:
    """Print the time to compile and to launch."""
    variant = _build._probe()
    with tempfile.TemporaryDirectory() as folder, unittest.mock.patch.dict(os.environ,
                                                                            {_build.CACHE_VARIABLE: folder}):
        for name, anew in (("cold", True), ("from its file", False)):
            start = time.perf_counter()
            image = _build.compiled(variant, _build._architecture(0), anew=anew)
            print(f"a kernel {name}: {1000 * (time.perf_counter() - start):.1f} ms, {len(image) / 1000:.1f} kB")
    x, f = torch.zeros(1, 8, 4, 4, device="cuda"), setup_filter([1, 3, 3, 1]).cuda()
    for name, run in (("leaky_relu", lambda: torch.nn.functional.leaky_relu(x, 0.2)),
                      ("bias_act", lambda: bias_act(x, None, act="lrelu")),
                      ("upfirdn2d", lambda: upfirdn2d(x, f, padding=[2, 1, 2, 1]))):
        run()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(2000):
            run()
        torch.cuda.synchronize()
        print(f"a call of {name}: {1e6 * (time.perf_counter() - start) / 2000:.1f} us")


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    reason = "there is no CUDA device" if not torch.cuda.is_available() else why_unavailable()
    if reason:
        raise SystemExit(f"nothing to measure: {reason}")
    allow_tf32(False)  # the reference is made of convolutions
    print(torch.cuda.get_device_name(), f"torch {torch.__version__}")
    ops(args.resolution, args.batch)
    overhead()


if __name__ == "__main__":
    main()
