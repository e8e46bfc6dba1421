"""`evaluate` as a person uses it."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from tiny import tiny_config, write_archive

from stylegan_oct.metrics import evaluate as evaluation
from stylegan_oct.metrics.report.report import PARTS, Part
from stylegan_oct.metrics.sides import Side
from stylegan_oct.metrics.statistics.values import Value
from stylegan_oct.training.state import create_state
from tools.__main__ import main


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *(str(arg) for arg in args)], terminal_width=100)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    config = tiny_config(write_archive(folder / "scans.zip", count=32, held_out=40, resolution=16))
    write_archive(folder / "large.zip", resolution=32)
    create_state(config, torch.device("cpu"), "phantom").save(folder / "run" / "checkpoints", {})
    data = {"path": config.data.path, "fingerprint": config.data.fingerprint}
    (folder / "run" / "config.json").write_text(json.dumps({"data": data}))
    return folder


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every part find one value."""
    value = Value(metric="recall_lite0", value=0.5, interval=(0.4, 0.6), floor=0.8, floor_interval=(0.75, 0.85),
                  better="floor")
    monkeypatch.setattr(evaluation, "SIDES", {
        name: Side(lambda ground: [], lambda ground, name=name: Part(  # type: ignore[misc]
            name=name, values=(value,) if name == "fidelity" else ())) for name in PARTS})


def test_it_prints_a_table_and_the_verdict_and_leaves_a_report_and_a_page(made: Path, tmp_path: Path,
                                                                         scripted: None) -> None:
    result = invoke("-c", made / "run", "--count", 16, "--detector", "lite0", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "Recall (lite0)  0.50" in result.output and "a part of the variety is missing" in result.output
    assert {"report.json", "report.html"} <= {path.name for path in tmp_path.iterdir()}


def test_json_is_the_report(made: Path, tmp_path: Path, scripted: None) -> None:
    result = invoke("-c", made / "run", "--count", 16, "--detector", "lite0", "--out", tmp_path, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["schema"] == 1 and report["parts"][0]["values"][0]["metric"] == "recall_lite0"
    assert report == json.loads((tmp_path / "report.json").read_text())


def test_another_generator_is_measured_on_the_same_scans_and_compared(made: Path, tmp_path: Path,
                                                                     scripted: None) -> None:
    result = invoke("-c", made / "run", "--against", made / "run", "--count", 16, "--detector", "lite0",
                    "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert {"report.html", "compare.html", "against"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "against" / "report.html").is_file()
    refused = invoke("-c", made / "run", "--against", "demo64", "--count", 16, "--out", tmp_path / "other")
    assert refused.exit_code == 2 and "resolution" in refused.output


def test_two_reports_are_compared(made: Path, tmp_path: Path, scripted: None) -> None:
    for name in ("a", "b"):
        invoke("-c", made / "run", "--count", 16, "--detector", "lite0", "--out", tmp_path / name)
    result = invoke("--compare", tmp_path / "a", tmp_path / "b" / "report.json", "--out", tmp_path / "both")
    assert result.exit_code == 0, result.output
    assert "0 of 1 differences are beyond noise" in result.output
    assert {path.name for path in (tmp_path / "both").iterdir()} == {"compare.json", "compare.html"}


@pytest.mark.parametrize("args, words", [
    (["-c", "nowhere"], "nowhere"),
    (["--data", "nowhere.zip"], "nowhere.zip"),
    (["--data", "{made}/large.zip"], "resolution 32"),
    (["--only", "fidelty"], "fidelity"),
    (["--detector", "lite"], "lite0"),
    (["--detector", "inception"], "weights"),
    (["--weights", "oct"], "NAME=FILE"),
    (["--weights", "oct={made}/none.pt"], "none.pt"),
    (["--count", "2"], "8"),
    (["--out", "{made}/scans.zip"], "scans.zip"),
    (["--compare", "{made}", "{made}"], "report.json"),
])
def test_bad_input_is_one_line_with_exit_code_2(made: Path, tmp_path: Path, scripted: None, args: list[str],
                                                words: str) -> None:
    given = [arg.format(made=made) for arg in args]
    base = ["-c", made / "run"] * ("-c" not in given) + ["--out", tmp_path / "out"] * ("--out" not in given)
    result = invoke(*base, *given)
    assert result.exit_code == 2 and words in result.stderr, result.output
    assert "Traceback" not in result.stderr and not (tmp_path / "out" / "report.json").exists()
