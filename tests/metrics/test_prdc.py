import numpy as np
import pytest

from stylegan_oct.metrics.distances import prdc
from stylegan_oct.metrics.distances.moments import Rows
from stylegan_oct.metrics.distances.prdc import manifold


def draw(n: int, dim: int = 4, seed: int = 0, scale: float = 1.0) -> Rows:
    return (scale * np.random.default_rng(seed).normal(size=(n, dim))).astype(np.float32)


def naive(real: Rows, fake: Rows, k: int, groups: np.ndarray | None = None) -> tuple[float, float, float, float]:
    def reach(x: Rows, own: np.ndarray) -> list[float]:
        return [sorted(float(np.linalg.norm(a - b)) for b, g in zip(x, own, strict=True) if g != own[i])[k - 1]
                for i, a in enumerate(x)]

    real_reach = reach(real, np.arange(len(real)) if groups is None else groups)
    fake_reach = reach(fake, np.arange(len(fake)))
    between = np.array([[float(np.linalg.norm(a - b)) for b in fake] for a in real])
    in_real = between <= np.array(real_reach)[:, None]
    in_fake = between <= np.array(fake_reach)
    return (float(in_real.any(axis=0).mean()), float(in_fake.any(axis=1).mean()), float(in_real.sum(axis=0).mean() / k),
            float(in_real.any(axis=1).mean()))


@pytest.mark.parametrize("block", [8, 1024])
def test_it_does_what_loops_do(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prdc, "BLOCK", block)
    real, fake = draw(30), draw(21, seed=1, scale=0.8)
    found = manifold(real, fake, k=3)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(naive(real, fake, 3))


def test_balls_reach_past_the_scans_of_the_same_patient() -> None:
    real, fake = np.repeat(draw(10), 3, axis=0) + draw(30, seed=2, scale=0.01), draw(30, seed=1)
    groups = np.repeat(np.arange(10), 3)
    found = manifold(real, fake, k=2, groups_real=groups)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(naive(real, fake, 2, groups))
    assert found.precision > 2 * manifold(real, fake, k=2).precision


def test_identical_sets_are_precise_and_complete() -> None:
    rows = draw(50)
    found = manifold(rows, rows)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)


def test_a_collapsed_generator_is_precise_but_not_complete() -> None:
    real = draw(400)
    fake = real[:1] + draw(400, seed=1, scale=0.05)
    found = manifold(real, fake)
    assert found.precision > 0.95 and found.recall < 0.05 and found.coverage < 0.1


def test_pictures_far_off_are_neither() -> None:
    found = manifold(draw(50), draw(50, seed=1) + np.float32(100))
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)


def test_precision_and_recall_change_places_with_the_sets() -> None:
    a, b = draw(60), draw(60, seed=1, scale=0.5)
    there, back = manifold(a, b), manifold(b, a)
    assert (there.precision, there.recall) == (back.recall, back.precision)


def test_density_is_about_one_for_samples_of_one_distribution() -> None:
    found = [manifold(draw(200, seed=2 * seed), draw(200, seed=2 * seed + 1)).density for seed in range(10)]
    assert np.mean(found) == pytest.approx(1, abs=0.05)


def test_a_large_mean_costs_no_digits() -> None:
    real, fake = draw(60), draw(60, seed=1)
    far = manifold(real + np.float32(64), fake + np.float32(64))
    near = manifold(real, fake)
    assert far.precision == pytest.approx(near.precision, abs=0.02)
    assert far.coverage == pytest.approx(near.coverage, abs=0.02)
