"""The end of a layer, its gradient with sums over pixels, and the second one."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.layer_end import _grad, layer_end

N, C, H, W = 2, 3, 4, 5
CASES = [(scale, noise, act, clamp) for scale, noise, act, clamp in
         itertools.product((True, False), (1, N, 0), ("lrelu", "linear"), (None, 1.3))]


def tensors(scale: bool, noise: int, **options: bool) -> dict[str, Tensor | None]:
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int, **more: bool) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64, **more)

    return {"x": drawn(N, C, H, W, **options), "b": drawn(C, **options),
            "scale": drawn(N, C, **options) if scale else None, "noise": drawn(noise, 1, H, W) if noise else None,
            "strength": drawn(1, **options).squeeze(0).detach().requires_grad_(bool(options)) if noise else None}


def oracle(x: Tensor, b: Tensor, scale: Tensor | None, noise: Tensor | None, strength: Tensor | None, act: str,
           clamp: float | None) -> Tensor:
    z = x * (1 if scale is None else scale[:, :, None, None]) + b[:, None, None]
    z = z if noise is None or strength is None else z + noise * strength
    y = torch.where(z > 0, z, 0.2 * z) * 2 ** 0.5 if act == "lrelu" else z
    return y if clamp is None else y.clamp(-clamp, clamp)


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("scale, noise, act, clamp", CASES)
def test_forward_equals_the_formula(scale: bool, noise: int, act: str, clamp: float | None, impl: str) -> None:
    given, options = tensors(scale, noise), {"act": act, "clamp": clamp}
    torch.testing.assert_close(layer_end(**given, **options, impl=impl), oracle(**given, **options))


@pytest.mark.parametrize("scale, noise, act, clamp", CASES)
def test_gradients_of_both_orders(scale: bool, noise: int, act: str, clamp: float | None) -> None:
    given = tensors(scale, noise, requires_grad=True)
    names = [name for name, value in given.items() if value is not None and value.requires_grad]

    def run(*values: Tensor) -> Tensor:
        return layer_end(**{**given, **dict(zip(names, values, strict=True))}, act=act, clamp=clamp)

    values = tuple(given[name] for name in names)
    assert gradcheck(run, values)
    assert gradgradcheck(run, values)


def test_a_noise_that_is_fitted_gets_its_gradient() -> None:
    given = tensors(True, N, requires_grad=True)
    given["noise"] = given["noise"].requires_grad_()
    wanted = torch.autograd.grad(oracle(**given, act="lrelu", clamp=None).square().sum(), given["noise"])
    found = torch.autograd.grad(layer_end(**given, act="lrelu").square().sum(), given["noise"])
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("scale, noise", [(True, N), (True, 1), (False, 0)])
def test_registration(scale: bool, noise: int) -> None:
    given = tensors(scale, noise, requires_grad=True)
    options = ("lrelu", 1.4, 1.3)
    arguments = tuple(given[name] for name in ("x", "scale", "noise", "strength", "b"))
    torch.library.opcheck(torch.ops.torch_utils.layer_end.default, (*arguments, *options))
    y = layer_end(**given, act="lrelu", gain=1.4, clamp=1.3).detach()
    dy = torch.randn_like(y, requires_grad=True)
    torch.library.opcheck(torch.ops.torch_utils.layer_end_grad.default,
                          (dy, y, given["x"] if scale else None, given["scale"], given["noise"], *options))


def test_the_sums_are_those_over_pixels() -> None:
    given = tensors(True, N)
    y = layer_end(**given, act="linear")
    dy = torch.randn_like(y)
    dx, sums = _grad(dy, y, given["x"], given["scale"], given["noise"], "linear", 1.0, None)
    torch.testing.assert_close(dx, dy * given["scale"][:, :, None, None])
    for found, weight in zip(sums, (given["x"], torch.ones(()), given["noise"]), strict=True):
        torch.testing.assert_close(found, (dy * weight).sum(dim=(2, 3)))


def test_memory_format_and_dtype_stay() -> None:
    given = tensors(True, 1)
    last = given["x"].contiguous(memory_format=torch.channels_last)
    y = layer_end(**{**given, "x": last}, act="lrelu")
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, layer_end(**given, act="lrelu"))
    half = layer_end(**{**given, "x": last.bfloat16()}, act="lrelu")
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), y, rtol=0.05, atol=0.05)


def test_noise_without_strength_is_refused() -> None:
    with pytest.raises(AssertionError, match="strength"):
        layer_end(torch.zeros(1, 2, 3, 3), None, noise=torch.zeros(1, 1, 3, 3))
