"""The random numbers of one batch, or in their place one quantile of every distribution."""

from collections.abc import Callable

import torch
from torch import Tensor

# Upper bounds on what one pass through every transformation takes, so that two calls draw all of it.
_UNIFORMS, _NORMALS = 32, 16


class Draws:
    """Hands out one number per image for each parameter of a transformation, float64 on the device of the images.

    Two blocks are drawn at once from the device's global generator. Their size depends on the batch alone, neither on
    the strength `p` nor on the transformations in use: one seed gives the same draws at every strength.

    With a `percentile` q in 0..1 nothing is random: floor(q * n) for a choice of n, 2q - 1 for a uniform number,
    erfinv(2q - 1) for a normal one and erfinv(q) for its absolute value; and every transformation is applied.

    Args:
        n: number of images.
        p: strength, a number or a tensor of one on the device of the images.
        percentile: see above.
        device: of the images; default the CPU.
    """

    def __init__(self, n: int, p: float | Tensor, percentile: float | None = None, *,
                 device: torch.device | None = None) -> None:
        self.p, self.percentile, self._n = p, percentile, n
        self.device = device or torch.device("cpu")
        if percentile is None:
            self._uniforms = iter(torch.rand(_UNIFORMS, n, dtype=torch.float64, device=self.device))
            self._normals = iter(torch.randn(_NORMALS, n, dtype=torch.float64, device=self.device))

    def constant(self, value: float) -> Tensor:
        """Return `value` for every image, [N]."""
        return torch.full([self._n], value, dtype=torch.float64, device=self.device)

    def applied(self, multiplier: float) -> Tensor:
        """Return which images a transformation of probability multiplier * p touches, [N] bool."""
        return self.below(multiplier * self.p)

    def below(self, probability: float | Tensor) -> Tensor:
        """Return which images an event of this probability befalls, [N] bool."""
        if self.percentile is not None:
            return torch.ones(self._n, dtype=torch.bool, device=self.device)
        return torch.lt(next(self._uniforms), probability)

    def gated(self, multiplier: float, value: Tensor, neutral: float) -> Tensor:
        """Return `value` [N] where a transformation of probability multiplier * p is applied, else `neutral`."""
        return torch.where(self.applied(multiplier), value, neutral)

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


def change(images: Tensor, chosen: Tensor, transform: Callable[..., Tensor], *parameters: Tensor,
           everywhere: bool = False) -> Tensor:
    """Return images [N, C, H, W] with transform(images, *parameters) applied to those that are chosen.

    Args:
        images: [N, C, H, W].
        chosen: [N] bool.
        transform: leaves images that are not chosen as they are, but for rounding.
        parameters: [N, ...] each, a row for each image.
        everywhere: compute it for all of them: the same work whatever was drawn.
    """
    if everywhere:
        return transform(images, *parameters)
    index = chosen.nonzero()[:, 0]
    if len(index) == 0:
        return images
    if len(index) == len(images):
        return transform(images, *parameters)
    changed = transform(images.index_select(0, index), *(each[index] for each in parameters))
    return images.index_copy(0, index, changed)


def compose(second: Tensor, first: Tensor) -> Tensor:
    """Return the matrix products [N, k, k] of tiny matrices.

    A batched product wakes the thread pool of the host, which takes longer than the sums themselves.
    """
    return (second[..., :, :, None] * first[..., None, :, :]).sum(dim=-2)
