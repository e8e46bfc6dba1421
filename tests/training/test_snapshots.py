"""Watching over the variety within each class."""

from pathlib import Path

import pytest
import torch
from tiny import tiny_config, write_archive

from stylegan_oct.batches import Layers
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.training.snapshots import Snapshots, diversity, draws_of_a_class
from stylegan_oct.training.state import create_state


def test_diversity_is_the_distance_of_two_images_and_zero_for_copies() -> None:
    image = torch.rand(1, 1, 32, 32)
    assert diversity(image.expand(5, -1, -1, -1)) == 0.0
    assert diversity(torch.cat([image, image + 0.5])) == pytest.approx(0.5, abs=1e-3)
    assert diversity(image) == 0.0


def test_speckle_alone_is_no_diversity() -> None:
    anatomy = torch.rand(1, 1, 256, 256)
    speckled = anatomy + 0.3 * torch.randn(8, 1, 256, 256)
    assert diversity(speckled) < 0.05


def test_a_generator_that_draws_one_picture_is_seen(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.zip")
    config = tiny_config(archive)
    state = create_state(config, torch.device("cpu"), "phantom")
    with torch.no_grad():
        for parameter in state.G_ema.mapping.parameters():
            parameter.zero_()
        for name, parameter in state.G_ema.named_parameters():
            if "noise_strength" in name:
                parameter.zero_()
    snapshots = Snapshots(config, state.G_ema, ArchiveDataset(archive))
    shares = snapshots.save(tmp_path / "grid.png", 0)
    assert set(shares) == {"CNV", "DRUSEN"} and max(shares.values()) < 1e-3
    snapshots.save_reals(tmp_path / "reals.png", "scans")
    assert (tmp_path / "reals.png").exists()


def test_a_grid_is_left_unfinished_when_the_run_is_to_stop(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.zip")
    config = tiny_config(archive)
    state = create_state(config, torch.device("cpu"), "phantom")
    asked: list[bool] = []

    def stopped() -> bool:
        asked.append(True)
        return len(asked) > 2

    snapshots = Snapshots(config, state.G_ema, ArchiveDataset(archive), stopped=stopped)
    assert snapshots.save(tmp_path / "grid.png", 8) == {}
    assert len(asked) == 3 and not (tmp_path / "grid.png").exists()


def test_grids_of_pictures_that_take_long_are_smaller() -> None:
    assert draws_of_a_class(Layers(widest=2**17, total=2**18), torch.device("cpu")) == 16
    assert draws_of_a_class(Layers(widest=2**22, total=2**23), torch.device("cpu")) == 8
    assert draws_of_a_class(Layers(widest=2**24, total=2**25), torch.device("cpu")) == 8
