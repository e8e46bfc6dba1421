import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dnnlib.errors import CheckpointError, ConfigError, DataError
from dnnlib.pictures import encode_png
from stylegan_oct.classes import CLASSES
from stylegan_oct.data.archive import Archive, ArchiveWriter
from stylegan_oct.features.detector import load_detector
from stylegan_oct.features.oct import OctNetwork, stage_count
from stylegan_oct.features.oct_training import OctTraining, train_oct
from stylegan_oct.model import DEMO, GENERATOR_FILE
from stylegan_oct.phantom import render
from tools.__main__ import main
from torch_utils.checkpoint import read_header, read_tensors


def band_archive(path, *, count=60, classes=("HIGH", "LOW"), channels=1):
    """Write pictures with a bright band in the upper or the lower half: classes that a small network tells apart."""
    rng = np.random.default_rng(0)
    with ArchiveWriter(path, resolution=16, channels=channels, classes=classes, source="scans") as writer:
        for i in range(count):
            picture = rng.integers(0, 60, (16, 16), dtype=np.uint8)
            row = 3 if i % 2 == 0 else 11
            picture[row:row + 3] += 150
            shown = picture if channels == 1 else np.repeat(picture[:, :, None], 3, axis=2)
            split = ("train", "train", "val", "test")[i // 2 % 4]
            writer.add_image(split, encode_png(shown), i % 2 if classes else None, {})
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    archive = band_archive(folder / "bands.zip")
    info = train_oct(archive, folder / "d.safetensors", OctTraining(nimg=600, batch=20))
    return archive, folder / "d.safetensors", info


def test_classes_that_differ_are_learned(trained):
    _, _, info = trained
    assert info.accuracy("val") > 0.9
    assert info.accuracy("test") > 0.9
    assert info.count == {"val": {"HIGH": 7, "LOW": 7}, "test": {"HIGH": 7, "LOW": 7}}


def test_the_file_says_what_it_was_trained_on(trained):
    archive, file, info = trained
    loaded = load_detector("oct", weights=file)
    assert loaded.info == info
    assert info.archive == Archive(archive).fingerprint
    assert (info.classes, info.resolution, info.source) == (("HIGH", "LOW"), 16, "scans")


def test_probabilities_are_of_the_classes(trained):
    loaded = load_detector("oct", weights=trained[1])
    high, low = (torch.full((1, 1, 16, 16), 20, dtype=torch.uint8) for _ in range(2))
    high[..., 3:6, :], low[..., 11:14, :] = 180, 180
    probabilities = loaded.classify(torch.cat([high, low]))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2))
    assert [loaded.classes[i] for i in probabilities.argmax(dim=1)] == ["HIGH", "LOW"]


def test_pictures_of_other_sizes_and_in_rgb_are_classified_alike(trained):
    loaded = load_detector("oct", weights=trained[1])
    small = torch.full((1, 1, 16, 16), 20, dtype=torch.uint8)
    small[..., 3:6, :] = 180
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(loaded.classify(small.expand(-1, 3, -1, -1)), loaded.classify(small))
    assert loaded.classify(large).argmax() == loaded.classify(small).argmax()
    assert loaded.classify(small[:0]).shape == (0, 2)


def test_training_again_gives_the_same_weights(trained, tmp_path):
    archive, file, _ = trained
    torch.manual_seed(123)  # the state of the caller does not count
    train_oct(archive, tmp_path / "again.safetensors", OctTraining(nimg=600, batch=20))
    again, first = (read_tensors(path) for path in (tmp_path / "again.safetensors", file))
    assert again.keys() == first.keys() and all(torch.equal(again[name], first[name]) for name in first)
    assert read_header(tmp_path / "again.safetensors") == read_header(file)


def test_a_detector_for_rgb_takes_grey_pictures_too(tmp_path):
    archive = band_archive(tmp_path / "rgb.zip", channels=3)
    train_oct(archive, tmp_path / "d.safetensors", OctTraining(nimg=40, batch=20))
    grey = torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
    assert load_detector("oct", weights=tmp_path / "d.safetensors").classify(grey).shape == (2, 2)


def test_pictures_are_shrunk_to_the_resolution_asked_for(tmp_path):
    archive = band_archive(tmp_path / "bands.zip")
    info = train_oct(archive, tmp_path / "d.safetensors", OctTraining(nimg=40, batch=20, resolution=8))
    assert info.resolution == 8


def test_stages_lead_to_four_by_four():
    for side in (8, 16, 64, 128):
        images = torch.zeros(1, 1, side, side)
        assert OctNetwork(side, 1, 4).eval().taps(images)[-1].shape[-1] == 4, stage_count(side)


def test_an_archive_without_classes_is_refused(tmp_path):
    archive = band_archive(tmp_path / "none.zip", classes=())
    with pytest.raises(DataError, match="no classes to tell apart. Convert scans in class folders"):
        train_oct(archive, tmp_path / "d.safetensors")


def test_a_class_without_training_scans_is_named(tmp_path):
    archive = band_archive(tmp_path / "three.zip", classes=("HIGH", "LOW", "NEVER"))
    with pytest.raises(DataError, match="none of NEVER for training"):
        train_oct(archive, tmp_path / "d.safetensors")


@pytest.mark.parametrize("changes", [{"nimg": 0}, {"batch": 1}, {"resolution": 60}, {"resolution": 4}])
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ConfigError):
        OctTraining(**changes)


def test_another_file_is_not_taken_for_a_detector():
    with pytest.raises(CheckpointError, match="is not a detector of this project"):
        load_detector("oct", weights=DEMO / GENERATOR_FILE)


def test_the_command_prints_the_accuracy_by_class(tmp_path):
    archive = band_archive(tmp_path / "bands.zip")
    out = tmp_path / "d.safetensors"
    arguments = ["train-detector", str(archive), "--out", str(out), "--kimg", "0.1", "--batch", "20"]
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 0, said.output
    assert "val" in said.output and "HIGH" in said.output and "/7" in said.output
    numbers = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert numbers["count"]["test"] == {"HIGH": 7, "LOW": 7}
    assert load_detector("oct", weights=out).classes == ("HIGH", "LOW")


def test_a_place_that_cannot_be_written_is_refused_before_training(trained, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Cannot make the folder .*Choose another place with --out"):
        train_oct(trained[0], tmp_path / "file" / "d.safetensors")


def test_the_command_shows_an_example():
    said = CliRunner().invoke(main, ["train-detector", "--help"])
    assert "python -m tools train-detector scans-64.zip" in said.output


def test_the_included_detector_names_simulated_scans_rightly():
    oracle = load_detector("oct")
    assert oracle.classes == CLASSES
    assert oracle.info.source == "phantom"
    shown = [render(4242, index, label=CLASSES[index % 4], resolution=(64, 64), border=False).image
             for index in range(12)]
    named = oracle.classify(torch.from_numpy(np.stack(shown))[:, None]).argmax(dim=1)
    assert (named == torch.arange(12) % 4).sum() >= 11
