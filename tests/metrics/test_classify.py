"""Scores against loops over pairs and scans."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stylegan_oct.metrics.usefulness.classify import score_keys, score_table, weighted_auc


def pairs_won(scores: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    won = total = 0.0
    for i in np.flatnonzero(positive):
        for j in np.flatnonzero(~positive):
            weight = weights[i] * weights[j]
            total += weight
            won += weight * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
    return won / total


def test_auc_is_the_share_of_pairs_won_with_ties_and_weights() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 30) / 5  # many ties
    positive = rng.random(30) < 0.4
    weights = rng.integers(0, 3, (7, 30)).astype(float)
    expected = [pairs_won(scores, positive, row) for row in weights]
    np.testing.assert_allclose(weighted_auc(scores, positive, weights), expected, rtol=1e-12)


def test_weights_count_as_repeats() -> None:
    rng = np.random.default_rng(1)
    probabilities, labels = rng.dirichlet(np.ones(3), 20), rng.integers(0, 3, 20)
    times = rng.integers(0, 3, 20)
    weighted = score_table(probabilities, labels, times[None].astype(float), [0])
    repeated = score_table(probabilities.repeat(times, axis=0), labels.repeat(times), np.ones((1, times.sum())), [0])
    np.testing.assert_allclose(weighted, repeated, rtol=1e-12)


def test_scores_are_those_counted_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]])
    labels = np.array([0, 0, 1, 2, 2])
    table = score_table(probabilities, labels, np.ones((1, 5)), [0, 1])
    found = dict(zip(score_keys(3, [0, 1]), table[0], strict=True))
    assert found["accuracy", None] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert found["sensitivity", 0] == pytest.approx(1 / 2)
    assert found["specificity", 0] == 1
    assert found["sensitivity", 1] == 1
    assert found["specificity", 1] == pytest.approx(2 / 4)
    assert found["auc", 0] == 1
    assert found["sensitivity_urgent", None] == 1
    assert found["specificity_urgent", None] == pytest.approx(1 / 2)  # 0.3 + 0.4 is said to be urgent
    assert found["auc", None] == pytest.approx(np.mean([found["auc", label] for label in range(3)]))


def test_a_class_without_scans_is_nan_and_left_out_of_the_mean() -> None:
    probabilities, labels = np.eye(3)[[0, 0, 1, 1]], np.array([0, 0, 1, 1])
    found = dict(zip(score_keys(3, []), score_table(probabilities, labels, np.ones((1, 4)))[0], strict=True))
    assert np.isnan(found["auc", 2]) and np.isnan(found["sensitivity", 2])
    assert found["auc", None] == 1
    assert found["specificity", 2] == 1


def test_no_pictures_give_no_auc() -> None:
    assert np.isnan(weighted_auc(np.zeros(0), np.zeros(0, bool), np.ones((2, 0)))).all()
