"""Every format gives the same B-scans, with their scale and side; what is wrong is said in one line."""

import re
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from canaries import draw, make_dicom, make_e2e, make_picture, make_vol, make_xml
from PIL import Image

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.data.readers import heyex
from stylegan_oct.data.readers.scan import choose, read_scans
from stylegan_oct.data.sources import Refusal


def refusal(path, selection="all"):
    with pytest.raises(DataError) as caught:
        list(read_scans(path, selection))
    line = str(caught.value)
    assert "\n" not in line and str(path) in line
    return line


def check(path, want, um=(3.872, 11.5), side="OD"):
    scans = list(read_scans(path))
    assert [scan.number for scan in scans] == list(range(1, len(want) + 1))
    for scan, pixels in zip(scans, want, strict=True):
        assert np.array_equal(scan.pixels, pixels) and scan.pixels.dtype == np.uint8
        assert (scan.um_per_px_z, scan.um_per_px_x) == pytest.approx(um) and scan.laterality == side
        assert scan.coloured == 0


def test_a_vol_gives_its_b_scans_as_the_device_shows_them(tmp_path):
    check(tmp_path / "a.vol", make_vol(tmp_path / "a.vol"))


def test_a_vol_is_known_by_its_content_whatever_it_is_named(tmp_path):
    want = make_vol(tmp_path / "a.bin", side=b"OS\0\0", slo=0, um=(1.9, 5.7), height=128, width=128)
    check(tmp_path / "a.bin", want, (1.9, 5.7), "OS")


def test_values_that_the_device_did_not_store_are_marked_and_black(tmp_path):
    make_vol(tmp_path / "a.vol", missing=7)
    for scan in read_scans(tmp_path / "a.vol"):
        assert scan.missing[:, :7].all() and not scan.missing[:, 7:].any()
        assert not scan.pixels[:, :7].any() and scan.pixels[:, 7:].all()


def test_of_the_header_of_a_vol_only_sizes_scales_and_side_are_read(tmp_path, monkeypatch):
    make_vol(tmp_path / "a.vol")
    reads = []

    class Spy:
        def __init__(self, path, mode, buffering):
            assert buffering == 0
            self.file = open(path, mode, buffering=buffering)  # noqa: SIM115

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def seek(self, offset):
            self.file.seek(offset)

        def read(self, count):
            reads.append((self.file.tell(), self.file.tell() + count))
            return self.file.read(count)

    monkeypatch.setattr(heyex, "open", Spy, raising=False)
    assert len(list(read_scans(tmp_path / "a.vol"))) == 3
    time_of_examination, identities = (88, 96), (104, 2048)
    for first, last in reads:
        assert all(last <= begin or first >= end for begin, end in (time_of_examination, identities))
    assert reads


def test_the_display_of_reflectivity_spans_its_range():
    values = np.geomspace(1e-6, 1, 256, dtype=np.float32).reshape(16, 16)
    grey = heyex.display(values, np.zeros_like(values, bool))
    assert grey.min() == 0 and grey.max() == 255 and (np.diff(grey.ravel().astype(int)) >= 0).all()


