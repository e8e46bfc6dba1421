"""The orchestration: what is measured again, what is kept, what is refused; with scripted parts and one real run."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_config, write_archive

from dnnlib.errors import ConfigError, DataError
from dnnlib.logs import read_jsonl
from stylegan_oct.data.archive import Archive
from stylegan_oct.latent.library import write_library
from stylegan_oct.metrics import evaluate as evaluation
from stylegan_oct.metrics.evaluate import evaluate
from stylegan_oct.metrics.ground import Ground, Settings, choose_archive, class_counts, parse_weights
from stylegan_oct.metrics.report.report import PARTS, Part, read_report
from stylegan_oct.metrics.sides import Side, some_labels
from stylegan_oct.metrics.statistics.values import Value
from stylegan_oct.metrics.usefulness.measure import QUICK
from stylegan_oct.model import OctGenerator, load_generator
from stylegan_oct.training.state import create_state


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive, and a run with an untrained generator of it."""
    folder = tmp_path_factory.mktemp("made")
    config = tiny_config(write_archive(folder / "scans.zip", count=32, held_out=40, resolution=16))
    run = folder / "runs" / "00000-tiny"
    create_state(config, torch.device("cpu"), "phantom").save(run / "checkpoints", {})
    data = {"path": config.data.path, "fingerprint": config.data.fingerprint}
    (run / "config.json").write_text(json.dumps({"data": data}))
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "runs" / "00000-tiny", tmp_path / "runs" / "00000-tiny"))


@pytest.fixture
def G(run: Path) -> OctGenerator:
    return load_generator(run)


def ground_of(G: OctGenerator, made: Path, out: Path, **settings: object) -> Ground:
    options = {"detectors": ("lite0",), "count": 16, **settings}
    return Ground(G, made / "scans.zip", Settings(**options), out / "seen")  # type: ignore[arg-type]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Replace the parts by ones that note that they were measured."""
    calls: list[str] = []

    def side(name: str) -> Side:
        def measure(ground: Ground) -> Part:
            calls.append(name)
            return Part(name=name, values=(Value(metric=f"x_{name}", value=float(len(calls))),))
        return Side(lambda ground: [], measure)

    monkeypatch.setattr(evaluation, "SIDES", {name: side(name) for name in PARTS})
    yield calls


def failing(error: BaseException) -> Side:
    def measure(ground: Ground) -> Part:
        raise error
    return Side(lambda ground: [], measure)


def test_a_report_tells_what_was_evaluated_against_what(G: OctGenerator, made: Path, tmp_path: Path,
                                                        measured: list[str]) -> None:
    evaluate(ground_of(G, made, tmp_path), tmp_path)
    report = read_report(tmp_path)
    assert report.complete and [part.name for part in report.parts] == list(PARTS) == measured
    assert report.subject.sha256 == G.info.sha256 and report.subject.training_archive == report.reference.fingerprint
    assert report.reference.scans("train") == 32 and report.reference.scans("val") == 40
    assert report.settings["count"] == 16 and report.detectors[0].identity.startswith("lite0-")
    assert (tmp_path / "report.html").stat().st_size > 1000


def test_a_part_that_fails_says_why_and_the_others_go_on(G: OctGenerator, made: Path, tmp_path: Path,
                                                         measured: list[str]) -> None:
    evaluation.SIDES["usefulness"] = failing(DataError("too few scans"))
    said: list[str] = []
    report = evaluate(ground_of(G, made, tmp_path), tmp_path, say=said.append)
    part = report.part("usefulness")
    assert part and part.reason == "too few scans" and len(report.parts) == 4
    assert said == ["usefulness is not measured: too few scans"]


