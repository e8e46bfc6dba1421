"""What is measured at snapshots, and that it changes nothing else."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import tiny_config, train, write_archive

from dnnlib.errors import ConfigError
from dnnlib.logs import read_jsonl
from stylegan_oct.config import TrainConfig
from stylegan_oct.metrics.statistics.values import Value
from stylegan_oct.model import load_generator
from stylegan_oct.training import launch, monitor, quality
from stylegan_oct.training.quality import check_metrics
from torch_utils import checkpoint

Make = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def _no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_event_writer", lambda *_: None)  # its import takes seconds


def scripted(monkeypatch: pytest.MonkeyPatch, numbers: dict[int, float]) -> None:
    """Let the snapshots have these kernel distances."""
    monkeypatch.setattr(quality.Quality, "_values", lambda self, nimg: [
        Value(metric="kd_lite0", value=numbers[nimg], better="lower")])


METRICS = {"save__metrics": ["kd_lite0", "recall_lite0"], "save__metrics_count": 16, "save__snapshot_kimg": 0.008}


def test_snapshots_are_measured_and_the_run_learns_the_same(make_config: Make, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "more.zip", held_out=32)
    plain, _ = train(tiny_config(archive, save__snapshot_kimg=0.008), tmp_path / "plain")
    measured, choice = train(tiny_config(archive, **METRICS), tmp_path / "measured")
    assert plain.checkpoint and measured.checkpoint
    for stem in ("G", "D", "G_ema", "G_opt", "training"):
        one, two = (checkpoint.read_tensors(path / f"{stem}.safetensors")
                    for path in (plain.checkpoint, measured.checkpoint))
        assert all(torch.equal(one[name], two[name]) for name in one)
    rows = read_jsonl(choice.run.metrics)
    assert [(row["nimg"], row["metric"]) for row in rows] == [
        (nimg, name) for nimg in (8, 16, 24, 32) for name in ("kd_lite0", "recall_lite0")]
    assert {"value", "floor", "detector", "n"} <= rows[0].keys()
    assert rows[0]["value"] != rows[2]["value"], "another snapshot has other samples"
    assert any("metrics/kd_lite0" in row for row in read_jsonl(choice.run.stats))


def test_metrics_are_no_part_of_what_a_run_is(make_config: Make, tmp_path: Path) -> None:
    assert make_config(**METRICS).identity() == make_config().identity()
    train(make_config(total_kimg=0.008), tmp_path)
    assert launch.choose_run(make_config(**METRICS), tmp_path, new=False).resumes


def test_the_best_checkpoint_stays_whole_when_others_are_thinned_out(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, {8: 0.3, 16: 0.1, 24: 0.2, 32: 0.4})
    run = train(make_config(**METRICS, save__keep=1), tmp_path)[1].run
    best = json.loads(run.best.read_text())
    assert (best["nimg"], best["metric"], best["value"]) == (16, "kd_lite0", 0.1)
    names = [path.name for path in checkpoint.complete_checkpoints(run.checkpoints)]
    assert names == ["nimg-00000016", "nimg-00000032"]
    assert load_generator(run.path / "best").info.nimg == 16


def test_going_on_remembers_the_best_and_measures_what_a_kill_left_out(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, {8: 0.1, 16: 0.2, 24: 0.3, 32: 0.4})
    train(make_config(**METRICS, total_kimg=0.016, save__keep=1), tmp_path)
    run = next(iter(tmp_path.iterdir()))
    rows = [row for row in read_jsonl(run / "metrics.jsonl") if row["nimg"] != 16]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = train(make_config(**METRICS, save__keep=1), tmp_path)[1].run
    assert [row["nimg"] for row in read_jsonl(again.metrics)] == [8, 16, 24, 32]
    assert json.loads(again.best.read_text())["nimg"] == 8
    assert checkpoint.is_complete(again.checkpoints / "nimg-00000008")


def test_a_failing_evaluation_is_one_warning_and_the_run_goes_on(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(self: quality.Quality, nimg: int) -> list[Value]:
        raise RuntimeError("out of memory\nand a long story")

    monkeypatch.setattr(quality.Quality, "_values", fail)
    outcome, choice = train(make_config(**METRICS), tmp_path)
    assert outcome.finished and not choice.run.best.exists()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 4 and all("training goes on: out of memory" in record.message for record in warnings)
    assert "\n" not in warnings[0].getMessage()


def test_rows_of_a_lost_stretch_are_dropped_and_those_of_others_kept(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, {8: 0.1, 16: 0.2, 24: 0.3, 32: 0.4})
    run = train(make_config(**METRICS, total_kimg=0.008), tmp_path)[1].run
    with run.metrics.open("a") as file:
        file.write(json.dumps({"nimg": 99, "by": "train"}) + "\n" + json.dumps({"nimg": 99, "metric": "other"}) + "\n")
    train(make_config(**METRICS, total_kimg=0.016), tmp_path)
    assert [row["nimg"] for row in read_jsonl(run.metrics)] == [8, 99, 16]


def test_another_metric_begins_a_new_search_for_the_best(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def values(self: quality.Quality, nimg: int) -> list[Value]:
        return [Value(metric="kd_lite0", value=nimg, better="lower"),
                Value(metric="density_lite0", value=nimg / 24, floor=1.0, better="floor")]

    monkeypatch.setattr(quality.Quality, "_values", values)
    changes = {**METRICS, "save__metrics": ["kd_lite0", "density_lite0"]}
    run = train(make_config(**changes, total_kimg=0.008), tmp_path)[1].run
    assert json.loads(run.best.read_text())["metric"] == "kd_lite0"
    train(make_config(**changes, save__best_by="density_lite0"), tmp_path)
    assert json.loads(run.best.read_text())["nimg"] == 24, "the value nearest to its floor is the best"


def test_metrics_that_do_not_exist_are_refused_with_the_nearest(make_config: Make) -> None:
    with pytest.raises(ConfigError, match="recall_lite0"):
        check_metrics(["recal_lite0"])
    check_metrics(["kd_lite0", "coverage_vgg16-lpips"])
    with pytest.raises(ConfigError, match="not measured"):
        make_config(save__metrics=["kd_lite0"], save__best_by="fd_lite0")


