"""FIR filters."""

import pytest
import torch

from torch_utils.ops.filters import setup_filter


def test_a_filter_sums_to_its_gain():
    assert setup_filter([1, 3, 3, 1], gain=4.0).sum() == pytest.approx(4.0)
    assert setup_filter([1, 2, 3], gain=4.0, separable=True).sum() ** 2 == pytest.approx(4.0)


def test_a_separable_filter_is_the_factor_of_the_full_one():
    taps = setup_filter([1, 2, 5], separable=True)
    torch.testing.assert_close(torch.outer(taps, taps), setup_filter([1, 2, 5], separable=False))


def test_long_filters_stay_separable_and_short_ones_do_not():
    assert setup_filter(range(1, 9)).ndim == 1 and setup_filter(range(1, 8)).ndim == 2


def test_flipping_reverses_both_axes():
    taps = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert setup_filter(taps, normalize=False, flip=True).tolist() == [[4.0, 3.0], [2.0, 1.0]]


def test_none_and_a_number_are_one_tap():
    assert setup_filter(None).tolist() == [[1.0]]
    assert setup_filter(3.0).tolist() == [[1.0]]


@pytest.mark.parametrize("taps, options", [(torch.ones(2, 2, 2), {}), ([], {}),
                                           (torch.ones(2, 2), {"separable": True})])
def test_what_is_no_filter_is_refused(taps, options):
    with pytest.raises(AssertionError):
        setup_filter(taps, **options)
