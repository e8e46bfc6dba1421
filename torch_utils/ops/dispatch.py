"""Which implementation of an op runs: the kernel of the device, or plain PyTorch."""

import functools
import logging
from typing import Literal

from torch import Tensor

from torch_utils.ops._build import why_unavailable

Impl = Literal["auto", "reference", "kernel"]

logger = logging.getLogger(__name__)


class KernelUnavailable(RuntimeError):
    """`impl="kernel"` was asked for and there is none that can run."""


def use_reference(x: Tensor, impl: Impl) -> bool:
    """Return whether plain PyTorch with its own gradients is to be used in place of the registered op.

    Args:
        x: the tensor that the op works on.
        impl: "reference" always; "auto" never, but says once on CUDA if the kernels cannot run.
    Raises:
        KernelUnavailable: `impl` is "kernel" and there is none for the device of `x`; says why.
    """
    assert impl in ("auto", "reference", "kernel"), impl
    if impl == "reference":
        return True
    reason = why_unavailable() if x.is_cuda else f"there is none for {x.device.type} tensors"
    if reason is not None and impl == "kernel":
        raise KernelUnavailable(f"kernels off: {reason}; use impl='auto' for the PyTorch reference (same results)")
    if reason is not None and x.is_cuda:
        _warn_once(reason)
    return False


def kernels_run() -> bool:
    """Return whether the ops of CUDA tensors run kernels."""
    return why_unavailable() is None


@functools.cache
def _warn_once(reason: str) -> None:
    logger.warning("kernels off: %s; using the PyTorch reference (slower, same results)", reason)
