"""Starting from other weights: copied, adapted, left fresh, or refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import tiny_config, write_archive

from dnnlib.errors import CheckpointError
from stylegan_oct.config import TrainConfig
from stylegan_oct.packing import export_generator
from stylegan_oct.training.state import create_state
from stylegan_oct.training.transfer import start_from

Make = Callable[..., TrainConfig]
CPU = torch.device("cpu")


@pytest.fixture
def source(make_config: Make, tmp_path: Path) -> Path:
    state = create_state(make_config(seed=5), CPU, "phantom")
    with torch.no_grad():
        state.G_ema.mapping.w_avg_class.normal_()
    return state.save(tmp_path / "checkpoints", {})


def test_the_same_networks_are_copied_whole(make_config: Make, source: Path) -> None:
    state = create_state(make_config(), CPU, "scans")
    report = start_from(state, source)
    assert not report.adapted and not report.fresh
    donor = create_state(make_config(seed=5), CPU, "phantom")
    for name, tensor in donor.G_ema.named_parameters():
        assert torch.equal(dict(state.G.named_parameters())[name], tensor)
    for name, tensor in donor.D.named_parameters():
        assert torch.equal(dict(state.D.named_parameters())[name], tensor)


def test_classes_are_matched_by_name_and_new_ones_start_from_the_mean(tmp_path: Path, source: Path) -> None:
    archive = write_archive(tmp_path / "three.zip", classes=("DRUSEN", "NEW", "CNV"))
    state = create_state(tiny_config(archive), CPU, "scans")
    report = start_from(state, source)
    donor = create_state(tiny_config(write_archive(tmp_path / "two.zip"), seed=5), CPU, "phantom").G_ema
    old, new = donor.mapping.embed.weight, state.G.mapping.embed.weight  # [w, classes]
    assert torch.equal(new[:, 0], old[:, 1]) and torch.equal(new[:, 2], old[:, 0])
    torch.testing.assert_close(new[:, 1], old.mean(dim=1))
    assert any("embed" in name for name in report.adapted)


def test_more_channels_are_adapted_and_D_keeps_its_response(tmp_path: Path, source: Path) -> None:
    state = create_state(tiny_config(write_archive(tmp_path / "rgb.zip", channels=3)), CPU, "scans")
    report = start_from(state, source)
    assert any("torgb" in name for name in report.adapted) and any("fromrgb" in name for name in report.adapted)
    donor = create_state(tiny_config(write_archive(tmp_path / "grey.zip"), seed=5), CPU, "phantom").D
    grey, c = torch.rand(2, 1, 8, 8), torch.eye(2)
    torch.testing.assert_close(state.D(grey.expand(-1, 3, -1, -1), c), donor(grey, c))


def test_a_higher_resolution_leaves_the_new_layers_fresh(tmp_path: Path, source: Path) -> None:
    state = create_state(tiny_config(write_archive(tmp_path / "large.zip", resolution=16)), CPU, "scans")
    report = start_from(state, source)
    assert any(".b16." in name for name in report.fresh)
    assert any(".b8." in name or ".b4." in name for name in report.copied)


def test_networks_that_share_nothing_are_refused(make_config: Make, source: Path) -> None:
    state = create_state(make_config(G__w_dim=6, G__z_dim=6, G__channel_max=6, G__mapping_layers=1), CPU, "scans")
    with pytest.raises(CheckpointError, match="channel_base"):
        start_from(state, source)


def test_a_missing_discriminator_is_said(make_config: Make, source: Path) -> None:
    (source / "D.safetensors").unlink()
    (source / "meta.json").unlink()
    report = start_from(create_state(make_config(), CPU, "scans"), source / "G_ema.safetensors")
    assert any("discriminator" in line for line in report.lines())


def test_a_packed_generator_with_its_discriminator_is_a_start_too(make_config: Make, source: Path,
                                                                 tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    export_generator(source, tmp_path / "packed" / "G_ema.safetensors", discriminator=True)
    state = create_state(make_config(), CPU, "scans")
    report = start_from(state, tmp_path / "packed")
    assert not report.fresh
    donor = create_state(make_config(seed=5), CPU, "phantom")
    for name, tensor in donor.D.named_parameters():
        assert torch.equal(dict(state.D.named_parameters())[name], tensor.half().float())
    (source / "D.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no discriminator beside"):
        export_generator(source / "G_ema.safetensors", tmp_path / "other.safetensors", discriminator=True)
    assert not (tmp_path / "other.safetensors").exists()
