"""Finite impulse response filters for `upfirdn2d`."""

from collections.abc import Sequence

import torch
from torch import Tensor

# From this length on two one-dimensional passes cost less than one with the outer product.
SEPARABLE_FROM = 8


def setup_filter(f: Tensor | Sequence[float] | Sequence[Sequence[float]] | float | None, *, normalize: bool = True,
                 flip: bool = False, gain: float = 1.0, separable: bool | None = None) -> Tensor:
    """Return a FIR filter in the form that `upfirdn2d` takes.

    Args:
        f: taps, [n] of a separable filter or [fh, fw]; a number or None is a filter of one tap.
        normalize: scale to the sum 1.
        flip: reverse both axes.
        gain: of the whole two-dimensional filter.
        separable: keep [n] as it is (two passes); False expands to the outer product; None decides by the length.
    Returns:
        [n] or [fh, fw], float32.
    """
    taps = torch.as_tensor(1.0 if f is None else f, dtype=torch.float32).clone()
    assert taps.ndim <= 2 and taps.numel() > 0, f"a filter has one or two axes; got shape {list(taps.shape)}"
    if taps.ndim == 0:
        taps = taps[None]
    if separable is None:
        separable = taps.ndim == 1 and len(taps) >= SEPARABLE_FROM
    if taps.ndim == 1 and not separable:
        taps = torch.outer(taps, taps)
    assert taps.ndim == (1 if separable else 2), f"shape {list(taps.shape)} is not separable"
    if normalize:
        taps = taps / taps.sum()
    if flip:
        taps = taps.flip(tuple(range(taps.ndim)))
    # A separable filter runs twice, and each pass takes its share of the gain.
    return taps * float(gain ** (taps.ndim / 2))
