"""A data set gives the same classes, patients and splits in whatever way it comes; what is unclear is refused."""

import json
import unicodedata
import zipfile

import pytest
from click.testing import CliRunner
from PIL import Image

from dnnlib.errors import DataError
from stylegan_oct.data.archive import Archive
from stylegan_oct.data.convert import convert
from stylegan_oct.data.sources import open_source
from tools.__main__ import main

OURS = ("CNV", "DME", "DRUSEN", "NORMAL")
SPLITS = ("train", "val", "test")

# Forms of public sets: paths, each with the class, patient and official split that it must give.
FORMS = {
    "OCT2017": {f"OCT2017 /{s}/{c}/{c}-{p}-{i}.jpeg": (c, str(p), s)
                for s in SPLITS for c in OURS for p in (53018, 9) for i in (1, 2)},
    "OCT2017 flat": {f"{c}-{p}-1.jpeg": (c, str(p), None) for c in OURS for p in (53018, 9)},
    "OCTID": {f"{c}/{c}{i}.jpeg": (c, None, None) for c in ("NORMAL", "AMRD", "CSR", "DR", "MH") for i in (1, 2)},
    "OCTDL": {f"OCTDL/{c}/{c.lower()}_{p}_{i}.jpg": (c, str(p), None)
              for c in ("DME", "AMD", "ERM", "NO", "VID") for p in (1523323, 12) for i in (1, 2)},
    "Duke": {f"{c}{p}/TIFFs/8bitTIFFs/00{i}.tif": (c, f"{c.lower()}{p}", None)
             for c in ("DME", "NORMAL", "AMD") for p in (1, 2, 15) for i in (1, 2)},
    "NEH": {f"NEH/{c}/{p}/{c}_{p}_{i}.jpg": (c, str(p), None) for c in ("CNV", "DRUSEN", "NORMAL") for p in (1, 12)
            for i in (1, 2)},
    "OCT-C8": {f"RetinalOCT_Dataset/{s}/{c}/{c.lower()}_{s}_10{i}.jpg": (c, None, s)
               for s in SPLITS for c in ("CNV", "NORMAL", "AMD") for i in (1, 2)},
    "OCTMNIST": {f"octmnist/{s}{i}_{i % 4}.png": (OURS[i % 4], None, s) for s in SPLITS for i in range(8)},
    "splits below the classes": {f"{c}/{s}/{i}.png": (c, None, s) for s in SPLITS for c in OURS for i in (1, 2)},
    "one class": {f"DRUSEN/{p}/{i}.png": ("DRUSEN", p, None) for p in ("patient_a", "canary") for i in (1, 2)},
    "one class, flat": {f"DRUSEN/{i}.png": ("DRUSEN", None, None) for i in (1, 2)},
    "patients above the classes": {f"patient_{p}/{c}/{i}.png": (c, f"patient_{p}", None)
                                   for p in (1, 2) for c in ("CNV", "NORMAL") for i in (1, 2)},
    "eyes and dates below patients": {f"CNV/canary/{d}/{e}/{i}.png": ("CNV", "canary", None)
                                      for e in ("OD", "OS") for d in ("2019-03-12", "20200101") for i in (1, 2)},
    "patients alone": {f"patient_{p}/{i}.png": (None, f"patient_{p}", None) for p in (1, 2) for i in (1, 2)},
    "classes with numbers of patients": {f"{c}-{p}/{i}.png": (c, str(p), None) for c, p in
                                         (("CNV", 53018), ("CNV", 9912), ("NORMAL", 53018)) for i in (1, 2)},
    "MultiEYE": {f"{s}/ImageData/oct-filter-448x448/{i}.png": (None, None, "val" if s == "dev" else s)
                 for s in ("train", "dev", "test") for i in (1, 2)},
    "umlauts": {f"CNV/Müller Ä/{i}.png": ("CNV", "müllerä", None) for i in (1, 2)} |
               {"NORMAL/é/1.png": ("NORMAL", "é", None)},
}


