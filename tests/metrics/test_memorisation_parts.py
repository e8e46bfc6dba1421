import numpy as np
import pytest
import torch

from stylegan_oct.data.duplicates import dhash
from stylegan_oct.metrics.memorisation.measure import Null
from stylegan_oct.metrics.memorisation.nearest import nearest
from stylegan_oct.metrics.memorisation.phash import HashObserver


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return rng.standard_normal((40, 5)).astype(np.float32), rng.standard_normal((30, 5)).astype(np.float32)


@pytest.mark.parametrize("block", [7, 4096])
def test_the_nearest_row_is_found_whatever_the_block(rows, block, monkeypatch):
    monkeypatch.setattr("stylegan_oct.metrics.memorisation.nearest.BLOCK", block)
    queries, base = rows
    apart = np.square(queries[:, None] - base[None]).sum(axis=2)
    places, squares = nearest(queries, base)
    np.testing.assert_array_equal(places, apart.argmin(axis=1))
    np.testing.assert_allclose(squares, apart.min(axis=1), rtol=1e-4)


def test_rows_of_the_own_group_are_passed_over(rows):
    queries, _ = rows
    groups = np.arange(40) // 2
    places, squares = nearest(queries, queries, query_groups=groups, base_groups=groups)
    assert (groups[places] != groups).all() and (squares > 0).all()
    _, alone = nearest(queries, queries, query_groups=np.zeros(40, int), base_groups=np.zeros(40, int))
    assert np.isinf(alone).all()


def test_a_row_is_at_no_distance_from_itself(rows):
    places, squares = nearest(rows[0] * 100, rows[0] * 100)
    np.testing.assert_array_equal(places, np.arange(40))
    assert (squares >= 0).all() and (squares < 0.1).all()


@pytest.mark.parametrize("count,rank", [(10, 1), (98, 1), (99, 1), (198, 1), (199, 2), (1600, 16)])
def test_the_rank_keeps_chance_at_one_percent_where_it_can(count, rank):
    null = Null(np.arange(count, dtype=float))
    assert null.rank == rank
    assert null.level <= 0.01 or count < 99


@pytest.mark.parametrize("count", [20, 150, 400])
def test_fresh_scores_are_flagged_as_often_as_the_level_says(count):
    rng = np.random.default_rng(count)
    shares = [Null(np.sort(rng.random(count))).below(rng.random(200)).mean() for _ in range(400)]
    assert np.mean(shares) == pytest.approx(Null(np.zeros(count)).level, rel=0.25)


@pytest.mark.parametrize("count", [20, 400])
def test_the_interval_of_the_level_holds_for_the_scores_at_hand(count):
    rng = np.random.default_rng(count)
    low, high = Null(np.zeros(count)).level_interval
    limits = np.array([np.sort(rng.random(count))[Null(np.zeros(count)).rank - 1] for _ in range(2000)])
    assert ((limits > low) & (limits < high)).mean() == pytest.approx(0.95, abs=0.02)  # uniform: the limit is the share


def test_flagged_is_what_the_percentile_puts_at_the_level_or_below():
    rng = np.random.default_rng(0)
    null, scores = Null(np.sort(rng.random(300))), rng.random(5000)
    np.testing.assert_array_equal(null.below(scores), null.percentile(scores) <= 100 * null.level + 1e-9)


def test_differing_bits_of_hashes_are_squared_distances():
    pixels = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    bits = HashObserver()(pixels)
    hashes = [dhash(picture[0].numpy()) for picture in pixels]
    for i in range(6):
        for j in range(6):
            assert (bits[i] - bits[j]).square().sum() == (hashes[i] ^ hashes[j]).bit_count()
    assert torch.equal(HashObserver()(pixels.expand(-1, 3, -1, -1)), bits)
