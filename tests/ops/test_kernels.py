"""The CUDA kernels, run on the CPU, against the PyTorch reference in float64."""

import numpy as np
import pytest
import torch
from shim_kernels import run_on_cpu

from torch_utils.ops import bias_act, layer_end, upfirdn2d, warp2d
from torch_utils.ops.launches import Launch

# Twice the rounding of the result; float16 and bfloat16 are computed in float32 and rounded once.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
LAST = torch.channels_last


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(what: Launch, device: torch.device) -> None:
        run_on_cpu(what)

    for module in (upfirdn2d, bias_act, warp2d, layer_end):
        monkeypatch.setattr(module, "launch", run)


def check(y: torch.Tensor, expected: torch.Tensor) -> None:
    assert y.isfinite().all()
    assert (y.double() - expected).abs().max() <= TOLERANCE[y.dtype] * max(expected.abs().max().item(), 1.0)


# dtype, filter, up, down, phases beyond those of the paddings drawn below, channels last
UPFIRDN = [
    (torch.float32, (4, 4), (2, 2), (1, 1), False), (torch.float16, (4, 4), (1, 1), (2, 2), False),
    (torch.bfloat16, (4, 4), (1, 1), (1, 1), False), (torch.float64, (3, 5), (2, 3), (3, 2), False),
    (torch.float32, (1, 2), (3, 1), (1, 4), False), (torch.float16, (12,), (2, 2), (1, 1), False),
    (torch.float32, (12,), (1, 1), (2, 2), False), (torch.float64, (5,), (3, 3), (2, 2), False),
    (torch.float16, (4, 4), (2, 2), (1, 1), True), (torch.float32, (4, 4), (1, 1), (2, 2), True),
    (torch.bfloat16, (2, 3), (1, 2), (2, 1), True), (torch.float32, (12,), (2, 2), (1, 1), True),
    (torch.float32, (17, 9), (2, 1), (1, 3), False),
    # Marches.
    (torch.float16, (4,), (1, 1), (1, 1), True), (torch.float32, (4,), (2, 2), (1, 1), True),
    (torch.bfloat16, (4,), (1, 1), (2, 2), True), (torch.float64, (3,), (3, 2), (1, 1), True),
    (torch.float32, (4,), (1, 1), (3, 1), True), (torch.float16, (2,), (2, 1), (1, 2), True)]


@pytest.mark.parametrize("dtype, filter_shape, up, down, last", UPFIRDN)
def test_upfirdn2d_on_random_shapes_paddings_and_strides(dtype, filter_shape, up, down, last) -> None:
    rng = np.random.default_rng(len(filter_shape) + up[0] + down[1])
    random = torch.Generator().manual_seed(0)
    f = torch.randn(filter_shape, generator=random)
    for trial in range(3):
        width, height = (32, 16) if trial == 0 else rng.integers(max(3, *filter_shape), 40, 2).tolist()
        pads = rng.integers(0, 4, 4).tolist()
        n, c = int(rng.integers(1, 4)), int(rng.choice([1, 3, 8]))
        x = torch.randn(n, c, height, width, generator=random).to(dtype)
        x = x.contiguous(memory_format=LAST) if last else x
        if trial == 2 and not last:
            x = x.transpose(2, 3)
        arguments = (x, f, up, down, pads, bool(trial % 2), 1.7)
        expected = upfirdn2d._reference(x.double(), f.double(), *arguments[2:])
        check(upfirdn2d._by_kernel(*arguments), expected)


def test_negative_padding_crops() -> None:
    x, f = torch.randn(2, 3, 20, 20), torch.randn(4, 4)
    arguments = ((2, 2), (1, 1), [-4, -5, 3, -6], False, 1.0)
    check(upfirdn2d._by_kernel(x, f, *arguments), upfirdn2d._reference(x.double(), f.double(), *arguments))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_long_filters_on_images_smaller_than_they_are(dtype: torch.dtype) -> None:
    x, f = torch.randn(2, 3, 17, 13, dtype=dtype), torch.randn(12)
    arguments = ((1, 1), (2, 2), [-3, 5, 6, -2], False, 1.0)
    check(upfirdn2d._by_kernel(x, f, *arguments), upfirdn2d._reference(x.double(), f.double(), *arguments))


