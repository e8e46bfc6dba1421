"""Lists of pictures as spreadsheets, scripts and data sets write them."""

import itertools
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dnnlib.errors import DataError
from stylegan_oct.data.archive import Archive
from stylegan_oct.data.convert import convert
from stylegan_oct.data.sources import open_source
from stylegan_oct.data.table import read_table

OURS = ("CNV", "DME", "DRUSEN", "NORMAL")
COUNT = 8


@pytest.fixture
def folder(tmp_path):
    """A folder with img/s0.png to img/s7.png, none of them decoded here."""
    (tmp_path / "img").mkdir()
    for i in range(COUNT):
        (tmp_path / "img" / f"s{i}.png").write_bytes(b"x" * (i + 1))
    return tmp_path


def write(folder, lines, name="list.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes("\r\n".join(lines).encode(encoding))
    return path


def told(source):
    return {scan.path: (scan.label, scan.patient if scan.known_patient else None, scan.official)
            for scan in source.scans}


def plain(mark=",", write_path="img/s{}.png".format):
    """Return a table of which every row has a class, a patient and a split."""
    return [mark.join(("path", "label", "patient", "split")),
            *(mark.join((write_path(i), OURS[i % 4], f"p{i // 2}", ("train", "test")[i // 6])) for i in range(COUNT))]


EXPECTED = {f"img/s{i}.png": (OURS[i % 4], f"p{i // 2}", ("train", "test")[i // 6]) for i in range(COUNT)}


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_marks_and_encodings_change_nothing(folder, mark, encoding):
    assert told(open_source(write(folder, plain(mark), encoding=encoding))) == EXPECTED


@pytest.mark.parametrize("first", [["sep=;"], ["\ufeffsep=;"], [""], [";;;", ""]])
def test_what_programs_write_above_the_headings_is_passed_over(folder, first):
    assert told(open_source(write(folder, first + plain(";")))) == EXPECTED


@pytest.mark.parametrize("way", [
    "img\\s{}.png", "./img/s{}.png", "img//s{}.png", "IMG/S{}.PNG", "C:\\Data\\Mrs X\\img\\s{}.png", "s{}.png", "s{}",
    "/home/other/set/img/s{}.png", "img/s{}", "sub/../img/s{}.png"])
def test_paths_are_found_in_whatever_way_they_are_written(folder, way):
    (folder / "sub").mkdir()
    assert told(open_source(write(folder, plain(write_path=way.format)))) == EXPECTED


def test_names_in_either_unicode_form_are_found(folder):
    (folder / unicodedata.normalize("NFD", "Müller.png")).write_bytes(b"x")
    (folder / unicodedata.normalize("NFC", "Größe.png")).write_bytes(b"x")
    source = open_source(write(folder, ["path,label", unicodedata.normalize("NFC", "Müller.png") + ",CNV",
                                        unicodedata.normalize("NFD", "Größe.png") + ",CNV"]))
    assert len(source.scans) == 2


def test_a_name_that_may_mean_several_files_is_refused(folder):
    for place in ("a/s9.png", "b/s9.png", "img/s0.tif", "img/S1.png"):
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_bytes(b"x")
    source = open_source(write(folder, ["path,label", "s9.png,CNV", "img/s0,CNV", "img/s1.png,CNV", "IMG/s2.png,CNV"]))
    assert set(told(source)) == {"img/s1.png", "img/s2.png"}  # the exact name goes first
    assert {path.split(":")[0] for path, _ in source.refused} == {"row 2", "row 3"}


def test_another_picture_of_the_same_name_is_never_taken(folder):
    (folder / "1.png").write_bytes(b"x")
    source = open_source(write(folder, ["path,label", "/data/x/1.png,CNV", "/data/y/1.png,DME", "img/s0.png,CNV"]))
    assert set(told(source)) == {"img/s0.png"} and len(source.refused) == 2


ONE_HOT = {"1": ("1", "0"), "1.0": ("1.0", "0.0"), "x": ("x", ""), "True": ("True", "False"), "yes": ("yes", "no")}


@pytest.mark.parametrize("yes, no", ONE_HOT.values(), ids=ONE_HOT)
@pytest.mark.parametrize("names", [OURS, ("cnv", "Normal", "AMD", "Zoster")])
def test_a_column_for_each_class_is_understood(folder, yes, no, names):
    rows = [f"img/s{i}.png," + ",".join(yes if k == i % 4 else no for k in range(4)) for i in range(COUNT)]
    source = open_source(write(folder, [f"path,{','.join(names)}", *rows]))
    assert [scan.label.casefold() for scan in source.scans] == [names[i % 4].casefold() for i in range(COUNT)]
    assert "columns " in source.summary()[0]


def test_columns_of_yes_and_no_about_something_else_are_no_classes(folder):
    rows = [f"img/s{i}.png,{i % 2},1,0" for i in range(COUNT)]
    source = open_source(write(folder, ["path,smoker,left eye,dilated", *rows]))
    assert not source.classes and any("columns not read: smoker, left eye, dilated; no class" in line
                                      for line in source.summary())


@pytest.mark.parametrize("heading", ["gold standard", "Befund", "x7"])
def test_a_column_of_classes_is_known_by_its_values_under_any_heading(folder, heading):
    rows = [f"img/s{i}.png,{OURS[i % 4].lower()},{i}" for i in range(COUNT)]
    source = open_source(write(folder, [f"path,{heading},age", *rows]))
    assert source.classes == OURS and f"class: column {heading} (8)" in source.summary()[0]


@pytest.mark.parametrize("value", ["no", "other", "Canary", "OD"])
def test_a_column_of_other_words_is_no_column_of_classes(folder, value):
    source = open_source(write(folder, ["path,remark", *(f"img/s{i}.png,{value}" for i in range(COUNT))]))
    assert not source.classes and any(line.startswith("no classes") for line in source.summary())


def test_two_columns_that_differ_are_refused_and_equal_ones_are_one(folder):
    rows = [f"img/s{i}.png,{OURS[i % 4]},{OURS[i % 4].lower()} " for i in range(COUNT)]
    assert open_source(write(folder, ["path,Class,Label", *rows])).classes == OURS
    rows[0] = "img/s0.png,NORMAL,CNV"
    with pytest.raises(DataError, match="may each be the class and differ: Label and Class"):
        open_source(write(folder, ["path,Class,Label", *rows]))


def test_numbers_beside_names_of_classes_are_the_same_said_twice_where_they_go_together(folder):
    rows = [f"img/s{i}.png,{i % 4},{OURS[i % 4]}" for i in range(COUNT)]
    for header in ("path,label,class_name", "path,class,diagnosis"):
        source = open_source(write(folder, [header, *rows]))
        assert source.classes == OURS and f"column {header.split(',')[2]} (8)" in source.summary()[0]
    with pytest.raises(DataError, match="differ"):
        open_source(write(folder, ["path,label,class_name", *rows[:-1], "img/s7.png,0,NORMAL"]))


@pytest.mark.parametrize("values", [[f"Canary{i}" for i in range(COUNT)], [f"Canary{i // 2}" for i in range(COUNT)][:7]
                                    + ["Canary9"]])
def test_a_label_of_its_own_for_nearly_every_scan_is_no_class(folder, values):
    with pytest.raises(DataError, match="too many for classes") as caught:
        open_source(write(folder, ["path,label", *(f"img/s{i}.png,{value}" for i, value in enumerate(values))]))
    assert "Canary" not in str(caught.value)


def test_numbers_with_a_point_and_missing_values_are_those_of_the_programs_that_wrote_them(folder):
    rows = ["img/s0.png,1.0,12.0", "img/s1.png,nan,7", "img/s2.png,1,12", "img/s3.png,0,NaN", "img/s4.png,0,",
            "img/s5.png,0,NA"]
    source = open_source(write(folder, ["path,label,patient_id", *rows]))
    assert source.classes == ("0", "1") and source.refused == [("img/s1.png", "has no label, while others do")]
    assert [scan.patient for scan in source.scans if scan.known_patient] == ["12", "12"]
    assert len({scan.patient for scan in source.scans}) == 4  # those that are not known are not one


def test_patients_that_a_spreadsheet_rounded_are_refused_and_dates_are_said(folder):
    rows = ["img/s0.png,CNV,1.02E+06", "img/s1.png,CNV,1.02E+06", 'img/s2.png,CNV,"1,02E+12"', "img/s3.png,CNV,12-Mar"]
    source = open_source(write(folder, ["path,label,patient", *rows]))
    assert len(source.refused) == 3 and all("spreadsheets write long numbers" in why for _, why in source.refused)
    assert any("1 patient looks like a date" in line for line in source.summary())
    assert not any("mar" in line.lower() for line in source.summary())


def test_spellings_of_a_patient_are_one_and_said(folder):
    names = ("Mü 1", "MÜ1 ", unicodedata.normalize("NFD", "mü1"), "x")
    rows = [f"img/s{i}.png,CNV,{name}" for i, name in enumerate(names)]
    source = open_source(write(folder, ["path,label,patient", *rows]))
    assert len({scan.patient for scan in source.scans}) == 2
    assert any("1 patient is written in several ways" in line for line in source.summary())


def test_a_row_whose_cells_are_shifted_is_refused(folder):
    source = open_source(write(folder, ["path,label,patient", "img/s0.png,CNV, mild,p1", "img/s1.png,CNV,p2,,",
                                        '"img/s2.png","CNV","p3"']))
    assert set(told(source)) == {"img/s1.png", "img/s2.png"} and "more cells than the 3" in source.refused[0][1]


def test_a_column_of_numbers_of_folds_is_not_read_as_splits(folder):
    source = open_source(write(folder, ["path,label,fold", *(f"img/s{i}.png,CNV,{i % 5}" for i in range(COUNT))]))
    assert len(source.scans) == COUNT and any("fold is not read as splits" in line for line in source.summary())


def test_paths_tell_what_columns_do_not_and_the_split_of_a_row_counts(tmp_path):
    paths = [f"OCT2017/{s}/{c}/{c}-{p}-1.jpeg" for s in ("train", "test") for c in OURS for p in (7, 8)]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    expected = {path: (path.split("/")[2], path.split("-")[-2], path.split("/")[1]) for path in paths}
    back = [path.replace("/", "\\") for path in paths]
    assert told(open_source(write(tmp_path, ["path", *back]))) == expected
    rows = [f"{path},{'' if '-7-' in path else 'train'}" for path in paths]
    source = open_source(write(tmp_path, ["path,split", *rows]))
    assert told(source) == {path: (label, patient, "train" if patient == "8" else split)
                            for path, (label, patient, split) in expected.items()}
    assert any("4 scans lie below the folder of another split" in line for line in source.summary())


def test_the_list_of_medmnist_which_has_no_headings_is_understood(tmp_path):
    (tmp_path / "octmnist").mkdir()
    rows = [(split, f"{split}{i}_{i % 4}.png", i % 4) for split in ("train", "val", "test") for i in range(5)]
    for _, name, _ in rows:
        (tmp_path / "octmnist" / name).write_bytes(b"x")
    source = open_source(write(tmp_path, [f"{a},{b},{c}" for a, b, c in rows], name="octmnist.csv"))
    assert told(source) == {f"octmnist/{name}": (OURS[label], None, split) for split, name, label in rows}


@pytest.mark.parametrize("rows", [["img/s0.png,Canary"], ["img/s0.png,CNV,Canary"], ["img/s0.png,CNV,7,train"]])
def test_a_list_without_headings_of_anything_else_is_refused(folder, rows):
    with pytest.raises(DataError, match="no row of headings") as caught:
        open_source(write(folder, rows))
    assert "Canary" not in str(caught.value)


def draw(folder, draw_scan):
    for i in range(COUNT):
        Image.fromarray(draw_scan(i)).save(folder / "img" / f"s{i}.png")


TWO_LABELS = {
    "two rows": ["path,label", "img/s0.png,CNV", "img/s0.png,DME"],
    "two spellings of the path": ["path,label", "img/s0.png,CNV", "IMG\\S0.png,DME"],
    "one cell": ["path,label", "img/s0.png,CNV|DME"],
    "two columns": ["path,CNV,DME", "img/s0.png,1,1"],
    "folder and row": ["path,label", "img/DME/x.png,CNV"],
    "a copy": ["path,label", "img/s0.png,CNV", "img/copy.png,DME"],
    "a copy of one with two": ["path,label", "img/s0.png,CNV", "img/s0.png,DME", "img/copy.png,CNV"],
}


@pytest.mark.parametrize("form", TWO_LABELS)
def test_a_picture_under_two_labels_is_out_in_whatever_way_it_is_listed(folder, draw_scan, form):
    draw(folder, draw_scan)
    (folder / "img" / "DME").mkdir()
    for copy in ("copy.png", "DME/x.png"):
        (folder / "img" / copy).write_bytes((folder / "img" / "s0.png").read_bytes())
    header, *rows = TWO_LABELS[form]
    others = [f"img/s{i}.png," + (OURS[i % 2] if header == "path,label" else f"{1 - i % 2},{i % 2}")
              for i in range(1, COUNT)]
    report = convert(write(folder, [header, *rows, *others]), folder / "a.zip", resolution=16, workers=1, split="100")
    assert report.outcomes["kept"] == COUNT - 1 and report.outcomes["conflict"] in (1, 2)
    assert Archive(report.archive).classes == ("CNV", "DME")


def test_a_picture_of_two_patients_or_splits_is_out(folder):
    source = open_source(write(folder, ["path,label,patient,split", "img/s0.png,CNV,a,", "img/s0.png,CNV,b,",
                                        "img/s1.png,CNV,a,train", "img/s1.png,CNV,a,test", "img/s2.png,CNV,a,",
                                        "img/s2.png,CNV,A ,train"]))
    assert told(source) == {"img/s2.png": ("CNV", "a", "train")}
    assert {why for _, why in source.refused} == {"is listed under several patients", "is listed in several splits"}


CELL = st.text(st.sampled_from('ab1,;\t|"\'\n\r \\/.=\ufeffé\u2028'), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(CELL, max_size=4), max_size=5), st.sampled_from([",", ";", "\t"]))
def test_any_table_is_read_or_refused_in_one_line(tmp_path_factory, rows, mark):
    path = tmp_path_factory.mktemp("table") / "list.csv"
    path.write_bytes("\n".join(itertools.chain([mark.join(("path", "label", "patient"))],
                                               (mark.join(row) for row in rows))).encode())
    try:
        for row in read_table(path).rows:
            assert row.path and len(row.labels) <= 2
    except DataError as error:
        assert "\n" not in str(error)


def test_a_spreadsheet_is_to_be_saved_as_csv(tmp_path):
    (tmp_path / "list.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="Save it as CSV"):
        open_source(tmp_path / "list.xlsx")