def write_folder(folder, paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    return folder


def write_zip(place, paths, **extra):
    with zipfile.ZipFile(place, "w") as file:
        for path in paths:
            file.writestr(zipfile.ZipInfo(path), path.encode("utf-8"))
        for name, text in extra.items():
            file.writestr(name.replace("_json", ".json"), text)
    return place


def as_mac_stores(place, paths):
    """Write a zip with names in UTF-8 and decomposed, without the flag that says so, as macOS does."""
    names = [unicodedata.normalize("NFD", path) for path in paths]
    write_zip(place, [*names, *(f"__MACOSX/._{name}" for name in names), ".DS_Store"])
    data = bytearray(place.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + flags + 1] &= ~0x08
            at = data.find(mark, at + 4)
    place.write_bytes(data)
    return place


def facts(source):
    """Return what each scan was found to be, by the end of its path in one spelling."""
    return {unicodedata.normalize("NFC", scan.path.replace("\\", "/")):
            (scan.label, scan.patient if scan.known_patient else None, scan.official) for scan in source.scans}


WAYS = {
    "folder": lambda place, paths: write_folder(place / "set", paths),
    "folder in a folder": lambda place, paths: write_folder(place / "set" / "root", paths).parent,
    "names with backslashes in a folder": lambda place, paths: write_folder(
        place / "set", [path.replace("/", "\\") for path in paths]),
    "zip": lambda place, paths: write_zip(place / "a.zip", paths),
    "zip of PowerShell 5": lambda place, paths: write_zip(place / "a.zip", [p.replace("/", "\\") for p in paths]),
    "zip with one folder": lambda place, paths: write_zip(place / "a.zip", [f"some set/{path}" for path in paths]),
    "zip of macOS": lambda place, paths: as_mac_stores(place / "a.zip", paths),
    "decomposed letters": lambda place, paths: write_folder(
        place / "set", [unicodedata.normalize("NFD", path) for path in paths]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
def test_a_data_set_is_the_same_in_whatever_way_it_comes(tmp_path, form, way):
    expected = FORMS[form]
    source = open_source(WAYS[way](tmp_path, list(expected)))
    found = facts(source)
    assert len(found) == len(expected) and not source.refused
    for path, told in expected.items():
        (end,) = [other for other in found if other.endswith(path) or as_zip_reads(other).endswith(path)]
        assert found[end] == told, path


def as_zip_reads(path):
    """Return the name that stands in the zip of macOS for what Python makes of it."""
    try:
        return unicodedata.normalize("NFC", path.encode("cp437").decode("utf-8"))
    except UnicodeError:
        return path


@pytest.mark.parametrize("form", FORMS)
def test_letter_case_and_blanks_of_folders_change_nothing(tmp_path, form):
    expected = FORMS[form]

    def respelt(path, number):
        *folders, name = path.split("/")
        return "/".join([folder.upper() if number % 2 else f"{folder} " for folder in folders] + [name])

    paths = [respelt(path, number) for number, path in enumerate(expected)]
    found = {scan.path: scan for scan in open_source(write_folder(tmp_path / "set", paths)).scans}
    for path, (label, patient, official) in zip(paths, expected.values(), strict=True):
        scan = found[path]
        assert (scan.label or "").casefold() == (label or "").casefold()
        assert (scan.patient if scan.known_patient else None, scan.official) == (patient, official)
    assert len({scan.label for scan in found.values()}) == len({label for label, _, _ in expected.values()})


@pytest.mark.parametrize("form", FORMS)
def test_the_summary_counts_what_was_read_and_says_where(tmp_path, form):
    expected = FORMS[form].values()
    first, *others = open_source(write_folder(tmp_path / "set", FORMS[form])).summary()
    counts = [sum(told[i] is not None for told in expected) for i in range(3)]
    for what, count in zip(("class", "patient", "official split"), counts, strict=True):
        (part,) = [part for part in first.split("; ") if part.startswith(f"{what}: ")]
        said = [int(text.split(")")[0]) for text in part.replace("none (", "none ").split("(")[1:]]
        assert sum(said) == count and ("none" in part) == (count < len(expected)), part
    assert any(line.startswith("no classes: ") for line in others) == (counts[0] == 0)


UNCLEAR = {
    "names": [f"{p}/{i}.png" for p in ("Canary", "Berger") for i in (1, 2)],
    "numbers": [f"{p}/{i}.png" for p in (1, 2, 3) for i in (1, 2)],
    "names in splits": [f"{s}/{p}/{i}.png" for s in ("train", "test") for p in ("Canary", "Berger") for i in (1, 2)],
    "names beside classes": [f"{p}/{i}.png" for p in ("CNV", "NORMAL", "Canary") for i in (1, 2)],
    "grades or patients": [f"DR{g}/{i}.png" for g in range(5) for i in (1, 2)],
    "names with numbers": [f"Canary{p}/{i}.png" for p in (1, 2) for i in (1, 2)],
}


@pytest.mark.parametrize("form", UNCLEAR)
def test_folders_that_may_be_patients_are_never_taken_for_classes(tmp_path, form):
    folder = write_folder(tmp_path / "set", UNCLEAR[form])
    with pytest.raises(DataError, match="--folders classes") as caught:
        open_source(folder)
    assert "Canary" not in str(caught.value) and "\n" not in str(caught.value)
    classes, patients = (open_source(folder, folders=kind) for kind in ("classes", "patients"))
    firsts = {path.split("/")[-2] for path in UNCLEAR[form]}
    assert set(classes.classes) == firsts and not any(scan.known_patient for scan in classes.scans)
    assert not set(patients.classes) & {"Canary", "Berger"}


def test_the_name_of_the_source_is_the_class_where_nothing_within_tells_one(tmp_path):
    flat = open_source(write_folder(tmp_path / "DRUSEN", ["1.png", "2.png"]))
    people = open_source(write_folder(tmp_path / "a" / "NORMAL", ["Canary/1.png", "Berger/1.png"]))
    zipped = open_source(write_zip(tmp_path / "CSR.zip", ["1.png", "2.png"]))
    assert [source.classes for source in (flat, people, zipped)] == [("DRUSEN",), ("NORMAL",), ("CSR",)]
    assert {scan.patient for scan in people.scans} == {"canary", "berger"}
    assert all("name of the source" in source.summary()[0] for source in (flat, people, zipped))
    assert open_source(write_folder(tmp_path / "b" / "DRUSEN", ["CNV/1.png", "DME/1.png"])).classes == ("CNV", "DME")


def test_folders_that_slipped_into_others_are_refused(tmp_path):
    source = open_source(write_folder(tmp_path / "set", ["CNV/1.png", "NORMAL/2.png", "NORMAL/CNV/3.png",
                                                         "train/CNV/4.png", "train/test/CNV/5.png"]))
    assert dict(source.refused) == {"NORMAL/CNV/3.png": "lies below folders of two classes",
                                    "train/test/CNV/5.png": "lies below folders of two splits"}


def test_a_source_that_is_itself_a_split_says_so(tmp_path):
    source = open_source(write_folder(tmp_path / "test", ["CNV/1.png", "NORMAL/2.png"]))
    assert any("named as the split test" in line for line in source.summary())


@pytest.mark.parametrize("top", ["", "mine/"])
def test_an_archive_is_no_source_unpacked_either(make_folder, tmp_path, top):
    report = convert(make_folder(4), tmp_path / "a.zip", resolution=16, workers=1)
    with zipfile.ZipFile(report.archive) as file:
        file.extractall(tmp_path / "unpacked" / top)
    with pytest.raises(DataError, match="is an archive already"):
        open_source(tmp_path / "unpacked")


def test_what_was_not_looked_at_is_said(tmp_path):
    source = open_source(write_folder(tmp_path / "set", ["CNV/1.png", "part2.zip", "labels.csv", "x.txt"]))
    (line,) = [line for line in source.summary() if line.startswith("not looked at")]
    assert "1 .zip" in line and "1 .csv" in line and ".txt" not in line


INDEXES = {
    "numbers": ({"labels": [["00000/img00000000.png", 1], ["00001/img00000001.png", 0]]}, ("0", "1"), ["1", "0"]),
    "names": ({"labels": [["00000/img00000000.png", "normal"], ["00001\\img00000001.png", "CNV"]]},
              ("CNV", "NORMAL"), ["NORMAL", "CNV"]),
    "named numbers": ({"labels": [["00000/img00000000.png", 1], ["00001/img00000001.png", 0]],
                       "classes": ["DRUSEN", "DME"]}, ("DME", "DRUSEN"), ["DME", "DRUSEN"]),
    "none": ({"labels": None}, (), [None, None]),
    "of something else": ({"labels": {"background": 0}}, (), [None, None]),
}
SHARDS = ["00000/img00000000.png", "00001/img00000001.png"]


@pytest.mark.parametrize("form", INDEXES)
@pytest.mark.parametrize("way", ["zip", "zip with one folder", "folder", "the file"])
def test_labels_of_stylegan_tools_are_honoured(tmp_path, form, way):
    index, classes, labels = INDEXES[form]
    if way.startswith("zip"):
        top = "mine/" if way.endswith("folder") else ""
        place = write_zip(tmp_path / "a.zip", [top + path for path in SHARDS],
                          **{f"{top}dataset_json": json.dumps(index)})
    else:
        place = write_folder(tmp_path / "set", SHARDS)
        (place / "dataset.json").write_text(json.dumps(index))
    source = open_source(place / "dataset.json" if way == "the file" else place)
    assert source.classes == classes and [scan.label for scan in source.scans] == labels
    assert not any(scan.known_patient for scan in source.scans)  # the folders are numbers of hundreds of pictures
    assert ("dataset.json" in source.summary()[0]) == bool(classes)
    assert any(line.startswith("no classes") for line in source.summary()) == (not classes)


def test_a_picture_without_a_label_is_refused_where_others_have_one(tmp_path):
    place = write_zip(tmp_path / "a.zip", SHARDS, dataset_json=json.dumps({"labels": [[SHARDS[0], 0]]}))
    source = open_source(place)
    assert len(source.scans) == 1 and source.refused == [(SHARDS[1], "has no label in dataset.json, while others do")]


@pytest.mark.parametrize("text", [
    '{"labels": [["a", 0],]}', '{"labels": [["a", [0.5]]]}', '{"labels": [["a", -1]]}', '{"labels": [["a", true]]}',
    '{"labels": [["a", 3]], "classes": ["A"]}', "[" * 100_000])
def test_a_damaged_index_is_refused_in_one_line(tmp_path, text):
    with pytest.raises(DataError, match=r"dataset\.json in the zip") as caught:
        open_source(write_zip(tmp_path / "a.zip", SHARDS, dataset_json=text))
    assert "\n" not in str(caught.value) and "Mend it" in str(caught.value)


def draw_folder(folder, paths, draw_scan):
    for number, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_scan(number)).save(folder / path)
    return folder


CANARIES = {
    "below a class": ["CNV/Canary/0.png", "CNV/Berger/0.png", "NORMAL/Canary/1.png"],
    "one class": ["DRUSEN/Canary/0.png", "DRUSEN/Berger/1.png"],
    "above a class": ["Canary/CNV/0.png", "Berger/CNV/1.png", "Canary/NORMAL/0.png"],
    "alone": ["Canary/0.png", "Berger/1.png"],
    "in a split": ["train/Canary/0.png", "test/Berger/1.png"],
    "beside classes": ["CNV/0.png", "NORMAL/1.png", "Canary/2.png"],
    "in names": ["CNV/Canary_1.png", "NORMAL/Canary_2.png"],
    "patient folders": ["patient_Canary/0.png", "patient_Berger/1.png"],
    "a conflict alone": ["CNV/Canary.png", "NORMAL/CNV-7-1.png"],
}


@pytest.mark.parametrize("form", CANARIES)
@pytest.mark.parametrize("folders", ["auto", "patients"])
def test_no_archive_and_no_message_names_a_patient(draw_scan, tmp_path, form, folders):
    folder = draw_folder(tmp_path / "set", CANARIES[form], draw_scan)
    dest = tmp_path / "a.zip"
    words = ["convert", str(folder), str(dest), "-r", "16", "--workers", "1", "--folders", folders]
    result = CliRunner().invoke(main, words)
    assert "canary" not in result.output.lower() and result.exit_code == (0 if dest.exists() else 2), result.output
    if dest.exists():
        with zipfile.ZipFile(dest) as file:
            held = dest.read_bytes() + b"".join(map(file.read, file.namelist()))
        assert b"canary" not in held.lower()


def test_a_picture_under_two_classes_is_out_with_all_its_copies(draw_scan, tmp_path):
    draw_folder(tmp_path / "set", [f"img/{i}.png" for i in range(4)], draw_scan)
    for copy in ("copy.png", "again.png"):
        (tmp_path / "set" / "img" / copy).write_bytes((tmp_path / "set" / "img" / "0.png").read_bytes())
    labels = [["img/0.png", 0], ["img/0.png", 1], ["img/copy.png", 0], ["img/again.png", 0],
              *[[f"img/{i}.png", i % 2] for i in (1, 2, 3)]]
    (tmp_path / "set" / "dataset.json").write_text(json.dumps({"labels": labels}))
    report = convert(tmp_path / "set", tmp_path / "a.zip", resolution=16, workers=1, split="100")
    assert report.outcomes == {"kept": 3, "conflict": 3} and Archive(report.archive).classes == ("0", "1")


def test_a_linked_folder_under_two_classes_is_a_conflict_and_no_class_by_chance(draw_scan, tmp_path):
    draw_folder(tmp_path / "set", ["CNV/0.png", "NORMAL/1.png"], draw_scan)
    draw_folder(tmp_path / "all", ["2.png"], draw_scan)
    for label in ("CNV", "NORMAL"):
        (tmp_path / "set" / label / "more").symlink_to(tmp_path / "all", target_is_directory=True)
    Image.fromarray(draw_scan(9)).save(tmp_path / "all" / "2.png")
    report = convert(tmp_path / "set", tmp_path / "a.zip", resolution=16, workers=1, split="100")
    assert report.outcomes == {"kept": 2, "conflict": 2}
