"""One spelling for names that people and systems write in several."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylegan_oct.classes import CLASSES
from stylegan_oct.data.names import (
    class_of_numbered,
    clean_path,
    fold_class,
    fold_patient,
    is_known_class,
    is_silent,
    looks_like_patient,
    order_classes,
    split_of,
)

WORDS = st.text(st.sampled_from("aäÄßéñΩ1 _-"), min_size=1, max_size=8)


@given(WORDS, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_blanks_case_and_forms_do_not_tell_patients_or_classes_apart(name, form):
    for spelt in (name.upper(), f"  {name}\t", unicodedata.normalize(form, name), f"\u200e{name}\ufeff"):
        if spelt.casefold() == name.casefold() or spelt != name.upper():  # some letters have no way back from capitals
            assert fold_patient(spelt) == fold_patient(name)
            assert fold_class(spelt) == fold_class(name)


@given(st.text())
def test_folding_and_cleaning_twice_changes_nothing_more(text):
    for once in (fold_patient, clean_path):
        assert once(once(text)) == once(text)


@given(st.lists(st.text(st.characters(exclude_characters="/\\", exclude_categories=("Cs",)), min_size=1), min_size=1))
def test_a_path_is_the_same_by_either_slash_and_form(parts):
    path = "/".join(parts)
    written = [path, "\\".join(parts), unicodedata.normalize("NFD", path), "./" + "//".join(parts)]
    assert len({clean_path(path).lstrip("/") for path in written}) == 1


def test_different_numbers_stay_different_classes_and_patients():
    assert len({fold_class(text) for text in ("1", "-1", "12", "1-2", "1 2", "1.5")}) == 6
    assert len({fold_patient(text) for text in ("7", "007", "7a", "7-a", "7/a")}) == 5


def test_the_split_of_a_number_is_that_of_the_number_as_it_was_written_before():
    assert fold_patient("1016042") == "1016042"


@pytest.mark.parametrize("name", [*CLASSES, "cnv", "Normal eyes", "DRY AMD", "dry_amd", "AMRD", "NO", "CSR", "MH",
                                  "VID", "WAMD", "Glaucoma", "healthy", "DME scans", "geographic atrophy"])
def test_what_public_sets_call_classes_is_known(name):
    assert is_known_class(name) and not looks_like_patient(name) and not is_silent(name)


@pytest.mark.parametrize("name", ["patient_a", "Patient 7", "P0012", "s12", "ID-34", "1016042", "subject3", "case_12b"])
def test_folders_of_patients_are_told(name):
    assert looks_like_patient(name) and not is_known_class(name) and not is_silent(name)


@pytest.mark.parametrize("name", ["Canary", "Zoster", "pathology", "images", "OD", "2019-03-12", "", "A", "train"])
def test_what_is_neither_class_nor_patient_is_taken_for_none(name):
    assert not is_known_class(name) and not looks_like_patient(name) and class_of_numbered(name) is None


@pytest.mark.parametrize("name, stem", [("AMD1", "AMD"), ("amd_12", "amd"), ("12-NORMAL", "NORMAL"), ("Canary1", None),
                                        ("AMD", None), ("12", None), ("DME 3", "DME")])
def test_the_class_of_a_numbered_folder(name, stem):
    assert class_of_numbered(name) == stem


@pytest.mark.parametrize("name, split", [("train", "train"), ("Training", "train"), ("test_set", "test"),
                                         ("TEST ", "test"), ("val data", "val"), ("dev", "val"), ("tests", None),
                                         ("retest", None), ("trainee", None), ("0", None)])
def test_names_of_splits(name, split):
    assert split_of(name) == split


def test_names_of_classes_stay_as_they_are_written():
    for name in ("a /b", "AMD / CNV", "a\\b", "=1+1", "./x"):
        assert order_classes([f" {name} "]) == {f" {name} ": name}


def test_numbers_as_classes_keep_their_order_and_spellings_become_one():
    assert list(dict.fromkeys(order_classes(["10", "9", "0"]).values())) == ["0", "9", "10"]
    found = order_classes(["Dry AMD", "dry_amd", "Dry AMD", "normal "])
    assert found == {"normal ": "NORMAL", "Dry AMD": "Dry AMD", "dry_amd": "Dry AMD"}
