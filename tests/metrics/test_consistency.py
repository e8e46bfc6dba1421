"""Whether pictures show what was asked for, on pictures and biomarkers whose truth is known."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from made_pictures import MadePictures, plain_pictures
from scipy.stats import ks_2samp

from dnnlib.errors import DataError
from stylegan_oct.classes import CLASSES
from stylegan_oct.features.oct import OctDetector, OctInfo, OctNetwork
from stylegan_oct.features.oct_training import OctTraining, Split, fit
from stylegan_oct.latent.biomarkers import measure as measuring
from stylegan_oct.latent.biomarkers.measure import NAMES, measure
from stylegan_oct.metrics.consistency.biomarkers import (
    compare_biomarkers,
    distributions,
    greatest_difference,
    scaled_wasserstein,
)
from stylegan_oct.metrics.consistency.measure import BiomarkerObserver, Consistency, measure_consistency, measuring_hash
from stylegan_oct.metrics.report.report import encode
from stylegan_oct.metrics.statistics.values import Value
from stylegan_oct.phantom import render

FOUR = [0, 1, 2, 3]
IDENTITY = "biomarkers-test"


@pytest.fixture(scope="module")
def oracle() -> OctDetector:
    """Return an oracle of plain pictures that names the classes in another order."""
    order = ("NORMAL", "CNV", "DME", "DRUSEN")
    taught = plain_pictures("taught", FOUR * 10, first=5000)
    labels = np.array([order.index(CLASSES[label]) for label in taught.labels])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = OctNetwork(8, 1, 4)
        fit(network, Split(taught.pixels, torch.from_numpy(labels)), [np.flatnonzero(labels == i) for i in range(4)],
            OctTraining(nimg=640, batch=16))
    info = OctInfo(classes=order, resolution=8, channels=1, archive="", source="phantom", nimg=640, right={}, count={})
    return OctDetector(network, info, "0" * 64).eval().requires_grad_(False)


def find(values: list[Value], metric: str, class_name: str | None = None) -> Value:
    (only,) = [value for value in values if (value.metric, value.class_name) == (metric, class_name)]
    return only


@pytest.fixture(scope="module")
def found(oracle: OctDetector, tmp_path_factory: pytest.TempPathFactory) -> Consistency:
    real = plain_pictures("real", [label for label in FOUR for _ in range(10)], per_patient=2)
    fake = plain_pictures("fake", FOUR * 10, first=1000)
    wrong = np.flatnonzero(fake.labels == 2)[:4]
    fake.labels[wrong] = 1  # four pictures of drusen were asked for as DME
    return measure_consistency(real, fake, oracle, cache=tmp_path_factory.mktemp("seen"))


def test_the_oracle_sees_the_class_asked_for_whatever_its_order(found: Consistency) -> None:
    assert find(found.values, "agreement_oct", "CNV").value == 1
    assert find(found.values, "agreement_oct", "DME").value == pytest.approx(10 / 14)
    assert find(found.values, "agreement_oct").value == pytest.approx((3 + 10 / 14) / 4)
    assert find(found.values, "agreement_oct").floor == 1
    assert "mean of the classes; the oracle was trained on simulated scans" in find(found.values, "agreement_oct").note


def test_confusions_count_every_picture(found: Consistency) -> None:
    assert found.confusion is not None
    assert found.confusion.asked == CLASSES
    table = {(asked, seen): found.confusion.fake[row][column] for row, asked in enumerate(found.confusion.asked)
             for column, seen in enumerate(found.confusion.seen)}
    assert table["DME", "DME"] == 10 and table["DME", "DRUSEN"] == 4 and sum(table.values()) == 40
    assert sum(map(sum, found.confusion.real)) == 40


def test_several_scans_of_a_patient_widen_the_interval_of_the_floor(found: Consistency) -> None:
    value = find(found.values, "agreement_oct", "CNV")
    assert value.interval is not None and value.floor_interval is not None
    assert value.n == value.n_real == 10  # of 5 patients
    assert value.floor_interval[0] == pytest.approx(5 / (5 + 1.96**2))
    assert value.interval[0] == pytest.approx(10 / (10 + 1.96**2))


def test_pictures_too_small_to_be_measured_say_so(found: Consistency) -> None:
    value = find(found.values, "wasserstein_mean_thickness_um")
    assert math.isnan(value.value) and "measured in no real scan" in value.note
    assert json.loads(json.dumps(encode(found), allow_nan=False))["confusion"]["asked"] == list(CLASSES)


def test_a_class_that_the_oracle_does_not_know_is_nan_with_a_note(oracle: OctDetector, tmp_path: Path) -> None:
    classes = ("CNV", "OTHER")
    made = [plain_pictures(name, [0, 1] * 4, first=first, classes=classes) for name, first in (("real", 0), ("f", 50))]
    values = measure_consistency(made[0], made[1], oracle, cache=tmp_path).values
    assert math.isnan(find(values, "agreement_oct", "OTHER").value)
    assert find(values, "agreement_oct", "OTHER").note == "the oracle knows no OTHER"
    assert find(values, "agreement_oct").value == 1 and "not both known of OTHER" in find(values, "agreement_oct").note


def test_a_class_without_held_out_scans_has_no_floor(oracle: OctDetector, tmp_path: Path) -> None:
    real, fake = plain_pictures("real", [0, 1, 3] * 4), plain_pictures("fake", FOUR * 4, first=50)
    values = measure_consistency(real, fake, oracle, cache=tmp_path).values
    assert find(values, "agreement_oct", "DRUSEN").floor is None
    assert find(values, "agreement_oct", "DRUSEN").note == "no held-out scans"
    assert find(values, "agreement_oct").floor == 1


def test_a_generator_without_classes_is_asked_for_none(oracle: OctDetector, tmp_path: Path) -> None:
    made = [plain_pictures(name, [0] * 8, first=first, classes=()) for name, first in (("real", 0), ("fake", 50))]
    found = measure_consistency(made[0], made[1], oracle, cache=tmp_path)
    assert found.confusion is None
    assert find(found.values, "agreement_oct").note == "the generator has no classes"


def test_other_classes_are_refused(oracle: OctDetector, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="The scans have the classes CNV, DME, DRUSEN, NORMAL, the generator A, B"):
        measure_consistency(plain_pictures("r", FOUR), plain_pictures("f", [0, 1], classes=("A", "B")), oracle,
                            cache=tmp_path)


def rows_and_pictures(n: int, *, shift: float, classes: int = 2) -> tuple[list[MadePictures], list[np.ndarray]]:
    """Return real and synthetic pictures and their biomarkers: normal, the synthetic ones shifted."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    made = [MadePictures(torch.zeros(n, 1, 8, 8, dtype=torch.uint8), labels, np.arange(n) + first,
                         CLASSES[:classes], name) for name, first in (("real", 0), ("fake", n))]
    rows = [(10 * rng.standard_normal((n, len(NAMES))) + add).astype(np.float32) for add in (0, 10 * shift)]
    return made, rows


