"""Curves through latents and the pace at which they are walked."""

import numpy as np
import pytest
import torch

from stylegan_oct.latent.walk.curves import constant_speed, eased, frame_times, spline

KEYS = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("curve", [spline, eased])
@pytest.mark.parametrize("closed", [False, True])
def test_a_curve_passes_its_keys_at_equal_distances_in_time(curve, closed: bool) -> None:
    pieces = len(KEYS) if closed else len(KEYS) - 1
    found = curve(KEYS, closed=closed)(np.arange(len(KEYS)) / pieces)
    torch.testing.assert_close(found, KEYS)


@pytest.mark.parametrize("curve", [spline, eased])
def test_a_loop_closes_without_a_jump_in_place_or_velocity(curve) -> None:
    h = 1e-4
    before, end, start, after = curve(KEYS.double(), closed=True)(np.array([1 - h, 1.0, 0.0, h]))
    torch.testing.assert_close(end, start)
    torch.testing.assert_close((end - before) / h, (after - start) / h, atol=0.1, rtol=0)


def test_an_open_curve_through_two_keys_is_straight() -> None:
    found = spline(KEYS[:2], closed=False)(np.array([0.25]))[0]
    torch.testing.assert_close(found, torch.lerp(KEYS[0], KEYS[1], 0.25))


def test_eased_labels_stay_mixtures_and_rest_at_each() -> None:
    labels = torch.eye(4)[[3, 2, 0]]
    curve = eased(labels, closed=True)
    found = curve(np.linspace(0, 1, 101))
    assert found.min() >= 0 and torch.allclose(found.sum(dim=1), torch.ones(101))
    near, far = curve(np.array([1 / 3, 1 / 3 + 1e-3, 0.5, 0.501])).diff(dim=0).abs().sum(dim=1)[[0, 2]]
    assert near < 0.02 * far


def test_the_last_frame_of_a_loop_is_not_its_first_again() -> None:
    assert frame_times(4, closed=True).tolist() == [0, 0.25, 0.5, 0.75]
    assert frame_times(5, closed=False).tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_constant_speed_walks_an_uneven_way_evenly() -> None:
    lengths = np.diff(np.linspace(0, 1, 201) ** 3)          # slow, then fast
    pace = constant_speed(lengths)
    places = pace(np.linspace(0, 1, 51)) ** 3
    steps = np.diff(places)
    assert pace(np.array([0.0, 1.0])) == pytest.approx([0, 1], abs=1e-12)
    assert (steps > 0).all() and steps[1:].std() / steps[1:].mean() < 0.01
    assert np.diff(np.linspace(0, 1, 51) ** 3).std() / steps.mean() > 0.8    # as it was


@pytest.mark.parametrize("lengths", [np.zeros(5), np.array([0.0, 1.0, 0.0, 0.0, 2.0])])
def test_pieces_where_nothing_changes_do_not_stop_the_walk(lengths: np.ndarray) -> None:
    times = constant_speed(lengths)(np.linspace(0, 1, 21))
    assert np.isfinite(times).all() and (np.diff(times) > 0).all()