def test_filters_too_long_for_a_block_take_the_slow_path() -> None:
    x, f = torch.randn(1, 2, 90, 3, dtype=torch.float64), torch.randn(40, 1)
    arguments = ((1, 1), (4, 4), [0, 3, 5, 5], False, 1.0)
    check(upfirdn2d._by_kernel(x, f, *arguments), upfirdn2d._reference(x, f.double(), *arguments))


def test_a_view_that_does_not_begin_at_sixteen_bytes() -> None:
    x, f = torch.randn(8 * 16 * 16 + 1)[1:].view(1, 8, 16, 16), torch.randn(4, 4)
    assert x.data_ptr() % 16
    arguments = ((1, 1), (1, 1), [2, 1, 2, 1], False, 1.0)
    check(upfirdn2d._by_kernel(x, f, *arguments), upfirdn2d._reference(x.double(), f.double(), *arguments))
    straight = (None, 1, "lrelu", 0.2, 1.4, None)
    check(bias_act._by_kernel(x, *straight), bias_act._reference(x.double(), *straight))


def test_the_adjoint_is_the_kernel_with_up_and_down_exchanged() -> None:
    x, f = torch.randn(2, 3, 12, 16, dtype=torch.float64), torch.randn(4, 4)
    options = ((2, 2), (1, 1), [2, 1, 2, 1], False, 4.0)
    y = upfirdn2d._by_kernel(x, f, *options)
    g = torch.randn_like(y)
    (expected,) = torch.autograd.grad(upfirdn2d._reference(z := x.clone().requires_grad_(), f, *options), z, g)
    assert ((y * g).sum() - (x * expected).sum()).abs() < 1e-9 * y.numel()


CASES = [(act, order) for act, kind in bias_act.ACTIVATIONS.items()
         for order in ((0, 1) if kind.derivative is None else (0, 1, 2))]


