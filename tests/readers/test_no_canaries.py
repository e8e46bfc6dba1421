"""Nothing that could name a patient leaves a file: not in results, messages, logs, warnings or written files."""

import dataclasses
import io
import logging
import traceback
import warnings

import numpy as np
import pytest
from canaries import CANARIES, NAME, canaries_in, make_dicom, make_e2e, make_picture, make_vol, make_xml
from click.testing import CliRunner
from volumes import make_metaimage, make_nifti, make_topcon, scans

from dnnlib.errors import UserError
from dnnlib.pictures import save_png
from stylegan_oct.data.convert import convert
from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.data.readers.scan import read_scans
from stylegan_oct.latent.intake import Refused, load_targets
from tools.__main__ import main

SETTINGS = Preprocess(resolution=32)
MAKERS = {"a.vol": make_vol, "b.dcm": make_dicom, "c.xml": make_xml, "d.e2e": make_e2e, "e.png": make_picture,
          "f.jpg": make_picture, "g.tif": make_picture, "h.mha": lambda path: make_metaimage(path, scans()),
          "i.nii": lambda path: make_nifti(path, scans()), "j.fda": lambda path: make_topcon(path, scans())}
VOLUMES = ("h.mha", "i.nii", "j.fda")


@pytest.fixture(params=MAKERS)
def scan_file(request, tmp_path):
    """A file with canaries, alone in a folder but for what belongs to it."""
    if request.param.endswith(".dcm"):
        pytest.importorskip("pydicom")
    if request.param.endswith(".e2e"):
        pytest.importorskip("eyepy")
    path = tmp_path / "in" / request.param
    path.parent.mkdir()
    MAKERS[request.param](path)
    return path


@pytest.fixture
def heard(caplog, capfd):
    """Return all that is logged, warned of and printed, by any package, while a test runs; call it to get the text."""
    caplog.set_level(logging.DEBUG)
    said = io.StringIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        def collect():
            out = capfd.readouterr()
            return "\n".join([said.getvalue(), caplog.text, out.out, out.err, *(str(w.message) for w in caught)])

        yield collect


def everything_of(item):
    """Return the fields of a result as text and bytes; its path is the user's own."""
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        if isinstance(value, np.ndarray):
            yield value.tobytes()
        elif field.name != "path":
            yield repr(value)


def test_the_files_of_these_tests_hold_canaries_and_the_search_finds_them(scan_file):
    assert len(canaries_in(scan_file)) >= 3


def test_the_search_finds_text_bytes_names_and_members_of_zips(tmp_path):
    assert canaries_in(f"patient {NAME.upper()}") and canaries_in(CANARIES["date of birth as double"])
    assert not canaries_in("DRUSEN seed 7", b"\0" * 99)
    (tmp_path / NAME).write_bytes(b"")
    assert canaries_in(tmp_path)
    np.savez_compressed(tmp_path / "z.npz", name=np.array([NAME]))
    assert canaries_in(tmp_path / "z.npz")


def test_what_is_read_and_written_holds_no_canary(scan_file, tmp_path, heard):
    bscans = list(read_scans(scan_file))
    targets = list(load_targets(scan_file, "all", SETTINGS))
    assert bscans and len(targets) == len(bscans)
    for item in (*bscans, *targets):
        assert not canaries_in(*everything_of(item))
    for number, target in enumerate(targets):
        save_png(tmp_path / "out" / f"{number}.png", target.pixels)
    assert not canaries_in(tmp_path / "out") and not canaries_in(heard())


def test_damaged_files_give_results_or_one_line_and_no_canary(scan_file, heard):
    data, rng = scan_file.read_bytes(), np.random.default_rng(0)
    for trial in range(40):
        broken = bytearray(data[:rng.integers(1, len(data))] if trial % 2 else data)
        for place in rng.integers(0, min(len(broken), 3000), 1 + trial % 5):
            broken[place] ^= int(rng.integers(1, 256))
        scan_file.write_bytes(broken)
        for item in load_targets(scan_file, "all", SETTINGS):
            if isinstance(item, Refused):
                assert "\n" not in item.reason and not canaries_in(item.reason), item.reason
        try:
            list(read_scans(scan_file, "1"))
        except UserError as error:
            assert not canaries_in("".join(traceback.format_exception(error, limit=0, chain=True)))
    assert not canaries_in(heard())


def test_commands_that_are_given_a_scan_by_mistake_say_nothing_of_it(scan_file, heard):
    result = CliRunner().invoke(main, ["info", str(scan_file)])
    assert result.exit_code == 2 and not canaries_in(result.output) and not canaries_in(heard())


def test_a_conversion_keeps_names_out_of_the_archive_and_the_audit(tmp_path, request):
    folder = tmp_path / "in"
    folder.mkdir()
    make_picture(folder / "NORMAL-1-1.png")
    make_picture(folder / "NORMAL-2-1.jpg", quality=50)
    for name in VOLUMES:
        MAKERS[name](folder / name)
    (folder / "NORMAL-3-1.tif").write_bytes(b"II*\0" + NAME.encode() * 9)
    heard = request.getfixturevalue("heard")  # from here on: Pillow logs what is written, too
    convert(folder, tmp_path / "out" / "a.zip", resolution=32, workers=1, split="100,0,0",
            class_name="NORMAL")
    assert not canaries_in(tmp_path / "out") and not canaries_in(heard())
