"""A pixel size that no OCT scan has is said in one line and treated as unknown; nothing is allocated by it."""

import json
import math
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from canaries import draw, make_dicom, make_vol, make_xml
from click.testing import CliRunner
from PIL import Image

from stylegan_oct.data.convert import convert
from stylegan_oct.data.preprocess import ROI_HEIGHT, Preprocess
from stylegan_oct.data.readers.scale import can_be, find_scale
from stylegan_oct.data.readers.scan import read_scans
from stylegan_oct.latent.biomarkers.measure import NAMES, measure
from stylegan_oct.latent.intake import assumed_scale, load_targets
from stylegan_oct.latent.neighbours.search import load_queries
from stylegan_oct.latent.projection.report import Task, read_facts
from stylegan_oct.phantom import render
from tools.__main__ import main

MM = (0.003872, 0.0115)
SIZE = (496, 512)
REAL = Path(__file__).parents[2].parent / "shared" / "data" / "oct2017"
NEVER = {
    "metres for millimetres": (3.872e-6, 11.5e-6),
    "centimetres for millimetres": (3.872e-4, 11.5e-4),
    "micrometres for millimetres": (3.872, 11.5),
    "millimetres": (1.0, 1.0),
    "zero": (0.0, 0.0),
    "zero in depth": (0.0, MM[1]),
    "zero across": (MM[0], 0.0),
    "negative": (-MM[0], MM[1]),
    "not a number": (math.nan, MM[1]),
    "infinite": (MM[0], math.inf),
    "huge": (1e300, 1e300),
    "exchanged": MM[::-1],
    "exchanged, of 1536 columns": (0.0057, 0.003872),
    "garbled": ("0,003872", MM[1]),
    "no numbers": (object(), []),
}


@pytest.mark.parametrize("name", NEVER)
def test_what_no_oct_scan_has_is_unknown_and_said_in_one_line(name):
    scale = find_scale([NEVER[name]], *SIZE)
    assert (scale.z, scale.x) == (None, None)
    assert scale.note is not None and scale.note.startswith("the pixel size in the file is not used: ")
    assert "\n" not in scale.note


@pytest.mark.parametrize("mm, size", [
    (MM, (496, 512)), ((0.003872, 0.0057), (496, 1536)), ((0.003872, 0.01146), (496, 768)),    # Spectralis
    (MM, (277, 384)), ((0.00195, 0.0117), (1024, 512)), ((0.0026, 0.0117), (992, 512)),        # cut; deeper ones
    ((0.0075, 0.023), (256, 256)), ((0.030, 0.137), (64, 64)), ((0.00375, 0.00375), (512, 1600)),  # resized; square
    ((0.0019, 0.0057), (1024, 4096))])
def test_what_devices_and_resized_scans_have_is_taken(mm, size):
    scale = find_scale([mm], *size)
    assert (scale.z, scale.x) == pytest.approx((1000 * mm[0], 1000 * mm[1])) and scale.note is None


def test_nothing_said_is_unknown_without_a_line_and_half_is_kept():
    assert find_scale([], *SIZE) == find_scale([(None, None)], *SIZE) and find_scale([], *SIZE).note is None
    scale = find_scale([(None, MM[1])], *SIZE)
    assert (scale.z, scale.x) == (None, pytest.approx(11.5))


def test_places_that_agree_are_one_and_those_that_contradict_are_unknown():
    assert find_scale([MM, (MM[0] * 1.005, MM[1])], *SIZE).z == pytest.approx(3.872)
    for other in ((0.00195, MM[1]), (MM[0], 0.0057), (math.nan, math.nan)):
        scale = find_scale([MM, other], *SIZE)
        assert scale.z is None and scale.x is None and "contradict" in scale.note


def values(mm):
    return tuple(1000 * value if isinstance(value, float) else math.nan for value in mm)


@pytest.mark.parametrize("name", [name for name, mm in NEVER.items() if isinstance(mm[0], float)])
def test_no_format_lets_such_a_size_through(tmp_path, name):
    um = values(NEVER[name])
    make_vol(tmp_path / "a.vol", um=um, count=1, height=496, width=512)
    make_xml(tmp_path / "a.xml", um=um, count=1)
    finite = all(map(math.isfinite, um)) and max(um) < 1e9
    if finite:
        make_dicom(tmp_path / "a.dcm", um=um, count=1, height=496, width=512)
    for file in ("a.vol", "a.xml", *(["a.dcm"] if finite else [])):
        (scan,) = read_scans(tmp_path / file)
        assert (scan.um_per_px_z, scan.um_per_px_x) == (None, None), file
        assert any("the pixel size in the file is not used" in note for note in scan.notes), file
        (target,) = load_targets(tmp_path / file, "all", Preprocess(resolution=32))
        assert target.scale_assumed and target.notes == scan.notes
        z, x = assumed_scale(*scan.pixels.shape)
        assert target.um_per_px == pytest.approx((z * scan.pixels.shape[0] / 32, x * scan.pixels.shape[1] / 32))


