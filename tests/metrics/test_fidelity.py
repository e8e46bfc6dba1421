import math
from pathlib import Path

import numpy as np
import pytest
from stored_pictures import CLASSES, FieldsDetector, StoredPictures

from dnnlib.errors import DataError
from stylegan_oct.metrics.distances.fidelity import METRICS, measure_fidelity
from stylegan_oct.metrics.observers.halves import draw_halvings, join
from stylegan_oct.metrics.statistics.values import Value


def measure(tmp_path: Path, fake: StoredPictures, *, held_out: StoredPictures | None = None,
            detector: FieldsDetector | None = None, seed: int = 0) -> dict[tuple[str, str | None], Value]:
    real = StoredPictures("train", [200, 100], seed=1)
    held_out = StoredPictures("test", [120, 60], seed=2) if held_out is None else held_out
    values = measure_fidelity(real, held_out, fake, [detector or FieldsDetector()], cache=tmp_path / "seen", seed=seed)
    return {(value.metric, value.class_name): value for value in values}


def test_there_is_a_value_beside_its_floor_for_every_metric_and_class(tmp_path: Path) -> None:
    found = measure(tmp_path, StoredPictures("drawn", [120, 60], seed=3))
    assert list(found) == [*((f"{name}_fields", label) for label in (None, *CLASSES) for name in METRICS),
                           ("kd_train_fields", None), ("fd_train_fields", None)]
    for (name, label), value in found.items():
        assert math.isfinite(value.value) and value.detector == "fields-00000000" and value.resize == "none"
        assert value.seed == 0 and (value.n, value.n_real) != (None, None)
        if "train" in name:
            assert value.floor is not None and (value.n, value.n_real) == (180, 300)
        else:
            assert value.n == value.n_real == {None: 90, "CNV": 60, "DRUSEN": 30}[label]
            assert value.floor is not None and value.interval is not None and value.floor_interval is not None
            assert value.interval[0] <= value.value <= value.interval[1]


def test_another_sample_of_the_distribution_is_at_the_floor(tmp_path: Path) -> None:
    found = measure(tmp_path, StoredPictures("drawn", [120, 60], seed=3))
    for value in found.values():
        if value.interval is not None:
            assert value.floor_interval is not None
            assert value.interval[0] < value.floor_interval[1] and value.floor_interval[0] < value.interval[1], value


def test_a_shift_is_far_above_the_floor(tmp_path: Path) -> None:
    found = measure(tmp_path, StoredPictures("drawn", [120, 60], seed=3, shift=60))
    for label in (None, *CLASSES):
        for name in ("kd_fields", "fd_fields"):
            value = found[name, label]
            assert value.interval is not None and value.floor_interval is not None
            assert value.interval[0] > value.floor_interval[1]
    assert found["precision_fields", None].value < 0.5
    for name in ("kd_train_fields", "fd_train_fields"):
        assert found[name, None].value > 10 * (found[name, None].floor or 0)


def test_a_collapsed_generator_is_precise_but_not_complete(tmp_path: Path) -> None:
    found = measure(tmp_path, StoredPictures("drawn", [120, 60], seed=3, spread=1))
    assert found["precision_fields", None].value > 0.95
    assert found["recall_fields", None].value < 0.3 < 0.7 < (found["recall_fields", None].floor or 0)


def test_too_few_pictures_for_the_features_are_warned_of_for_the_frechet_distance_alone(tmp_path: Path) -> None:
    few = measure(tmp_path, StoredPictures("drawn", [8, 60], seed=3))
    assert "4 pictures being too few for 4 features" in few["fd_fields", "CNV"].note
    assert few["fd_fields", "DRUSEN"].note == "" and few["kd_fields", "CNV"].note == ""


def test_an_absent_class_is_not_measured_and_the_others_are(tmp_path: Path) -> None:
    found = measure(tmp_path, StoredPictures("drawn", [120, 0], seed=3))
    for name in METRICS:
        absent = found[f"{name}_fields", "DRUSEN"]
        assert math.isnan(absent.value) and "60 scans and 0 synthetic pictures" in absent.note
        assert math.isfinite(found[f"{name}_fields", "CNV"].value)
        assert "without DRUSEN" in found[f"{name}_fields", None].note


