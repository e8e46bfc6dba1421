"""`project` and `train-encoder` from the command line: files, resuming, privacy, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
from canaries import canaries_in, make_dicom, make_picture, make_vol
from click.testing import CliRunner
from generator_file import write_generator
from PIL import Image
from small_seer import SmoothSeer

from stylegan_oct.features import detector as detectors
from stylegan_oct.latent.codes import load_codes
from tools.__main__ import main

FAST = ["--steps", "3"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with a generator g/ and a cheap detector in place of lite0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(detectors, "load_detector", lambda *_, **__: SmoothSeer())
    monkeypatch.setattr("stylegan_oct.latent.projection.prepare.load_detector", lambda *_, **__: SmoothSeer())
    (tmp_path / "g").mkdir()
    write_generator(tmp_path / "g")
    (tmp_path / "in").mkdir()
    make_library()
    return tmp_path


def make_library():
    done = CliRunner().invoke(main, ["library", "-c", "g", "--count", "20", "--out", "lib.zip"])
    assert done.exit_code == 0, done.output


def run(*args):
    always = ["-c", "g", "--library", "lib.zip", "--compare", "2", *FAST]
    return CliRunner().invoke(main, ["project", *always, *map(str, args)])


def test_simulated_scans_are_projected_when_there_is_none(place):
    done = run("--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert len(rows) == 2 and not any(row["derived_from_patient"] for row in rows)
    for row in rows:
        assert set(row["distances_of_the_classes"]) == {"CNV", "DRUSEN"}
        assert load_codes(Path(f"out/project/simulated-codes-{row['scan']}.safetensors")).class_name == row["class"]
        with Image.open(f"out/project/simulated-projected-synthetic-{row['scan']}.png") as image:
            assert image.text["synthetic"] == "true" and image.size == (16, 16)


def test_scans_of_patients_are_private_and_give_nothing_away(place):
    pytest.importorskip("pydicom")
    make_vol(place / "in" / "a.vol", count=2)
    make_dicom(place / "in" / "b.dcm", count=1)
    make_picture(place / "in" / "c.png")
    (place / "in" / "d.dcm").write_bytes((place / "in" / "b.dcm").read_bytes()[:900])
    done = run("in", "--space", "pti")
    assert done.exit_code == 0, done.output
    assert "d.dcm" in done.stderr and done.stdout.count("nearest class") == 4
    written = list((place / "out").rglob("*.*")) + list((place / "data").glob("*"))
    assert all(path.name.startswith("private-") for path in (place / "out" / "project").iterdir())
    assert all(path.stat().st_mode & 0o077 == 0 for path in (place / "out" / "project").iterdir())
    assert canaries_in(done.output, done.stderr, *written) == []


def test_what_is_done_is_not_repeated_unless_the_manner_changes(place):
    make_picture(place / "in" / "c.png")
    assert run("in").exit_code == 0
    file = next((place / "out" / "project").glob("*codes*"))
    first = file.stat().st_mtime_ns
    assert run("in").exit_code == 0 and file.stat().st_mtime_ns == first
    assert run("in", "--seed", 1).exit_code == 0 and file.stat().st_mtime_ns > first
    second = file.stat().st_mtime_ns
    assert run("in", "--seed", 1, "--again").exit_code == 0 and file.stat().st_mtime_ns > second


def test_the_film_shows_the_way(place):
    make_picture(place / "in" / "c.png")
    assert run("in", "--film").exit_code == 0
    film = next((place / "out" / "project").glob("private-projection-synthetic-*.mp4"))
    assert film.stat().st_size > 500


def test_a_held_out_archive_tells_how_usual_a_distance_is(place):
    make_picture(place / "in" / "c.png")
    shutil.copy("g/tiny.zip", "held.zip")
    done = run("in", "--reference", "held.zip", "--json")
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)[0]
    assert 0 <= row["percentile_among_samples"] <= 100 and 0 <= row["percentile_among_held_out"] <= 100


@pytest.mark.parametrize(("args", "word"), [
    (["nothing.png"], "nothing.png"), (["in"], "files or folders"), (["--class", "DRUSE"], "DRUSEN"),
    (["--reference", "lib.zip"], "neither a test nor a val"), (["--library", "g/tiny.zip"], "not a library"),
    (["--encoder", "lib.zip"], "lib.zip"), (["--scans", "x-y"], "x-y"), (["-c", "nowhere"], "nowhere")])
def test_what_cannot_work_gives_one_line(place, args, word):
    done = run(*args)
    assert done.exit_code == 2, done.output
    line = done.stderr.strip().splitlines()[-1]
    assert word in done.stderr and line.startswith("error:") and "Traceback" not in done.output


def test_without_a_comparison_no_percentile_is_told(place):
    done = run("--compare", 0, "--json")
    assert done.exit_code == 0, done.output
    assert all(row["percentile_among_samples"] is None for row in json.loads(done.stdout))


def test_an_encoder_of_this_generator_is_found_by_project(place):
    trained = CliRunner().invoke(main, ["train-encoder", "-c", "g", "--steps", "3"])
    assert trained.exit_code == 0, trained.output
    assert len(list((place / "data").glob("encoder-*.safetensors"))) == 1
    done = run("--json")
    assert done.exit_code == 0, done.output
    assert all(row["manner"]["encoder"] for row in json.loads(done.stdout))
