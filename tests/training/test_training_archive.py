import json
import shutil
from pathlib import Path

import torch
from tiny import tiny_config, write_archive

from stylegan_oct.model import (
    find_generator,
    load_generator,
    read_info,
    training_archive,
)
from stylegan_oct.packing import export_generator
from stylegan_oct.training.state import create_state


def test_a_generator_says_which_archive_it_was_trained_on(tmp_path: Path) -> None:
    config = tiny_config(write_archive(tmp_path / "scans.zip"))
    place = create_state(config, torch.device("cpu"), "phantom").save(tmp_path / "run" / "checkpoints", {})
    info = read_info(find_generator(place))
    assert info.archive == config.data.fingerprint == training_archive(info).fingerprint
    assert training_archive(info).path is None, "without its run nothing tells the place"
    (tmp_path / "run" / "config.json").write_text(json.dumps({"data": {"path": config.data.path,
                                                                      "fingerprint": config.data.fingerprint}}))
    assert training_archive(info).path == tmp_path / "scans.zip"
    export_generator(place, tmp_path / "packed.safetensors")
    assert read_info(tmp_path / "packed.safetensors").archive == info.archive


def test_the_configuration_of_another_generator_is_not_believed(tmp_path: Path) -> None:
    config = tiny_config(write_archive(tmp_path / "scans.zip"))
    place = create_state(config, torch.device("cpu"), "phantom").save(tmp_path / "checkpoints", {})
    file = shutil.copy(place / "G_ema.safetensors", tmp_path / "G_ema.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"data": {"path": "other.zip", "fingerprint": "f" * 64}}))
    found = training_archive(read_info(file))
    assert (found.fingerprint, found.path) == (config.data.fingerprint, None)


def test_the_demo_tells_by_the_configuration_beside_it() -> None:
    info = load_generator().info
    assert info.archive == "" and training_archive(info).fingerprint.startswith("7cffd39c3543")
