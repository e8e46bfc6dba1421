"""The random numbers of one batch, or in their place one quantile of every distribution."""

import torch
from torch import Tensor

# Upper bounds on what one pass through every transformation takes, so that two calls draw all of it.
_UNIFORMS, _NORMALS = 32, 16


class Draws:
    """Hands out one number per image for each parameter of a transformation.

    Two blocks are drawn at once from the device's global generator. Their size depends on the batch alone, neither on
    the strength `p` nor on the transformations in use: one seed gives the same draws at every strength.

    With a `percentile` q in 0..1 nothing is random: floor(q * n) for a choice of n, 2q - 1 for a uniform number,
    erfinv(2q - 1) for a normal one and erfinv(q) for its absolute value; and every transformation is applied.
    """

    def __init__(self, like: Tensor, p: float | Tensor, percentile: float | None = None) -> None:
        """Draw for the batch `like` [N, ...], on its device and in its dtype."""
        self.p, self.percentile = p, percentile
        self._like, self._n = like, len(like)
        if percentile is None:
            self._uniforms = iter(torch.rand(_UNIFORMS, self._n, device=like.device, dtype=like.dtype))
            self._normals = iter(torch.randn(_NORMALS, self._n, device=like.device, dtype=like.dtype))

    def constant(self, value: float) -> Tensor:
        """Return `value` for every image, [N]."""
        return self._like.new_full([self._n], value)

    def applied(self, probability: float | Tensor) -> Tensor:
        """Return which images a transformation of this probability touches, [N] bool."""
        if self.percentile is not None:
            return self._like.new_ones([self._n], dtype=torch.bool)
        return next(self._uniforms) < probability

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
