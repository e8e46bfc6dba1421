from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from generator_file import write_generator
from stored_pictures import FieldsDetector
from torch import Tensor

from stylegan_oct.batches import Layers
from stylegan_oct.metrics.distances.path_length import (
    interval_of,
    measure_path_lengths,
    path_lengths,
    slerp,
    trimmed_mean,
)


@dataclass
class LinearGenerator:
    """A generator whose picture is a linear function of w, and w of z; it has the interface of `OctGenerator`."""

    to_w: Tensor          # [z_dim, w_dim]
    to_pixels: Tensor     # [w_dim, pixels]
    speckle: float = 0.0
    device: torch.device = torch.device("cpu")
    info: Any = field(default_factory=lambda: SimpleNamespace(classes=()))
    layers: Layers = Layers(widest=7, total=7)

    @property
    def network(self) -> Any:
        return SimpleNamespace(synthesis=self.synthesis)

    def z(self, seeds: list[int]) -> Tensor:
        return torch.stack([torch.from_numpy(np.random.RandomState(seed).randn(len(self.to_w))) for seed in seeds])

    def ws(self, z: Tensor, kinds: None, *, psi: float) -> Tensor:
        return (psi * z @ self.to_w)[:, None]

    def synthesis(self, ws: Tensor, *, noise_mode: str, force_fp32: bool) -> Tensor:
        assert force_fp32
        images = ws[:, 0] @ self.to_pixels
        return images + self.speckle * torch.randn_like(images) if noise_mode == "random" else images


@pytest.fixture
def linear() -> LinearGenerator:
    torch.manual_seed(0)
    return LinearGenerator(torch.randn(6, 5, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64))


def ends(G: Any, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return G.z([seed + 2 * i for i in range(count)]), G.z([seed + 2 * i + 1 for i in range(count)])


def same(images: Tensor) -> Tensor:
    return images


@pytest.mark.parametrize("sampling", ["full", "end"])
def test_the_ways_of_a_linear_generator_in_w_are_as_long_as_its_matrix_says(linear: Any, sampling: Any) -> None:
    start, end = ends(linear, 5)
    expected = ((end - start) @ linear.to_w @ linear.to_pixels).square().sum(dim=1)
    found = path_lengths(linear, same, np.zeros(5, np.int64), space="w", sampling=sampling)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_ways_on_the_sphere_are_as_long_as_the_angle() -> None:
    identity = LinearGenerator(torch.eye(6, dtype=torch.float64), torch.eye(6, dtype=torch.float64))
    start, end = ends(identity, 5, seed=3)
    cosine = torch.nn.functional.cosine_similarity(start, end)
    found = path_lengths(identity, same, np.zeros(5, np.int64), space="z", seed=3)
    np.testing.assert_allclose(found, cosine.acos().square(), rtol=1e-5)


def test_truncation_shortens_ways_by_its_square(linear: Any) -> None:
    labels = np.zeros(3, np.int64)
    whole, half = (path_lengths(linear, same, labels, space="w", psi=psi) for psi in (1.0, 0.5))
    np.testing.assert_allclose(half, whole / 4, rtol=1e-6)


def test_the_step_does_not_matter_where_the_generator_is_linear(linear: Any) -> None:
    labels = np.zeros(3, np.int64)
    fine, coarse = (path_lengths(linear, same, labels, space="w", epsilon=epsilon) for epsilon in (1e-5, 1e-2))
    np.testing.assert_allclose(fine, coarse, rtol=1e-5)


def test_new_speckle_is_the_same_at_both_ends_of_a_step(linear: Any) -> None:
    labels = np.zeros(4, np.int64)
    still = path_lengths(linear, same, labels, space="w")
    linear.speckle = 1.0
    np.testing.assert_allclose(path_lengths(linear, same, labels, space="w", noise_mode="random"), still, rtol=1e-6)


def test_batches_and_seeds(linear: Any) -> None:
    labels = np.zeros(7, np.int64)
    one, many = (path_lengths(linear, same, labels, space="z", batch=batch) for batch in (1, 3))
    np.testing.assert_allclose(one, many, rtol=1e-6)
    assert not np.allclose(one, path_lengths(linear, same, labels, space="z", seed=50))


def test_slerp_moves_evenly_from_one_end_to_the_other() -> None:
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    found = torch.cat([slerp(a, b, torch.tensor([[t]])) for t in (0.0, 1 / 3, 1.0)])
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0], [3 ** 0.5 / 2, 0.5], [0.0, 1.0]]), atol=1e-6, rtol=0)


def test_the_outermost_ways_are_left_out() -> None:
    assert trimmed_mean(np.r_[-1e6, np.full(198, 2.0), 1e9]) == pytest.approx(2)
    assert np.isnan(trimmed_mean(np.zeros(0)))
    low, high = interval_of(np.random.default_rng(0).normal(5, 1, 400), 0) or (0, 0)
    assert low < 5 < high and high - low == pytest.approx(2 * 1.96 / 20, rel=0.3)


def test_there_is_a_value_for_each_space_and_class(tmp_path: Path) -> None:
    G = write_generator(tmp_path)
    told: list[tuple[int, int]] = []
    values = measure_path_lengths(G, np.array([0, 1, 0, 1, 0, 0]), [FieldsDetector()], batch=4,
                                  progress=lambda done, total: told.append((done, total)))
    assert [(value.metric, value.class_name, value.n) for value in values] == [
        (f"ppl_{space}_fields", label, n) for space in "zw" for label, n in ((None, 6), ("CNV", 4), ("DRUSEN", 2))]
    assert all(value.value > 0 and value.interval is not None for value in values)
    assert told[-1] == (12, 12)