def test_a_stopped_evaluation_keeps_what_is_done_and_goes_on(G: OctGenerator, made: Path, tmp_path: Path,
                                                             measured: list[str]) -> None:
    working = evaluation.SIDES["memorisation"]
    evaluation.SIDES["memorisation"] = failing(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        evaluate(ground_of(G, made, tmp_path), tmp_path)
    partial = read_report(tmp_path)
    assert not partial.complete and [part.name for part in partial.parts] == ["fidelity", "usefulness"]
    assert (tmp_path / "report.html").exists()
    evaluation.SIDES["memorisation"] = working
    evaluate(ground_of(G, made, tmp_path), tmp_path)
    assert measured == list(PARTS), "each part once"
    evaluate(ground_of(G, made, tmp_path), tmp_path)
    assert len(measured) == 8, "a finished evaluation is measured again"


def test_other_parts_are_taken_over_from_an_earlier_report_of_the_same_ground_alone(
        G: OctGenerator, made: Path, tmp_path: Path, measured: list[str]) -> None:
    evaluate(ground_of(G, made, tmp_path, only=("fidelity",)), tmp_path)
    both = evaluate(ground_of(G, made, tmp_path, only=("usefulness",)), tmp_path)
    assert [part.name for part in both.parts] == ["fidelity", "usefulness"] and measured == ["fidelity", "usefulness"]
    alone = evaluate(ground_of(G, made, tmp_path, only=("usefulness",), psi=0.5), tmp_path)
    assert [part.name for part in alone.parts] == ["usefulness"]
    aside = read_report(tmp_path / f"report-{G.info.sha256[:12]}.json")
    assert [part.name for part in aside.parts] == ["fidelity", "usefulness"], "nothing measured is lost"
    assert any("psi 0.5" in warning for warning in alone.warnings)


def test_every_value_is_a_line_of_the_runs_metrics(G: OctGenerator, made: Path, run: Path, tmp_path: Path,
                                                   measured: list[str]) -> None:
    evaluate(ground_of(G, made, tmp_path / "out"), tmp_path / "out")
    rows = read_jsonl(run / "metrics.jsonl")
    assert [row["metric"] for row in rows] == [f"x_{name}" for name in PARTS]
    assert rows[0]["nimg"] == 0 and rows[0]["checkpoint_sha256"] == G.info.sha256


def test_a_damaged_report_in_the_folder_is_measured_anew(G: OctGenerator, made: Path, tmp_path: Path,
                                                        measured: list[str]) -> None:
    (tmp_path / "report.json").write_text("{")
    assert len(evaluate(ground_of(G, made, tmp_path), tmp_path).parts) == 4


def test_scans_of_patients_are_shown_only_on_request_and_then_privately(
        G: OctGenerator, tmp_path: Path, measured: list[str]) -> None:
    archive = write_archive(tmp_path / "scans.zip", count=32, held_out=40, resolution=16)
    ground = Ground(G, archive, Settings(detectors=("lite0",), count=16), tmp_path / "seen")
    assert ground.training.archive.source == "scans"
    evaluate(ground, tmp_path)
    assert "Scans of patients are not shown" in (tmp_path / "report.html").read_text()
    evaluate(ground, tmp_path, show_scans=True)
    private = tmp_path / "private-report.html"
    assert "held-out real scans" in private.read_text() and private.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("changes, words", [
    ({"resolution": 32}, "resolution 32"), ({"classes": ("CNV", "DME")}, "classes CNV, DME"),
    ({"channels": 3}, "channels 3"), ({"count": 0}, "no training split")])
def test_an_archive_that_does_not_fit_is_refused(G: OctGenerator, tmp_path: Path, changes: dict[str, object],
                                                 words: str) -> None:
    options = {"resolution": 16, **changes}
    archive = write_archive(tmp_path / "other.zip", **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=words):
        Ground(G, archive, Settings(), tmp_path)


def test_a_library_of_synthetic_pictures_is_refused(G: OctGenerator, tmp_path: Path) -> None:
    write_library(tmp_path / "library.zip", G, count=8)
    with pytest.raises(DataError, match="library of pictures that a generator drew"):
        Ground(G, tmp_path / "library.zip", Settings(), tmp_path)


@pytest.mark.parametrize("options, words", [
    ({"only": ("fidelty",)}, "Did you mean fidelity"), ({"detectors": ("lite",)}, "Did you mean lite0"),
    ({"weights": {"octt": Path("x")}}, "Did you mean oct"), ({"count": 4}, "from 8 to")])
def test_settings_that_cannot_work_name_what_can(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Settings(**options)  # type: ignore[arg-type]


def test_weights_are_given_by_name() -> None:
    assert parse_weights(["oct=a=b.pt"]) == {"oct": Path("a=b.pt")}
    with pytest.raises(ConfigError, match="NAME=FILE"):
        parse_weights(["oct"])


def test_warnings_tell_what_makes_numbers_doubtful(G: OctGenerator, made: Path, tmp_path: Path) -> None:
    text = " ".join(ground_of(G, made, tmp_path).warnings())
    assert "Only 20 held-out scans of CNV" in text and "does not tell patients apart" in text
    assert "another archive" not in text and "does not say" not in text
    other = write_archive(tmp_path / "more.zip", count=36, held_out=0, resolution=16)
    text = " ".join(Ground(G, other, Settings(), tmp_path).warnings())
    assert "trained on another archive" in text and "no held-out scans" in text
    one = write_archive(tmp_path / "one.zip", count=36, held_out=1, resolution=16)
    text = " ".join(Ground(G, one, Settings(), tmp_path).warnings())
    assert "There are no held-out scans of DRUSEN" in text and "Only 0" not in text
    assert "Only 1 held-out scan of CNV" in text
    unknown = dataclasses.replace(G.info, archive="", path=tmp_path / "G_ema.safetensors")
    text = " ".join(Ground(OctGenerator(G.network, unknown), other, Settings(), tmp_path).warnings())
    assert "does not say which archive" in text


def test_the_archive_is_that_of_the_run_unless_one_is_given(G: OctGenerator, made: Path, run: Path,
                                                            tmp_path: Path) -> None:
    assert choose_archive(G, None, cache=tmp_path) == made / "scans.zip"
    assert choose_archive(G, Path("given.zip"), cache=tmp_path) == Path("given.zip")
    (run / "config.json").unlink()
    scans = OctGenerator(G.network, dataclasses.replace(G.info, data_source="scans"))
    with pytest.raises(ConfigError, match="--data"):
        choose_archive(scans, None, cache=tmp_path)


def test_samples_have_the_classes_of_the_scans() -> None:
    train, held_out = np.repeat([0, 1, 2], [60, 30, 0]), np.repeat([0, 1, 2], [6, 4, 0])
    assert class_counts(train, held_out, 3, 100) == [66, 34, 0]
    counts = class_counts(train, held_out, 3, None)
    assert sum(counts) == 4000 and counts[2] == 0
    assert class_counts(np.zeros(9, int), np.zeros(9000, int), 0, None) == [9000]
    assert sum(class_counts(np.repeat([0, 1, 2, 3], 7), np.zeros(0, int), 4, 10)) == 10


def test_some_labels_keep_the_shares() -> None:
    labels = np.tile([0, 1], 50)
    assert abs(int(some_labels(labels, 10).sum()) - 5) <= 1 and len(some_labels(labels, 1000)) == 100


def test_a_tiny_generator_is_evaluated_in_every_part_that_can_be(G: OctGenerator, made: Path, tmp_path: Path) -> None:
    quick = dataclasses.replace(QUICK, seeds=1, nimg=64, resolution=16, resamples=100)
    archive = Path(shutil.copy(made / "scans.zip", tmp_path / "scans.zip"))
    ground = Ground(G, archive, Settings(detectors=("lite0",), count=80, usefulness=quick,
                                         only=("fidelity", "usefulness", "consistency")), tmp_path / "seen")
    report = evaluate(ground, tmp_path)
    for name in ("kd_lite0", "recall_lite0", "tstr_auc"):
        value = report.find(name)
        assert value and np.isfinite(value.value), name
    part = report.part("consistency")
    assert part and "--weights oct=" in part.reason, "the included oracle knows simulated scans alone"
    assert report.verdict and Archive(archive).fingerprint == report.reference.fingerprint
    seen = list((tmp_path / "scans-seen").iterdir())
    assert seen and all(os.stat(path).st_mode & 0o077 == 0 for path in seen if path.suffix == ".npy")


@pytest.mark.slow
def test_two_processes_report_what_one_does(made: Path, run: Path, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    reports = []
    for name, processes in (("one", 1), ("two", 2)):
        archive = shutil.copy(made / "scans.zip", tmp_path / f"{name}.zip")
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *(launcher if processes > 1 else []), "-m", "tools", "evaluate", "-c", str(run),
                   "--data", str(archive), "--out", str(tmp_path / name), "--count", "80", "--only", "fidelity",
                   "--detector", "lite0"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=240)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Recall (lite0)") >= 1
        reports.append(read_report(tmp_path / name))
    for one, two in zip(reports[0].values, reports[1].values, strict=True):
        assert (one.metric, one.class_name, one.n) == (two.metric, two.class_name, two.n)
        assert two.value == pytest.approx(one.value, rel=1e-4, abs=1e-6, nan_ok=True), one.metric
