"""One update: what moves, what does not, and that cutting the batch changes nothing."""

from collections.abc import Callable

import pytest
import torch

from stylegan_oct.config import TrainConfig
from stylegan_oct.training.state import State, create_state
from stylegan_oct.training.steps import Microbatch, Steps
from torch_utils.distributed import World
from torch_utils.stats import Stats

Make = Callable[..., TrainConfig]
LABELS = torch.tensor([0, 1] * 8)


def prepare(config: TrainConfig) -> tuple[State, Steps, Stats]:
    state, stats = create_state(config, torch.device("cpu"), "phantom"), Stats(World())
    return state, Steps(config, state, World(), stats, LABELS), stats


def reals(config: TrainConfig) -> list[Microbatch]:
    images = torch.randn(config.batch, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    n = config.batch_gpu
    return [Microbatch(i, images[i:i + n], LABELS[i:i + n]) for i in range(0, config.batch, n)]


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def changed(before: dict[str, torch.Tensor], network: torch.nn.Module) -> set[str]:
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


def test_the_generator_step_moves_every_weight_of_G_and_none_of_D(make_config: Make) -> None:
    state, steps, _ = prepare(make_config())
    G, D = weights(state.G), weights(state.D)
    steps.generator(reals(state.config))
    moved = changed(G, state.G)
    assert {name for name, _ in state.G.named_parameters()} - moved == set()
    assert {"mapping.w_avg", "mapping.w_avg_class"} <= moved
    assert changed(D, state.D) == set()
    assert all(p.grad is None and not p.requires_grad for p in [*state.G.parameters(), *state.D.parameters()])


def test_the_discriminator_steps_move_every_weight_of_D_and_none_of_G(make_config: Make) -> None:
    state, steps, stats = prepare(make_config())
    G, D = weights(state.G), weights(state.D)
    steps.discriminator(reals(state.config))
    assert changed(D, state.D) == {name for name, _ in state.D.named_parameters()}
    D = weights(state.D)
    steps.r1(reals(state.config))
    assert {name for name in changed(D, state.D)} > {"b4.conv.weight"}
    assert changed(G, state.G) == set()
    assert stats.flush()["loss/r1_penalty"].n == state.config.batch


def test_frozen_layers_of_D_stay(make_config: Make) -> None:
    state, steps, _ = prepare(make_config(D__freeze_layers=2))
    D = weights(state.D)
    steps.discriminator(reals(state.config))
    steps.r1(reals(state.config))
    frozen = {id(p) for p in state.D.frozen_parameters(2)}
    names = {name for name, p in state.D.named_parameters() if id(p) in frozen}
    assert names and not names & changed(D, state.D)


def test_a_fixed_strength_of_0_equals_no_augmentation(make_config: Make) -> None:
    results = []
    for mode in ("fixed", "off"):
        state, steps, _ = prepare(make_config(augment__mode=mode))
        steps.generator(reals(state.config))
        steps.discriminator(reals(state.config))
        results.append((weights(state.G), weights(state.D)))
    for (G, D), (other_G, other_D) in [results]:
        assert all(torch.equal(G[name], other_G[name]) for name in G)
        assert all(torch.equal(D[name], other_D[name]) for name in D)


def test_signs_of_the_reals_are_counted_until_p_moves(make_config: Make) -> None:
    state, steps, _ = prepare(make_config())
    steps.discriminator(reals(state.config))
    steps.discriminator(reals(state.config))
    assert state.sign_sums[1] == 2 * state.config.batch
    state.update_strength()
    assert not state.sign_sums.any()


@pytest.mark.parametrize("mean, rises", [(1.0, True), (0.2, False)])
def test_p_rises_when_D_is_sure_of_the_reals_and_not_otherwise(make_config: Make, mean: float, rises: bool) -> None:
    state, _, _ = prepare(make_config())
    strengths = []
    for _ in range(100):
        state.sign_sums += torch.tensor([mean * 4, 4.0])
        state.update_strength()
        strengths.append(state.p)
    if rises:
        assert strengths == sorted(strengths) and strengths[-1] == state.config.augment.p_max
    else:
        assert set(strengths) == {0.0}


def test_style_mixing_needs_two_latents_only_when_it_mixes(make_config: Make) -> None:
    for share in (0.0, 1.0):
        state, steps, _ = prepare(make_config(style_mixing=share))
        _, _, ws = steps._fakes(4)
        same = bool((ws == ws[:, :1]).all())
        assert same == (share == 0.0)


def test_without_lazy_steps_adam_has_the_plain_rates_and_with_them_corrected_ones(make_config: Make) -> None:
    state, _, _ = prepare(make_config(path_length__weight=0.0, r1__interval=16))
    assert state.opt_G.defaults["lr"] == 0.0025
    assert state.opt_D.defaults["lr"] == pytest.approx(0.0025 * 16 / 17)
    assert state.opt_D.defaults["betas"] == (0.0, pytest.approx(0.99 ** (16 / 17)))
