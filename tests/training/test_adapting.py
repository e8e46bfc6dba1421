"""A generator that goes on with a few scans: whose networks it takes, when it ends, what it refuses."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import tiny_config, train, write_archive

from dnnlib.errors import ConfigError, DataError
from dnnlib.logs import read_jsonl
from stylegan_oct.config import DataConfig, TrainConfig
from stylegan_oct.metrics.statistics.values import Value
from stylegan_oct.model import find_generator, load_generator
from stylegan_oct.training import launch, monitor
from stylegan_oct.training.quality import Quality
from torch_utils import checkpoint
from torch_utils.distributed import World

Make = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def _no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_event_writer", lambda *_: None)


def judged_by(monkeypatch: pytest.MonkeyPatch, distances: dict[int, float]) -> list[int]:
    """Let the snapshots have these distances; return the list of what is measured."""
    measured: list[int] = []

    def values(_: Quality, nimg: int) -> list[Value]:
        measured.append(nimg)
        return [Value(metric="kd_lite0", value=distances[nimg], better="lower")]

    monkeypatch.setattr(Quality, "_values", values)
    return measured


PATIENT = {"total_kimg": 0.1, "save__snapshot_kimg": 0.008, "save__metrics": ["kd_lite0"], "save__patience": 2}
RISING = {8: 3.0, 16: 1.0, 24: 2.0, 32: 1.5, 40: 0.5}


def test_a_run_ends_when_the_distance_has_risen_and_its_generator_is_the_best(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = judged_by(monkeypatch, RISING)
    outcome, choice = train(make_config(**PATIENT), tmp_path)
    assert outcome.finished and outcome.nimg == 32 and measured == [8, 16, 24, 32]
    assert outcome.checkpoint == choice.run.path / "best"
    for place in (choice.run.path, tmp_path):
        assert checkpoint.nimg_of(find_generator(place).resolve().parent) == 16
    again, _ = train(make_config(**PATIENT), tmp_path)
    assert again.finished and again.nimg == 32 and measured == [8, 16, 24, 32]


@pytest.mark.parametrize("held_out", [5, 19])
def test_held_out_scans_too_few_to_be_halved_still_tell_the_best(tmp_path: Path, held_out: int) -> None:
    archive = write_archive(tmp_path / "few.zip", held_out=held_out, resolution=16)
    config = tiny_config(archive, total_kimg=0.016, save__snapshot_kimg=0.008, save__metrics=["kd_lite0"],
                         save__metrics_count=16, save__patience=3)
    _, choice = train(config, tmp_path / "runs")
    rows = [row for row in read_jsonl(choice.run.metrics) if row["metric"] == "kd_lite0"]
    assert [row["nimg"] for row in rows] == [8, 16] and all(math.isfinite(row["value"]) for row in rows)
    assert all(0 < row["n_real"] <= held_out for row in rows) and choice.run.best.exists()


def test_without_patience_it_goes_on_and_its_generator_is_the_newest(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged_by(monkeypatch, RISING)
    outcome, choice = train(make_config(**{**PATIENT, "save__patience": 0, "total_kimg": 0.04}), tmp_path)
    assert outcome.nimg == 40 and checkpoint.nimg_of(find_generator(choice.run.path).parent) == 40


def test_patience_needs_a_metric(make_config: Make) -> None:
    with pytest.raises(ConfigError, match="--metrics kd_lite0"):
        make_config(save__patience=2)


def test_the_networks_are_those_of_the_start_whatever_their_sizes(tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stylegan_oct.training.quality.Quality._values", lambda *_: [])
    source, _ = train(tiny_config(write_archive(tmp_path / "a.zip"), total_kimg=0.008, G__w_dim=6), tmp_path / "first")
    assert source.checkpoint
    scans = write_archive(tmp_path / "scans.zip", classes=("DRUSEN", "OTHER"))
    config = launch.resolve(launch.data_config(scans, World()), "adapt", {
        "start_from": str(source.checkpoint), "total_kimg": 0.016, "save.snapshot_kimg": 0.008}, World())
    assert (config.G.w_dim, config.D.channel_max, config.D.mbstd_group_size, config.D.freeze_layers) == (6, 8, 2, 4)
    outcome, choice = train(config, tmp_path / "second")
    assert outcome.finished and "left fresh" not in choice.run.log.read_text()
    assert load_generator(outcome.checkpoint).info.classes == ("DRUSEN", "OTHER")


def test_without_a_start_it_is_the_included_generator() -> None:
    data = DataConfig(path="", fingerprint="", resolution=256, classes=("DRUSEN",))
    config = launch.resolve(data, "adapt", {}, World())
    included = load_generator("demo256").info
    assert config.start_sha256 == included.sha256 and config.G.channel_base == included.options["channel_base"]
    assert launch.adapted_resolution("adapt", None) == 256 and launch.adapted_resolution("demo", None) is None


def test_too_few_scans_one_patient_and_scans_without_classes_are_refused_in_a_line(tmp_path: Path) -> None:
    for archive, words in ((write_archive(tmp_path / "few.zip", count=7), "7 scans.*at least 8"),
                           (write_archive(tmp_path / "one.zip", held_out=0), "one patient"),
                           (write_archive(tmp_path / "none.zip", classes=()), "a folder for each class")):
        with pytest.raises(DataError, match=words) as caught:
            launch.check_few(archive)
        assert "\n" not in str(caught.value)
    launch.check_few(write_archive(tmp_path / "enough.zip", classes=("ONE",)))
