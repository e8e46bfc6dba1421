import json
import stat

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn.functional import normalize
from toy_eyes import toy_eye, write_eyes

from dnnlib.errors import CheckpointError, ConfigError, DataError
from dnnlib.pictures import encode_png
from stylegan_oct.data.archive import Archive, ArchiveWriter
from stylegan_oct.features.copies import read_copy_info
from stylegan_oct.features.copies_training import CopyTraining, contrast, disguise, train_copies
from stylegan_oct.features.detector import load_detector
from stylegan_oct.model import DEMO, GENERATOR_FILE
from tools.__main__ import main
from torch_utils.checkpoint import read_header

SHORT = CopyTraining(nimg=60, batch=20, resolution=16)


def stack(pictures):
    return torch.from_numpy(np.stack(pictures))[:, None]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies")
    archive = write_eyes(folder / "eyes.zip", train=60, held_out=20)
    info = train_copies(archive, folder / "c.safetensors", CopyTraining(nimg=1600, batch=40, resolution=16))
    return archive, folder / "c.safetensors", info


def test_the_same_eye_under_other_speckle_is_nearer_than_any_other_eye(trained):
    detector = load_detector("copies", weights=trained[1])
    known = detector.embed(stack([toy_eye(i) for i in range(60)]))
    again = detector.embed(stack([toy_eye(i, speckle=1) for i in range(60)]))
    assert (torch.cdist(again, known).argmin(dim=1) == torch.arange(60)).double().mean() > 0.95


def test_a_mirrored_picture_has_the_same_features(trained):
    detector = load_detector("copies", weights=trained[1])
    pixels = stack([toy_eye(i) for i in range(4)])
    torch.testing.assert_close(detector.embed(pixels.flip(3)), detector.embed(pixels))


def test_gain_and_offset_do_not_count(trained):
    detector = load_detector("copies", weights=trained[1])
    pixels = stack([toy_eye(i) // 2 for i in range(4)])
    torch.testing.assert_close(detector.embed(pixels + 40), detector.embed(pixels), atol=1e-3, rtol=0)


def test_features_are_unit_vectors_of_grey_and_rgb_pictures_of_any_size(trained):
    detector = load_detector("copies", weights=trained[1])
    pixels = stack([toy_eye(i) for i in range(3)])
    features = detector.embed(pixels)
    torch.testing.assert_close(torch.linalg.vector_norm(features, dim=1), torch.ones(3))
    torch.testing.assert_close(detector.embed(pixels.expand(-1, 3, -1, -1)), features, atol=1e-3, rtol=0)
    larger = pixels.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert (torch.cdist(detector.embed(larger), features).argmin(dim=1) == torch.arange(3)).all()
    assert detector.embed(pixels[:0]).shape == (0, detector.dim)


def test_training_again_gives_the_same_file(trained, tmp_path):
    archive, _, _ = trained
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for number, file in enumerate(files):
        torch.manual_seed(number)  # the state of the caller does not count
        train_copies(archive, file, SHORT)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_file_is_private_and_says_nothing_but_what_it_needs(trained):
    archive, file, info = trained
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_copy_info(file) == info
    header = read_header(file)
    assert header.keys() == {"kind", "info"}
    assert json.loads(header["info"]) == {"archive": Archive(archive).fingerprint, "source": "scans", "nimg": 1600,
                                          "resolution": 16, "seed": 0}


def test_a_detector_of_simulated_scans_is_for_everybody(tmp_path):
    archive = write_eyes(tmp_path / "eyes.zip", train=20, held_out=0, source="phantom")
    train_copies(archive, tmp_path / "c.safetensors", SHORT)
    assert stat.S_IMODE((tmp_path / "c.safetensors").stat().st_mode) & 0o044


def test_other_scans_of_a_patient_neither_attract_nor_repel():
    generator = torch.Generator().manual_seed(0)
    features = normalize(torch.randn(8, 6, generator=generator), dim=1).requires_grad_()
    patients = torch.tensor([0, 0, 1, 2])  # rows 0, 1 and their other views 4, 5 are of one patient
    scores = features @ features.T / 0.05
    loss = contrast(features, patients)
    strangers = {0: [2, 3, 6, 7], 1: [2, 3, 6, 7], 2: [0, 1, 3, 4, 5, 7], 3: [0, 1, 2, 4, 5, 6]}
    expected = [torch.logsumexp(scores[row][[(row + 4) % 8, *strangers[row % 4]]], dim=0) - scores[row, (row + 4) % 8]
                for row in range(8)]
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_scans_of_one_patient_alone_have_nothing_to_be_told_from():
    features = normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    assert contrast(features, torch.zeros(3, dtype=torch.int64)) == pytest.approx(0, abs=1e-6)


def test_views_differ_but_keep_the_shape_and_about_the_range():
    images = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    first, second = disguise(images), disguise(images)
    assert first.shape == images.shape and not torch.equal(first, second)
    assert first.isfinite().all() and first.abs().max() < 1.6


def test_pictures_of_a_generator_are_refused(tmp_path):
    with ArchiveWriter(tmp_path / "drawn.zip", resolution=32, channels=1, classes=(), source="synthetic") as writer:
        writer.add_image("synthetic", encode_png(toy_eye(0)), None, {})
    with pytest.raises(DataError, match="library of synthetic pictures"):
        train_copies(tmp_path / "drawn.zip", tmp_path / "c.safetensors")


def test_scans_of_one_patient_are_refused(tmp_path):
    archive = write_eyes(tmp_path / "one.zip", train=8, held_out=0, per_patient=8)
    with pytest.raises(DataError, match="one patient alone"):
        train_copies(archive, tmp_path / "c.safetensors")


@pytest.mark.parametrize("changes", [{"nimg": 0}, {"batch": 3}, {"resolution": 48}, {"resolution": 8}])
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ConfigError):
        CopyTraining(**changes)


def test_another_file_is_not_taken_for_a_copy_detector():
    with pytest.raises(CheckpointError, match="is not a copy detector of this project"):
        load_detector("copies", weights=DEMO / GENERATOR_FILE)


def test_a_place_that_cannot_be_written_is_refused_before_training(trained, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Choose another place with --out"):
        train_copies(trained[0], tmp_path / "file" / "c.safetensors")


def test_the_command_says_how_well_copies_are_told(trained, tmp_path):
    arguments = ["train-copies", str(trained[0]), "--kimg", "0.06", "--batch", "20", "--resolution", "16",
                 "--out", str(tmp_path / "c.safetensors")]
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 0, said.output
    assert "planted_auroc_copies" in said.output and "keep it as you keep the scans" in said.output
    numbers = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert 0 <= numbers["planted_auroc_copies"] <= 1 and numbers["resolution"] == 16


def test_the_command_says_when_nothing_is_held_out(tmp_path):
    archive = write_eyes(tmp_path / "eyes.zip", train=12, held_out=0)
    said = CliRunner().invoke(main, ["train-copies", str(archive), "--kimg", "0.02", "--batch", "10"])
    assert said.exit_code == 0, said.output
    assert "how well it does is not known" in said.output and "no held-out scans" in said.output
    kept = next(tmp_path.glob("eyes-copies-*.safetensors"))
    assert Archive(archive).fingerprint.startswith(kept.stem.rpartition("-")[2])


def test_the_command_shows_an_example():
    assert "python -m tools train-copies" in CliRunner().invoke(main, ["train-copies", "--help"]).output
