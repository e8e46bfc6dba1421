"""Bias, activation, gain and clamp in one step: y = clamp(gain * act(x + b)).

The gradient of any order n with respect to x is one registered op, g * gain * act^(n)(x + b) where y is inside the
clamp; its own gradients are the op itself (with respect to g) and the op of order n + 1 (with respect to x and b).
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops._build import launch
from torch_utils.ops.dispatch import Impl, kernels_run, use_reference
from torch_utils.ops.launches import bias_act_launch
from torch_utils.ops.operator import Operator

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848  # Klambauer et al. 2017, Eq. 14


@dataclass(frozen=True, kw_only=True)
class _Activation:
    """An activation, its defaults and its derivatives.

    `derivative(x, alpha, n)` is the n-th one for n >= 1. Where it is None the activation is two straight lines
    through 0, whose slope the sign of the output tells, so that the input need not be kept.
    """

    function: Callable[[Tensor, float], Tensor]
    derivative: Callable[[Tensor, float, int], Tensor] | None = None
    alpha: float = 0.0
    gain: float = 1.0
    negative_slope: Callable[[float], float] = float


@functools.cache
def _sigmoid_polynomial(n: int) -> tuple[int, ...]:
    """Return the coefficients, lowest first, of the n-th derivative of the logistic function s as polynomial in s."""
    if n == 0:
        return (0, 1)
    previous = _sigmoid_polynomial(n - 1)
    result = [0] * (len(previous) + 1)
    for power, factor in enumerate(previous):  # d s^k = k s^(k-1) (s - s^2)
        result[power] += power * factor
        result[power + 1] -= power * factor
    return tuple(result)


def _sigmoid(x: Tensor, n: int) -> Tensor:
    s = torch.sigmoid(x)
    y = torch.zeros_like(s)
    for factor in reversed(_sigmoid_polynomial(n)):
        y = y.mul_(s).add_(factor)
    return y


def _elu(x: Tensor, alpha: float, n: int) -> Tensor:
    return torch.where(x > 0, float(n == 1), alpha * x.exp())


# A tensor that autograd does not watch is overwritten: a pass over memory saved in the op's own kernel.
ACTIVATIONS = {
    "linear": _Activation(function=lambda x, _: x, negative_slope=lambda _: 1.0),
    "relu": _Activation(function=lambda x, _: F.relu(x, inplace=not x.requires_grad), gain=math.sqrt(2),
                        negative_slope=lambda _: 0.0),
    "lrelu": _Activation(function=lambda x, alpha: F.leaky_relu(x, alpha, inplace=not x.requires_grad), alpha=0.2,
                         gain=math.sqrt(2)),
    "tanh": _Activation(function=lambda x, _: x.tanh(),  # tanh(x) = 2 s(2x) - 1
                        derivative=lambda x, _, n: _sigmoid(2 * x, n).mul_(2.0 ** (n + 1))),
    "sigmoid": _Activation(function=lambda x, _: x.sigmoid(), derivative=lambda x, _, n: _sigmoid(x, n)),
    "elu": _Activation(function=lambda x, _: F.elu(x), derivative=lambda x, _, n: _elu(x, 1.0, n)),
    "selu": _Activation(function=lambda x, _: F.selu(x),
                        derivative=lambda x, _, n: _elu(x, _SELU_ALPHA, n).mul_(_SELU_SCALE)),
    "softplus": _Activation(function=lambda x, _: F.softplus(x), derivative=lambda x, _, n: _sigmoid(x, n - 1)),
    "swish": _Activation(function=lambda x, _: F.silu(x), gain=math.sqrt(2),
                         derivative=lambda x, _, n: _sigmoid(x, n).mul_(x).add_(_sigmoid(x, n - 1), alpha=n)),
}


def bias_act(x: Tensor, b: Tensor | None = None, *, dim: int = 1, act: str = "linear", alpha: float | None = None,
             gain: float | None = None, clamp: float | None = None, impl: Impl = "auto") -> Tensor:
    """Return clamp(gain * act(x + b)); any order of gradient in `x` and `b`.

    Args:
        x: any shape, floating dtype and memory format.
        b: [x.shape[dim]], cast to the dtype of `x`; None adds nothing.
        dim: axis of `x` along which `b` runs.
        act: linear, relu, lrelu, tanh, sigmoid, elu, selu, softplus or swish.
        alpha: slope of lrelu for negative input, >= 0; default 0.2. The others have none.
        gain: default sqrt(2) for relu, lrelu and swish, else 1.
        clamp: bound on the absolute value of the output, > 0, or None.
        impl: "reference" is plain PyTorch; "kernel" raises where no kernel can run.
    Returns:
        The shape, dtype and memory format of `x`.
    Raises:
        KernelUnavailable: see `impl`.
    """
    assert act in ACTIVATIONS, f"activation {act!r} is none of {', '.join(ACTIVATIONS)}"
    kind = ACTIVATIONS[act]
    alpha = kind.alpha if alpha is None else float(alpha)
    gain = kind.gain if gain is None else float(gain)
    assert alpha >= 0 and gain > 0 and (clamp is None or clamp > 0), (alpha, gain, clamp)
    if b is not None:
        assert b.shape == (x.shape[dim],), f"bias of shape [{x.shape[dim]}] expected; got {list(b.shape)}"
        b = b.to(x.dtype)
    elif act == "linear" and gain == 1 and clamp is None:
        return x
    run = _reference if use_reference(x, impl) else _bias_act
    result: Tensor = run(x, b, dim % x.ndim, act, alpha, gain, clamp)
    return result


def _reference(x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float,
               clamp: float | None) -> Tensor:
    """Plain PyTorch; in place on a new tensor where autograd does not watch."""
    kind = ACTIVATIONS[act]
    if kind.derivative is None:  # two lines through 0: gain * act(x) = act(gain * x), a pass over memory less
        y = kind.function(_add_bias(x, b, dim, gain=gain), alpha)
    else:
        y = kind.function(_add_bias(x, b, dim), alpha)
        if gain != 1:
            y = y * gain if y.requires_grad else y.mul_(gain)
    if clamp is not None:
        y = y.clamp(-clamp, clamp) if y.requires_grad else y.clamp_(-clamp, clamp)
    return y


def _add_bias(x: Tensor, b: Tensor | None, dim: int, *, gain: float = 1.0) -> Tensor:
    """Return gain * (x + b) as a new tensor."""
    if b is None:
        return x.clone() if gain == 1 else x * gain
    b = _along(b, x, dim)
    return x + b if gain == 1 else torch.add(b * gain, x, alpha=gain)


def _along(b: Tensor, x: Tensor, dim: int) -> Tensor:
    return b.reshape([-1 if axis == dim else 1 for axis in range(x.ndim)])


def _on_cpu(x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float,
            clamp: float | None) -> Tensor:
    return _reference(x, b, dim, act, alpha, gain, clamp)


def _grad_on_cpu(g: Tensor, saved: Tensor | None, b: Tensor | None, order: int, dim: int, act: str, alpha: float,
                 gain: float, clamp: float | None) -> Tensor:
    """Return g * gain * act^(order)(x + b), and 0 where the output was clamped.

    `saved` is x; of an activation made of two straight lines it is y, or None where even that is not needed.
    """
    kind = ACTIVATIONS[act]
    g = g if saved is None else _as_laid_out(g, saved)
    if kind.derivative is not None:
        assert saved is not None
        x = _add_bias(saved, b, dim)
        slope = kind.derivative(x, alpha, order).mul_(gain)
        if clamp is not None:
            slope.masked_fill_(kind.function(x, alpha).abs() >= clamp / gain, 0.0)
        return slope.mul_(g)
    if order > 1:
        return torch.zeros_like(g)
    slope_below = kind.negative_slope(alpha)
    if saved is None or slope_below == 1:
        dx = g * gain
    else:
        dx = torch.ops.aten.leaky_relu_backward(g, saved, slope_below, True)
        if gain != 1:
            dx = dx.mul_(gain)
    if clamp is None or saved is None:
        return dx
    # 0 where |y| >= clamp, in one pass and in place.
    torch.ops.aten.hardtanh_backward.grad_input(dx, saved, -clamp, clamp, grad_input=dx)
    return dx


def _on_cuda(x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float,
             clamp: float | None) -> Tensor:
    return (_by_kernel if kernels_run() else _on_cpu)(x, b, dim, act, alpha, gain, clamp)


def _grad_on_cuda(g: Tensor, saved: Tensor | None, b: Tensor | None, order: int, dim: int, act: str, alpha: float,
                  gain: float, clamp: float | None) -> Tensor:
    return (_grad_by_kernel if kernels_run() else _grad_on_cpu)(g, saved, b, order, dim, act, alpha, gain, clamp)


def _by_kernel(x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float,
               clamp: float | None) -> Tensor:
    y = torch.empty_like(x)
    x, b = _as_laid_out(x, y), None if b is None else b.contiguous()
    if y.numel():
        launch(bias_act_launch(y, x, b, None, order=0, dim=dim, act=act, alpha=alpha, gain=gain, clamp=clamp), x.device)
    return y


def _grad_by_kernel(g: Tensor, saved: Tensor | None, b: Tensor | None, order: int, dim: int, act: str, alpha: float,
                    gain: float, clamp: float | None) -> Tensor:
    """As `_grad_on_cpu`."""
    if ACTIVATIONS[act].derivative is None and order > 1:
        return torch.zeros_like(g)
    y = torch.empty_like(g if saved is None else saved)
    g, b = _as_laid_out(g, y), None if b is None else b.contiguous()
    saved = None if saved is None else _as_laid_out(saved, y)
    if y.numel():
        launch(bias_act_launch(y, saved, b, g, order=order, dim=dim, act=act, alpha=alpha, gain=gain, clamp=clamp,
                               sigmoid=(_sigmoid_polynomial(order), _sigmoid_polynomial(order - 1))), g.device)
    return y


def _as_laid_out(x: Tensor, y: Tensor) -> Tensor:
    """Return x with its numbers where those of y are, which is dense; strides of axes of length 1 mean nothing."""
    same = all(a == b for a, b, size in zip(x.stride(), y.stride(), x.shape, strict=True) if size > 1)
    return x if same else torch.empty_like(y).copy_(x)


def _fake(x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None) -> Tensor:
    return torch.empty_like(x)


def _grad_fake(g: Tensor, saved: Tensor | None, b: Tensor | None, order: int, dim: int, act: str, alpha: float,
               gain: float, clamp: float | None) -> Tensor:
    return torch.empty_like(g if saved is None else saved)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    x, b, *ctx.options = inputs
    _, act, _, _, clamp = ctx.options
    by_output = ACTIVATIONS[act].derivative is None
    needed = not (act == "linear" and clamp is None)
    ctx.save_for_backward((output if by_output else x) if needed else None, None if by_output else b)


def _backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
    if dy is None:  # a second gradient that depends on the output through the sign of it alone
        return (None,) * 7
    saved, b = ctx.saved_tensors
    dx = _bias_act_grad(dy, saved, b, 1, *ctx.options)
    db = _sum_to_bias(dx, ctx.options[0]) if ctx.needs_input_grad[1] else None
    return dx, db, None, None, None, None, None


def _grad_setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    g, saved, b, ctx.order, *ctx.options = inputs
    ctx.by_output = ACTIVATIONS[ctx.options[1]].derivative is None
    ctx.save_for_backward(None if ctx.by_output else g, saved, b)


def _grad_backward(ctx: Any, gg: Tensor) -> tuple[Tensor | None, ...]:
    g, saved, b = ctx.saved_tensors
    d_g = _bias_act_grad(gg, saved, b, ctx.order, *ctx.options) if ctx.needs_input_grad[0] else None
    d_x = d_b = None  # a slope that does not vary has no gradient
    if not ctx.by_output and (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
        d_x = _bias_act_grad(gg * g, saved, b, ctx.order + 1, *ctx.options)
        d_b = _sum_to_bias(d_x, ctx.options[0]) if ctx.needs_input_grad[2] else None
    return d_g, d_x, d_b, None, None, None, None, None, None


def _sum_to_bias(dx: Tensor, dim: int) -> Tensor:
    return dx.sum([axis for axis in range(dx.ndim) if axis != dim]) if dx.ndim > 1 else dx


_OPTIONS = "int dim, str act, float alpha, float gain, float? clamp"
_bias_act = Operator(f"bias_act(Tensor x, Tensor? b, {_OPTIONS}) -> Tensor", cpu=_on_cpu, cuda=_on_cuda, fake=_fake,
                     save=_setup_context, backward=_backward)
_bias_act_grad = Operator(f"bias_act_grad(Tensor g, Tensor? saved, Tensor? b, int order, {_OPTIONS}) -> Tensor",
                          cpu=_grad_on_cpu, cuda=_grad_on_cuda, fake=_grad_fake, save=_grad_setup_context,
                          backward=_grad_backward)
