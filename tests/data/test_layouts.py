"""Where the class, the patient and the official split of a scan are found."""

import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from dnnlib.errors import DataError
from stylegan_oct.data.archive import Archive
from stylegan_oct.data.convert import convert
from stylegan_oct.data.layout import read_places
from stylegan_oct.data.names import order_classes
from stylegan_oct.data.sources import open_source


def place(path, *others, pattern=None):
    return read_places([path, *others], pattern)[0]


@pytest.mark.parametrize("root", ["", "OCT2017/", "kermany2018/OCT2017 /", "a/b/c/d/"])
@pytest.mark.parametrize("folder, official", [("train/", "train"), ("test/", "test"), ("Val/", "val"),
                                              ("validation/", "val"), ("", None)])
def test_the_layout_of_oct2017_is_understood_at_any_depth(root, folder, official):
    found = place(f"{root}{folder}DME/DME-30521-9.jpeg", f"{root}{folder}CNV/CNV-1-1.jpeg")
    assert found[:3] == ("DME", "30521", official)


def test_a_patient_is_its_number_whatever_the_class():
    assert place("CNV/CNV-53018-1.jpeg").patient == place("DRUSEN/DRUSEN-53018-1.jpeg").patient == "53018"


def test_flat_folders_of_oct2017_names_have_classes():
    assert place("DRUSEN-95633-1.jpeg", "CNV-1-1.jpeg")[:2] == ("DRUSEN", "95633")


def test_names_of_octdl_and_folders_of_patients_are_understood():
    assert place("OCTDL/AMD/amd_1523323_3.jpg", "OCTDL/NO/no_1_1.jpg")[:2] == ("AMD", "1523323")
    assert place("AMD/patient7/a.png", "NO/patient8/b.png")[:2] == ("AMD", "patient7")


@pytest.mark.parametrize("name", ["CNV-53018-12 (1).jpeg", "CNV-53018-12 - Copy.jpeg", "CNV-53018-12_flipped.png",
                                  "CNV-53018-12.jpeg.png", "cnv_53018_12-aug.JPG"])
def test_copies_and_augmented_pictures_stay_with_their_patient(name):
    assert place(f"CNV/{name}", "DME/x.png")[:2] == ("CNV", "53018")


def test_years_and_dates_are_no_patients():
    assert place("DR/DR_20190312_1.jpg", "NORMAL/x.jpg").patient is None
    assert place("2019/CNV/x.png", "2020/CNV/y.png")[:2] == ("CNV", None)
    assert place("CNV/CNV-1-2-3.png", "DME/x.png").patient is None


def test_dates_in_other_names_are_no_patients():
    assert place("AMD/IMG_20190101_123456.jpg", "NO/IMG_20190101_123457.jpg").patient is None


def test_a_pattern_finds_the_patient():
    assert place("AMD/eye12b.png", "NO/x.png", pattern=r"eye(\d+)").patient == "12"


def test_spellings_of_a_class_become_one_and_ours_come_first():
    names = order_classes(["normal", "Zoster", "CNV", "cnv", "amd", "AMD", "AMD"])
    assert list(dict.fromkeys(names.values())) == ["CNV", "NORMAL", "AMD", "Zoster"]
    assert names["amd"] == "AMD" and names["normal"] == "NORMAL"


def test_odd_files_of_real_life_are_passed_over(make_folder, draw_scan, tmp_path):
    folder = make_folder(8)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "CNV" / "._CNV-900000-1.png").write_bytes(b"x")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "CNV-900000-1.png").write_bytes(b"x")
    (folder / ".hidden").mkdir()
    Image.fromarray(draw_scan(1)).save(folder / ".hidden" / "CNV-7-1.png")
    (folder / "CNV" / "CNV-900000-1.png").rename(folder / "CNV" / "CNV-900000-1.PNG")
    (folder / "Thumbs.db").write_bytes(b"x")
    source = open_source(folder)
    assert len(source.scans) == 8 and not source.refused and dict(source.ignored) == {".db": 1}


def test_a_conversion_into_its_own_source_does_not_read_its_audit(draw_scan, tmp_path):
    for i in range(4):
        Image.fromarray(draw_scan(i)).save(tmp_path / f"{i}.png")
    for _ in range(2):
        report = convert(tmp_path, tmp_path / "a.zip", resolution=32, workers=1, overwrite=True)
        assert report.outcomes == {"kept": 4}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX links and pipes")
