"""Principal components, factorisation, readouts and orthogonal moves."""

import pytest
import torch
from torch import Tensor

from stylegan_oct.latent.directions.file import Readout
from stylegan_oct.latent.directions.supervised import fit_readout, likeliest_step, orthogonalised
from stylegan_oct.latent.directions.unsupervised import (
    factor_steps,
    principal_steps,
    style_weights,
)
from stylegan_oct.networks.generator import Generator


def small() -> Generator:
    torch.manual_seed(0)
    return Generator(z_dim=8, c_dim=2, w_dim=8, img_resolution=16, img_channels=1, mapping_layers=2, channel_base=64,
                     channel_max=8)


def sample(n: int = 3000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return w [n, 8] of a distribution that is far from round, and its covariance."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(8, 8, generator=generator) * torch.tensor([5.0, 3, 2, 1, 1, 0.5, 0.3, 0.1])[:, None]
    w = torch.randn(n, 8, generator=generator) @ mix + 1
    return w, torch.cov(w.T)


def test_principal_components_are_orthogonal_as_long_as_a_standard_deviation_and_sorted() -> None:
    w, _ = sample()
    steps = principal_steps(w, 4)
    lengths = steps.norm(dim=1)
    unit = steps / lengths[:, None]
    torch.testing.assert_close(unit @ unit.T, torch.eye(4), atol=1e-5, rtol=0)
    torch.testing.assert_close((w @ unit.T).std(dim=0), lengths)
    assert (lengths.diff() <= 0).all()


def test_factor_steps_maximise_what_the_style_weights_of_their_layers_amplify() -> None:
    G = small()
    w, _ = sample()
    for layers in ((0, 5), (1, 2)):
        A = torch.cat(style_weights(G, layers))
        first = factor_steps(G, w, layers, 1)[0]
        best = (A @ first).norm() / first.norm()
        assert best == pytest.approx(float(torch.linalg.matrix_norm(A, ord=2)), rel=1e-4)
        assert first.norm() == pytest.approx(float((w @ first / first.norm()).std()), rel=1e-4)


def test_styles_of_other_layers_do_not_depend_on_the_w_of_a_range() -> None:
    G = small().requires_grad_(True)
    for index in range(G.num_ws):
        ws = torch.randn(1, G.num_ws, 8)
        ws.requires_grad_(True)
        seen: list[Tensor] = []
        for module in G.synthesis.modules():
            if hasattr(module, "affine"):
                module.affine.register_forward_hook(lambda *args, seen=seen: seen.append(args[2]))
        G.synthesis(ws)
        read = [style for style in seen
                if torch.autograd.grad(style.sum(), ws, retain_graph=True)[0][0, index].abs().sum() > 0]
        assert [style.shape[1] for style in read] == [len(A) for A in style_weights(G, (index, index))]
        for module in G.synthesis.modules():
            module._forward_hooks.clear()


def test_a_readout_finds_a_linear_quantity_and_its_strength_grows_with_noise() -> None:
    w, _ = sample()
    truth = torch.tensor([1.0, -2, 0, 0, 3, 0, 0, 1])
    exact = fit_readout(w, w @ truth + 7)
    torch.testing.assert_close(exact(w), w @ truth + 7, rtol=1e-3, atol=0.1)
    few, _ = sample(60, seed=1)
    noise = fit_readout(few, torch.randn(60, generator=torch.Generator().manual_seed(2)))
    assert noise(w).std() < 0.5  # predicts hardly more than the mean


def test_leave_one_out_errors_choose_what_refitting_without_each_sample_would_choose() -> None:
    w, _ = sample(40, seed=3)
    y = (w @ torch.randn(8, generator=torch.Generator().manual_seed(4)) + 3 * torch.randn(40)).double()

    def refitted(strength: float) -> float:
        total = 0.0
        for i in range(40):
            keep = torch.arange(40) != i
            x, t = w[keep].double(), y[keep]
            A = x - x.mean(dim=0)
            b = torch.linalg.solve(A.T @ A + strength * torch.eye(8), A.T @ (t - t.mean()))
            total += float((t.mean() + (w[i].double() - x.mean(dim=0)) @ b - y[i]) ** 2)
        return total

    from stylegan_oct.latent.directions.supervised import STRENGTHS
    x = w.double() - w.double().mean(dim=0)
    scale = float(torch.linalg.svdvals(x).square().mean())
    best = min((float(strength) * scale for strength in STRENGTHS), key=refitted)
    b = torch.linalg.solve(x.T @ x + best * torch.eye(8), x.T @ (y - y.mean()))
    torch.testing.assert_close(fit_readout(w, y).weight, b.float(), rtol=1e-3, atol=1e-4)


def test_a_boundary_parts_two_classes_and_its_likeliest_step_joins_their_means() -> None:
    w, _ = sample()
    there = torch.arange(len(w)) % 2 == 0
    w = w + there[:, None] * torch.tensor([4.0, 0, -3, 0, 2, 0, 2, 2])
    readout = fit_readout(w, torch.where(there, 1.0, -1.0))
    assert ((readout(w) > 0) == there).float().mean() > 0.95
    step = likeliest_step(readout, torch.cov(w.T))
    between = w[there].mean(dim=0) - w[~there].mean(dim=0)
    assert torch.cosine_similarity(step, between, dim=0) > 0.99


def test_the_likeliest_step_changes_its_readout_by_a_standard_deviation_and_is_the_shortest_that_does() -> None:
    w, covariance = sample()
    readout = Readout(weight=torch.tensor([1.0, 0, 0, 2, 0, 0, 0, -1]), constant=0.0)
    step = likeliest_step(readout, covariance)
    assert float(readout.weight @ step) == pytest.approx(float(readout(w).std()), rel=1e-3)
    inverse = torch.linalg.inv(covariance.double())
    length = float(step.double() @ inverse @ step.double())
    for seed in range(5):
        other = torch.randn(8, generator=torch.Generator().manual_seed(seed))
        other = other * float(readout.weight @ step) / float(readout.weight @ other)
        assert float(other.double() @ inverse @ other.double()) > length


def test_an_orthogonal_step_leaves_what_it_should_and_keeps_its_length() -> None:
    _, covariance = sample()
    kept = [Readout(weight=torch.randn(8, generator=torch.Generator().manual_seed(i)), constant=0.0) for i in (1, 2)]
    step = likeliest_step(Readout(weight=torch.ones(8), constant=0.0), covariance)
    free = orthogonalised(step, kept, covariance)
    inverse = torch.linalg.inv(covariance.double())
    for readout in kept:
        assert abs(float(readout.weight @ free)) < 1e-3 * abs(float(readout.weight @ step))
    assert float(free.double() @ inverse @ free.double()) == pytest.approx(
        float(step.double() @ inverse @ step.double()), rel=1e-2)
    assert torch.equal(orthogonalised(step, [], covariance), step)
