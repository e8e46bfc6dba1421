"""The losses against closed forms and finite differences."""

import math

import pytest
import torch
from torch import nn

from stylegan_oct.training import losses


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def test_the_logistic_losses_are_log_likelihoods_and_finite_far_out() -> None:
    logits = torch.tensor([[-3.0], [0.0], [2.0]])
    p = torch.sigmoid(logits).squeeze(1)
    torch.testing.assert_close(losses.generator_loss(logits), -p.log())
    torch.testing.assert_close(losses.discriminator_real_loss(logits), -p.log())
    torch.testing.assert_close(losses.discriminator_fake_loss(logits), -(1 - p).log())
    assert float(losses.generator_loss(torch.tensor([[-1000.0]]))) == pytest.approx(1000)
    assert float(losses.generator_loss(torch.tensor([[0.0]]))) == pytest.approx(math.log(2))


def small_critic() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(3 * 16, 1))


def numeric_r1(critic: nn.Module, images: torch.Tensor, step: float = 1e-4) -> torch.Tensor:
    """Half the squared norm of the gradient by central differences, pixel by pixel."""
    total = torch.zeros(len(images))
    with torch.no_grad():
        for pixel in range(images[0].numel()):
            shift = torch.zeros_like(images).flatten(1)
            shift[:, pixel] = step
            shift = shift.view_as(images)
            total += ((critic(images + shift) - critic(images - shift)).squeeze(1) / (2 * step)).square()
    return total / 2


def test_r1_is_half_the_squared_gradient_by_finite_differences() -> None:
    critic, images = small_critic(), torch.randn(3, 1, 4, 4, requires_grad=True)
    torch.testing.assert_close(losses.r1_penalty(critic(images), images), numeric_r1(critic, images.detach()),
                               rtol=1e-6, atol=1e-9)


def test_the_gradient_of_r1_by_finite_differences() -> None:
    critic, images = small_critic(), torch.randn(2, 1, 4, 4, requires_grad=True)
    losses.r1_penalty(critic(images), images).sum().backward()
    weight = critic[0].weight
    for index in [(0, 0, 1, 1), (2, 0, 0, 2)]:
        values = []
        for step in (1e-3, -1e-3):
            with torch.no_grad():
                weight[index] += step
            values.append(float(numeric_r1(critic, images.detach()).sum()))
            with torch.no_grad():
                weight[index] -= step
        assert float(weight.grad[index]) == pytest.approx((values[0] - values[1]) / 2e-3, rel=1e-4)


def test_path_lengths_of_a_linear_generator_are_those_of_its_matrix() -> None:
    matrix, noise = torch.randn(16, 5), torch.randn(3, 1, 4, 4)
    ws = torch.randn(3, 2, 5, requires_grad=True)
    images = (ws.sum(dim=1) @ matrix.T).view(3, 1, 4, 4)  # both layers enter alike
    lengths = losses.path_lengths(images, ws, noise)
    torch.testing.assert_close(lengths, (noise.flatten(1) @ matrix).norm(dim=1))


def test_path_lengths_agree_with_finite_differences() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 9))
    ws, noise, step = torch.randn(2, 1, 4, requires_grad=True), torch.randn(2, 1, 3, 3), 1e-5
    lengths = losses.path_lengths(net(ws[:, 0]).view(2, 1, 3, 3), ws, noise)
    squares = torch.zeros(2)
    with torch.no_grad():
        for i in range(4):
            shift = torch.eye(4)[i] * step
            difference = (net(ws[:, 0] + shift) - net(ws[:, 0] - shift)).view(2, 1, 3, 3) / (2 * step)
            squares += (difference * noise).sum(dim=(1, 2, 3)).square()
    torch.testing.assert_close(lengths, squares.sqrt(), rtol=1e-6, atol=1e-9)


def test_the_path_length_penalty_vanishes_where_all_lengths_are_the_mean() -> None:
    penalty, mean = losses.path_length_penalty(torch.full((4,), 2.0), torch.tensor(2.0), decay=0.01)
    assert float(mean) == 2.0 and not penalty.any()
    _, moved = losses.path_length_penalty(torch.full((4,), 3.0), torch.tensor(2.0), decay=0.01)
    assert float(moved) == pytest.approx(2.01)
