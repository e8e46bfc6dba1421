"""Adam over a batch of independent problems, a row each, from which finished rows can leave."""

from collections.abc import Sequence

from torch import Tensor

EPS = 1e-8


class RowAdam:
    """Adam (Kingma and Ba 2015, Algorithm 1) on tensors whose first dimension counts the problems.

    Args:
        tensors: what is optimised, changed in place; [M, ...] each.
        betas: decay of the mean and of the mean square of the gradient.
    """

    def __init__(self, tensors: Sequence[Tensor], betas: tuple[float, float]) -> None:
        self.tensors, self._betas = list(tensors), betas
        self._moments = [(tensor.new_zeros(tensor.shape), tensor.new_zeros(tensor.shape)) for tensor in tensors]
        self._steps = 0

    def step(self, gradients: Sequence[Tensor], lr: float) -> None:
        """Move every tensor against its gradient."""
        self._steps += 1
        correct = [1 - beta**self._steps for beta in self._betas]
        for tensor, gradient, (mean, square) in zip(self.tensors, gradients, self._moments, strict=True):
            mean.lerp_(gradient, 1 - self._betas[0])
            square.lerp_(gradient.square(), 1 - self._betas[1])
            tensor.sub_(lr * (mean / correct[0]) / ((square / correct[1]).sqrt() + EPS))

    def keep(self, rows: Tensor) -> None:
        """Drop all other rows."""
        self.tensors = [tensor[rows] for tensor in self.tensors]
        self._moments = [(mean[rows], square[rows]) for mean, square in self._moments]
