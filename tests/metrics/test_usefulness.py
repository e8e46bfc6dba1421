"""Classifiers trained on pictures whose class is plain, and on wrong labels."""

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_pictures import MadePictures, plain_pictures
from train_together import measure

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.metrics.statistics.values import Value
from stylegan_oct.metrics.usefulness.arms import Arm, amounts, arms_of
from stylegan_oct.metrics.usefulness.measure import Usefulness, UsefulnessSettings, measure_usefulness, urgent_classes
from torch_utils.distributed import World

FOUR = [0, 1, 2, 3]
TINY = UsefulnessSettings(seeds=2, shares=(0.2, 1.0), nimg=480, batch=16, resolution=8, resamples=100)


def sets(**changes: object) -> dict[str, MadePictures]:
    made = {"train": plain_pictures("train", FOUR * 10), "held_out": plain_pictures("held", FOUR * 5, first=100),
            "fake": plain_pictures("fake", FOUR * 10, first=1000)}
    return {**made, **changes}  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Usefulness:
    return measure_usefulness(**sets(), settings=TINY, cache=tmp_path_factory.mktemp("seen"))


def value(found: Usefulness, metric: str, class_name: str | None = None) -> Value:
    (only,) = [each for each in found.values if (each.metric, each.class_name) == (metric, class_name)]
    return only


def test_plain_classes_are_told_apart_whatever_the_training(plain: Usefulness) -> None:
    assert value(plain, "tstr_accuracy").value == 1
    assert value(plain, "tstr_accuracy").floor == 1
    assert value(plain, "tstr_auc_urgent").value == 1
    assert value(plain, "tstr_sensitivity", "DME").value == value(plain, "tstr_specificity", "DME").value == 1
    assert value(plain, "gap_auc_urgent").value == 0
    assert "published bar 0.01 (Zheng 2020, urgent against not): met" in value(plain, "gap_auc_urgent").note


def test_values_tell_counts_seed_and_what_looked(plain: Usefulness) -> None:
    found = value(plain, "tstr_auc")
    assert (found.n, found.n_real, found.seed) == (40, 20, 0)
    assert found.detector is not None and found.detector.startswith("classifier8-")
    assert "2 seeds, 480 images shown; 40 synthetic or 40 real scans of 40 patients to train on, 20 of 20 to test on" \
        in found.note


def test_the_curve_has_every_arm_at_every_amount(plain: Usefulness) -> None:
    points = [(point.arm, point.patients, point.scans) for point in plain.curve if point.metric == "auc"]
    assert points == [("synthetic", 0, 0), ("real", 8, 8), ("both", 8, 8), ("real", 40, 40), ("both", 40, 40)]
    assert all(len(point.by_seed) == 2 for point in plain.curve)


def test_permuted_labels_are_of_no_use(tmp_path: Path) -> None:
    fake = plain_pictures("wrong", FOUR * 40, first=1000)
    fake.labels = np.random.default_rng(0).permutation(fake.labels)
    found = measure_usefulness(**sets(fake=fake), settings=TINY, cache=tmp_path)
    assert 0.2 < value(found, "tstr_auc").value < 0.8
    assert value(found, "tstr_auc").floor == 1
    assert value(found, "gap_auc").value > 0.2


def test_swapped_classes_are_worse_than_chance(tmp_path: Path) -> None:
    fake = plain_pictures("swapped", FOUR * 10, first=1000)
    fake.labels = (fake.labels + 2) % 4  # urgent for non-urgent
    found = measure_usefulness(**sets(fake=fake), settings=TINY, cache=tmp_path)
    assert value(found, "tstr_accuracy").value == 0
    assert value(found, "tstr_auc_urgent").value < 0.1
    assert "missed" in value(found, "gap_auc_urgent").note


def test_a_class_absent_from_the_held_out_scans_is_nan_with_a_note(tmp_path: Path) -> None:
    held_out = plain_pictures("three", [0, 1, 3] * 5, first=100)
    found = measure_usefulness(**sets(held_out=held_out), settings=TINY, cache=tmp_path)
    assert math.isnan(value(found, "tstr_sensitivity", "DRUSEN").value)
    assert value(found, "tstr_sensitivity", "DRUSEN").note == "no held-out scans"
    assert value(found, "tstr_auc").value == 1
    assert "no held-out scans of DRUSEN" in value(found, "tstr_auc").note


def test_a_class_that_is_not_drawn_is_not_seen(tmp_path: Path) -> None:
    fake = plain_pictures("three", [0, 1, 3] * 10, first=1000)
    found = measure_usefulness(**sets(fake=fake), settings=TINY, cache=tmp_path)
    assert value(found, "tstr_sensitivity", "DRUSEN").value == 0
    assert value(found, "tstr_sensitivity", "DRUSEN").note == "no synthetic pictures"
    both = [point for point in found.curve if (point.arm, point.metric) == ("both", "accuracy")]
    assert both[-1].value == 1  # real scans of the class stand in


def test_a_patient_in_training_and_test_is_refused(tmp_path: Path) -> None:
    held_out = plain_pictures("held", FOUR * 5, first=38)
    with pytest.raises(DataError, match="2 patients are in both the training and the held-out scans.*Split by patient"):
        measure_usefulness(**sets(held_out=held_out), settings=TINY, cache=tmp_path)


