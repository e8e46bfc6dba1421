"""Maps: what they keep, where they put what comes later, and how far they can be trusted."""

import importlib.util

import numpy as np
import pytest
import torch

from dnnlib.errors import ConfigError
from stylegan_oct.latent.atlas import reducers
from stylegan_oct.latent.atlas.reducers import Pca, Umap, check_method, from_tensors, memberships, trustworthiness

G = torch.Generator().manual_seed(0)


def groups(each: int = 40, dim: int = 12) -> torch.Tensor:
    """Three groups far apart."""
    centres = 8 * torch.randn(3, 1, dim, generator=G)
    return (centres + torch.randn(3, each, dim, generator=G)).flatten(0, 1)


def test_pca_finds_the_plane_of_largest_variance() -> None:
    flat = torch.randn(300, 2, generator=G) * torch.tensor([5.0, 2.0])
    turn = torch.linalg.qr(torch.randn(10, 10, generator=G)).Q[:2]
    x = flat @ turn + 3 + 0.01 * torch.randn(300, 10, generator=G)
    fitted = Pca.fit(x)
    assert sum(fitted.explained) > 0.999 and fitted.explained[0] > fitted.explained[1]
    torch.testing.assert_close(fitted.components @ fitted.components.T, torch.eye(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cdist(fitted.place(x), fitted.place(x)), torch.cdist(flat, flat), atol=0.1, rtol=0)
    assert fitted.place(x).mean(dim=0).abs().max() < 1e-4


def test_a_map_by_chance_is_trusted_half_and_a_copy_wholly() -> None:
    x = torch.randn(400, 2, generator=G)
    assert trustworthiness(x, x) == 1.0
    assert trustworthiness(x, 3 * x.flip(1) + 1) == pytest.approx(1.0, abs=1e-3)
    assert trustworthiness(torch.randn(400, 9, generator=G), x) == pytest.approx(0.5, abs=0.05)


def test_trustworthiness_is_that_of_scikit_learn() -> None:
    manifold = pytest.importorskip("sklearn.manifold")
    x = groups()
    places = x[:, :2] + torch.randn(len(x), 2, generator=G)
    expected = manifold.trustworthiness(x.numpy(), places.numpy(), n_neighbors=7)
    assert trustworthiness(x, places, k=7) == pytest.approx(expected, abs=1e-6)


def test_memberships_sum_to_log2_of_k_and_fall_with_distance() -> None:
    distances = torch.rand(20, 15, generator=G).add(0.1).sort(dim=1).values
    weights = memberships(distances)
    torch.testing.assert_close(weights.sum(dim=1), torch.full((20,), float(np.log2(15))), atol=1e-3, rtol=0)
    assert (weights[:, 0] == 1).all() and (weights.diff(dim=1) <= 0).all()


def test_memberships_of_equal_distances_are_equal() -> None:
    weights = memberships(torch.full((2, 5), 0.3))
    assert weights.isfinite().all() and (weights == 1).all()


def test_a_new_vector_lies_among_its_neighbours_whatever_comes_with_it() -> None:
    x = groups()
    places = torch.cat([torch.randn(40, 2, generator=G) + shift for shift in (0, 50, 100)])
    fitted = Umap(x, places, neighbours=15, min_dist=0.1, seed=0)
    new = x[[5, 45, 100]] + 0.1
    found = fitted.place(new)
    assert (found - torch.tensor([[0.0], [50.0], [100.0]])).abs().max() < 3
    torch.testing.assert_close(fitted.place(new[1:2])[0], found[1])
    assert fitted.place(new[:0]).shape == (0, 2)


def test_groups_far_apart_come_near_without_touching_and_keep_their_shape() -> None:
    labels = torch.arange(3).repeat_interleave(50)
    places = torch.randn(150, 2, generator=G) + 100.0 * torch.tensor([[0.0, 0], [1, 0], [0, 1]])[labels]
    moved = reducers.close_gaps(places, labels)
    inside, across = labels[:, None] == labels, labels[:, None] != labels
    torch.testing.assert_close(torch.cdist(moved, moved)[inside], torch.cdist(places, places)[inside], atol=0.1, rtol=0)
    assert 0 < torch.cdist(moved, moved)[across].min() < 6 and torch.cdist(places, places)[across].min() > 80
    overlapping = torch.randn(150, 2, generator=G)
    torch.testing.assert_close(reducers.close_gaps(overlapping, labels), overlapping)
    assert (reducers.close_gaps(places, torch.zeros_like(labels)) == places).all()


def test_a_few_neighbours_on_another_island_do_not_pull_a_place_into_the_sea() -> None:
    island = torch.randn(1, 11, 2, generator=G)
    points = torch.cat([island, torch.randn(1, 4, 2, generator=G) + 100], dim=1)
    weights = torch.rand(1, 15, generator=G) + 0.5
    assert reducers.geometric_median(points, weights).abs().max() < 3
    alone = reducers.geometric_median(island, torch.ones(1, 11))
    nudged = alone + 0.05 * torch.randn(50, 2, generator=G)
    assert (torch.cdist(alone, island[0]).sum() <= torch.cdist(nudged, island[0]).sum(dim=1) + 1e-4).all()


def test_a_map_comes_back_from_its_facts_and_tensors() -> None:
    x = groups()
    for fitted in (Pca.fit(x), Umap(x, x[:, :2].clone(), neighbours=5, min_dist=0.2, seed=3)):
        places = fitted.place(x)
        kept = {**fitted.tensors(), "vectors": x, "places": x[:, :2]}
        again = from_tensors(reducers.Facts(**fitted.facts, trustworthiness=1.0), kept)
        torch.testing.assert_close(again.place(x), places)
        assert again.facts == fitted.facts


def test_umap_missing_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reducers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"stylegan-oct\[atlas\].*--method pca"):
        check_method("umap")
    check_method("pca")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="the extra atlas is not installed")
@pytest.mark.filterwarnings("ignore")   # of umap, numba and scikit-learn, which are not ours
def test_umap_keeps_groups_together_and_repeats_itself() -> None:
    x = groups()
    fitted, again = Umap.fit(x, seed=1), Umap.fit(x, seed=1)
    assert (fitted.places == again.places).all()
    assert trustworthiness(x, fitted.places) > 0.8
    near = torch.cdist(fitted.places, fitted.places).fill_diagonal_(torch.inf).argmin(dim=1)
    assert (near // 40 == torch.arange(120) // 40).float().mean() > 0.95
