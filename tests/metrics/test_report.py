import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from sample_report import sample_report

from dnnlib.errors import DataError
from stylegan_oct.metrics.report.report import encode, read_report, write_report


def test_a_report_comes_back_as_it_was_written(tmp_path: Path) -> None:
    report = sample_report()
    write_report(tmp_path / "report.json", report)
    again = read_report(tmp_path)
    ppl, before = again.find("ppl_w_lite0"), report.find("ppl_w_lite0")
    assert ppl and before and math.isnan(ppl.value) and ppl.note == before.note
    assert encode(again) == encode(report)
    assert again.find("recall_lite0", "CNV") == report.find("recall_lite0", "CNV")


def test_what_is_written_is_strict_json(tmp_path: Path) -> None:
    write_report(tmp_path / "report.json", sample_report(settings={"array": np.array([1.0, np.nan, np.inf])}))
    text = (tmp_path / "report.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["settings"]["array"] == [1.0, None, None]


@pytest.mark.parametrize("change, words", [
    ({"schema": 99}, "schema 99"), ({"extra": 1}, "extra"), ({"subject": {"file": "x"}}, "lacks"),
    ({"parts": [{"name": "fidelity", "values": [{"metric": "x", "valeu": 1.0}]}]}, "valeu"),
    ({"parts": [{"name": "fidelity", "values": [3]}]}, "object"), ({"made": 4}, "made"),
])
def test_a_report_of_another_make_is_refused_in_one_line(tmp_path: Path, change: dict[str, object],
                                                         words: str) -> None:
    file = tmp_path / "report.json"
    write_report(file, sample_report())
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(DataError, match=words) as caught:
        read_report(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3"])
def test_a_damaged_report_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(DataError, match="is damaged or of another version.*Evaluate again"):
        read_report(tmp_path)


def test_a_missing_report_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="python -m tools evaluate"):
        read_report(tmp_path)


def test_values_are_found_by_metric_and_class() -> None:
    report = sample_report()
    whole = report.find("recall_lite0")
    assert whole and whole.value == 0.41 and report.find("recall_lite0", "DME") is None
    assert report.part("usefulness") and report.part("memorisation") is None
    assert len(report.values) == len(dataclasses.replace(report).parts[0].values)