@pytest.mark.parametrize("spacing", [["0.0038720", "zero"], ["0.003872"], ["0.003872", "0.0115", "1"], ["nan", "nan"]])
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_garbled_size_in_a_dicom_does_not_cost_its_pixels(tmp_path, spacing):
    pydicom = pytest.importorskip("pydicom")
    make_dicom(tmp_path / "a.dcm", spacing="none", count=1)
    text = "\\".join(spacing).encode()
    raw = pydicom.dataelem.RawDataElement(pydicom.tag.Tag("PixelSpacing"), "DS", len(text), text, 0, False, True)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data._dict[raw.tag] = raw
    data.save_as(tmp_path / "a.dcm")
    (scan,) = read_scans(tmp_path / "a.dcm")
    assert np.array_equal(scan.pixels, draw(0)) and scan.um_per_px_z is None and "not used" in scan.notes[0]


def test_sizes_of_a_dicom_that_contradict_are_unknown_but_each_frame_may_have_its_own(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    make_dicom(tmp_path / "a.dcm", spacing="frame", count=2)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data.PerFrameFunctionalGroupsSequence[1].PixelMeasuresSequence[0].PixelSpacing = ["0.004", "0.012"]
    data.save_as(tmp_path / "a.dcm")
    assert [scan.um_per_px_x for scan in read_scans(tmp_path / "a.dcm")] == pytest.approx([11.5, 12])
    data.PixelSpacing = ["0.003872", "0.0115"]
    data.save_as(tmp_path / "a.dcm")
    good, bad = read_scans(tmp_path / "a.dcm")
    assert good.um_per_px_x == pytest.approx(11.5) and good.notes == ()
    assert bad.um_per_px_x is None and "contradict" in bad.notes[0]


def test_the_scale_of_an_xml_is_for_pictures_of_the_size_it_says(tmp_path):
    make_xml(tmp_path / "a.xml", count=1)
    (picture,) = tmp_path.glob("*.tif")
    Image.open(picture).resize((192, 128)).save(picture)
    (scan,) = read_scans(tmp_path / "a.xml")
    assert (scan.um_per_px_z, scan.um_per_px_x) == (None, None)
    assert scan.notes == ("the pixel size in the .xml is not used: it is for a picture of another size",)


@pytest.mark.parametrize("scale", [(1e6, 1e6), (3.872, 1e9), (1e9, 11.5), (1e-9, 11.5), (math.nan, 11.5),
                                   (math.inf, math.inf), (3.872, 0.0), (-3.872, -11.5)])
def test_nothing_is_measured_and_nothing_allocated_at_a_scale_that_cannot_be(scale):
    pictures = np.stack([render(3, 0, label="NORMAL", resolution=(128, 128)).image] * 2)
    tracemalloc.start()
    found = measure(pictures, scale)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000 and len(found) == 2
    for name in NAMES:
        assert np.isnan(found.values[name]).all()
        assert all("is no size of a scan" in str(reason) for reason in found.reasons[name])


@pytest.mark.slow
def test_the_largest_scan_that_can_be_is_measured_in_a_fraction_of_a_gigabyte():
    assert can_be(8000, 30_000)
    pictures = np.stack([render(3, 0, label="NORMAL", resolution=(128, 128)).image] * 2)
    done = []
    tracemalloc.start()
    measure(pictures, (8000 / 128 - 1e-6, 30_000 / 128 - 1e-6), progress=done.append)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500 * 2**20 and done in ([1, 2], [2])   # few at a time, where dozens of the usual size go together


def invoke(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result


def test_biomarkers_say_what_scale_a_number_has_and_take_the_users_where_the_file_has_none(tmp_path):
    scan = render(81, 0, label="NORMAL", border=False, resolution=(496, 512)).image
    make_dicom(tmp_path / "a.dcm", count=1, height=496, width=512, um=(3872.0, 11500.0), PixelData=scan.tobytes())
    result = invoke("biomarkers", tmp_path / "a.dcm", "--out", tmp_path / "out", "--json")
    (row,) = json.loads(result.stdout)
    assert "to look at: 1 scan: the pixel size in the file is not used: with 3872 um" in result.stderr
    assert "that of a Spectralis is assumed" in row["notes"] and "that of a Spectralis is assumed" in result.stderr
    assert (row["um_per_px_z"], row["um_per_px_x"]) == (3.872, round(5900 / 512, 4))
    assert 150 < row["mean_thickness_um"] < 450
    result = invoke("biomarkers", tmp_path / "a.dcm", "--um-per-px", 1.936, 11.5, "--out", tmp_path / "out", "--json")
    (half,) = json.loads(result.stdout)
    assert half["mean_thickness_um"] == pytest.approx(row["mean_thickness_um"] / 2, rel=0.1)
    assert "assumed" not in half["notes"]
    result = invoke("biomarkers", tmp_path / "a.dcm", "--um-per-px", 500, 500, "--out", tmp_path / "out", "--json")
    (none,) = json.loads(result.stdout)
    assert none["mean_thickness_um"] is None and "248 x 256 mm is no size of a scan" in none["unknown_because"]


def test_pictures_of_an_archive_are_measured_as_their_scans_were(tmp_path):
    """A scan in archives made in any manner has the same thickness, also where rows or columns were cut."""
    folder = tmp_path / "scans"
    folder.mkdir()
    scan = render(90, 0, label="NORMAL", border=False, resolution=(496, 768)).image
    Image.fromarray(scan).save(folder / "NORMAL-1-1.png")
    found = {}
    manners = {"stretch": {}, "fit": {"aspect": "fit"}, "crop": {"aspect": "crop"}, "roi": {"roi": True}}
    for name, manner in manners.items():
        convert(folder, tmp_path / f"{name}.zip", resolution=128, workers=1, split="100,0,0", **manner)
        result = invoke("biomarkers", tmp_path / f"{name}.zip", "--out", tmp_path / name, "--pictures", 0, "--json")
        (row,) = json.loads(result.stdout)
        found[name] = row["mean_thickness_um"]
        height = 128 * row["um_per_px_z"]
        assert height == pytest.approx(1920 * {"fit": 768 / 496, "roi": ROI_HEIGHT}.get(name, 1), rel=0.01)
        assert 128 * row["um_per_px_x"] == pytest.approx(8800 * (496 / 768 if name == "crop" else 1), rel=0.01)
        assert "that of a Spectralis is assumed" in result.stderr
    assert max(found.values()) - min(found.values()) < 15, found


def test_a_header_of_a_vol_with_wild_scales_is_read_all_the_same(tmp_path):
    make_vol(tmp_path / "a.vol", count=1)
    data = bytearray((tmp_path / "a.vol").read_bytes())
    for wild in (math.nan, math.inf, -1.0, 1e308, 5e-324):
        data[24:32] = struct.pack("<d", wild)
        (tmp_path / "a.vol").write_bytes(data)
        (scan,) = read_scans(tmp_path / "a.vol")
        assert np.array_equal(scan.pixels, draw(0)) and scan.um_per_px_x is None and scan.notes


def test_who_searches_and_projects_is_told_what_is_odd(tmp_path):
    make_dicom(tmp_path / "a.dcm", count=2, height=496, width=512, um=(3872.0, 11500.0))
    said: list[str] = []
    G = SimpleNamespace(info=SimpleNamespace(preprocess=Preprocess(resolution=32)))
    assert len(load_queries([tmp_path / "a.dcm"], G, say=said.append)) == 2
    assert len(said) == 1 and said[0].startswith("to look at: 2 scans: the pixel size in the file is not used: with")


def test_a_projection_is_made_anew_when_the_same_pixels_come_with_another_scale(tmp_path):
    target = next(iter(load_targets(_saved(tmp_path, 3.872), "all", Preprocess(resolution=32))))
    other = next(iter(load_targets(_saved(tmp_path, 2.0), "all", Preprocess(resolution=32))))
    engine = SimpleNamespace(manner=lambda: {"space": "w"})
    task, changed = Task(target, None), Task(other, None)
    marker = dict.fromkeys(("scan", "projected", "difference", "error", "reason", "beyond_error"))
    facts = {"scan": task.key, "number": 1, "class": "", "space": "w", "distance": 0.5, "distances_of_the_classes": {},
             "percentile_among_samples": None, "percentile_among_held_out": None, "psnr": 20.0, "ssim": 0.5, "mse": 0.1,
             "biomarkers": dict.fromkeys(NAMES, marker), "notes": [], "derived_from_patient": True,
             "manner": {"space": "w", "class": None}, "um_per_px": list(target.um_per_px)}
    (tmp_path / f"private-projection-{task.key}.json").write_text(json.dumps(facts))
    assert read_facts(tmp_path, task, engine) == facts
    assert task.key != changed.key and read_facts(tmp_path, changed, engine) is None
    assert Task(replace(target, number=2), None).key == task.key
    facts["um_per_px"] = list(other.um_per_px)
    (tmp_path / f"private-projection-{task.key}.json").write_text(json.dumps(facts))
    assert read_facts(tmp_path, task, engine) is None


def _saved(folder, um_z):
    make_vol(folder / "a.vol", count=1, height=496, width=512, um=(um_z, 11.5))
    return folder / "a.vol"
