import numpy as np
import pytest
import scipy.linalg
import torch

from stylegan_oct.metrics.distances.frechet import frechet_distance, frechet_of_few, frechet_of_moments
from stylegan_oct.metrics.distances.moments import CHUNK, Moments, Rows
from torch_utils.distributed import World


def draw(n: int, dim: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dim, dim)) / dim ** 0.5
    return (rng.normal(size=(n, dim)) @ mix + rng.normal(size=dim)).astype(np.float32)


def by_matrix_root(a: Rows, b: Rows) -> float:
    """The definition, with the square root of the product of the covariances."""
    root = scipy.linalg.sqrtm(np.cov(a.T.astype(float)) @ np.cov(b.T.astype(float))).real
    shift = np.square(a.mean(axis=0, dtype=float) - b.mean(axis=0, dtype=float)).sum()
    return float(shift + np.var(a, axis=0, ddof=1, dtype=float).sum() + np.var(b, axis=0, ddof=1, dtype=float).sum()
                 - 2 * np.trace(root))


@pytest.mark.parametrize("n", [10, 200])
def test_a_set_is_at_distance_zero_from_itself(n: int) -> None:
    rows = draw(n, 20)
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-6 * float(np.square(rows).sum(axis=1).mean()))


@pytest.mark.parametrize("n", [10, 200])
def test_a_shifted_copy_is_at_the_squared_shift(n: int) -> None:
    rows = draw(n, 20)
    assert frechet_distance(rows, rows + np.float32(2)) == pytest.approx(4 * 20, rel=1e-5)


def test_equal_covariances_leave_the_squared_difference_of_the_means() -> None:
    rows = draw(300, 8)
    centred = rows - rows.mean(axis=0)
    assert frechet_distance(centred + np.float32(3), -centred) == pytest.approx(9 * 8, rel=1e-5)


def test_a_copy_of_other_scale_is_at_the_difference_of_the_standard_deviations() -> None:
    rows = draw(500, 6)
    rows = rows - rows.mean(axis=0)
    variance = np.var(rows, axis=0, ddof=1, dtype=float).sum()
    assert frechet_distance(rows, 3 * rows) == pytest.approx(4 * variance, rel=1e-5)


def test_three_ways_agree_where_there_are_more_pictures_than_features() -> None:
    a, b = draw(200, 12), draw(150, 12, seed=1)
    exact = by_matrix_root(a, b)
    assert frechet_of_moments(Moments.of(a), Moments.of(b)) == pytest.approx(exact, rel=1e-8)
    assert frechet_of_few(a, b) == pytest.approx(exact, rel=1e-8)


def test_both_ways_agree_where_there_are_fewer_pictures_than_features() -> None:
    a, b = draw(30, 96), draw(40, 96, seed=1)
    assert frechet_of_moments(Moments.of(a), Moments.of(b)) == pytest.approx(frechet_of_few(a, b), rel=3e-7)


def test_the_distance_of_one_distribution_falls_with_the_number_of_pictures() -> None:
    rng = np.random.default_rng(0)
    found = [frechet_distance(*rng.normal(size=(2, n, 64)).astype(np.float32)) for n in (20, 100, 500)]
    assert found[0] > 2 * found[1] > 4 * found[2] > 0


def test_sums_do_not_depend_on_how_rows_are_parted() -> None:
    rows = draw(CHUNK + 7, 5)
    whole, parts = Moments.of(rows), Moments(5)
    for part in np.array_split(rows, 3):
        parts.merge(Moments.of(part))
    parts.all_reduce_(World())
    assert parts.n == whole.n == len(rows)
    torch.testing.assert_close(parts.s2, whole.s2)
    np.testing.assert_allclose(whole.covariance(), np.cov(rows.T.astype(float)), rtol=1e-9)


def test_the_variance_of_features_with_a_large_mean_is_right() -> None:
    rows = (1000 + 0.01 * np.random.default_rng(0).normal(size=(400, 3))).astype(np.float32)
    expected = np.var(rows, axis=0, ddof=1, dtype=float)
    np.testing.assert_allclose(Moments.of(rows).covariance().diagonal(), expected, rtol=1e-4)
