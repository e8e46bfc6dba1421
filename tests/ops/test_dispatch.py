"""Which implementation of an op runs, and what is said of it."""

import logging
import re

import pytest
import torch

from torch_utils.ops import dispatch
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.dispatch import KernelUnavailable
from torch_utils.ops.upfirdn2d import upfirdn2d

X = torch.randn(1, 2, 3, 4)
OPS = pytest.mark.parametrize("op", [lambda impl: upfirdn2d(X, None, up=2, impl=impl),
                                     lambda impl: bias_act(X, act="lrelu", impl=impl)], ids=["upfirdn2d", "bias_act"])


class OnCuda:
    """Stands for a tensor on a GPU."""

    is_cuda = True


@OPS
def test_auto_gives_what_the_reference_gives(op):
    torch.testing.assert_close(op("auto"), op("reference"), rtol=0, atol=0)


@OPS
def test_asking_for_a_kernel_that_cannot_run_says_why(op):
    with pytest.raises(KernelUnavailable, match="kernels off: there is none for cpu tensors; use impl='auto'"):
        op("kernel")


@OPS
def test_an_unknown_implementation_is_a_mistake(op):
    with pytest.raises(AssertionError, match="fast"):
        op("fast")


def test_on_a_gpu_without_kernels_one_line_says_why(caplog):
    dispatch._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert not dispatch.use_reference(OnCuda(), "auto") and not dispatch.use_reference(OnCuda(), "auto")
    reason = dispatch.why_unavailable()
    assert [record.getMessage() for record in caplog.records] == [
        f"kernels off: {reason}; using the PyTorch reference (slower, same results)"]
    with pytest.raises(KernelUnavailable, match=re.escape(str(reason))):
        dispatch.use_reference(OnCuda(), "kernel")
