"""Convolution with resampling."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.filters import setup_filter
from torch_utils.ops.upfirdn2d import downsample2d, upsample2d

FILTER = setup_filter([1.0, 2.0, 5.0, 1.0])  # asymmetric: a symmetric one hides a missing flip


def tensors(size=3, groups=1, channels=4):
    generator = torch.Generator().manual_seed(size)
    x = torch.randn(2, channels, 6, 8, generator=generator, dtype=torch.float64)
    w = torch.randn(6, channels // groups, size, size, generator=generator, dtype=torch.float64)
    return x, w


SIZES = pytest.mark.parametrize("size", [1, 3, 5])
GROUPS = pytest.mark.parametrize("groups", [1, 2])
FLIPS = pytest.mark.parametrize("flip", [True, False])


def crop(y, size):
    """Leave out the border, where it matters whether zeros are added before or after filtering."""
    edge = 2 + size
    return y[:, :, edge:-edge, edge:-edge]


@SIZES
@GROUPS
@FLIPS
def test_upsampling_equals_upsampling_before_the_convolution(size, groups, flip):
    x, w = tensors(size, groups)
    x = F.pad(x, [4, 4, 4, 4])
    y = conv2d_resample(x, w, FILTER, up=2, padding=size // 2, groups=groups, flip_weight=flip)
    kernel = w if flip else w.flip((2, 3))
    expected = F.conv2d(upsample2d(x, FILTER), kernel, padding=size // 2, groups=groups)
    assert y.shape[2:] == (28, 32)
    torch.testing.assert_close(crop(y, size), crop(expected, size))


@SIZES
@GROUPS
@FLIPS
def test_downsampling_equals_downsampling_after_the_convolution(size, groups, flip):
    x, w = tensors(size, groups)
    x = F.pad(x, [10, 10, 10, 10])
    y = conv2d_resample(x, w, FILTER, down=2, padding=size // 2, groups=groups, flip_weight=flip)
    kernel = w if flip else w.flip((2, 3))
    expected = downsample2d(F.conv2d(x, kernel, padding=size // 2, groups=groups), FILTER)
    assert y.shape[2:] == (13, 14)
    torch.testing.assert_close(crop(y, 1), crop(expected, 1))


@FLIPS
@pytest.mark.parametrize("padding", [0, 2, [1, 0, 2, 1]])
def test_without_resampling_it_is_a_convolution_and_the_filter_has_no_part(flip, padding):
    x, w = tensors()
    pads = [padding] * 4 if isinstance(padding, int) else padding
    expected = F.conv2d(F.pad(x, pads), w if flip else w.flip((2, 3)))
    torch.testing.assert_close(conv2d_resample(x, w, FILTER, padding=padding, flip_weight=flip), expected)


@pytest.mark.parametrize("factors", [{"up": 2}, {"down": 2}])
def test_gradients_of_both_orders(factors):
    x, w = tensors(channels=2)
    x, w = x[:1, :, :3, :4].clone().requires_grad_(), w[:2].clone().requires_grad_()

    def run(x, w):
        return conv2d_resample(x, w, FILTER, padding=1, **factors)

    assert gradcheck(run, (x, w))
    assert gradgradcheck(run, (x, w))


def test_both_factors_at_once_are_refused():
    x, w = tensors()
    with pytest.raises(AssertionError):
        conv2d_resample(x, w, up=2, down=2)
