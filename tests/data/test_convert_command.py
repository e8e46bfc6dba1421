"""`python -m tools convert` as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from stylegan_oct.data.archive import Archive
from stylegan_oct.data.convert import convert
from tools.__main__ import main

REAL = Path(os.environ.get("STYLEGAN_OCT_SCANS", Path(__file__).parents[3] / "shared" / "data" / "oct2017"))


def call(*words):
    return CliRunner().invoke(main, ["convert", *map(str, words), "--workers", "1"])


def test_the_command_makes_an_archive_and_says_where_everything_is(make_folder, tmp_path):
    result = call(make_folder(), tmp_path / "a.zip", "--resolution", "32")
    assert result.exit_code == 0, result.output
    for word in ("train", "CNV", "a.zip", "a-audit.md", "a.key", "private"):
        assert word in result.output
    assert Archive(tmp_path / "a.zip").resolution == 32


def test_what_is_odd_about_the_brightness_is_said_and_counted(make_folder, draw_scan, tmp_path):
    folder = make_folder(8)
    deep = draw_scan(70).astype(np.uint16)
    for number, picture in enumerate((deep * 16, deep * 16 + 1, deep * 60, draw_scan(71) // 8, 255 - draw_scan(72))):
        Image.fromarray(picture).save(folder / "CNV" / f"CNV-{number}-1.png")
    result = call(folder, tmp_path / "a.zip", "--resolution", "32")
    assert result.exit_code == 0, result.output
    audit = (tmp_path / "a-audit.md").read_text()
    for line in ("3 scans: is scaled by", "1 scan: fills a small part of its range", "1 scan: is dark on bright",
                 "several depths (12 bits: 2, 14 bits: 1)"):
        assert line in result.output and line in audit.partition("## To look at")[2].partition("##")[0]
    assert not any("notes" in row for row in Archive(tmp_path / "a.zip").rows().values())


def test_help_shows_an_example():
    result = CliRunner().invoke(main, ["convert", "--help"])
    assert result.exit_code == 0 and "convert OCT2017" in result.output


@pytest.mark.parametrize("words, said", [
    (["none", "a.zip", "-r", "32"], "There is no none"),
    (["scans", "a.zip", "-r", "33"], "power of two"),
    (["scans", "a.tar", "-r", "32"], "NAME.zip"),
    (["scans", "a.zip", "-r", "32", "--only-split", "tarin"], "Did you mean train?"),
    (["scans", "a.zip", "-r", "32", "--split", "0,1"], "80,10,10"),
    (["scans", "a.zip", "-r", "32", "--patient-pattern", "("], "not a regular expression"),
    (["scans/CNV/CNV-900000-1.png", "a.zip", "-r", "32"], "neither a folder"),
    (["scans", "scans/CNV/CNV-900000-1.png/a.zip", "-r", "32"], "Cannot write"),
])
def test_wrong_options_and_paths_exit_with_2_and_one_line(make_folder, tmp_path, monkeypatch, words, said):
    make_folder(4)
    monkeypatch.chdir(tmp_path)
    result = call(*words)
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.exit_code == 2 and len(lines) == 1 and said in lines[0], result.output
    assert not (tmp_path / "a.zip").exists()


def test_a_killed_conversion_goes_on_and_leaves_no_process(make_folder, tmp_path):
    folder = make_folder(96)
    whole = convert(folder, tmp_path / "whole.zip", resolution=256, workers=1)
    command = [sys.executable, "-m", "tools", "convert", folder, tmp_path / "a.zip", "-r", "256", "--workers", "2",
               "--key", whole.key]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2],
                          start_new_session=True) as process:
        work = tmp_path / ".a-work"
        deadline = time.monotonic() + 60
        while not list(work.glob("*.jsonl")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while _group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _group_lives(process.pid)
    seen = []
    report = convert(folder, tmp_path / "a.zip", resolution=256, key=whole.key, workers=1, overwrite=True,
                     progress=lambda done, total: seen.append(done))
    assert seen[0] >= 16 or process.returncode == 0
    assert report.archive.read_bytes() == whole.archive.read_bytes()
    assert not list(tmp_path.glob(".tmp-*")) or process.returncode != 0


def _group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real scans in {REAL}")
def test_the_real_scans_convert_without_white_left_at_the_frame(tmp_path):
    report = convert(REAL, tmp_path / "a.zip", resolution=64, workers=2)
    archive = Archive(report.archive)
    assert report.outcomes == {"kept": 48} and archive.classes == ("CNV", "DME", "DRUSEN", "NORMAL")
    text = report.audit.read_text(encoding="utf-8")
    assert "31 patients" in text and "2 have scans in several classes" in text
    for split in archive.splits:
        for name in archive.names(split):
            pixels = archive.read_pixels(name)
            assert max(pixels[0, 8:].max(), pixels[-1].max()) < 160, name  # the left corner may hold the optic disc
