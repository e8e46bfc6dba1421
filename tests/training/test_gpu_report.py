"""The report on a GPU, which without one does the same at tiny sizes."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_parts, gpu_report
from benchmarks.gpu_report import Part, verdict

ROOT = Path(__file__).parents[2]


def facts(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def test_every_part_is_one_that_can_be_run() -> None:
    assert {part.arguments[0] for part in gpu_report.parts()} == gpu_parts.PARTS.keys()
    assert sum(part.limit for part in gpu_report.parts() if part.arguments[0] in ("machine", "kernel_tests")) < 240


@pytest.mark.skipif(gpu_parts.ON_GPU, reason="for machines without a GPU")
def test_parts_run_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    gpu_parts.step("256", "32", "graphs")
    (found,) = facts(capsys)
    assert found["resolution"] == 16 and not found["graphs"] and found["s_per_kimg"] > 0  # type: ignore[operator]
    gpu_parts.agreement()
    assert not [fact for fact in facts(capsys) if "wrong" in fact]
    for part in ("bandwidth", "memory_checker"):
        gpu_parts.PARTS[part]()
        assert "skipped: no GPU" in capsys.readouterr().out
    gpu_parts.costliest("256", "32")
    assert {fact["kind"] for fact in facts(capsys)} == set(gpu_parts.KINDS)
    gpu_parts.project()
    assert facts(capsys)[-1]["projection"] == "quick"


def test_a_report_is_written_as_it_grows_and_ends_with_three_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_report", "--out", str(tmp_path), "--only", "machine"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["part"] for row in report["parts"]] == ["machine"]
    assert (tmp_path / "report.txt").read_text().splitlines()[-3:] == report["verdict"]
    assert report["verdict"][0] == "wrong: nothing" and "oct512 (10000 kimg) not measured" in report["verdict"][2]


def test_a_part_that_hangs_or_fails_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for code, limit, words in (("import time; print('begun', flush=True); time.sleep(60)", 1.0, "cut off after 1 s"),
                               ("raise SystemExit('no such device')", 60.0, "no such device")):
        monkeypatch.setattr(gpu_report, "command_of", lambda part, code=code: [sys.executable, "-c", code])
        part = Part(("machine",), limit)
        gpu_report.run(part, limit, io.StringIO())
        assert words in part.failed
        assert words in verdict([part])[0]


def test_the_verdict_takes_the_fastest_way_and_says_what_was_not_done() -> None:
    step = {"resolution": 256, "batch": 32, "busy": 0.9}
    done = [Part(("step", "256", "32", "graphs"), 9, [{**step, "graphs": True, "s_per_kimg": 3.0}], 1.0),
            Part(("step", "256", "32", "plain"), 9, [{**step, "graphs": False, "s_per_kimg": 9.0}], 1.0),
            Part(("agreement",), 9, [{"wrong": "records learn something else"}], 1.0), Part(("levers",), 9)]
    wrong, speed, length = verdict(done)
    assert wrong == "wrong: records learn something else (no time for levers)"
    assert "3.00 s/kimg, busy 90%" in speed and "plain: 9.00" in speed
    assert "oct256 (10000 kimg) 8 h 20 min" in length
