"""What is to be drawn from which seeds, and the ranges of biomarkers."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import write_archive

from dnnlib.config import from_dict, to_dict
from dnnlib.errors import ConfigError, DataError
from stylegan_oct.export.drawing.rules import Rule, parse_rule
from stylegan_oct.export.plan import PART, Plan, counts_like, parse_counts, share_out

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")


def make_plan(counts: tuple[int, ...], **changes: Any) -> Plan:
    fields: dict[str, Any] = {"checkpoint_sha256": "0" * 64, "classes": CLASSES[:len(counts)], "counts": counts,
                              "psi": 1.0, "seed": 0, "batch": 16, "split": (0.9, 0.1, 0.0), "layout": "imagefolder"}
    return Plan(**{**fields, **changes})


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 350), min_size=1, max_size=4).filter(any), st.integers(1, 40))
def test_parts_cover_each_picture_once_and_no_seed_is_used_twice(counts: list[int], batch: int) -> None:
    plan = make_plan(tuple(counts), batch=batch)
    seeds: list[int] = []
    for label, count in enumerate(counts):
        places = [plan.places(part, label) for part in range(plan.parts)]
        assert list(chain.from_iterable(places)) == list(range(count))
        assert max(map(len, places)) <= PART
        for part in range(plan.parts):
            seeds += chain.from_iterable(plan.batches(part, label, 3))
    assert len(set(seeds)) == len(seeds)
    assert sum(map(plan.part_size, range(plan.parts))) == plan.total


def test_the_company_of_a_seed_is_the_batch_that_it_is_drawn_in() -> None:
    plan = make_plan((250, 100), seed=7, batch=6)
    for part, label in ((0, 0), (1, 1), (2, 0)):
        for batch in plan.batches(part, label, 2):
            assert all(plan.batch_of(seed) == batch for seed in batch)


def test_pilots_use_seeds_of_their_own() -> None:
    plan = make_plan((3, 3))
    pilots = [set(chain.from_iterable(plan.pilot(label))) for label in (0, 1)]
    assert not pilots[0] & pilots[1]
    assert max(pilots[0] | pilots[1]) < 2**32 and min(pilots[0] | pilots[1]) > 2**31


def test_a_longer_balanced_export_begins_with_the_seeds_and_splits_of_a_shorter_one() -> None:
    short, long = make_plan((150, 150)), make_plan((400, 400))
    for part in range(short.parts):
        assert list(short.batches(part, 1, 1))[0] == list(long.batches(part, 1, 1))[0]
    assert long.splits(0)[:150] == short.splits(0)


@pytest.mark.parametrize("counts, batch", [((2**31, 2**31), 16), ((10**6, 10**6), 16)])
def test_more_pictures_than_seeds_are_refused(counts: tuple[int, ...], batch: int) -> None:
    with pytest.raises(ConfigError, match="seeds"):
        make_plan(counts, batch=batch, seed=2**32 - 10**8)


def test_splits_have_their_shares_at_every_length() -> None:
    splits = make_plan((200,), split=(0.7, 0.2, 0.1)).splits(0)
    for n in range(1, 201):
        for name, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
            assert abs(splits[:n].count(name) - share * n) <= 1


def test_a_plan_is_the_same_after_json() -> None:
    plan = make_plan((5, 5), rules=(Rule(biomarker="foci_count", class_name="CNV", low=2.0),))
    assert from_dict(Plan, to_dict(plan)) == plan


def test_counts_are_given_by_class_in_any_case() -> None:
    assert parse_counts("normal=20, DRUSEN=5", CLASSES) == (0, 0, 5, 20)


@pytest.mark.parametrize("text, word", [("DRUSSEN=5", "DRUSEN"), ("CNV", "NORMAL=2000"), ("CNV=1,CNV=2", "once"),
                                        ("CNV=0", "no picture"), ("CNV=-4", "each class once")])
def test_wrong_counts_are_told(text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse_counts(text, CLASSES)


@given(st.integers(1, 500), st.lists(st.integers(0, 1000), min_size=1, max_size=5).filter(any))
def test_shares_add_up_and_miss_by_less_than_one(total: int, weights: list[int]) -> None:
    shares = share_out(total, {str(i): weight for i, weight in enumerate(weights)})
    assert sum(shares.values()) == total
    assert all(abs(shares[str(i)] - total * weight / sum(weights)) < 1 for i, weight in enumerate(weights))


def test_counts_follow_an_archive(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.zip", count=5, classes=("CNV", "DRUSEN"))  # three CNV, two DRUSEN
    assert counts_like(archive, CLASSES, 50) == (30, 0, 20, 0)
    with pytest.raises(ConfigError, match="DRUSEN"):
        counts_like(archive, ("CNV",), 50)


@pytest.mark.parametrize("text, class_name, low, high", [
    ("drusen_area_mm2=0.02-0.1", None, 0.02, 0.1), ("CNV:foci_count=3-", "CNV", 3.0, None),
    ("dme:foci_count=-3", "DME", None, 3.0), ("drusen_area_mm2=1e-3-.5", None, 1e-3, 0.5)])
def test_ranges_are_read(text: str, class_name: str | None, low: float | None, high: float | None) -> None:
    rule = parse_rule(text, CLASSES)
    assert (rule.class_name, rule.low, rule.high, rule.third) == (class_name, low, high, "")


@pytest.mark.parametrize("text, word", [("drusen_aera_mm2=1-2", "drusen_area_mm2"), ("CNW:foci_count=1-2", "CNV"),
                                        ("foci_count=3-2", "no range"), ("foci_count=-", "no range"),
                                        ("foci_count", "no range"), ("foci_count=upper", "upper-third")])
def test_wrong_ranges_are_told(text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse_rule(text, CLASSES)


def test_each_third_holds_a_third_and_unknown_values_belong_to_none() -> None:
    values = np.append(np.random.default_rng(0).permutation(300) / 7, [np.nan] * 20)
    found = [parse_rule(f"foci_count={third}-third", CLASSES).resolved("CNV", values).holds(values)
             for third in ("lower", "middle", "upper")]
    assert [int(one.sum()) for one in found] == [100, 100, 100]
    assert np.array_equal(np.sum(found, axis=0), ~np.isnan(values))


def test_a_third_of_a_biomarker_that_cannot_be_measured_is_refused() -> None:
    with pytest.raises(DataError, match="only 10 of 240"):
        parse_rule("foci_count=upper-third", CLASSES).resolved("CNV", np.append(np.arange(10.0), [np.nan] * 230))


def test_a_third_of_equal_values_is_refused() -> None:
    with pytest.raises(DataError, match="100% would be its upper-third"):
        parse_rule("drusen_area_mm2=upper-third", CLASSES).resolved("NORMAL", np.zeros(240))


def test_an_export_that_was_begun_goes_on_with_its_own_batch(tmp_path: Path) -> None:
    from in_parts import export_in_parts

    export_in_parts(tmp_path / "export", classes="CNV=3", batch=2)
    again = export_in_parts(tmp_path / "export", classes="CNV=3", batch=None)
    assert again.record.plan.batch == 2 and again.drawn_now == 0
