"""What follows a convolution, in one pass: y = clamp(gain * act(x * scale + strength * noise + b)).

It is also what comes before a modulated one, x * scale alone. Scale is then the style, else the demodulation (SG2,
section 2.2); noise is the same in all channels. The gradient is one pass too, with the sums over pixels that the
gradients of scale, strength and bias are made of. With z the argument of act and dz = dy * gain * act'(z) where y is
inside the clamp,
    dx = dz * scale,    sums[:, n, c] = sum_hw (dz * x, dz, dz * noise)[n, c, h, w]:
linear in dy for a given y, and the second gradient consists of products and sums.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_utils.ops import bias_act as straight
from torch_utils.ops._build import launch
from torch_utils.ops.dispatch import Impl, kernels_run, use_reference
from torch_utils.ops.launches import layer_end_launch
from torch_utils.ops.operator import Operator


def layer_end(x: Tensor, b: Tensor | None, *, scale: Tensor | None = None, noise: Tensor | None = None,
              strength: Tensor | None = None, act: str = "linear", gain: float | None = None,
              clamp: float | None = None, impl: Impl = "auto") -> Tensor:
    """Return clamp(gain * act(x * scale + strength * noise + b)); any order of gradient in all but the noise's pattern.

    A noise that requires a gradient gets one, by separate passes.

    Args:
        x: [N, C, H, W], any floating dtype and memory format.
        b: [C]; None adds nothing. All tensors but x are cast to its dtype.
        scale: [N, C]; None is 1.
        noise: [N, 1, H, W] or [1, 1, H, W]; None is none.
        strength: a number, as a tensor; with noise.
        act: linear or lrelu, of slope 0.2 for negative input.
        gain: default sqrt(2) for lrelu, else 1.
        clamp: bound on the absolute value of the output, > 0, or None.
        impl: "reference" is plain PyTorch; "kernel" raises where no kernel can run.
    Returns:
        The shape, dtype and memory format of `x`.
    Raises:
        KernelUnavailable: see `impl`.
    """
    assert act in ("linear", "lrelu"), act
    assert (noise is None) == (strength is None), "noise has a strength"
    gain = straight.ACTIVATIONS[act].gain if gain is None else float(gain)
    if noise is not None and strength is not None and noise.requires_grad:
        x, scale, noise, strength = _scaled(x, scale, noise * strength), None, None, None
    if scale is None and noise is None and b is None and act == "linear" and gain == 1 and clamp is None:
        return x
    scale, noise, strength, b = (None if each is None else each.to(x.dtype) for each in (scale, noise, strength, b))
    run = _reference if use_reference(x, impl) else _layer_end
    result: Tensor = run(x, scale, noise, strength, b, act, gain, clamp)
    return result


def _scaled(x: Tensor, scale: Tensor | None, added: Tensor | None) -> Tensor:
    """Return x * scale + added."""
    if scale is None:
        return x if added is None else x + added.to(x.dtype)
    scale = scale.to(x.dtype)[:, :, None, None]
    return x * scale if added is None else torch.addcmul(added.to(x.dtype), x, scale)


def _reference(x: Tensor, scale: Tensor | None, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
               act: str, gain: float, clamp: float | None) -> Tensor:
    added = None if noise is None or strength is None else noise * strength
    return straight.bias_act(_scaled(x, scale, added), b, act=act, gain=gain, clamp=clamp, impl="reference")


def _on_cpu(x: Tensor, scale: Tensor | None, noise: Tensor | None, strength: Tensor | None, b: Tensor | None, act: str,
            gain: float, clamp: float | None) -> Tensor:
    y = _reference(x, scale, noise, strength, b, act, gain, clamp)
    return y.clone() if y.data_ptr() == x.data_ptr() else y  # an op may not return its input


def _grad_on_cpu(dy: Tensor, y: Tensor, x: Tensor | None, scale: Tensor | None, noise: Tensor | None, act: str,
                 gain: float, clamp: float | None) -> tuple[Tensor, Tensor]:
    plain = act == "linear" and gain == 1 and clamp is None
    dz = dy if plain else straight._grad_on_cpu(dy, y, None, 1, 1, act, straight.ACTIVATIONS[act].alpha, gain, clamp)
    none = dz.new_zeros(()).expand(dz.shape[:2])
    parts = [none if x is None else (dz * x).sum(dim=(2, 3)), dz.sum(dim=(2, 3)),
             none if noise is None else (dz * noise).sum(dim=(2, 3))]
    if scale is None:
        dx = dz.clone() if plain else dz  # an op may not return its input
    else:
        dx = dz * scale[:, :, None, None] if plain else dz.mul_(scale[:, :, None, None])
    return dx, torch.stack(parts).to(_sums_dtype(dx))


def _on_cuda(x: Tensor, scale: Tensor | None, noise: Tensor | None, strength: Tensor | None, b: Tensor | None, act: str,
             gain: float, clamp: float | None) -> Tensor:
    run = _by_kernel if kernels_run() and _suits(x) else _on_cpu
    return run(x, scale, noise, strength, b, act, gain, clamp)


def _grad_on_cuda(dy: Tensor, y: Tensor, x: Tensor | None, scale: Tensor | None, noise: Tensor | None, act: str,
                  gain: float, clamp: float | None) -> tuple[Tensor, Tensor]:
    run = _grad_by_kernel if kernels_run() and _suits(y) else _grad_on_cpu
    return run(dy, y, x, scale, noise, act, gain, clamp)


def _suits(x: Tensor) -> bool:
    """Return whether the kernel, which sums in float32 and reads channels last, is for these images."""
    return x.dtype != torch.float64 and x.numel() > 0 and x.is_contiguous(memory_format=torch.channels_last)


def _by_kernel(x: Tensor, scale: Tensor | None, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
               act: str, gain: float, clamp: float | None) -> Tensor:
    y = torch.empty_like(x, memory_format=torch.channels_last)
    what, _ = layer_end_launch(y, x, _dense(scale), _dense(noise), strength, _dense(b), act=act,
                               alpha=straight.ACTIVATIONS[act].alpha, gain=gain, clamp=clamp)
    launch(what, x.device)
    return y


def _grad_by_kernel(dy: Tensor, y: Tensor, x: Tensor | None, scale: Tensor | None, noise: Tensor | None, act: str,
                    gain: float, clamp: float | None) -> tuple[Tensor, Tensor]:
    dy = dy.contiguous(memory_format=torch.channels_last)
    x = None if x is None else x.contiguous(memory_format=torch.channels_last)
    dx = torch.empty_like(y, memory_format=torch.channels_last)
    what, sums = layer_end_launch(dx, x, _dense(scale), _dense(noise), None, None, g=dy, of_y=y, act=act,
                                  alpha=straight.ACTIVATIONS[act].alpha, gain=gain, clamp=clamp)
    assert sums is not None
    launch(what, y.device)
    return dx, sums.sum(dim=2)


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _sums_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _fake(x: Tensor, scale: Tensor | None, noise: Tensor | None, strength: Tensor | None, b: Tensor | None, act: str,
          gain: float, clamp: float | None) -> Tensor:
    return torch.empty_like(x)


def _grad_fake(dy: Tensor, y: Tensor, x: Tensor | None, scale: Tensor | None, noise: Tensor | None, act: str,
               gain: float, clamp: float | None) -> tuple[Tensor, Tensor]:
    return torch.empty_like(y), y.new_empty(3, *y.shape[:2], dtype=_sums_dtype(y))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    x, scale, noise, _, _, *ctx.options = inputs
    ctx.save_for_backward(output, None if scale is None else x, scale, noise)


def _backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
    if dy is None:
        return (None,) * 8
    y, x, scale, noise = ctx.saved_tensors
    dx, sums = _grad(dy, y, x, scale, noise, *ctx.options)
    of_scale = sums[0].to(dy.dtype) if ctx.needs_input_grad[1] else None
    of_strength = sums[2].sum().to(dy.dtype) if ctx.needs_input_grad[3] else None
    of_b = sums[1].sum(dim=0).to(dy.dtype) if ctx.needs_input_grad[4] else None
    return dx, of_scale, None, of_strength, of_b, None, None, None


def _grad_save(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    ctx.set_materialize_grads(False)
    *tensors, ctx.act, ctx.gain, ctx.clamp = inputs
    ctx.save_for_backward(*tensors)


def _grad_backward(ctx: Any, u: Tensor | None, v: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of <u, dx> + <v, sums>, which is the sum of dz * (u scale + v0 x + v1 + v2 noise)."""
    dy, y, x, scale, noise = ctx.saved_tensors
    slope = (None, 1, 1, ctx.act, straight.ACTIVATIONS[ctx.act].alpha, ctx.gain, ctx.clamp)
    along = None if v is None else v.to(y.dtype)[..., None, None]                  # [3, N, C, 1, 1]
    t = None if u is None else _scaled(u, scale, None)
    if along is not None:
        added = along[1] if noise is None else along[1] + along[2] * noise
        t = added.expand_as(y) if t is None else t + added
        t = t if x is None else torch.addcmul(t, along[0], x)
    if t is None:
        return (None,) * 8
    d_dy = straight._bias_act_grad(t, y, *slope)
    d_x = d_scale = None
    if scale is not None and (ctx.needs_input_grad[2] or ctx.needs_input_grad[3]):
        dz = straight._bias_act_grad(dy, y, *slope)
        d_x = None if along is None or x is None else dz * along[0]
        d_scale = None if u is None else (dz * u).sum(dim=(2, 3))
    return d_dy, None, d_x, d_scale, None, None, None, None


_OPTIONS = "str act, float gain, float? clamp"
_layer_end = Operator(f"layer_end(Tensor x, Tensor? scale, Tensor? noise, Tensor? strength, Tensor? b, {_OPTIONS}) "
                      "-> Tensor", cpu=_on_cpu, cuda=_on_cuda, fake=_fake, save=_save, backward=_backward)
_grad = Operator(f"layer_end_grad(Tensor dy, Tensor y, Tensor? x, Tensor? scale, Tensor? noise, {_OPTIONS}) "
                 "-> (Tensor, Tensor)", cpu=_grad_on_cpu, cuda=_grad_on_cuda, fake=_grad_fake, save=_grad_save,
                 backward=_grad_backward)
