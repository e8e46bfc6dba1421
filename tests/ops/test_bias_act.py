"""Bias, activation, gain and clamp."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.bias_act import ACTIVATIONS, bias_act

BY_TORCH = {
    "linear": lambda x: x, "relu": F.relu, "lrelu": lambda x: F.leaky_relu(x, 0.2), "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "elu": F.elu, "selu": F.selu, "softplus": F.softplus, "swish": F.silu,
}
EACH = pytest.mark.parametrize("act", BY_TORCH)
CLAMPS = pytest.mark.parametrize("clamp", [None, 0.8])


def inputs(requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64) * 2
    b = torch.randn(3, generator=generator, dtype=torch.float64)
    return x.requires_grad_(requires_grad), b.requires_grad_(requires_grad)


def test_all_nine_activations_are_there():
    assert set(ACTIVATIONS) == set(BY_TORCH) and len(BY_TORCH) == 9


@EACH
@CLAMPS
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_forward_equals_torch(act, clamp, impl):
    x, b = inputs()
    expected = 1.5 * BY_TORCH[act](x + b[:, None, None])
    expected = expected if clamp is None else expected.clamp(-clamp, clamp)
    torch.testing.assert_close(bias_act(x, b, act=act, gain=1.5, clamp=clamp, impl=impl), expected)


@EACH
def test_the_default_gain_keeps_the_scale_of_rectifiers(act):
    x, _ = inputs()
    gain = 2**0.5 if act in ("relu", "lrelu", "swish") else 1.0
    torch.testing.assert_close(bias_act(x, act=act), gain * BY_TORCH[act](x))


@EACH
@CLAMPS
@pytest.mark.filterwarnings("ignore:.*double backward.*")
def test_gradients_of_both_orders(act, clamp):
    x, b = inputs(requires_grad=True)

    def run(x, b):
        return bias_act(x, b, act=act, gain=1.5, clamp=clamp)

    x = x.detach()[:1, :, :2, :2].clone().requires_grad_()
    assert gradcheck(run, (x, b))
    assert gradgradcheck(run, (x, b))


@pytest.mark.parametrize("act", ["tanh", "sigmoid", "elu", "selu", "softplus", "swish"])
def test_third_order_gradients_equal_those_of_torch(act):
    def third(function):
        x = torch.linspace(-2, 2, 8, dtype=torch.float64)[:, None].requires_grad_()  # without 0, the kink of elu
        value = function(x)
        for _ in range(3):
            (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        return value

    torch.testing.assert_close(third(lambda x: bias_act(x, act=act, gain=1.0)), third(BY_TORCH[act]))


@EACH
@CLAMPS
def test_registration(act, clamp):
    x, b = inputs(requires_grad=True)
    torch.library.opcheck(torch.ops.torch_utils.bias_act.default, (x, b, 1, act, 0.2, 1.5, clamp))
    saved = x.detach()
    torch.library.opcheck(torch.ops.torch_utils.bias_act_grad.default,
                          (x, saved, b.detach(), 1, 1, act, 0.2, 1.5, clamp))


@EACH
def test_memory_format_stays_and_values_do_not_depend_on_it(act):
    x, b = inputs()
    last = bias_act(x.to(memory_format=torch.channels_last), b, act=act)
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, bias_act(x, b, act=act))
    torch.testing.assert_close(bias_act(x.transpose(2, 3), b, act=act).transpose(2, 3), last)


def test_the_input_stays_as_it_was():
    x, b = inputs()
    before = x.clone()
    for act in BY_TORCH:
        bias_act(x, None, act=act, clamp=0.5)
        bias_act(x, b, act=act, clamp=0.5)
    torch.testing.assert_close(x, before, rtol=0, atol=0)


def test_bias_runs_along_the_given_axis():
    x = torch.zeros(2, 3, 4)
    for dim in (0, 1, 2, -1):
        b = torch.arange(x.shape[dim], dtype=torch.float32)
        assert torch.equal(bias_act(x, b, dim=dim).movedim(dim, -1), b.expand_as(x.movedim(dim, -1)))


def test_no_gradient_passes_where_the_output_is_clamped():
    x = torch.tensor([[-5.0, -0.1, 0.1, 5.0]], requires_grad=True)
    (dx,) = torch.autograd.grad(bias_act(x, clamp=1.0).sum(), x)
    assert dx.tolist() == [[0.0, 1.0, 1.0, 0.0]]


def test_the_slope_of_lrelu_can_be_chosen():
    x = torch.tensor([[-2.0, 3.0]])
    assert bias_act(x, act="lrelu", alpha=0.5, gain=1.0).tolist() == [[-1.0, 3.0]]


@pytest.mark.parametrize("options, message", [({"act": "lerlu"}, "none of linear, relu"), ({"gain": -1.0}, "-1.0"),
                                              ({"clamp": -1.0}, "-1.0"), ({"b": torch.zeros(4)}, r"\[3\] expected")])
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(AssertionError, match=message):
        bias_act(torch.zeros(2, 3), **options)
