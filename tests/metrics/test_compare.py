import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sample_report import sample_report

from dnnlib.errors import ConfigError
from stylegan_oct.metrics.report.compare import compare, comparison_lines, discovery_line, save_comparison
from stylegan_oct.metrics.report.report import Part, Report
from stylegan_oct.metrics.statistics.values import Value


def report_of(values: list[Value], **subject: object) -> Report:
    report = sample_report(parts=(Part(name="fidelity", values=tuple(values)),))
    return dataclasses.replace(report, subject=dataclasses.replace(report.subject, **subject))  # type: ignore[arg-type]


def value(metric: str, number: float, arm: float, better: str = "higher", floor: float | None = None) -> Value:
    return Value(metric=metric, value=number, interval=(number - arm, number + arm), better=better, floor=floor)


def test_a_report_does_not_differ_from_itself() -> None:
    found = compare(sample_report(), sample_report())
    assert not found.beyond and "same generator" in found.warnings[0]
    assert {one.difference for one in found.differences} == {0.0}


def test_a_clear_difference_is_beyond_noise_and_says_which_is_better() -> None:
    a = [value("recall_lite0", 0.4, 0.05), value("kd_lite0", 0.02, 0.001, "lower"), value("precision_lite0", 0.7, 0.1)]
    b = [value("recall_lite0", 0.7, 0.05), value("kd_lite0", 0.03, 0.001, "lower"), value("precision_lite0", 0.72, 0.1)]
    found = compare(report_of(a), report_of(b, sha256="12" * 32))
    assert {one.metric: one.better for one in found.differences} == {
        "recall_lite0": "b", "kd_lite0": "a", "precision_lite0": ""}
    recall = found.differences[0]
    assert recall.interval and recall.interval[0] < 0.3 < recall.interval[1]
    assert recall.interval[1] - recall.interval[0] == pytest.approx(2 * 0.05 * 2 ** 0.5)


def test_where_the_floor_is_the_aim_the_nearer_is_better() -> None:
    a, b = value("density_lite0", 1.6, 0.05, "floor", 1.0), value("density_lite0", 1.2, 0.05, "floor", 1.0)
    (one,) = compare(report_of([a]), report_of([b])).differences
    assert one.beyond_noise and one.better == "b"


def test_many_equal_generators_are_hardly_ever_told_apart() -> None:
    rng, called = np.random.default_rng(0), 0
    for _ in range(200):
        pair = [[value(f"metric{i}", float(rng.normal()), 1.96) for i in range(40)] for _ in range(2)]
        called += bool(compare(report_of(pair[0]), report_of(pair[1])).beyond)
    assert called <= 20, "about 5 % of the comparisons may call any difference real"


def test_a_value_without_an_interval_is_never_beyond_noise() -> None:
    (one,) = compare(report_of([Value(metric="x", value=0.0)]), report_of([Value(metric="x", value=9.0)])).differences
    assert one.interval is None and not one.beyond_noise and one.difference == 9.0


def test_discoveries_follow_benjamini_and_hochberg() -> None:
    assert discovery_line([0.01, 0.04, 0.03, 0.5]) == 0.01
    assert discovery_line([0.01, 0.02, 0.03, 0.04]) == 0.04
    assert discovery_line([0.5]) == discovery_line([]) == -1.0


def test_reports_of_other_archives_or_without_common_values_are_refused() -> None:
    report = sample_report()
    other = dataclasses.replace(report, reference=dataclasses.replace(report.reference, fingerprint="00" * 32))
    with pytest.raises(ConfigError, match="different archives"):
        compare(report, other)
    with pytest.raises(ConfigError, match="no measured value in common"):
        compare(report, dataclasses.replace(report, parts=()))


def test_other_counts_and_other_networks_are_warned_of() -> None:
    a = report_of([value("kd_lite0", 1.0, 0.1), dataclasses.replace(value("kd_oct", 1.0, 0.1), detector="oct-1")])
    b = report_of([value("kd_lite0", 1.0, 0.1), dataclasses.replace(value("kd_oct", 1.0, 0.1), detector="oct-2")],
                  sha256="12" * 32)
    found = compare(a, dataclasses.replace(b, settings={"count": 99, "seed": 0}))
    assert [one.metric for one in found.differences] == ["kd_lite0"]
    assert "count: 800 and 99" in found.warnings[0] and "1 values are left out" in found.warnings[1]


def test_a_comparison_is_a_table_json_and_a_page(tmp_path: Path) -> None:
    found = compare(sample_report(), sample_report())
    save_comparison(tmp_path, found)
    data = json.loads((tmp_path / "compare.json").read_text())
    assert len(data["differences"]) == len(found.differences) and data["rate"] == 0.05
    page = (tmp_path / "compare.html").read_text()
    assert "Recall (lite0)" in page and "://" not in page
    lines = comparison_lines(found)
    assert lines[-1].startswith("0 of 5 differences are beyond noise") and any("Recall" in line for line in lines)
