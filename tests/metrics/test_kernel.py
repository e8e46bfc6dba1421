import math

import numpy as np
import pytest

from stylegan_oct.metrics.distances.kernel import Draws, kernel_distance, kernel_distance_of_subsets
from stylegan_oct.metrics.distances.moments import CHUNK, Rows


def draw(n: int, dim: int = 6, seed: int = 0, shift: float = 0.0) -> Rows:
    return (np.random.default_rng(seed).normal(size=(n, dim)) + shift).astype(np.float32)


def by_loops(a: Rows, b: Rows, groups: np.ndarray | None = None) -> float:
    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x.astype(float) @ y.astype(float) / len(x) + 1) ** 3)

    own = np.arange(len(a)) if groups is None else groups
    within_a = [kernel(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if own[i] != own[j]]
    within_b = [kernel(b[i], b[j]) for i in range(len(b)) for j in range(len(b)) if i != j]
    across = [kernel(x, y) for x in a for y in b]
    return float(np.mean(within_a) + np.mean(within_b) - 2 * np.mean(across))


def test_it_is_the_mean_over_pairs() -> None:
    a, b = draw(7), draw(9, seed=1, shift=0.5)
    assert kernel_distance(a, b) == pytest.approx(by_loops(a, b), rel=1e-9)


def test_blocks_change_nothing() -> None:
    a, b = draw(CHUNK + 3, 2), draw(5, 2, seed=1)
    gram = (a.astype(float) @ a.T.astype(float) / 2 + 1) ** 3
    within = (gram.sum() - np.trace(gram)) / (len(a) * (len(a) - 1))
    other = (b.astype(float) @ b.T.astype(float) / 2 + 1) ** 3
    expected = within + (other.sum() - np.trace(other)) / 20 - 2 * ((a.astype(float) @ b.T / 2 + 1) ** 3).mean()
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_its_mean_is_zero_for_samples_of_one_distribution_however_few() -> None:
    found = [kernel_distance(draw(5, seed=2 * seed), draw(5, seed=2 * seed + 1)) for seed in range(2000)]
    assert abs(np.mean(found)) < 3 * np.std(found) / len(found) ** 0.5
    assert min(found) < 0 < max(found)


def test_it_is_the_same_both_ways_and_grows_with_a_shift() -> None:
    a = draw(200)
    found = [kernel_distance(a, draw(200, seed=1, shift=shift)) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert found == sorted(found)
    assert kernel_distance(a, draw(50, seed=1)) == pytest.approx(kernel_distance(draw(50, seed=1), a))


def test_pairs_of_one_patient_are_left_out() -> None:
    a, b = draw(8), draw(9, seed=1)
    groups = np.array([4, 4, 1, 2, 2, 2, 0, 9])
    assert kernel_distance(Draws(a, groups), b) == pytest.approx(by_loops(a, b, groups), rel=1e-9)
    assert math.isnan(kernel_distance(Draws(a, np.zeros(8, np.int64)), b))


def test_several_scans_of_a_patient_do_not_look_like_a_distance() -> None:
    def scans(seed: int) -> Rows:
        rng = np.random.default_rng(seed)
        return (np.repeat(rng.normal(size=(10, 6)), 3, axis=0) + 0.1 * rng.normal(size=(30, 6))).astype(np.float32)

    groups = np.repeat(np.arange(10), 3)
    pairs = [(scans(2 * seed), scans(2 * seed + 1)) for seed in range(300)]
    told = [kernel_distance(Draws(a, groups), Draws(b, groups)) for a, b in pairs]
    untold = [kernel_distance(a, b) for a, b in pairs]
    assert abs(np.mean(told)) < 3 * np.std(told) / len(told) ** 0.5
    assert np.mean(untold) > 10 * np.std(untold) / len(untold) ** 0.5


def test_fixed_shares_of_the_classes_do_not_look_like_a_distance() -> None:
    labels = np.repeat([0, 1], [4, 8])

    def scans(seed: int) -> Rows:
        return draw(12, seed=seed) + 2 * labels[:, None].astype(np.float32)

    pairs = [(scans(2 * seed), scans(2 * seed + 1)) for seed in range(300)]
    told = [kernel_distance(Draws(a, None, labels), Draws(b, None, labels)) for a, b in pairs]
    untold = [kernel_distance(a, b) for a, b in pairs]
    assert abs(np.mean(told)) < 3 * np.std(told) / len(told) ** 0.5
    assert np.mean(untold) < -10 * np.std(untold) / len(untold) ** 0.5


def test_subsets_give_the_same_mean_with_a_spread() -> None:
    a, b = draw(300), draw(300, seed=1, shift=0.5)
    found = kernel_distance_of_subsets(a, b, subsets=50, size=100)
    assert found.mean == pytest.approx(kernel_distance(a, b), abs=4 * found.sd / 50 ** 0.5)
    assert found == kernel_distance_of_subsets(a, b, subsets=50, size=100)
    assert found != kernel_distance_of_subsets(a, b, subsets=50, size=100, seed=1)


def test_a_subset_of_all_is_the_whole() -> None:
    a, b = draw(20), draw(30, seed=1)
    assert kernel_distance_of_subsets(a, b[:20], subsets=3).mean == pytest.approx(kernel_distance(a, b[:20]))
