import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from torch_utils.ops import winograd
from torch_utils.ops.conv2d import conv2d, conv_transpose2d, no_weight_gradients

# N, I, O, H, W, taps, stride, padding, groups
SHAPES = [(2, 3, 4, 5, 6, (3, 3), 1, (1, 1), 1), (1, 2, 3, 7, 6, (3, 2), 2, (0, 1), 1),
          (2, 4, 6, 5, 5, (3, 3), 2, (0, 0), 2), (2, 3, 2, 4, 4, (1, 1), 1, (0, 0), 1),
          (1, 4, 4, 6, 7, (2, 3), 3, (1, 0), 4), (2, 1, 5, 4, 3, (1, 1), 1, (0, 0), 1),
          (2, 5, 1, 4, 3, (1, 1), 1, (0, 0), 1)]
# Large enough to be computed in other ways than by PyTorch's convolution.
LARGE = {"winograd": (2, 256, 256, 16, 18, (3, 3), 1, (1, 1), 1), "strided": (2, 64, 96, 17, 19, (3, 3), 2, (0, 0), 1),
         "strided, odd": (1, 64, 64, 18, 16, (3, 3), 2, (0, 0), 1)}


def operands(shape, dtype=torch.float64, memory_format=torch.channels_last) -> tuple[Tensor, Tensor, Tensor]:
    """Return images, weights and results of a shape."""
    n, i, o, h, w, (kh, kw), stride, (py, px), groups = shape
    x = torch.randn(n, i, h, w, dtype=dtype).to(memory_format=memory_format)
    y = torch.randn(n, o, (h + 2 * py - kh) // stride + 1, (w + 2 * px - kw) // stride + 1, dtype=dtype)
    return x, torch.randn(o, i // groups, kh, kw, dtype=dtype), y.to(memory_format=memory_format)


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_is_pytorchs_convolution_with_its_gradients(shape, memory_format):
    *_, stride, padding, groups = shape
    x, w, y = operands(shape, memory_format=memory_format)
    x.requires_grad_(True), w.requires_grad_(True)
    ours = conv2d(x, w, stride=stride, padding=padding, groups=groups)
    theirs = F.conv2d(x, w, stride=stride, padding=padding, groups=groups)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(torch.autograd.grad(ours, (x, w), y), torch.autograd.grad(theirs, (x, w), y), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_the_transposed_convolution_is_pytorchs(stride, groups):
    x, w = torch.randn(2, 4, 5, 3, dtype=torch.float64), torch.randn(4, 3, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(conv_transpose2d(x, w, stride=stride, groups=groups),
                               F.conv_transpose2d(x, w, stride=stride, groups=groups))


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_any_order_of_all_three_ops(shape):
    *_, taps, stride, padding, groups = shape
    x, w, y = (t.requires_grad_(True) for t in operands(shape))
    ops, options = torch.ops.torch_utils, (stride, padding, groups)
    for function, first, second in ((lambda x, w: ops.conv2d(x, w, *options), x, w),
                                    (lambda y, w: ops.conv2d_input(y, w, x.shape[2:], *options), y, w),
                                    (lambda x, y: ops.conv2d_weight(x, y, taps, *options), x, y)):
        assert gradcheck(function, (first, second))
        assert gradgradcheck(function, (first, second))


@pytest.mark.parametrize("shape", [*SHAPES, *LARGE.values()])
def test_ops_are_registered_as_pytorch_expects(shape):
    *_, taps, stride, padding, groups = shape
    x, w, y = (t.requires_grad_(True) for t in operands(shape, torch.float32))
    ops, options = torch.ops.torch_utils, (stride, list(padding), groups)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    opcheck(ops.conv2d.default, (x, w.contiguous(memory_format=torch.channels_last), *options), test_utils=checks)
    opcheck(ops.conv2d_input.default, (y, w.contiguous(memory_format=torch.channels_last), list(x.shape[2:]), *options),
            test_utils=checks)
    opcheck(ops.conv2d_weight.default, (x, y, list(taps), *options), test_utils=checks)


@pytest.mark.parametrize("shape", LARGE.values(), ids=LARGE)
def test_large_layers_are_computed_as_exactly_as_float32_allows(shape):
    *_, taps, stride, padding, groups = shape
    x, w, y = operands(shape)
    ops, options = torch.ops.torch_utils, (stride, padding, groups)
    calls = ((ops.conv2d, (x, w)), (ops.conv2d_input, (y, w, x.shape[2:])), (ops.conv2d_weight, (x, y, taps)))
    for op, args in calls:
        single = [a.float() if isinstance(a, Tensor) else a for a in args]
        assert distance(op(*single, *options), op(*args, *options)) < 5e-6


@pytest.mark.parametrize(("height", "width"), [(4, 4), (16, 16), (17, 19), (5, 30)])
@pytest.mark.parametrize("padding", [(1, 1), (0, 2), (2, 0), (0, 0)])
def test_minimal_filtering_agrees_with_the_direct_sum_for_every_size_and_padding(height, width, padding):
    x, w, y = operands((3, 5, 7, height, width, (3, 3), 1, padding, 1))
    direct = F.conv2d(x, w, padding=padding)
    assert distance(winograd.conv3x3(x.float(), w.float(), padding), direct) < 5e-6
    ops = torch.ops.torch_utils
    assert distance(winograd.conv3x3_input(y.float(), w.float(), padding),
                    ops.conv2d_input(y, w, (height, width), 1, padding, 1)) < 5e-6
    assert distance(winograd.conv3x3_weight(x.float(), y.float(), padding),
                    ops.conv2d_weight(x, y, (3, 3), 1, padding, 1)) < 5e-6


def test_minimal_filtering_is_left_where_it_does_not_pay():
    images = torch.randn(1, 256, 16, 16).to(memory_format=torch.channels_last)
    pays = {"channels": winograd.pays(images, (255, 256, 3, 3), channels=256),
            "taps": winograd.pays(images, (256, 256, 1, 1), channels=256),
            "side": winograd.pays(images[:, :, :15].contiguous(memory_format=torch.channels_last), (256, 256, 3, 3),
                                  channels=256),
            "empty": winograd.pays(images[:0], (256, 256, 3, 3), channels=256),
            "precision": winograd.pays(images.bfloat16(), (256, 256, 3, 3), channels=256),
            "double": winograd.pays(images.double(), (256, 256, 3, 3), channels=256),
            "layout": winograd.pays(images.contiguous(), (256, 256, 3, 3), channels=256)}
    assert not any(pays.values()), pays
    assert winograd.pays(images, (256, 256, 3, 3), channels=256)


def test_without_weight_gradients_only_images_get_theirs_and_second_gradients_stay_whole():
    shape = SHAPES[0]
    x, w, y = operands(shape)
    x.requires_grad_(True), w.requires_grad_(True)

    def second(context) -> Tensor:
        out = conv2d(x * x, w, padding=(1, 1))
        with context:
            (gradient,) = torch.autograd.grad(out, x, y, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), w)[0]

    with no_weight_gradients():
        conv2d(x, w, padding=(1, 1)).sum().backward()
    assert w.grad is None and x.grad is not None
    torch.testing.assert_close(second(no_weight_gradients()), second(torch.enable_grad()))


def test_weight_gradients_come_back_after_an_error():
    with pytest.raises(ValueError, match="stop"), no_weight_gradients():
        raise ValueError("stop")
    w = torch.randn(1, 1, 1, 1, requires_grad=True)
    conv2d(torch.randn(1, 1, 2, 2), w).sum().backward()
    assert w.grad is not None


@pytest.mark.parametrize("shape", LARGE.values(), ids=LARGE)
def test_no_images_give_none_and_weights_without_gradient(shape):
    *_, stride, padding, groups = shape
    x, w, _ = (t.float() for t in operands((0, *shape[1:])))
    x, w = x.requires_grad_(True), w.requires_grad_(True)
    y = conv2d(x, w, stride=stride, padding=padding, groups=groups)
    y.sum().backward()
    assert len(y) == 0 and x.grad.shape == x.shape and not w.grad.any()