def test_a_class_of_few_patients_is_not_measured_however_many_scans_they_have(tmp_path: Path) -> None:
    held_out = StoredPictures("test", [120, 28], seed=2, scans=4)
    found = measure(tmp_path, StoredPictures("drawn", [120, 60], seed=3), held_out=held_out)
    assert "scans of 7 patients; fewer than 8" in found["kd_fields", "DRUSEN"].note
    assert math.isnan(found["kd_fields", "DRUSEN"].value) and math.isfinite(found["kd_fields", "CNV"].value)
    assert "several scans of a patient" in found["fd_fields", "CNV"].note


def test_a_generator_without_classes_is_measured_as_a_whole(tmp_path: Path) -> None:
    real, fake = (StoredPictures(name, [60], seed=seed, classes=()) for name, seed in (("train", 1), ("drawn", 3)))
    values = measure_fidelity(real, None, fake, [FieldsDetector()], cache=tmp_path)
    assert len(values) == 8 and all(math.isfinite(value.value) and value.class_name is None for value in values)


def test_features_that_are_no_numbers_are_refused_with_their_count(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no numbers for 10 of 300 training scans"):  # 2 of each 64
        measure(tmp_path, StoredPictures("drawn", [20, 20], seed=3), detector=FieldsDetector(broken=1))


def test_without_held_out_scans_halves_of_the_training_scans_serve(tmp_path: Path) -> None:
    real, fake = StoredPictures("train", [40, 40], seed=1), StoredPictures("drawn", [40, 40], seed=3)
    values = measure_fidelity(real, None, fake, [FieldsDetector()], cache=tmp_path)
    assert all("no held-out scans" in value.note for value in values)
    assert values[0].n == 40


def test_pictures_are_looked_at_once(tmp_path: Path) -> None:
    detector, fake = FieldsDetector(), StoredPictures("drawn", [120, 60], seed=3)
    first = measure(tmp_path, fake, detector=detector)
    assert detector.looks == 300 + 180 + 180
    assert measure(tmp_path, fake, detector=detector) == first and detector.looks == 660
    assert measure(tmp_path, fake, detector=detector, seed=1) != first


def test_progress_tells_of_all_pictures(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    measure_fidelity(StoredPictures("train", [70, 60], seed=1), StoredPictures("test", [20, 20], seed=2),
                     StoredPictures("drawn", [20, 20], seed=3), [FieldsDetector()], cache=tmp_path,
                     progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told) and told[-1] == (210, 210) and {total for _, total in told} == {210}


def test_other_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="CNV, DRUSEN, the generator none"):
        measure(tmp_path, StoredPictures("drawn", [20], classes=()))


def test_halves_share_no_patient_and_have_equal_counts_of_each_class() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.choice(3, 200, p=[0.7, 0.2, 0.1]), rng.integers(0, 25, 200)
    halvings = draw_halvings(labels, groups, np.repeat([0, 1, 2], 100), 3, number=6, seed=0, limit=1000)
    sizes = {tuple(len(part) for part in parts) for halving in halvings for parts in (*halving.real, *halving.fake)}
    assert len(sizes) == 1 and sum(sizes.pop()) > 75
    for halving in halvings:
        first, second = (set(groups[join(half, None)]) for half in halving.real)
        assert not first & second
        assert not set(join(halving.fake[0], None)) & set(join(halving.fake[1], None))
    assert len({join(halving.real[0], None).tobytes() for halving in halvings}) == 6


def test_large_halves_are_thinned_without_changing_the_shares() -> None:
    labels = np.repeat([0, 1], [3000, 1000])
    (halving,) = draw_halvings(labels, np.arange(4000), labels, 2, number=1, seed=0, limit=200)
    assert [len(part) for part in halving.real[0]] == [150, 50]
