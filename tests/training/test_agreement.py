"""The judge of trainings with kernels, itself judged where there is no GPU."""

from collections.abc import Callable

import pytest
import torch
from agreement import check_agreement, train
from torch import Tensor

from torch_utils.ops import bias_act

CPU = torch.device("cpu")
Op = Callable[..., Tensor]


def short(rounding: int | None) -> Tensor:
    return train(CPU, precision="fp32", resolution=16, steps=6, rounding=rounding)


def changed(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Train with another forward pass of the activation."""
    original = bias_act._reference
    with monkeypatch.context() as patch:
        patch.setattr(bias_act, "_reference", lambda *args: change(original(*args)))
        return short(None)


def test_another_order_of_rounding_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    check_agreement(short, lambda _: changed(monkeypatch, lambda y: (y * 3.0) / 3.0), roundings=(1, 2))


def test_an_op_that_is_wrong_by_a_thousandth_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="from the reference"):
        check_agreement(short, lambda _: changed(monkeypatch, lambda y: y * 1.001), roundings=(1, 2))
