import dataclasses
import math

import pytest
from sample_report import sample_report

from stylegan_oct.metrics.report.meanings import MEANINGS, family_of, full_title, number, seer_of
from stylegan_oct.metrics.report.verdict import gap, judge, scans_to_decide
from stylegan_oct.metrics.statistics.values import Value


def test_the_verdict_puts_missing_variety_first_and_names_the_worst_class() -> None:
    first, second, *rest = judge(sample_report().values)
    assert "Recall (lite0) 0.41 where real scans reach 0.78: a part of the variety is missing." in first.text
    assert "Worst in CNV: 0.20" in first.text and first.level == "fault"
    assert {first.metric, second.metric} == {"recall_lite0", "kd_lite0"} and first.weight >= second.weight
    assert rest[-1].level == "good" and "Precision (lite0) 0.79" in rest[-1].text


def test_overlapping_intervals_are_no_fault() -> None:
    value = Value(metric="kd_lite0", value=0.02, interval=(0.0, 0.04), floor=0.0, floor_interval=(-0.01, 0.01),
                  better="lower")
    assert gap(value) == 0.0


def test_few_pictures_leave_undecided_what_many_would_call_worse() -> None:
    wide = Value(metric="recall_lite0", value=0.6, interval=(0.2, 1.0), floor=0.9, floor_interval=(0.7, 1.0), n=22,
                 better="floor")
    (finding,) = judge([wide])
    assert finding.level == "open" and "22 of each" in finding.text
    (finding,) = judge([dataclasses.replace(wide, value=0.85, n=220)])
    assert finding.level == "good"


@pytest.mark.parametrize("better, value, size", [
    ("higher", 0.5, 0.5), ("higher", 1.5, 0.0), ("lower", 2.0, 0.5), ("lower", 0.5, 0.0),
    ("floor", 2.0, 0.0), ("floor", 0.5, 0.5), ("", 9.0, 0.0), ("lower", math.nan, 0.0), ("lower", 1.05, 0.0)])
def test_a_gap_is_a_share_of_the_larger_in_the_worse_direction(better: str, value: float, size: float) -> None:
    assert gap(Value(metric="x", value=value, floor=1.0, better=better)) == size


def test_one_class_alone_can_be_a_fault_though_all_together_are_fine() -> None:
    fine = Value(metric="recall_oct", value=0.8, floor=0.8, better="higher")
    bad = Value(metric="recall_oct", class_name="DME", value=0.1, floor=0.8, better="higher")
    (only,) = judge([fine, bad])
    assert only.text.startswith("Recall (oct) of DME 0.10") and only.level == "fault"


def test_more_than_the_floor_is_a_fault_only_where_it_means_one() -> None:
    beyond = {"value": 0.9, "floor": 0.6, "better": "floor"}
    assert gap(Value(metric="recall_lite0", **beyond)) == 0.0
    (finding,) = judge([Value(metric="precision_lite0", **beyond)])
    assert "samples keep to the commonest kinds" in finding.text


def test_values_without_a_floor_or_a_number_say_nothing() -> None:
    assert judge([Value(metric="ppl_w", value=9.0), Value(metric="fd_lite0", value=math.nan, floor=1.0,
                                                          better="lower")]) == ()


def test_a_metric_is_told_apart_from_what_saw_the_pictures() -> None:
    assert (family_of("ppl_w_lite0"), seer_of("ppl_w_lite0")) == ("ppl_w", "lite0")
    assert (family_of("fid50k_full"), seer_of("fid50k_full")) == ("fid50k_full", "")
    assert full_title("kd_vgg16-lpips") == "Kernel distance (vgg16-lpips)" and full_title("new_one") == "new one"


def test_only_the_official_metric_is_called_fid() -> None:
    named = [name for name, meaning in MEANINGS.items() if "FID" in f"{meaning.title} {meaning.line} {meaning.worse}"]
    assert named == ["fid50k_full"]


@pytest.mark.parametrize("value, text", [(1234.5, "1,234"), (333.2, "333"), (12.34, "12.3"), (0.417, "0.42"),
                                         (0.0123, "0.012"), (0.00123, "0.0012"), (0.0, "0.000"), (math.nan, "-")])
def test_numbers_have_as_many_digits_as_a_reader_needs(value: float, text: str) -> None:
    assert number(value, "fd_lite0") == text


def test_few_pictures_are_never_called_good() -> None:
    def levels(n: int, n_real: int) -> list[str]:
        same = Value(metric="recall_lite0", value=0.9, interval=(0.8, 1.0), floor=0.9, floor_interval=(0.8, 1.0), n=n,
                     n_real=n_real, better="floor")
        return [finding.level for finding in judge([same])]

    assert levels(500, 500) == ["good"] and levels(500, 13) == levels(13, 500) == ["open"]


@pytest.mark.parametrize(("value", "floor"), [(0.6, 0.9), (0.9, 0.6)])
def test_what_is_open_says_how_many_scans_would_tell(value: float, floor: float) -> None:
    better = "higher" if value < floor else "lower"
    open_value = Value(metric="recall_lite0" if better == "higher" else "kd_lite0", value=value,
                       interval=(value - 0.4, value + 0.4), floor=floor, floor_interval=(floor - 0.2, floor + 0.2),
                       n=22, n_real=22, better=better)
    # The arms, 0.6 together, are to shrink to the distance of 0.3: four times the scans.
    assert scans_to_decide(open_value) in (88, 89)  # rounded up
    (finding,) = judge([open_value])
    assert finding.level == "open" and "about 100 held-out scans would tell" in finding.text
    many = dataclasses.replace(open_value, n_real=22000)
    assert scans_to_decide(many) in (88000, 89000)


def test_what_is_no_worse_or_already_told_needs_no_number_of_scans() -> None:
    sure = Value(metric="recall_lite0", value=0.2, interval=(0.1, 0.3), floor=0.9, floor_interval=(0.8, 1.0), n=22,
                 n_real=22, better="higher")
    equal = dataclasses.replace(sure, value=0.9, interval=(0.8, 1.0))
    unknown = dataclasses.replace(sure, interval=None)
    assert [scans_to_decide(value) for value in (sure, equal, unknown)] == [None] * 3


@pytest.mark.parametrize("metric, interval", [("fd_lite0", (290.0, 330.0)), ("fd_train_lite0", (290.0, 330.0)),
                                              ("fd_lite0", None), ("recall_lite0", None)])
@pytest.mark.parametrize("n, n_real", [(16, 16), (16, 4000), (4000, 16), (99, 99)])
def test_few_pictures_never_call_a_frechet_distance_or_a_value_without_interval_worse(
        metric: str, interval: tuple[float, float] | None, n: int, n_real: int) -> None:
    better = "higher" if metric.startswith("recall") else "lower"
    far = Value(metric=metric, value=310.0 if better == "lower" else 100.0, interval=interval, floor=168.0,
                floor_interval=interval and (150.0, 180.0), n=n, n_real=n_real, better=better)
    assert gap(far) == 0.0 and {finding.level for finding in judge([far])} <= {"open"}
    many = dataclasses.replace(far, n=100, n_real=100)
    assert gap(many) > 0.0  # what the same numbers say of enough pictures


def test_what_few_pictures_leave_open_is_said_by_the_side_on_which_it_lies() -> None:
    far = Value(metric="fd_lite0", value=310.0, floor=168.0, n=16, n_real=16, better="lower")
    (finding,) = judge([far])
    assert finding.text.startswith("Somewhat worse") and "at least 16 of each" in finding.text
    (finding,) = judge([dataclasses.replace(far, value=170.0)])
    assert finding.text.startswith("Not told from real scans")
