"""Larger networks that at first compute what the smaller ones did."""

from pathlib import Path

import pytest
import torch
from tiny import tiny_config, write_archive

from stylegan_oct.training.state import State, create_state
from stylegan_oct.training.transfer import start_from
from torch_utils.ops.filters import setup_filter
from torch_utils.ops.upfirdn2d import downsample2d

CPU = torch.device("cpu")
FILTER = setup_filter((1.0, 3.0, 3.0, 1.0))


def made(tmp_path: Path, resolution: int, *, seed: int = 0, channels: int = 1, **changes: object) -> State:
    archive = write_archive(tmp_path / f"{resolution}-{channels}.zip", resolution=resolution, channels=channels)
    state = create_state(tiny_config(archive, seed=seed, **changes), CPU, "scans")
    with torch.no_grad():
        for network in (state.G_ema, state.D):
            for name, parameter in network.named_parameters():
                if name.endswith("bias") or "noise_strength" in name:
                    parameter.add_(0.3 * torch.randn(parameter.shape))  # zeros would hide what is lost
    return state


def begun(tmp_path: Path, source: State, resolution: int, *, channels: int = 1, **changes: object) -> State:
    state = made(tmp_path, resolution, seed=9, channels=channels, **changes)
    start_from(state, source.save(tmp_path / "checkpoints", {}))
    return state


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_a_grown_discriminator_judges_the_reduced_picture_as_before(tmp_path: Path, resolution: int,
                                                                    channels: int) -> None:
    widths = {"D__channel_max": 12, "D__channel_min": 6}
    source = made(tmp_path, 8, channels=channels, **widths)
    state = begun(tmp_path, source, resolution, channels=channels, **widths)
    images, c = torch.randn(4, channels, resolution, resolution), torch.eye(2)[[0, 1, 0, 1]]
    small = images
    while small.shape[-1] > 8:
        small = downsample2d(small, FILTER)
    logits = source.D(small, c)
    assert logits.std() > 0.01
    torch.testing.assert_close(state.D(images, c), logits, rtol=1e-4, atol=1e-4)


def test_what_is_new_in_a_grown_discriminator_gets_gradients(tmp_path: Path) -> None:
    state = begun(tmp_path, made(tmp_path, 8, D__channel_min=6), 32, D__channel_min=6)
    state.D.requires_grad_(True)
    state.D(torch.randn(4, 1, 32, 32), torch.eye(2)[[0, 1, 0, 1]]).square().sum().backward()
    for name, parameter in state.D.named_parameters():
        if name.startswith("b16.conv1.weight"):
            assert (parameter.grad != 0).all(), name


@pytest.mark.parametrize("changes", [{"D__architecture": "orig"}, {"D__channel_base": 16, "D__channel_max": 2}])
def test_discriminators_without_shortcuts_or_room_are_left_fresh(tmp_path: Path, changes: dict[str, object]) -> None:
    source = made(tmp_path, 8, **changes)
    fresh, state = (made(tmp_path, 16, seed=9, **changes) for _ in range(2))
    report = start_from(state, source.save(tmp_path / "checkpoints", {}))
    assert not any("judgement" in note for note in report.notes)
    assert torch.equal(state.D.b16.conv0.weight, fresh.D.b16.conv0.weight)


def test_wider_networks_draw_and_judge_as_the_narrow_ones_did(tmp_path: Path) -> None:
    narrow = {"G__channel_max": 8, "D__channel_max": 8, "G__channel_base": 64, "D__channel_base": 64}
    wide = {**narrow, "G__channel_min": 6, "D__channel_min": 6, "G__channel_base": 100, "D__channel_base": 120}
    source = made(tmp_path, 16, **narrow)
    state = begun(tmp_path, source, 16, **wide)
    assert state.G.synthesis.b16.conv1.weight.shape[0] > source.G.synthesis.b16.conv1.weight.shape[0]
    assert state.D.b16.conv0.weight.shape[0] > source.D.b16.conv0.weight.shape[0]
    z, c = torch.randn(4, 8), torch.eye(2)[[0, 1, 0, 1]]
    images = source.G_ema(z, c, noise_mode="none")
    assert images.std() > 0.1
    torch.testing.assert_close(state.G_ema(z, c, noise_mode="none"), images, rtol=1e-4, atol=1e-4)
    images = torch.randn(4, 1, 16, 16)
    torch.testing.assert_close(state.D(images, c), source.D(images, c), rtol=1e-4, atol=1e-4)


def test_wider_networks_can_grow_at_once(tmp_path: Path) -> None:
    source = made(tmp_path, 8, D__channel_max=8, D__channel_base=40)
    state = begun(tmp_path, source, 16, D__channel_max=8, D__channel_base=64, D__channel_min=6)
    assert source.D.b8.conv0.weight.shape[0] < state.D.b8.conv0.weight.shape[0]
    images, c = torch.randn(2, 1, 16, 16), torch.eye(2)
    torch.testing.assert_close(state.D(images, c), source.D(downsample2d(images, FILTER), c), rtol=1e-4, atol=1e-4)
