"""`import-weights`: from an official snapshot to pictures, and to a training that starts from them."""

import json

import pytest
import torch
from click.testing import CliRunner
from official_pickles import networks, official_pickle
from tiny import tiny_config, train, write_archive

from dnnlib.errors import CheckpointError, ConfigError
from stylegan_oct.model import load_generator
from stylegan_oct.networks.legacy import from_official
from stylegan_oct.training.official import import_weights
from tools.__main__ import main
from torch_utils.checkpoint import read_tensors

COLOUR = {"img_channels": 3, "c_dim": 4}


@pytest.fixture
def snapshot(tmp_path):
    file = tmp_path / "network-snapshot-000320.pkl"
    file.write_bytes(official_pickle(networks(c_dim=4)))
    return file


def test_an_imported_generator_draws_what_the_official_one_drew(tmp_path, snapshot):
    found = import_weights(snapshot, tmp_path / "official", ["CNV", "DME", "DRUSEN", "NORMAL"])
    assert found.classes == ("CNV", "DME", "DRUSEN", "NORMAL")
    G = load_generator(found.path)
    assert (G.info.resolution, G.info.nimg, G.info.preset) == (32, 320_000, "official")
    z = torch.randn(3, 6)
    wanted = networks(c_dim=4)["G_ema"](z, torch.full((3,), 2), noise_mode="const")
    torch.testing.assert_close(G(z, "DRUSEN"), wanted, rtol=0, atol=1e-5)


def test_grey_pictures_are_the_means_of_the_colours_and_are_judged_alike(tmp_path):
    made, file = networks(**COLOUR), tmp_path / "snapshot.pkl"
    file.write_bytes(official_pickle(made))
    G = load_generator(import_weights(file, tmp_path / "grey", grey=True).path)
    z, c = torch.randn(2, 6), torch.tensor([1, 3])
    wanted = made["G_ema"](z, c, noise_mode="const").mean(dim=1, keepdim=True)
    torch.testing.assert_close(G(z, c, noise_mode="const"), wanted, rtol=0, atol=1e-4)
    D = from_official({name: value for name, value in read_tensors(tmp_path / "grey/D.safetensors").items()})
    grey = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(D(grey, c), made["D"](grey.expand(-1, 3, -1, -1), c), rtol=0, atol=1e-4)


def test_a_training_starts_from_them(tmp_path, snapshot):
    import_weights(snapshot, tmp_path / "official", ["CNV", "DME", "DRUSEN", "NORMAL"])
    archive = write_archive(tmp_path / "scans.zip", resolution=32, classes=("CNV", "NORMAL"))
    config = tiny_config(archive, start_from=str(tmp_path / "official"), total_kimg=0.004, G__channel_base=256,
                         G__channel_max=16, D__channel_base=256, D__channel_max=16, G__z_dim=6, G__mapping_layers=3,
                         D__mapping_layers=2, optimizer__G_lr=1e-9)
    outcome, _ = train(config, tmp_path / "runs")
    G, start = load_generator(outcome.checkpoint), load_generator(tmp_path / "official")
    z = torch.randn(2, 6)
    torch.testing.assert_close(G(z, "CNV"), start(z, "CNV"), rtol=0, atol=1e-4)


def test_the_command_says_what_became_of_everything(tmp_path, snapshot):
    done = CliRunner().invoke(main, ["import-weights", str(snapshot), str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "G_ema: " in done.output and "classes: numbered" in done.output and "class0, class1" in done.output
    meta = json.loads((tmp_path / "out/meta.json").read_text())
    assert meta["imported"]["file"] == snapshot.name and meta["nimg"] == 320_000


@pytest.mark.parametrize("classes", [["CNV"], ["A", "B", "C", "A"], ["A", "B", "C", " "]])
def test_names_that_do_not_fit_are_refused(tmp_path, snapshot, classes):
    with pytest.raises(ConfigError, match="has 4 classes"):
        import_weights(snapshot, tmp_path / "out", classes)
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_written_over_and_a_lone_discriminator_draws_nothing(tmp_path, snapshot):
    with pytest.raises(ConfigError, match="is there already"):
        import_weights(snapshot, tmp_path)
    file = tmp_path / "D.pkl"
    file.write_bytes(official_pickle({"D": networks()["D"]}))
    with pytest.raises(CheckpointError, match="discriminator alone"):
        import_weights(file, tmp_path / "out")