@pytest.mark.parametrize("act, order", CASES)
def test_bias_act_and_its_gradients(act: str, order: int) -> None:
    kind = bias_act.ACTIVATIONS[act]
    # One dtype and layout for each, all of them among the activations; clamps that every dtype can hold.
    index = CASES.index((act, order))
    dtype = list(TOLERANCE)[index % 4]
    clamp = (None, 0.75)[index % 2]
    random = torch.Generator().manual_seed(index)
    for shape in {((2, 8, 4, 6), (3, 16, 5, 7), (4, 3))[index // 4 % 3], (1, 16, 8, 8)}:
        x, g = (torch.randn(shape, generator=random).to(dtype) for _ in range(2))
        if index % 3 == 0 and len(shape) == 4:
            x = x.contiguous(memory_format=LAST)
        b = torch.randn(shape[1], generator=random).to(dtype) if index % 5 else None
        options = (1, act, kind.alpha or 0.2, 1.3, clamp)
        if order == 0:
            check(bias_act._by_kernel(x, b, *options), bias_act._reference(
                x.double(), None if b is None else b.double(), *options))
            continue
        saved = x if kind.derivative else bias_act._reference(x, b, *options)
        b = b if kind.derivative else None
        double = (saved.double(), None if b is None else b.double())
        check(bias_act._grad_by_kernel(g, saved, b, order, *options),
              torch.ops.torch_utils.bias_act_grad(g.double(), *double, order, *options))


def test_where_float16_cannot_hold_the_clamp_clamped_outputs_still_get_no_gradient() -> None:
    x, g = torch.full((1, 8), 5.0, dtype=torch.float16), torch.ones(1, 8, dtype=torch.float16)
    y = bias_act._by_kernel(x, None, 1, "linear", 0.0, 1.0, 0.9)
    assert (bias_act._grad_by_kernel(g, y, None, 1, 1, "linear", 0.0, 1.0, 0.9) == 0).all()


# Shrunk, turned and enlarged; mirrored at one end and then 0; onto a line; far outside; as they are.
MAPS = [[[1.3, 0.9, -9.0], [-0.8, 1.1, 11.0]], [[0.4, 0.0, 30.0], [0.1, 0.5, -25.0]],
        [[0.7, 0.7, 1.0], [0.7, 0.7, 2.0]], [[1.0, 0.0, 1e12], [0.0, 1.0, 0.0]], [[1.0, 0.0, -6.0], [0.0, 1.0, -6.0]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("taps, channels, shape", [(12, 1, (11, 8)), (2, 3, (7, 9)), (12, 1, (1, 2))])
def test_warp2d_and_its_adjoint(dtype: torch.dtype, taps: int, channels: int, shape: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(taps)
    size = (2 * shape[0] + taps, 2 * shape[1] + taps)
    f, maps = torch.rand(taps, generator=random, dtype=dtype), torch.tensor(MAPS, dtype=dtype)
    x = torch.randn(len(maps), channels, *shape, generator=random, dtype=dtype)
    y = torch.randn(len(maps), channels, *size, generator=random, dtype=dtype)
    exact = maps.double(), f.double()
    for found, expected in ((warp2d._by_kernel(x, maps, f, size, adjoint=False),
                             warp2d._reference(x.double(), *exact, size)),
                            (warp2d._by_kernel(y, maps, f, shape, adjoint=True),
                             warp2d._adjoint_reference(y.double(), *exact, shape))):
        # A place is rounded before it is read at.
        allowed = {torch.float64: 1e-11, torch.float32: 1e-4}[dtype] * max(expected.abs().max().item(), 1.0)
        assert (found.double() - expected).abs().max() <= allowed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels, size, scale, noise, act, clamp", [
    (16, (9, 11), True, 2, "lrelu", 0.75), (8, (4, 4), True, 1, "lrelu", None), (3, (5, 7), False, 0, "linear", 0.75),
    (8, (17, 16), False, 0, "lrelu", None), (1, (8, 8), True, 2, "linear", None)])
def test_layer_end_and_its_gradient(channels: int, size: tuple[int, int], scale: bool, noise: int, act: str,
                                    clamp: float | None, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(channels)
    x, dy = (torch.randn(2, channels, *size, generator=random).to(dtype).contiguous(memory_format=LAST)
             for _ in range(2))
    b = torch.randn(channels, generator=random).to(dtype) if channels > 1 else None
    s = torch.randn(2, channels, generator=random).to(dtype) if scale else None
    n = torch.randn(noise, 1, *size, generator=random).to(dtype) if noise else None
    k = torch.tensor(0.7).to(dtype) if noise else None
    options = (act, 1.3, clamp)
    exact = [None if each is None else each.double() for each in (x, s, n, k, b)]
    y = layer_end._by_kernel(x, s, n, k, b, *options)
    check(y, layer_end._reference(*exact, *options))
    saved = x if scale else None
    dx, sums = layer_end._grad_by_kernel(dy, y, saved, s, n, *options)
    wanted, wanted_sums = layer_end._grad_on_cpu(dy.double(), y.double(), *(
        None if each is None else each.double() for each in (saved, s, n)), *options)
    check(dx, wanted)
    assert sums.dtype == torch.float32
    torch.testing.assert_close(sums.double(), wanted_sums, rtol=1e-4, atol=1e-4)


def test_empty_tensors_need_no_launch() -> None:
    assert warp2d._by_kernel(torch.zeros(0, 1, 4, 4), torch.zeros(0, 2, 3), torch.ones(2), (5, 5),
                             adjoint=False).shape == (0, 1, 5, 5)
    assert bias_act._by_kernel(torch.zeros(0, 3), None, 1, "relu", 0.0, 1.0, None).shape == (0, 3)
    assert upfirdn2d._by_kernel(torch.zeros(0, 3, 8, 8), None, (2, 2), (1, 1), [0] * 4, False, 1.0).shape[0] == 0