def test_a_shift_is_measured_in_standard_deviations_and_its_floor_is_that_of_the_counts() -> None:
    made, rows = rows_and_pictures(2000, shift=0.7)
    values = compare_biomarkers(*made, *rows, identity=IDENTITY, seed=0, halvings=8)
    moved = find(values, "wasserstein_mean_thickness_um", "CNV")
    assert moved.value == pytest.approx(0.7, abs=0.08)
    assert moved.floor is not None and 0 < moved.floor < 0.15
    assert moved.interval is not None and moved.interval[0] < 0.7 < moved.interval[1]
    assert moved.n == moved.n_real == 500
    assert find(values, "ks_mean_thickness_um").value == pytest.approx(0.274, abs=0.05)  # 2 Phi(0.35) - 1


def test_samples_of_one_distribution_are_at_the_floor() -> None:
    made, rows = rows_and_pictures(800, shift=0.0)
    for value in compare_biomarkers(*made, *rows, identity=IDENTITY, seed=0, halvings=8):
        assert value.floor is not None and value.interval is not None and value.floor_interval is not None
        assert value.interval[0] <= value.floor_interval[1] and value.floor_interval[0] <= value.interval[1]


def test_identical_sets_are_at_distance_zero() -> None:
    numbers = np.random.default_rng(0).standard_normal(50)
    assert scaled_wasserstein(numbers, numbers[::-1], 2.0) == 0
    assert greatest_difference(numbers, numbers[::-1]) == 0
    assert scaled_wasserstein(numbers, numbers + 3, 2.0) == pytest.approx(1.5)
    assert scaled_wasserstein(np.zeros(3), np.zeros(3), 0.0) == 0
    assert math.isnan(scaled_wasserstein(np.zeros(3), np.ones(3), 0.0))


