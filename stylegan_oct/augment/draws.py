"""The random numbers of one batch, or in their place one quantile of every distribution."""

from collections.abc import Callable

import torch
from torch import Tensor

from torch_utils.transfer import send_like

# Upper bounds on what one pass through every transformation takes, so that two calls draw all of it.
_UNIFORMS, _NORMALS = 32, 16


class Draws:
    """Hands out one number per image for each parameter of a transformation, float64 on the host.

    On the host, because what is drawn decides how much work there is: asking a GPU would stall it.

    Two blocks are drawn at once from the host's global generator. Their size depends on the batch alone, neither on
    the strength `p` nor on the transformations in use: one seed gives the same draws at every strength.

    With a `percentile` q in 0..1 nothing is random: floor(q * n) for a choice of n, 2q - 1 for a uniform number,
    erfinv(2q - 1) for a normal one and erfinv(q) for its absolute value; and every transformation is applied.
    """

    def __init__(self, n: int, p: float, percentile: float | None = None) -> None:
        """Draw for a batch of n images."""
        self.p, self.percentile, self._n = p, percentile, n
        if percentile is None:
            self._uniforms = iter(torch.rand(_UNIFORMS, n, dtype=torch.float64))
            self._normals = iter(torch.randn(_NORMALS, n, dtype=torch.float64))

    def constant(self, value: float) -> Tensor:
        """Return `value` for every image, [N]."""
        return torch.full([self._n], value, dtype=torch.float64)

    def applied(self, probability: float) -> Tensor:
        """Return which images a transformation of this probability touches, [N] bool."""
        if self.percentile is not None:
            return torch.ones(self._n, dtype=torch.bool)
        return torch.lt(next(self._uniforms), probability)

    def gated(self, multiplier: float, value: Tensor, neutral: float) -> Tensor:
        """Return `value` [N] where a transformation of probability multiplier * p is applied, else `neutral`."""
        return torch.where(self.applied(multiplier * self.p), value, neutral)

    def unit(self) -> Tensor:
        """Return numbers uniform in 0..1, [N]."""
        return next(self._uniforms) if self.percentile is None else self.constant(self.percentile)

    def uniform(self) -> Tensor:
        """Return numbers uniform in -1..1, [N]."""
        return self.unit() * 2 - 1

    def choice(self, n: int) -> Tensor:
        """Return whole numbers 0 .. n - 1, each as likely, [N]."""
        return (self.unit() * n).floor().clamp(max=n - 1)

    def normal(self) -> Tensor:
        """Return numbers of N(0, 1), [N]."""
        return next(self._normals) if self.percentile is None else self._erfinv(2 * self.percentile - 1)

    def half_normal(self) -> Tensor:
        """Return absolute values of N(0, 1), [N]."""
        return next(self._normals).abs() if self.percentile is None else self._erfinv(self.percentile)

    def _erfinv(self, value: float) -> Tensor:
        # At the ends of 0..1 the quantile is infinite; the last finite one of float32 stands for it.
        return self.constant(value).clamp(-1 + 2.0 ** -24, 1 - 2.0 ** -24).erfinv()


def change(images: Tensor, chosen: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Return images [N, C, H, W] with `transform` applied to those that are `chosen`, [N] bool on the host."""
    index = chosen.nonzero()[:, 0]
    if len(index) == 0:
        return images
    if len(index) == len(images):
        return transform(images)
    index = send_like(index, images)
    return images.index_copy(0, index, transform(images.index_select(0, index)))


def compose(second: Tensor, first: Tensor) -> Tensor:
    """Return the matrix products [N, k, k] of tiny matrices, on the host.

    A batched product wakes the thread pool, which takes longer than the sums themselves.
    """
    return (second[..., :, :, None] * first[..., None, :, :]).sum(dim=-2)
