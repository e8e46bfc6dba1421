import json

import numpy as np
from click.testing import CliRunner
from PIL import Image

from stylegan_oct.phantom import render
from tools.__main__ import main


def test_scans_are_measured_drawn_and_named_without_their_file_name(tmp_path):
    scan = render(81, 0, label="NORMAL", resolution=(128, 128), border=False)
    Image.fromarray(scan.image).save(tmp_path / "Doe_John_1950.png")
    result = CliRunner().invoke(main, ["biomarkers", str(tmp_path / "Doe_John_1950.png"), "--um-per-px", "15", "46",
                                       "--out", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert 150 < row["central_thickness_um"] < 400 and row["foci_count"] is None and "coarse" in row["unknown_because"]
    assert np.asarray(Image.open(tmp_path / "out" / "scan0001-001-lines.png")).shape == (512, 512, 3)
    written = result.output + "".join(path.name for path in (tmp_path / "out").iterdir())
    assert "Doe" not in written + (tmp_path / "out" / "biomarkers.csv").read_text()


def test_a_missing_scan_is_one_line_and_exit_code_2(tmp_path):
    result = CliRunner().invoke(main, ["biomarkers", str(tmp_path / "none.png"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and result.output.strip().count("\n") == 0 and "does not exist" in result.output


def test_a_broken_scan_is_left_out_and_the_others_of_the_folder_are_measured(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        Image.fromarray(render(81, 0, label="NORMAL", resolution=(128, 128), border=False).image).save(folder / name)
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:600])
    command = ["biomarkers", str(folder), "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0 and len(json.loads(result.stdout)) == 2
    assert "left out:" in result.stderr and "b.png" in result.stderr
    for name in ("a.png", "c.png"):
        (folder / name).write_bytes(b"")
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2 and "Nor could the 2 others" in result.stderr


def test_samples_of_the_demo_generator_need_no_option(tmp_path):
    result = CliRunner().invoke(main, ["biomarkers", "--seeds", "0", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    names = [path.name for path in tmp_path.glob("*.png")]
    assert len(names) == 4 and all(name.startswith("synthetic-") for name in names)