def test_a_vol_cut_anywhere_is_refused(tmp_path):
    make_vol(tmp_path / "a.vol")
    data = (tmp_path / "a.vol").read_bytes()
    for length in (1, 13, 60, 87, 103, 2047, 2500, len(data) // 2, len(data) - 1):
        (tmp_path / "a.vol").write_bytes(data[:length])
        assert "cut short" in refusal(tmp_path / "a.vol")


@pytest.mark.parametrize("at, value, said", [(12, -5, "no sense"), (16, 0, "no B-scans"), (16, 10**6, "cut short"),
                                             (20, 3, "no sense"), (12, 10**9, "no sense"), (100, -1, "no sense")])
def test_sizes_that_cannot_be_are_refused(tmp_path, at, value, said):
    make_vol(tmp_path / "a.vol")
    data = bytearray((tmp_path / "a.vol").read_bytes())
    data[at:at + 4] = value.to_bytes(4, "little", signed=True)
    (tmp_path / "a.vol").write_bytes(data)
    assert said in refusal(tmp_path / "a.vol")


def test_eyepy_reads_the_same_from_the_vol_of_these_tests(tmp_path):
    vol_reader = pytest.importorskip("eyepy.io.he.vol_reader")
    make_vol(tmp_path / "a.vol", missing=5)
    parsed = vol_reader.HeVolReader(tmp_path / "a.vol").parsed_file
    utils = pytest.importorskip("eyepy.core.utils")
    for scan, other in zip(read_scans(tmp_path / "a.vol"), parsed.bscans, strict=True):
        theirs = utils.from_vol_intensity(np.array(other.data))
        assert np.abs(scan.pixels.astype(int) - theirs).max() <= 1
        assert scan.um_per_px_x == pytest.approx(1000 * parsed.scale_x) and scan.laterality == parsed.scan_position


def test_an_xml_gives_the_pictures_it_lists(tmp_path):
    check(tmp_path / "a.xml", make_xml(tmp_path / "a.xml"))


@pytest.mark.parametrize("respell", [str.upper, str.lower, lambda name: unicodedata.normalize("NFD", name)])
def test_an_xml_finds_pictures_whose_names_differ_in_case_or_form_alone(tmp_path, respell):
    frames = make_xml(tmp_path / "a.xml")
    for number, picture in enumerate(sorted(tmp_path.glob("*.tif"))):
        picture.rename(tmp_path / respell(f"Ä_{number}.Tif"))
    text = (tmp_path / "a.xml").read_text(encoding="utf-8")
    (tmp_path / "a.xml").write_text(re.sub(r"\\[^\\<]*_(\d)\.tif", r"\\ä_\1.TIF", text), encoding="utf-8")
    check(tmp_path / "a.xml", frames)


def test_an_xml_without_its_pictures_or_of_something_else_is_refused(tmp_path):
    make_xml(tmp_path / "a.xml")
    for picture in tmp_path.glob("*_1.tif"):
        picture.unlink()
    assert "B-scan 2: its picture is not beside the .xml" in refusal(tmp_path / "a.xml")
    assert len(list(read_scans(tmp_path / "a.xml", "1,3"))) == 2
    for text, said in (("<HEDX><BODY/></HEDX>", "not that of a Heidelberg"), ("<HEDX><BODY>", "no well-formed XML"),
                       ('<?xml version="1.0" encoding="klingon"?><a/>', "no well-formed XML")):
        (tmp_path / "b.xml").write_text(text)
        assert said in refusal(tmp_path / "b.xml")


def test_an_e2e_gives_its_b_scans_and_never_its_patient(tmp_path, monkeypatch):
    formats = pytest.importorskip("eyepy.io.he.e2e_format")
    want = make_e2e(tmp_path / "a.e2e", degrees=20)
    monkeypatch.setattr(formats, "type9_format", None)
    check(tmp_path / "a.e2e", want, (3.872, 20 * 289.6 / 96))


def test_a_damaged_e2e_is_refused(tmp_path):
    pytest.importorskip("eyepy")
    make_e2e(tmp_path / "a.e2e")
    data = (tmp_path / "a.e2e").read_bytes()
    for length in (1, 50, 120, 400):
        (tmp_path / "a.e2e").write_bytes(data[:length])
        assert ".e2e" in refusal(tmp_path / "a.e2e")
    (tmp_path / "a.e2e").write_bytes(data[:-500])
    assert "damaged" in refusal(tmp_path / "a.e2e")


@pytest.mark.parametrize("name, options", [("a.png", {}), ("a.tif", {})])
def test_pictures_are_one_b_scan_without_scale(tmp_path, name, options):
    check(tmp_path / name, [make_picture(tmp_path / name, **options)], (None, None), None)


def test_the_pages_of_a_tiff_are_b_scans(tmp_path):
    pages = [draw(i) for i in range(4)]
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    check(tmp_path / "a.tif", pages, (None, None), None)


def test_colours_are_kept_where_asked_for_and_their_share_is_known(tmp_path):
    photo = np.zeros((64, 64, 3), np.uint8)
    photo[:48] = 220, 90, 40
    Image.fromarray(photo).save(tmp_path / "fundus.png")
    (grey,) = read_scans(tmp_path / "fundus.png")
    (colour,) = read_scans(tmp_path / "fundus.png", channels=3)
    assert grey.coloured == colour.coloured == 0.75
    assert grey.pixels.shape == (64, 64) and np.array_equal(colour.pixels, photo)


@pytest.mark.parametrize("selection, want", [("all", [0, 1, 2, 3, 4]), ("middle", [2]), ("2-4", [1, 2, 3]), ("5", [4]),
                                             ("4-9", [3, 4]), ("5,1-2, 2", [0, 1, 4]),
                                             ("1-999999999", [0, 1, 2, 3, 4])])
def test_a_selection_takes_what_there_is_of_it(selection, want):
    assert choose(5, selection) == want


def test_the_middle_of_one_is_that_one():
    assert choose(1, "middle") == [0] and choose(4, "middle") == [2]


@pytest.mark.parametrize("selection", ["0", "0-3", "5-2", "first", "", "1,,2", "-3", "1-2-3"])
def test_a_selection_that_makes_no_sense_is_named(selection):
    with pytest.raises(ConfigError, match="numbers from 1"):
        choose(5, selection)


def test_a_selection_beyond_the_last_says_how_many_there_are(tmp_path):
    make_vol(tmp_path / "a.vol")
    assert "holds 3 B-scans, none of those chosen (7-9)" in refusal(tmp_path / "a.vol", "7-9")
    with pytest.raises(Refusal, match="holds 1 B-scan,"):
        choose(1, "2")


@pytest.mark.parametrize("name, content, said", [
    ("a.dcm", b"", "empty"), ("a.png", b"", "empty"), ("a.docx", b"PK\3\4" + bytes(300), "no format that is read"),
    ("a.dcm", b"GIF89a" * 99, "no DICOM"), ("a.vol", b"text " * 99, "no sense"), ("a.png", b"text" * 99, "not a PNG"),
    ("a.fda", b"FOCT" * 99, "damaged"),
    ("a.fda", b"text" * 99, "no Topcon file"), ("a.img", b"text" * 99, "no format that is read")])
def test_files_that_are_something_else_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    assert said in refusal(tmp_path / name)


def test_a_folder_or_nothing_is_no_scan(tmp_path):
    assert "not a regular file" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "none.dcm")


@pytest.mark.parametrize("package, name, make", [("pydicom", "a.dcm", make_dicom), ("eyepy", "a.e2e", make_e2e)])
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, package, name, make):
    make(tmp_path / name)
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    assert f"needs {package}; install it with: pip install 'stylegan-oct[" in refusal(Path(tmp_path / name))
