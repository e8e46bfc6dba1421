"""Exponential moving average of a network, its half-life counted in images."""

import torch
from torch import nn


def ema_beta(batch: int, half_life_nimg: float, *, nimg: int, ramp: float | None = None) -> float:
    """Return how much of the old average stays after a batch: 0.5 ** (batch / half-life).

    Karras et al. 2020 (ADA), appendix B: with a ramp the half-life is at most `ramp` times the images seen, so that
    the first, poor weights are forgotten quickly.
    """
    if ramp is not None:
        half_life_nimg = min(half_life_nimg, nimg * ramp)
    return float(0.5 ** (batch / max(half_life_nimg, 1e-8)))


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, beta: float) -> None:
    """Move the parameters of `average` towards those of `network`; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - beta)
    if buffers := list(average.buffers()):
        torch._foreach_copy_(buffers, list(network.buffers()))
