"""Gradients in one flat buffer, and sent while the backward pass runs."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from torch_utils.distributed import World
from torch_utils.gradients import ALIGNMENT, FlatGradients, flat_size, sanitise_


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 4 * 4, 5), nn.Tanh(),
                         nn.Linear(5, 1))


def loss_of(model: nn.Module, seed: int) -> torch.Tensor:
    return model(torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(seed))).square().sum()


class Recorder(World):
    """One process that passes for the first of three whose others add nothing, and notes what was sent when."""

    def __init__(self) -> None:
        super().__init__(0, 3)
        object.__setattr__(self, "sent", [])
        object.__setattr__(self, "in_backward", True)

    def all_reduce_later_(self, tensor: torch.Tensor) -> Callable[[], None]:
        self.sent.append((tensor.clone(), self.in_backward))
        return lambda: None


def test_gradients_are_views_into_the_buffer_and_equal_those_without_it() -> None:
    model, plain = network(), network()
    gradients = FlatGradients(list(model.parameters()), World())
    for _ in range(2):
        plain.zero_grad()
        (loss_of(plain, 0) + loss_of(plain, 1)).backward()
        with gradients:
            gradients.backward(loss_of(model, 0), last=False)
            gradients.backward(loss_of(model, 1), last=True)
            assert gradients.reduce().numel() == 0
            for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
                assert mine.grad is not None and other.grad is not None and mine.grad.stride() == mine.stride()
                torch.testing.assert_close(mine.grad, other.grad)
                start = mine.grad.data_ptr() - gradients.flat.data_ptr()
                assert 0 <= start < 4 * len(gradients.flat) and start % (4 * ALIGNMENT) == 0
            total = sum(each.grad.sum() for each in plain.parameters())
            torch.testing.assert_close(gradients.flat.sum(), total)
    assert all(each.grad is None and not each.requires_grad for each in model.parameters())


def test_gradients_have_the_memory_format_of_their_weights() -> None:
    weight = nn.Parameter(torch.randn(4, 2, 3, 3).to(memory_format=torch.channels_last))
    bias = nn.Parameter(torch.randn(4))
    with FlatGradients([weight, bias], World()) as gradients:
        gradients.backward((weight * torch.arange(72.).view_as(weight)).sum() + bias.sum(), last=True)
        assert weight.grad is not None and weight.grad.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(weight.grad, torch.arange(72.).view(4, 2, 3, 3))


def test_a_parameter_that_the_loss_does_not_reach_has_the_gradient_0() -> None:
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    with FlatGradients([unused, used], World()) as gradients:
        gradients.backward(used.sum(), last=True)
        assert unused.grad is not None and unused.grad.tolist() == [0, 0] and used.grad is not None


def test_kinds_of_step_can_share_the_memory() -> None:
    model = network()
    parameters = list(model.parameters())
    storage = torch.full((flat_size(parameters) + 2,), float("nan"))
    both = [FlatGradients(parameters, World(), extra=extra, storage=storage) for extra in (0, 2)]
    found = []
    for gradients in both:
        with gradients:
            gradients.backward(loss_of(model, 0), last=True)
            found.append(gradients.flat.clone())
            assert gradients.flat.data_ptr() == storage.data_ptr()
    assert torch.equal(*found) and not found[0].isnan().any()
    with both[1] as gradients:
        assert gradients.reduce(torch.tensor([[3.0], [4.0]], dtype=torch.float64)).tolist() == [[3.0], [4.0]]


def run_step(gradients: FlatGradients, world: Recorder, model: nn.Module) -> list[tuple[torch.Tensor, bool]]:
    world.sent.clear()
    with gradients:
        for seed in (0, 1):
            object.__setattr__(world, "in_backward", True)
            gradients.backward(loss_of(model, seed), last=seed == 1)
            assert seed == 1 or not world.sent
        object.__setattr__(world, "in_backward", False)
        gradients.reduce(torch.ones(4))
        assert torch.equal(gradients.flat, torch.cat([part for part, _ in world.sent])[:-4])
    return world.sent


def test_from_the_second_step_on_chunks_leave_during_the_last_backward_pass_in_one_order() -> None:
    world, model = Recorder(), network()
    gradients = FlatGradients(list(model.parameters()), world, extra=4, chunk_bytes=4 * ALIGNMENT)
    first = list(run_step(gradients, world, model))
    second = list(run_step(gradients, world, model))
    assert len(first) == len(second) == 6 and [early for _, early in first] == [False] * 6
    assert [early for _, early in second] == [True] * 5 + [False]  # the last takes the further sums along
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one[0], other[0])  # complete when it was sent


def test_a_parameter_without_a_gradient_holds_nothing_up() -> None:
    world, model = Recorder(), network()
    silent = nn.Parameter(torch.zeros(5))
    gradients = FlatGradients([*model.parameters(), silent], world, extra=4, chunk_bytes=4 * ALIGNMENT)
    run_step(gradients, world, model)
    assert [early for _, early in run_step(gradients, world, model)] == [True] * 6 + [False]


def test_a_gradient_that_comes_after_its_chunk_was_sent_is_not_lost_silently() -> None:
    world, model = Recorder(), network()
    late = nn.Parameter(torch.zeros(5))
    gradients = FlatGradients([*model.parameters(), late], world, chunk_bytes=4 * ALIGNMENT)
    with gradients:
        gradients.backward(loss_of(model, 0), last=True)
        gradients.reduce()
    with gradients, pytest.raises(AssertionError, match="after its chunk was sent"):
        first_in_the_network = late.sum()
        gradients.backward(loss_of(model, 0) + first_in_the_network, last=True)


def test_broken_gradients_are_replaced_and_reported() -> None:
    for bad, good in ((float("nan"), 0.0), (float("inf"), 1e5), (-float("inf"), -1e5)):
        gradients = torch.ones(1000)
        assert sanitise_(gradients) == 0.0 and gradients.sum() == 1000
        gradients[777] = bad
        assert sanitise_(gradients) == 1.0 and gradients[777] == good and gradients.sum() == 999 + good
