"""One thread for all tests, and fixtures for those that train."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import tiny_config, write_archive

from stylegan_oct.config import TrainConfig

torch.set_num_threads(1)  # several threads on busy cores wait for each other


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive") / "tiny.zip")


@pytest.fixture
def make_config(archive: Path) -> Callable[..., TrainConfig]:
    """`tiny_config` of the tiny archive: make_config(r1__gamma=0.0)."""
    return lambda **changes: tiny_config(archive, **changes)
