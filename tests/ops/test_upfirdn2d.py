"""Upsample, filter, downsample."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.filters import setup_filter
from torch_utils.ops.upfirdn2d import downsample2d, filter2d, upfirdn2d, upsample2d

# Filters are asymmetric, sizes odd and gains not 1: symmetry hides a missing flip, 1 a lost gain.
TAPS = torch.tensor([[1.0, 2.0, -1.0], [0.5, 4.0, 3.0]])
CASES = [
    {},
    {"f": None, "up": 2, "padding": [0, 1, 2, -1], "gain": 3.0},
    {"f": TAPS, "padding": 1, "gain": 2.0},
    {"f": TAPS, "up": [2, 3], "padding": [3, 1, 2, 0], "gain": 0.5},
    {"f": TAPS, "down": [3, 2], "padding": [1, 2], "flip_filter": True},
    {"f": TAPS, "up": 3, "down": 2, "padding": [-1, 4, 2, -2], "gain": 1.5},
    {"f": TAPS, "up": 2, "padding": [5, 6, 4, 7], "flip_filter": True},
    {"f": torch.tensor([1.0, -2.0, 4.0]), "up": 2, "down": [1, 2], "padding": [2, 1, 1, 2], "gain": 2.0},
]
EACH = pytest.mark.parametrize("options", CASES)


def run(x, options, **more):
    return upfirdn2d(x, options.get("f"), **{key: value for key, value in options.items() if key != "f"}, **more)


def random_images(*shape, **options):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64, **options)


def oracle(x, f=None, up=1, down=1, padding=0, flip_filter=False, gain=1.0):
    """Loop over the output; every input sample that a tap meets is looked up."""
    (ux, uy), (dx, dy) = ([v, v] if isinstance(v, int) else v for v in (up, down))
    pads = [padding] * 4 if isinstance(padding, int) else padding
    x0, x1, y0, y1 = pads if len(pads) == 4 else [pads[0], pads[0], pads[1], pads[1]]
    f = torch.ones(1, 1) if f is None else torch.outer(f, f) if f.ndim == 1 else f
    taps = (f if flip_filter else f.flip((0, 1))).double()
    fh, fw = taps.shape
    height = (x.shape[2] * uy + y0 + y1 - fh) // dy + 1
    width = (x.shape[3] * ux + x0 + x1 - fw) // dx + 1
    y = x.new_zeros(*x.shape[:2], height, width)
    for i in range(height):
        for j in range(width):
            for a in range(fh):
                for b in range(fw):
                    row, column = i * dy + a - y0, j * dx + b - x0
                    inside = 0 <= row < x.shape[2] * uy and 0 <= column < x.shape[3] * ux
                    if inside and row % uy == 0 and column % ux == 0:
                        y[:, :, i, j] += gain * taps[a, b] * x[:, :, row // uy, column // ux]
    return y


@pytest.mark.parametrize("impl", ["auto", "reference"])
@EACH
def test_forward_equals_the_loop(options, impl):
    x = random_images(2, 3, 5, 7)
    torch.testing.assert_close(run(x, options, impl=impl), oracle(x, **options))


@EACH
def test_gradients_of_both_orders(options):
    x = random_images(1, 2, 3, 4, requires_grad=True)
    assert gradcheck(lambda x: run(x, options), (x,))
    assert gradgradcheck(lambda x: run(x, options), (x,))


@EACH
def test_the_backward_pass_is_the_adjoint(options):
    x = random_images(2, 3, 5, 7, requires_grad=True)
    y = run(x, options)
    other = torch.randn_like(y)
    (back,) = torch.autograd.grad(y, x, other)
    torch.testing.assert_close((y * other).sum(), (x * back).sum())


@EACH
def test_registration(options):
    x = random_images(1, 2, 5, 4, requires_grad=True)
    pads = options.get("padding", 0)
    pads = [pads] * 4 if isinstance(pads, int) else pads if len(pads) == 4 else [pads[0], pads[0], pads[1], pads[1]]
    pair = lambda v: [v, v] if isinstance(v, int) else v  # noqa: E731
    arguments = (x, options.get("f"), pair(options.get("up", 1)), pair(options.get("down", 1)), pads,
                 options.get("flip_filter", False), options.get("gain", 1.0))
    torch.library.opcheck(torch.ops.torch_utils.upfirdn2d.default, arguments)


@EACH
@pytest.mark.parametrize("channels", [1, 3])
def test_memory_format_stays_and_values_do_not_depend_on_it(options, channels):
    x = random_images(2, channels, 5, 6)
    y = run(x, options)
    last = run(x.to(memory_format=torch.channels_last), options)
    strided = run(x.transpose(2, 3).contiguous().transpose(2, 3), options)
    torch.testing.assert_close(last, y)
    torch.testing.assert_close(strided, y)
    assert y.is_contiguous() and last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision_rounds_once(dtype, tolerance):
    x = random_images(2, 3, 8, 8)
    y = upsample2d(x.to(dtype), setup_filter([1, 3, 3, 1]))
    exact = upsample2d(x.to(dtype).double(), setup_filter([1, 3, 3, 1]))
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), exact, rtol=tolerance, atol=tolerance)


def test_a_filter_of_one_tap_is_the_identity():
    x = random_images(2, 3, 5, 7)
    torch.testing.assert_close(upfirdn2d(x, setup_filter(None)), x, rtol=0, atol=0)
    torch.testing.assert_close(upfirdn2d(x, None), x, rtol=0, atol=0)


def test_the_result_is_never_the_input_itself():
    x = random_images(1, 1, 2, 2)
    assert upfirdn2d(x, None).data_ptr() != x.data_ptr()


@pytest.mark.parametrize("resample", [upsample2d, downsample2d, filter2d])
def test_resampling_keeps_the_brightness_of_a_constant_image(resample):
    y = resample(torch.full((1, 1, 16, 16), 3.0), setup_filter([1, 3, 3, 1]))
    torch.testing.assert_close(y[:, :, 2:-2, 2:-2], torch.full_like(y[:, :, 2:-2, 2:-2], 3.0))


@pytest.mark.parametrize("resample, size", [(upsample2d, (10, 14)), (downsample2d, (2, 3)), (filter2d, (5, 7))])
def test_resampling_scales_the_size(resample, size):
    assert resample(random_images(1, 1, 5, 7), setup_filter([1, 3, 3, 1, 1])).shape[2:] == size


def test_downsampling_is_the_adjoint_of_upsampling():
    f, x, y = setup_filter([1.0, 2.0, 5.0, 1.0]), random_images(2, 3, 4, 4), random_images(2, 3, 8, 8)
    up = upsample2d(x, f)
    down = 4 * downsample2d(y, f, flip_filter=True)
    torch.testing.assert_close((up * y).sum(), (x * down).sum())


def test_a_filter_takes_no_gradient():
    with pytest.raises(AssertionError, match="constant"):
        upfirdn2d(torch.ones(1, 1, 4, 4), torch.ones(2, 2, requires_grad=True))


@pytest.mark.parametrize("options", [{"up": 0}, {"down": [1, 2, 3]}, {"padding": [1, 2, 3]}])
def test_wrong_factors_and_padding_are_named(options):
    with pytest.raises(AssertionError, match="factor|padding"):
        upfirdn2d(torch.ones(1, 1, 4, 4), None, **options)
