import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.errors import ConfigError
from stylegan_oct.data.duplicates import dhash, distance, near_pairs, thumbnail
from stylegan_oct.data.splits import Fractions, assign, parse_fractions, position


def test_the_split_of_a_patient_depends_on_its_number_alone():
    fractions = Fractions(0.7, 0.15, 0.15)
    few = assign(map(str, range(100)), set(), fractions)
    many = assign(map(str, range(1000)), set(), fractions)
    assert all(many[patient] == split for patient, split in few.items())
    # Written down, so that no release moves patients between splits.
    assert position("1016042") == 0x1ef3fa368570f3b8 / 2**64


def test_splits_have_about_the_shares_asked_for():
    splits = list(assign(map(str, range(5000)), set(), Fractions()).values())
    for name, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        assert splits.count(name) / 5000 == pytest.approx(share, abs=0.02)


def test_official_test_patients_stay_there_and_nobody_joins_them():
    result = assign(map(str, range(500)), {"3", "4"}, Fractions())
    assert {patient for patient, split in result.items() if split == "test"} == {"3", "4"}
    assert 0.07 < list(result.values()).count("val") / 500 < 0.16


@given(st.sets(st.text(min_size=1), min_size=3, max_size=12))
def test_a_split_that_was_asked_for_is_not_empty_with_a_few_patients(patients):
    result = assign(patients, set(), Fractions())
    assert set(result) == patients and "train" in result.values() and "val" in result.values()
    assert "test" in result.values()


@given(st.sets(st.text(min_size=1), max_size=12))
def test_a_split_that_was_not_asked_for_is_empty(patients):
    assert set(assign(patients, set(), Fractions(1.0, 0.0, 0.0)).values()) <= {"train"}


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.sampled_from("ABC"), max_size=30),
       st.sampled_from([(0.8, 0.1, 0.1), (0.65, 0.35, 0.0), (1.0, 0.0, 0.0), (0.9, 0.0, 0.1)]), st.booleans())
def test_shared_out_by_class_each_class_is_in_as_many_splits_as_it_has_patients(classes, shares, official):
    test = {min(classes)} if official and classes else set()
    result = assign(classes, test, Fractions(*shares), classes=classes)
    assert set(result) == set(classes) and result == assign(classes, test, Fractions(*shares), classes=classes)
    wanted = [name for name, share in zip(("train", "val", "test"), shares, strict=True)
              if share > 0 and not (test and name == "test")]
    for name in set(classes.values()):
        own = [split for patient, split in result.items() if classes[patient] == name and patient not in test]
        assert set(wanted[:len(own)]) <= set(own)


@given(st.text())
def test_a_single_patient_trains(patient):
    assert assign({patient}, set(), Fractions()) == {patient: "train"}


def test_shares_are_read_in_the_order_train_val_test():
    assert parse_fractions("80,10,10") == pytest.approx((0.8, 0.1, 0.1))
    assert parse_fractions("3,1") == pytest.approx((0.75, 0.25, 0))
    for text in ("", "a,b", "0,1,1", "-1,2", "1,2,3,4", "nan", "inf,1"):
        with pytest.raises(ConfigError, match="80,10,10"):
            parse_fractions(text)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=40), st.randoms(use_true_random=False))
def test_all_pairs_within_four_bits_are_found(base, random):
    flipped = [value ^ sum(1 << bit for bit in random.sample(range(64), random.randrange(7))) for value in base]
    hashes = np.array(base + flipped, np.uint64)
    same = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(16, 16), (len(hashes), 16, 16))
    expected = [[i, j] for i in range(len(hashes)) for j in range(i + 1, len(hashes))
                if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= 4]
    assert near_pairs(hashes, same).tolist() == expected


def test_near_hashes_of_pictures_that_differ_are_no_pair():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 16, 16), dtype=np.uint8)
    assert len(near_pairs(np.zeros(2, np.uint64), pictures)) == 0
    assert near_pairs(np.zeros(2, np.uint64), np.stack([pictures[0], pictures[0] // 2])).tolist() == [[0, 1]]


def test_distance_counts_differing_bits():
    a = np.array([0, 2**64 - 1, 0b1011], np.uint64)
    assert distance(a, np.zeros(3, np.uint64)).tolist() == [0, 64, 3]


def test_the_hash_survives_brightness_and_tells_scans_apart(draw_scan):
    scans = [draw_scan(i, width=256, height=248) for i in range(6)]
    brighter = np.clip(scans[0] * 1.2, 0, 255).astype(np.uint8)
    assert (dhash(scans[0]) ^ dhash(brighter)).bit_count() <= 4
    assert min((dhash(scans[0]) ^ dhash(other)).bit_count() for other in scans[1:]) > 4
    assert thumbnail(scans[0]).shape == (16, 16)


def test_a_hundred_thousand_scans_are_compared_in_seconds():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 100_000, dtype=np.uint64)
    hashes[-500:] = hashes[:500] ^ np.uint64(0b101)
    thumbnails = np.zeros((100_000, 16, 16), np.uint8)
    thumbnails[:, :8] = 200
    assert len(near_pairs(hashes, thumbnails)) == 500


@given(st.dictionaries(st.text(min_size=1), st.sampled_from(["A", "B", "C"]), min_size=1, max_size=40))
def test_with_classes_every_split_gets_its_share_of_each(classes):
    fractions = Fractions(0.65, 0.35, 0.0)
    result = assign(classes, set(), fractions, classes=classes)
    assert set(result) == set(classes)
    for name in set(classes.values()):
        of_class = [result[patient] for patient in classes if classes[patient] == name]
        # One more may move so that no split is empty.
        assert abs(of_class.count("val") - 0.35 * len(of_class)) <= 1.5


def test_with_classes_the_order_in_which_patients_come_changes_nothing():
    classes = {str(i): "AB"[i % 2] for i in range(20)}
    backwards = dict(reversed(classes.items()))
    assert assign(classes, set(), Fractions(), classes=classes) == assign(backwards, set(), Fractions(),
                                                                          classes=backwards)
