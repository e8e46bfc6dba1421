"""The library: what it holds, that it grows, and what it refuses."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from small_library import CLASSES, make_generator
from tiny import write_archive

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.data.archive import Archive, ArchiveWriter
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.latent.library import Library, default_path, write_library
from stylegan_oct.training.launch import data_config
from tools.__main__ import main
from torch_utils.distributed import World
from torch_utils.images import to_pictures


def test_pictures_are_balanced_and_come_back_from_their_seeds_and_from_their_latents(tmp_path: Path) -> None:
    G = make_generator()
    assert write_library(tmp_path / "a.zip", G, count=10, psi=0.7, seed=5, batch=3) == 10
    library = Library(tmp_path / "a.zip")
    assert library.labels.tolist() == [0, 1] * 5 and library.class_name(3) == "DRUSEN"
    assert (library.seed(3), library.origin.psi, library.origin.checkpoint_sha256) == (8, 0.7, G.info.sha256)
    from_seed = to_pictures(G(G.z([8]), "DRUSEN", psi=0.7))[0]
    assert abs(library.picture(3).astype(int) - from_seed).max() <= 1
    assert library.w.shape == (10, 8) and library.w.dtype == torch.float16
    from_w = to_pictures(G.synthesize(library.w[3:4].float()))[0]
    assert abs(library.picture(3).astype(int) - from_w).max() <= 1


def test_every_picture_says_that_it_is_synthetic_and_where_it_comes_from(tmp_path: Path) -> None:
    G = make_generator()
    write_library(tmp_path / "a.zip", G, count=4)
    archive = Archive(tmp_path / "a.zip")
    assert archive.source == "synthetic" and archive.splits == ("synthetic",)
    for name in archive.names("synthetic"):
        assert name.startswith("synthetic/")
        for word in (b"synthetic", b"not a scan of a patient", G.info.sha256.encode(), b"seed", b"psi"):
            assert word in archive.read(name)
    row = json.loads(archive.read("manifest.jsonl").splitlines()[3])
    assert (row["seed"], row["class"], row["psi"]) == (3, "DRUSEN", 1.0)


def test_a_longer_library_begins_with_the_shorter_which_is_not_drawn_again(tmp_path: Path) -> None:
    G = make_generator()
    write_library(tmp_path / "grown.zip", G, count=4, batch=2)
    done: list[int] = []
    write_library(tmp_path / "grown.zip", G, count=8, batch=2, progress=lambda n, _: done.append(n))
    write_library(tmp_path / "whole.zip", G, count=8, batch=2)
    assert done == [4, 6, 8]
    assert (tmp_path / "grown.zip").read_bytes() == (tmp_path / "whole.zip").read_bytes()
    assert write_library(tmp_path / "grown.zip", G, count=6) == 8


def test_ctrl_c_leaves_a_library_of_what_is_drawn(tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 4:
            os.kill(os.getpid(), signal.SIGINT)

    assert write_library(tmp_path / "a.zip", make_generator(), count=100, batch=2, progress=stop) == 4
    assert len(Library(tmp_path / "a.zip")) == 4


def test_ctrl_c_before_the_first_picture_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_library(tmp_path / "a.zip", make_generator(), count=100,
                      progress=lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert not list(tmp_path.iterdir())


def test_a_library_of_another_origin_is_replaced_only_on_request(tmp_path: Path) -> None:
    G = make_generator()
    write_library(tmp_path / "a.zip", G, count=4)
    with pytest.raises(ConfigError, match="another psi and seed"):
        write_library(tmp_path / "a.zip", G, count=4, psi=0.5, seed=9)
    write_library(tmp_path / "a.zip", G, count=4, psi=0.5, overwrite=True)
    assert Library(tmp_path / "a.zip").origin.psi == 0.5
    with pytest.raises(ConfigError, match="another generator"):
        Library(tmp_path / "a.zip").check_origin(make_generator(seed=1))


def test_other_files_are_not_overwritten_and_not_read_as_a_library(tmp_path: Path) -> None:
    scans = write_archive(tmp_path / "scans.zip")
    with pytest.raises(ConfigError, match="no library"):
        write_library(scans, make_generator(), count=4)
    with pytest.raises(DataError, match="holds scans, not a library"):
        Library(scans)
    (tmp_path / "empty.zip").touch()
    with pytest.raises(DataError, match="not a zip"):
        Library(tmp_path / "empty.zip")
    picture = Archive(scans).read("train/00000/img00000000.png")
    with ArchiveWriter(tmp_path / "other.zip", resolution=8, channels=1, classes=CLASSES, source="synthetic") as writer:
        writer.add_image("synthetic", picture, 0, {})
    with pytest.raises(DataError, match="does not say what drew it"):
        Library(tmp_path / "other.zip")


@pytest.mark.parametrize("name, count, words", [("a.png", 4, "a.zip"), ("a.zip", 3, "at least 4")])
def test_options_that_cannot_work_are_refused(tmp_path: Path, name: str, count: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        write_library(tmp_path / name, make_generator(), count=count)


def test_nobody_trains_on_a_library_unaware(tmp_path: Path) -> None:
    write_library(tmp_path / "a.zip", make_generator(), count=4)
    with pytest.raises(DataError, match="that a generator drew"):
        data_config(tmp_path / "a.zip", World(device=torch.device("cpu")))
    with pytest.raises(DataError, match="no split 'train'"):
        ArchiveDataset(tmp_path / "a.zip")


def test_a_generator_without_classes_has_a_library_too(tmp_path: Path) -> None:
    write_library(tmp_path / "a.zip", make_generator(classes=()), count=4)
    library = Library(tmp_path / "a.zip")
    assert library.classes == () and library.class_name(0) == "" and library.labels.tolist() == [0] * 4


def test_the_command_draws_a_library_of_the_demo_generator_and_grows_it(tmp_path: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for count in (8, 12):
        result = CliRunner().invoke(main, ["library", "--count", str(count)])
        assert result.exit_code == 0, result.output
        assert f"{count} synthetic pictures in data" in result.output
    assert [path.suffix for path in Path("data").iterdir()] == [".zip"]
    assert default_path(make_generator(), psi=0.5, seed=3).name.endswith("-psi0.5-seed3.zip")