def test_the_greatest_difference_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 40).astype(float), rng.integers(1, 9, 23).astype(float)
    assert greatest_difference(a, b) == pytest.approx(ks_2samp(a, b).statistic)


def test_what_cannot_be_measured_is_counted_and_left_out_of_the_distances() -> None:
    made, rows = rows_and_pictures(400, shift=0.0)
    rows[1][(np.arange(400) % 2 == 0) & (np.arange(400) < 100), 0] = np.nan  # 50 of the 200 of CNV
    rows[0][:, 5] = np.nan
    values = compare_biomarkers(*made, *rows, identity=IDENTITY, seed=0, halvings=4)
    lacking = find(values, f"unmeasured_{NAMES[0]}", "CNV")
    assert (lacking.value, lacking.floor) == (0.25, 0)
    assert find(values, f"unmeasured_{NAMES[0]}").value == pytest.approx(0.125)
    assert find(values, f"wasserstein_{NAMES[0]}", "CNV").value < 0.4
    assert "measured in no real scan" in find(values, f"wasserstein_{NAMES[5]}").note


def test_a_biomarker_that_a_class_lacks_is_nan_there_and_left_out_of_the_mean() -> None:
    made, rows = rows_and_pictures(200, shift=0.0)
    rows[0][np.arange(200) % 2 == 0, 1] = 0  # all real scans of CNV
    values = compare_biomarkers(*made, *rows, identity=IDENTITY, seed=0, halvings=4)
    assert math.isnan(find(values, f"wasserstein_{NAMES[1]}", "CNV").value)
    together = find(values, f"wasserstein_{NAMES[1]}")
    assert together.value == pytest.approx(find(values, f"wasserstein_{NAMES[1]}", "DME").value)
    assert "without CNV" in together.note


def test_quantiles_tell_the_distribution_by_class() -> None:
    made, rows = rows_and_pictures(400, shift=1.0)
    rows[1][np.arange(400) % 2 == 1, 3] = np.nan
    found = distributions(*made, *rows)
    one = next(each for each in found if (each.biomarker, each.class_name) == (NAMES[3], "CNV"))
    assert one.real == tuple(np.quantile(rows[0][::2, 3], one.probabilities).tolist())
    other = next(each for each in found if (each.biomarker, each.class_name) == (NAMES[3], "DME"))
    assert (other.fake, other.n_fake, other.n_real) == ((), 0, 200)


def test_rows_of_the_observer_are_the_biomarkers_in_their_order() -> None:
    scans = np.stack([render(1, i, label=CLASSES[i], resolution=(64, 64), border=False).image for i in range(2)])
    grey = torch.from_numpy(scans)[:, None]
    rows, expected = BiomarkerObserver()(grey), measure(scans).values
    np.testing.assert_allclose(rows.numpy(), np.stack([expected[name] for name in NAMES], axis=1), rtol=1e-6)
    torch.testing.assert_close(BiomarkerObserver()(grey.expand(-1, 3, -1, -1)), rows, equal_nan=True)
    assert BiomarkerObserver()(grey[:, :, :8, :8]).isnan().all()


def test_the_observer_changes_its_name_with_the_constants_and_the_scale(tmp_path: Path) -> None:
    package = Path(measuring.__file__).parent
    copy = tmp_path / "biomarkers"
    shutil.copytree(package, copy)
    assert measuring_hash(copy) == measuring_hash()
    (copy / "report.py").write_text("# measures nothing")
    assert measuring_hash(copy) == measuring_hash()
    changed = (copy / "measure.py").read_text().replace("LEAST_CONTRAST = 12.0", "LEAST_CONTRAST = 13.0")
    (copy / "measure.py").write_text(changed)
    assert measuring_hash(copy) != measuring_hash()
    assert BiomarkerObserver().identity != BiomarkerObserver((7.5, 23.0)).identity
