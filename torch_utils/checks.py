"""Checks of what a programmer passes."""

from collections.abc import Sequence

from torch import Tensor


def assert_shape(tensor: Tensor, shape: Sequence[int | None]) -> None:
    """Assert the sizes of a tensor; None stands for any size.

    Raises:
        AssertionError: naming the wanted and the given shape.
    """
    fits = tensor.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, tensor.shape, strict=True))
    wanted = ", ".join("*" if want is None else str(want) for want in shape)
    assert fits, f"tensor of shape [{wanted}] expected; got {list(tensor.shape)}"