def test_other_classes_and_empty_sets_are_refused(tmp_path: Path) -> None:
    other = plain_pictures("fake", [0, 1], first=1000, classes=("CNV", "DME"))
    with pytest.raises(DataError, match="the synthetic pictures CNV, DME. Give the archive"):
        measure_usefulness(**sets(fake=other), settings=TINY, cache=tmp_path)
    with pytest.raises(DataError, match="There are no held-out scans"):
        measure_usefulness(**sets(held_out=plain_pictures("none", [])), settings=TINY, cache=tmp_path)
    alone = {name: plain_pictures(name, [0] * 4, first=first, classes=("CNV",))
             for name, first in (("train", 0), ("held_out", 10), ("fake", 20))}
    with pytest.raises(DataError, match="fewer than two classes"):
        measure_usefulness(**alone, settings=TINY, cache=tmp_path)
    colour = plain_pictures("fake", FOUR, first=1000)
    colour.pixels = colour.pixels.expand(-1, 3, -1, -1)
    with pytest.raises(DataError, match="have 1 channels, other pictures 3"):
        measure_usefulness(**sets(fake=colour), settings=TINY, cache=tmp_path)


def test_urgency_is_left_out_with_a_reason_for_other_classes(tmp_path: Path) -> None:
    made = {name: plain_pictures(name, [0, 1] * 8, first=first, classes=("A", "B"))
            for name, first in (("train", 0), ("held_out", 100), ("fake", 200))}
    found = measure_usefulness(**made, settings=dataclasses.replace(TINY, seeds=1, nimg=160), cache=tmp_path)
    assert math.isnan(value(found, "tstr_auc_urgent").value)
    assert "urgent are CNV and DME" in value(found, "tstr_auc_urgent").note
    assert "the classes are A, B" in value(found, "tstr_auc_urgent").note
    assert "the interval does not hold the spread of trainings" in value(found, "tstr_auc").note
    assert urgent_classes(("DRUSEN", "CNV")) == ([1], "")
    assert urgent_classes(("CNV", "DME"))[0] == []


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(tmp_path: Path) -> None:
    short = dataclasses.replace(TINY, nimg=64)  # learns little, so that the numbers differ
    runs = [measure_usefulness(**sets(), settings=settings, cache=tmp_path / str(number)) for number, settings in
            enumerate([short, short, dataclasses.replace(short, seed=9)])]
    assert [point.by_seed for point in runs[0].curve] == [point.by_seed for point in runs[1].curve]
    assert [point.by_seed for point in runs[0].curve] != [point.by_seed for point in runs[2].curve]


def test_what_was_trained_is_kept_and_serves_other_generators(tmp_path: Path) -> None:
    made, short = sets(), dataclasses.replace(TINY, nimg=64)
    first = measure_usefulness(**made, settings=short, cache=tmp_path / "real", fake_cache=tmp_path / "fake")
    kept = sorted((tmp_path / "real").glob("said-*.npy"))
    assert len(kept) == 4 and all(file.name.startswith("said-real") for file in kept)
    assert all(file.stat().st_mode & 0o077 == 0 for file in kept)
    made["train"].reads.clear()
    steps: list[int] = []
    again = measure_usefulness(**made, settings=short, cache=tmp_path / "real", fake_cache=tmp_path / "fake",
                               progress=lambda done, total: steps.append(total))
    assert again == first
    assert made["train"].reads in ([], [0]) and not steps
    other = sets(fake=plain_pictures("other", FOUR * 10, first=2000))
    measure_usefulness(**other, settings=short, cache=tmp_path / "real", fake_cache=tmp_path / "fake",
                       progress=lambda done, total: steps.append(total))
    assert sorted((tmp_path / "real").glob("said-*.npy")) == kept
    assert set(steps) == {6 * 64}  # synthetic and both amounts of both, twice


def test_amounts_are_nested_and_of_whole_patients_of_each_class() -> None:
    labels = np.array(FOUR * 30)
    groups = np.arange(120) // 2 * 7 - 100  # patients of two scans, of two classes
    found = [set(amounts(labels, groups, share, [0, 1]).tolist()) for share in (0.001, 0.1, 0.4, 1.0)]
    for less, more in zip(found, found[1:], strict=False):
        assert less < more
    assert len(found[-1]) == 120
    for places in found:
        inside = set(groups[list(places)].tolist())
        assert {int(place) for place in np.flatnonzero(np.isin(groups, list(inside)))} == places
    assert amounts(labels, groups, 0.1, [0, 2]).tolist() != sorted(found[1])


def test_shares_that_come_to_the_same_patients_count_once() -> None:
    few = plain_pictures("few", FOUR * 3)
    arms = arms_of(few, UsefulnessSettings(shares=(0.01, 0.1, 1.0), seeds=1))
    assert arms == [Arm("synthetic"), Arm("real", 0.01, 4, 4), Arm("both", 0.01, 4, 4), Arm("real", 1.0, 12, 12),
                    Arm("both", 1.0, 12, 12)]


@pytest.mark.parametrize("changes", [{"seeds": 0}, {"shares": ()}, {"shares": (0.0, 1.0)}, {"shares": (1.5,)},
                                     {"nimg": 0}, {"resolution": 60}, {"resamples": 10}])
def test_settings_that_cannot_work_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        UsefulnessSettings(**changes)  # type: ignore[arg-type]


def test_the_callers_random_numbers_are_left_alone_and_one_amount_gives_one_gain(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one = dataclasses.replace(TINY, seeds=1, nimg=32, shares=(1.0,))
    found = measure_usefulness(**sets(), settings=one, cache=tmp_path)
    assert torch.rand(1) == expected
    assert [each.metric for each in found.values if each.metric.startswith("gain_auc")] == ["gain_auc",
                                                                                           "gain_auc_urgent"]


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    here = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(here / "train_together.py"), str(tmp_path)], text=True, capture_output=True, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (here.parents[1], here)))})
    assert result.returncode == 0, result.stderr
    expected = repr(measure(tmp_path / "one", World()))
    assert [(tmp_path / f"process-{rank}.txt").read_text() for rank in (0, 1)] == [expected] * 2
