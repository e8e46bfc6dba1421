"""A bootstrap over patients and trainings against the variances that it stands for."""

import math

import numpy as np
import pytest

from stylegan_oct.metrics.statistics.intervals import from_halves, mean_interval, wilson
from stylegan_oct.metrics.statistics.resampling import Estimate, Resampling, main_classes


def test_the_first_resample_is_the_sample_itself() -> None:
    resampling = Resampling(np.array([0, 0, 1]), np.array([5, 5, 9]), 3, 100, np.random.default_rng(0))
    assert (next(iter(resampling.weights()))[0] == 1).all()
    assert resampling.estimate(np.array([[1.0] * 101, [2.0] * 101, [6.0] * 101])).value == pytest.approx(3.0)


def test_scans_of_a_patient_count_together_and_classes_keep_their_sizes() -> None:
    labels, groups = np.array([0, 0, 1, 1, 0, 1, 1, 0]), np.array([1, 1, 2, 3, 4, 2, 5, 6])
    weights = np.concatenate(list(Resampling(labels, groups, 2, 500, np.random.default_rng(0)).weights()))
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 2] == weights[:, 5]).all()
    np.testing.assert_allclose(weights[:, [0, 4, 7]].sum(axis=1), 3, rtol=1e-5)  # patients 1, 4, 6 of class 0
    np.testing.assert_allclose(weights[:, [2, 3, 6]].sum(axis=1), 3, rtol=1e-5)


def test_a_patient_belongs_to_the_class_of_most_of_its_scans() -> None:
    patients, main = main_classes(np.array([1, 0, 1, 0]), np.array([-7, -7, -7, 3]))
    assert patients.tolist() == [0, 0, 0, 1]
    assert main.tolist() == [1, 0]


def test_the_spread_of_resamples_is_that_of_a_mean_even_of_few() -> None:
    rng = np.random.default_rng(0)
    for patients, trainings in ((6, 1), (1, 5)):
        resampling = Resampling(np.zeros(patients, int), np.arange(patients), trainings, 20_000, rng)
        scores = rng.standard_normal((trainings, patients))
        weights = np.concatenate(list(resampling.weights()))
        found = resampling.estimate(scores @ weights.T / patients).resamples[1:].var()
        assert found == pytest.approx(scores.var(ddof=1) / scores.size, rel=0.05)


def test_few_trainings_stretch_the_interval_as_a_t_distribution() -> None:
    normal = np.concatenate([[0.0], np.random.default_rng(0).standard_normal(200_000)])
    by_training = np.array([-1, -0.5, 0, 0.5, 1]) * math.sqrt(5 / 0.625)  # all of the variance is theirs
    low, high = Estimate(normal, by_training).interval(-9, 9) or (0, 0)
    assert (low, high) == pytest.approx((-2.776, 2.776), abs=0.03)
    low, high = Estimate(normal, np.zeros(5)).interval(-9, 9) or (0, 0)
    assert (low, high) == pytest.approx((-1.96, 1.96), abs=0.02)


def test_resamples_that_are_all_alike_give_no_interval() -> None:
    assert Estimate(np.ones(101), np.ones(5)).interval() is None
    assert Estimate(np.full(101, np.nan), np.ones(5)).interval() is None


@pytest.mark.slow
def test_intervals_hold_the_truth_in_about_95_of_100_trials() -> None:
    held = 0
    for trial in range(200):
        rng = np.random.default_rng([1, trial])
        scores = rng.standard_normal(40) + 0.15 * rng.standard_normal((5, 1))
        resampling = Resampling(np.arange(40) % 4, np.arange(40), 5, 200, rng)
        weights = np.concatenate(list(resampling.weights()))
        low, high = resampling.estimate(scores @ weights.T / 40).interval(-9, 9) or (0, 0)
        held += low <= 0 <= high
    assert 182 <= held <= 199


def test_wilson_is_the_solution_of_the_score_equation() -> None:
    low, high = wilson(0.3, 50)
    for end in (low, high):
        assert abs(0.3 - end) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / 50))
    assert wilson(1.0, 20)[1] == 1.0 and wilson(0.0, 20)[0] == 0.0
    assert wilson(math.nan, 0) == (0.0, 1.0)


def test_the_interval_of_a_mean_of_one_is_its_own() -> None:
    assert mean_interval([0.4], [(0.3, 0.6)]) == pytest.approx((0.3, 0.6))
    assert mean_interval([0.4, 0.4], [(0.3, 0.6), (0.3, 0.6)]) == pytest.approx(
        (0.4 - 0.1 / math.sqrt(2), 0.4 + 0.2 / math.sqrt(2)))


def test_distances_do_not_go_below_zero() -> None:
    low, high = from_halves(np.array([0.0, 1.0])) or (1, 0)
    assert low == 0 and high > 1
    assert from_halves(np.array([0.0, np.nan])) is None
    assert from_halves(np.array([0.1, 0.1])) is None
