"""Where a number lies among known ones."""

import torch
from torch import Tensor


def percentile(known: Tensor, values: Tensor) -> Tensor:
    """Return the share in percent of the sorted `known` [M] that lies below each of `values`, ties counted half."""
    below = torch.searchsorted(known, values.contiguous(), right=False)
    up_to = torch.searchsorted(known, values.contiguous(), right=True)
    return (below + up_to) * (50.0 / len(known))
