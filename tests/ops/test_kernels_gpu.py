"""The kernels on a GPU: as near to the exact result as PyTorch's own ops in the same precision, to any order."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from agreement import check_agreement, train

from torch_utils.ops import bias_act as bias_act_module
from torch_utils.ops import layer_end as layer_end_module
from torch_utils.ops import upfirdn2d as upfirdn2d_module
from torch_utils.ops import warp2d as warp2d_module
from torch_utils.ops.bias_act import ACTIVATIONS, bias_act
from torch_utils.ops.dispatch import why_unavailable
from torch_utils.ops.layer_end import layer_end
from torch_utils.ops.upfirdn2d import upfirdn2d
from torch_utils.ops.warp2d import warp2d
from torch_utils.precision import allow_tf32

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1200),
              pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
FORMATS = [torch.contiguous_format, torch.channels_last]
RESAMPLING = [((4, 4), 2, 1, [2, 1, 2, 1]), ((4, 4), 1, 2, [1, 1, 1, 1]), ((4, 4), 1, 1, [2, 1, 2, 1]),
              ((12,), 2, 1, [6, 5, 6, 5]), ((12,), 1, 2, [-3, 5, 6, -2]), ((3, 5), 3, 2, [0, 4, 2, 1]),
              ((24, 24), 2, 2, [11, 12, 11, 12])]


def gradients(run, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the output, its gradient, and the gradient of the squared gradient."""
    x = x.clone().requires_grad_()
    y = run(x)
    (first,) = torch.autograd.grad((y.float() ** 2).sum() if y.dtype != torch.float64 else (y ** 2).sum(), x,
                                   create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    return [y.detach(), first.detach(), second]


def compare(run, x: torch.Tensor, *, judged: torch.Tensor | bool = True) -> None:
    """Check the kernel against the exact result, in the elements that are `judged`."""
    assert why_unavailable() is None, why_unavailable()
    form = torch.channels_last if not x.is_contiguous() else torch.contiguous_format
    exact = gradients(lambda x: run(x, "reference"), x.double())
    reference = gradients(lambda x: run(x, "reference"), x)
    kernel = gradients(lambda x: run(x, "kernel"), x)
    for wanted, known, found in zip(exact, reference, kernel, strict=True):
        scale = wanted.abs().max().item()
        allowed = 2 * error(known, wanted, judged) + 1e-6 * scale
        assert error(found, wanted, judged) <= allowed
        assert found.is_contiguous(memory_format=form)


def error(found: torch.Tensor, wanted: torch.Tensor, judged: torch.Tensor | bool) -> float:
    return torch.where(torch.as_tensor(judged, device=found.device), found.double() - wanted, 0.0).abs().max().item()


@pytest.fixture(autouse=True)
def _seeded_and_exact() -> None:
    torch.manual_seed(0)
    allow_tf32(False)  # else the reference, made of convolutions, would be a lax standard in float32


@pytest.mark.parametrize("form", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("taps, up, down, padding", RESAMPLING)
def test_upfirdn2d(taps, up, down, padding, dtype: torch.dtype, form: torch.memory_format) -> None:
    f = torch.rand(taps, device="cuda")
    f = f / f.sum()
    for size in ((33, 20), (64, 64)):
        x = torch.randn(2, 16, *size, device="cuda", dtype=dtype).contiguous(memory_format=form)
        compare(lambda x, impl: upfirdn2d(x, f, up=up, down=down, padding=padding, gain=up ** 2, impl=impl), x)


@pytest.mark.parametrize("form", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_bias_act(act: str, dtype: torch.dtype, form: torch.memory_format) -> None:
    for shape, clamp in (((4, 32, 16, 16), None), ((3, 5, 7, 9), 0.75)):
        x = torch.randn(shape, device="cuda", dtype=dtype).contiguous(memory_format=form)
        b = torch.randn(shape[1], device="cuda", dtype=dtype)
        # Next to the clamp, rounding decides whether there is a gradient.
        free = bias_act(x.double(), b.double(), act=act, impl="reference").abs()
        judged = True if clamp is None else (free - clamp).abs() > 0.03
        compare(lambda x, impl, b=b, clamp=clamp: bias_act(x, b.to(x.dtype), act=act, clamp=clamp, impl=impl), x,
                judged=judged)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels, size", [(1, 64), (3, 33)])
def test_warp2d_and_its_adjoint(channels: int, size: int, dtype: torch.dtype) -> None:
    turned = [[1.3, 0.9, -9.0], [-0.8, 1.1, 11.0]], [[0.4, 0.05, 3.3], [0.1, 0.5, 1.7]], [[1, 0, -6.0], [0, 1, -6.0]]
    maps, f = torch.tensor(turned, device="cuda", dtype=torch.float64), torch.rand(12, device="cuda")
    x = torch.randn(3, channels, size, size, device="cuda", dtype=dtype, requires_grad=True)
    y, exact = (warp2d(x.to(kind), maps, f, size=(2 * size + 12,) * 2, impl=impl)
                for kind, impl in ((dtype, "kernel"), (torch.float64, "reference")))
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9  # a place is rounded before it is read at
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=tolerance * float(exact.abs().max()))
    other = torch.randn_like(y)
    back, exact_back = (torch.autograd.grad(result, x, other.to(result.dtype))[0] for result in (y, exact))
    torch.testing.assert_close(back, exact_back, rtol=0, atol=tolerance * float(exact_back.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("channels, size", [(64, 32), (512, 4), (3, 17)])
@pytest.mark.parametrize("act", ["lrelu", "linear"])
def test_layer_end(act: str, channels: int, size: int, dtype: torch.dtype) -> None:
    x = torch.randn(4, channels, size, size, device="cuda", dtype=dtype).contiguous(memory_format=torch.channels_last)
    scale, b = torch.randn(4, channels, device="cuda"), torch.randn(channels, device="cuda")
    noise, strength = torch.randn(4, 1, size, size, device="cuda"), torch.tensor(0.5, device="cuda")
    compare(lambda x, impl: layer_end(x, b, scale=scale, noise=noise, strength=strength, act=act, impl=impl), x)

    def of_scale(dtype: torch.dtype, impl: str) -> torch.Tensor:
        s = scale.clone().requires_grad_()
        y = layer_end(x.to(dtype), b, scale=s, noise=noise, strength=strength, act=act, impl=impl)
        return torch.autograd.grad(y.float().square().sum(), s)[0]

    wanted, known, found = of_scale(torch.float64, "reference"), of_scale(dtype, "reference"), of_scale(dtype, "kernel")
    assert error(found, wanted.double(), True) <= 2 * error(known, wanted.double(), True) + 1e-3 * wanted.abs().max()


def test_more_elements_than_32_bits_count() -> None:
    free, _ = torch.cuda.mem_get_info()
    if free < 12 * 2**30:
        pytest.skip("needs 12 GB of GPU memory")
    x = torch.zeros(1, 2, 2**15, 2**15 + 256, device="cuda", dtype=torch.float16)
    x[..., -1] = 1.0
    y = bias_act(x, torch.tensor([0.0, 1.0], device="cuda").half(), act="linear", impl="kernel")
    assert y[0, 1, -1, -1] == 2.0 and y[0, 0, -1, -1] == 1.0 and y[0, 1, 0, 0] == 1.0
    z = upfirdn2d(x, torch.ones(2, 2, device="cuda"), down=2, impl="kernel")
    assert z[0, 1, -1, -1] == 2.0 and z[0, 1, 0, 0] == 0.0


def test_the_stream_of_the_caller_is_used() -> None:
    stream = torch.cuda.Stream()
    x = torch.ones(64, 512, 64, 64, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        x.add_(1.0)
        y = bias_act(x, None, act="linear", gain=3.0, impl="kernel")
    stream.synchronize()
    assert (y == 6.0).all()


def test_a_captured_graph_replays_the_kernels() -> None:
    x, f = torch.randn(2, 8, 32, 32, device="cuda"), torch.rand(4, 4, device="cuda")

    def run() -> torch.Tensor:
        return bias_act(upfirdn2d(x, f, up=2, padding=[2, 1, 2, 1], impl="kernel"), None, act="lrelu", impl="kernel")

    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = run()
    x.copy_(torch.randn_like(x))
    graph.replay()
    torch.testing.assert_close(y, run())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "auto", "bf16"])
def test_a_hundred_steps_with_kernels_agree_with_the_reference_as_two_runs_of_that_do(
        precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", torch.cuda.current_device())

    def reference(rounding: int | None) -> torch.Tensor:
        with monkeypatch.context() as patch:
            for module in (bias_act_module, upfirdn2d_module, warp2d_module, layer_end_module):
                patch.setattr(module, "kernels_run", lambda: False)
            return train(device, precision=precision, rounding=rounding)

    assert why_unavailable() is None, why_unavailable()
    check_agreement(reference, lambda _: train(device, precision=precision))


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_the_memory_checker_finds_nothing(tool: str) -> None:
    checker = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if checker is None:
        pytest.skip("compute-sanitizer, of the CUDA toolkit, is not installed")
    # Without PyTorch's cache each tensor is an allocation of its own, so that a step beyond one is seen.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    program = Path(__file__).with_name("every_kernel_once.py")
    done = subprocess.run([checker, "--tool", tool, "--error-exitcode", "9", sys.executable, str(program)],
                          env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