def test_loops_of_links_pipes_and_broken_links_end(make_folder, tmp_path):
    folder = make_folder(8)
    (folder / "CNV" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "NORMAL" / "gone-1-1.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "CNV" / "CNV-1-1.png")
    report = convert(folder, tmp_path / "a.zip", resolution=32, workers=1)
    text = report.audit.read_text(encoding="utf-8")
    assert report.outcomes == {"kept": 8, "refused": 2}
    assert "CNV-1-1.png: is not a regular file" in text and "gone-1-1.png: cannot be read: No such file" in text


def test_a_linked_folder_of_scans_is_followed(make_folder, tmp_path):
    folder = make_folder(8, name="real")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "data").symlink_to(folder, target_is_directory=True)
    assert len(open_source(tmp_path / "linked").scans) == 8


def test_a_folder_without_classes_gives_an_archive_without_labels(draw_scan, tmp_path):
    (tmp_path / "scans").mkdir()
    for i in range(6):
        Image.fromarray(draw_scan(i)).save(tmp_path / "scans" / f"{i}.png")
    report = convert(tmp_path / "scans", tmp_path / "a.zip", resolution=32, workers=1)
    assert Archive(report.archive).classes == () and report.classes == ()
    assert "the patient is not known" in report.audit.read_text(encoding="utf-8")


def test_files_beside_the_class_folders_are_refused(make_folder, draw_scan, tmp_path):
    folder = make_folder(8)
    Image.fromarray(draw_scan(9)).save(folder / "stray.png")
    assert [path for path, _ in open_source(folder).refused] == ["stray.png"]


def write_csv(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def scans_for_csv(draw_scan, tmp_path):
    (tmp_path / "img").mkdir()
    for i in range(6):
        Image.fromarray(draw_scan(i)).save(tmp_path / "img" / f"s{i}.png")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_csv_gives_paths_labels_patients_and_splits(draw_scan, tmp_path, mark):
    scans_for_csv(draw_scan, tmp_path)
    lines = [mark.join(("File_Name", "Diagnosis", "patient_id", "split"))]
    lines += [mark.join((f"img/s{i}.png", ("cnv", "NORMAL")[i % 2], f"p{i // 2}", "test" if i > 3 else "train"))
              for i in range(6)]
    source = open_source(write_csv(tmp_path / "list.csv", lines))
    assert source.classes == ("CNV", "NORMAL")
    assert [scan.patient for scan in source.scans] == ["p0", "p0", "p1", "p1", "p2", "p2"]
    report = convert(tmp_path / "list.csv", tmp_path / "a.zip", resolution=32, workers=1)
    assert report.counts["test"] == {"CNV": 1, "NORMAL": 1}


def test_rows_of_a_csv_that_cannot_be_used_are_named(draw_scan, tmp_path):
    scans_for_csv(draw_scan, tmp_path)
    path = write_csv(tmp_path / "list.csv", ["path,label", "img/s0.png,CNV", "img/s1.png,NORMAL", "img/none.png,CNV",
                                             "img/s2.txt,CNV", "img/s0.png,NORMAL", "img/s3.png,", "img/s4.png,CNV"])
    report = convert(path, tmp_path / "a.zip", resolution=32, workers=1, split="100")
    text = report.audit.read_text(encoding="utf-8")
    assert report.outcomes == {"kept": 2, "refused": 3, "conflict": 1}
    for said in ("row 4: img/none.png: is not there", "row 5: img/s2.txt: is not there under any suffix",
                 "img/s0.png: is listed under CNV and NORMAL", "img/s3.png: has no label, while others do"):
        assert said in text


def test_a_csv_without_paths_says_what_its_first_row_must_hold_and_never_what_it_holds(tmp_path):
    with pytest.raises(DataError, match="no column for the image; call it path. The first row must hold") as caught:
        open_source(write_csv(tmp_path / "list.csv", ["Canary,label", "a,b"]))
    assert "Canary" not in str(caught.value)
    (tmp_path / "binary.csv").write_bytes(b"path,label\n\0\x80")
    with pytest.raises(DataError, match="cannot be read as text"):
        open_source(tmp_path / "binary.csv")


def test_sources_that_hold_no_scans_say_what_they_hold(make_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes" / "a.dcm").write_bytes(b"x")
    (tmp_path / "text.bin").write_bytes(b"x")
    with zipfile.ZipFile(tmp_path / "cut.zip", "w") as file:
        file.writestr("CNV/CNV-1-1.png", b"x" * 500)
    cases = [("empty", "holds no PNG, JPEG, TIFF, BMP or WebP images"),
             ("volumes", "1 refused: is no DICOM"), ("nowhere", "There is no"),
             ("text.bin", "neither a folder, a zip nor a CSV")]
    for name, said in cases:
        with pytest.raises(DataError, match=said):
            open_source(tmp_path / name)
    report = convert(make_folder(4), tmp_path / "a.zip", resolution=32, workers=1)
    with pytest.raises(DataError, match="is an archive already"):
        open_source(Path(report.archive))
