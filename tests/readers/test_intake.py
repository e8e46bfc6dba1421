"""Scans become what the generator learned from, with their scale and a mask of what was never measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from canaries import draw, make_dicom, make_vol, make_xml
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import tiny_config, write_archive

from dnnlib.errors import CheckpointError, ConfigError, DataError
from dnnlib.pictures import encode_png
from stylegan_oct.data.archive import ArchiveWriter
from stylegan_oct.data.convert import convert
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.data.preprocess import Preprocess, process
from stylegan_oct.data.readers.bscan import BScan
from stylegan_oct.data.sources import Refusal
from stylegan_oct.latent.intake import Refused, Target, assumed_scale, load_targets, prepare
from stylegan_oct.model import read_info
from stylegan_oct.packing import export_generator
from stylegan_oct.training.state import create_state
from torch_utils.checkpoint import read_header

SETTINGS = Preprocess(resolution=32)
REAL = Path(__file__).parents[2].parent / "shared" / "data" / "oct2017"
CPU = torch.device("cpu")


def targets(paths, selection="all", settings=SETTINGS):
    items = list(load_targets(paths, selection, settings))
    return [i for i in items if isinstance(i, Target)], [str(i) for i in items if isinstance(i, Refused)]


@pytest.mark.parametrize("settings", [Preprocess(resolution=32), Preprocess(resolution=64, aspect="fit", roi=True),
                                      Preprocess(resolution=32, aspect="crop", border=False, channels=3)])
def test_a_picture_becomes_the_same_here_as_in_an_archive(tmp_path, settings):
    scan = draw(3)
    scan[:9] = 255
    Image.fromarray(scan).save(tmp_path / "a.png")
    (target,), _ = targets(tmp_path / "a.png", settings=settings)
    assert np.array_equal(target.pixels, process((tmp_path / "a.png").read_bytes(), settings).pixels)


@pytest.mark.parametrize("aspect, roi, z, x", [("stretch", False, 60 * 4, 120 * 11), ("fit", False, 120 * 4, 120 * 11),
                                               ("crop", False, 60 * 4, 60 * 11), ("stretch", True, 36 * 4, 120 * 11)])
def test_the_scale_is_followed_to_the_square(aspect, roi, z, x):
    scan = BScan(pixels=draw(0, 60, 120), um_per_px_z=4.0, um_per_px_x=11.0)
    target = prepare(scan, Preprocess(resolution=32, aspect=aspect, roi=roi))
    assert target.um_per_px == pytest.approx((z / 32, x / 32)) and not target.scale_assumed


@pytest.mark.parametrize("rows, columns, z, x", [(496, 512, 3.872, 5900 / 512), (496, 768, 3.872, 8800 / 768),
                                                 (496, 1536, 3.872, 8800 / 1536), (277, 384, 3.872, 5900 / 384),
                                                 (256, 256, 3.872 * 496 / 256, 5900 / 256)])
def test_pictures_without_a_scale_are_taken_for_the_spectralis(rows, columns, z, x):
    assert assumed_scale(rows, columns) == pytest.approx((z, x))
    target = prepare(BScan(pixels=draw(0, rows, columns)), SETTINGS)
    assert target.um_per_px == pytest.approx((z * rows / 32, x * columns / 32)) and target.scale_assumed


def test_half_a_scale_is_kept_and_the_rest_assumed():
    target = prepare(BScan(pixels=draw(0, 64, 96), um_per_px_x=9.0), SETTINGS)
    assert target.um_per_px == pytest.approx((3.872 * 496 / 32, 9.0 * 96 / 32)) and target.scale_assumed


def test_what_was_repaired_is_masked_and_nothing_else():
    scan = draw(1, 128, 128)
    clean = prepare(BScan(pixels=scan), SETTINGS)
    assert clean.valid.all() and clean.valid.shape == (32, 32) and clean.valid.dtype == bool
    wedge = scan.copy()
    wedge[:24] = 255
    target = prepare(BScan(pixels=wedge), SETTINGS)
    inner = np.s_[8:, 3:-3]  # bright tissue at the frame of a scan with a wedge may count as part of it
    assert not target.valid[:7].any() and target.valid[inner].all()  # 24 rows and a halo of 3, 4 rows in one
    assert np.array_equal(target.pixels[inner], clean.pixels[inner])
    assert target.pixels[:6].mean() < 100


def test_what_the_device_did_not_store_is_repaired_like_a_border_and_masked(tmp_path):
    make_vol(tmp_path / "a.vol", height=96, missing=24)
    for settings in (SETTINGS, Preprocess(resolution=32, border=False)):
        found, _ = targets(tmp_path / "a.vol", settings=settings)
        for target in found:
            assert not target.valid[:, :8].any() and target.valid[:, 10:].all()
            assert target.pixels[:, :8].mean() > 5  # noise, not black
    make_vol(tmp_path / "a.vol", missing=60)
    assert "is 62% padding, more than 40%" in targets(tmp_path / "a.vol")[1][0]


def test_what_pads_a_scan_to_a_square_is_masked():
    target = prepare(BScan(pixels=draw(0, 64, 128)), Preprocess(resolution=32, aspect="fit"))
    assert not target.valid[[0, 7, 24, 31]].any() and target.valid[10:22].all()


def test_grey_scans_suit_a_generator_with_colours(tmp_path):
    make_vol(tmp_path / "a.vol")
    (target, *_), _ = targets(tmp_path / "a.vol", settings=Preprocess(resolution=32, channels=3))
    assert target.pixels.shape == (32, 32, 3) and (np.ptp(target.pixels, axis=2) == 0).all()
    assert target.valid.shape == (32, 32)


def test_a_colour_photograph_is_flagged_not_refused(tmp_path):
    photo = np.stack([draw(0) // 4 + 150, draw(1) // 4 + 60, draw(2) // 4], axis=2)
    Image.fromarray(photo).save(tmp_path / "fundus.jpg")
    (target,), refused = targets(tmp_path / "fundus.jpg")
    assert target.coloured > 0.9 and not refused


def test_a_bad_file_is_reported_in_its_place_and_the_others_go_on(tmp_path):
    make_vol(tmp_path / "a.vol", count=2)
    make_vol(tmp_path / "b.vol", count=4)
    (tmp_path / "b.vol").write_bytes((tmp_path / "b.vol").read_bytes()[:-10])
    (tmp_path / "c.png").write_bytes(b"")
    make_dicom(tmp_path / "d", count=1)
    (tmp_path / "notes.txt").write_text("not a scan")
    (tmp_path / ".hidden.png").write_bytes(b"")
    items = list(load_targets(tmp_path, "all", SETTINGS))
    assert [item.path.name for item in items] == ["a.vol", "a.vol", "b.vol", "c.png", "d"]
    assert [isinstance(item, Refused) for item in items] == [False, False, True, True, False]
    assert all("\n" not in str(item) for item in items if isinstance(item, Refused))


def test_one_bad_b_scan_of_a_volume_is_reported_by_its_number(tmp_path):
    make_vol(tmp_path / "a.vol", count=3)
    with open(tmp_path / "a.vol", "r+b") as file:
        file.seek(-2 * 64 * 96 * 4 - 256 - 4 * 96, 2)
        file.write(bytes(64 * 96 * 4))
    found, refused = targets(tmp_path / "a.vol")
    assert [target.number for target in found] == [1, 3]
    assert refused == [f"{tmp_path / 'a.vol'}, B-scan 2: shows nothing: all pixels have the same value"]


def test_an_oddity_of_one_scan_does_not_stop_the_others(tmp_path, monkeypatch):
    make_vol(tmp_path / "a.vol", count=2)
    monkeypatch.setattr("stylegan_oct.latent.intake.to_square", lambda *_: 1 / 0)
    found, refused = targets(tmp_path / "a.vol")
    assert not found and len(refused) == 2
    assert all(line.endswith(": cannot be processed (ZeroDivisionError)") for line in refused)


@pytest.mark.parametrize("respell", [str, str.upper, str.lower])
def test_the_pictures_of_an_export_are_read_once_through_its_xml(tmp_path, respell):
    make_xml(tmp_path / "export.xml", count=3)
    for picture in list(tmp_path.glob("*.tif")):
        picture.rename(tmp_path / respell(picture.name))
    Image.fromarray(draw(9)).save(tmp_path / "other.png")
    found, refused = targets(tmp_path)
    assert [target.path.name for target in found] == ["export.xml"] * 3 + ["other.png"] and not refused


def test_a_list_names_what_is_not_there_and_no_scans_at_all_is_an_error(tmp_path):
    make_vol(tmp_path / "a.vol", count=1)
    found, refused = targets([tmp_path / "gone.png", tmp_path / "a.vol"])
    assert len(found) == 1 and refused == [f"{tmp_path / 'gone.png'}: does not exist"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="There are no scans in"):
        load_targets(tmp_path / "empty", "all", SETTINGS)
    with pytest.raises(ConfigError, match="numbers from 1"):
        load_targets(tmp_path / "a.vol", "last", SETTINGS)


def test_mostly_padding_is_refused():
    scan = draw(0, 128, 128)
    scan[:80] = 255
    with pytest.raises(Refusal, match="padding"):
        prepare(BScan(pixels=scan), SETTINGS)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real scans are not here")
def test_real_scans_are_prepared_and_lose_only_their_border():
    found, refused = targets(sorted(REAL.glob("*/*.jpeg"))[::6], settings=Preprocess(resolution=64))
    assert len(found) == 8 and not refused
    for target in found:
        assert target.coloured == 0 and target.scale_assumed and target.valid.mean() > 0.6
        assert target.pixels[~target.valid].mean() < target.pixels[target.valid].mean()  # noise in place of white


def archive_with(path: Path, preprocess) -> Path:
    with ArchiveWriter(path, resolution=8, channels=1, classes=(), source="scans",
                       extra={"preprocess": preprocess}) as writer:
        writer.add_image("train", encode_png(np.zeros((8, 8), np.uint8)), None, {})
    return path


def test_the_settings_go_from_conversion_to_the_archive(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for i in range(10):
        Image.fromarray(draw(i)).save(folder / f"NORMAL-{i}-1.png")
    convert(folder, tmp_path / "a.zip", resolution=16, aspect="crop", roi=True, workers=1, split="100,0,0")
    dataset = ArchiveDataset(tmp_path / "a.zip")
    assert dataset.preprocess == Preprocess(resolution=16, aspect="crop", roi=True)
    assert ArchiveDataset(write_archive(tmp_path / "b.zip")).preprocess == Preprocess(resolution=8)


@pytest.mark.parametrize("found", [{"resolution": 16}, {"resolution": 8, "denoise": True}, {"aspect": "wide"}])
def test_settings_that_make_no_sense_are_found_before_training(tmp_path, found):
    with pytest.raises(ConfigError, match="preprocess|aspect"):
        ArchiveDataset(archive_with(tmp_path / "a.zip", found))


def test_the_settings_go_from_training_to_the_generator_and_to_what_is_exported(tmp_path):
    settings = Preprocess(resolution=8, aspect="fit", border=False, max_border=0.2)
    state = create_state(tiny_config(write_archive(tmp_path / "a.zip")), CPU, "scans", settings)
    file = state.save(tmp_path / "checkpoints", {}) / "G_ema.safetensors"
    assert read_info(file).preprocess == settings
    export_generator(file, tmp_path / "small.safetensors")
    assert read_info(tmp_path / "small.safetensors").preprocess == settings


def test_a_generator_that_does_not_tell_prepares_by_the_defaults(tmp_path):
    state = create_state(tiny_config(write_archive(tmp_path / "a.zip")), CPU, "phantom")
    file = state.save(tmp_path / "checkpoints", {}) / "G_ema.safetensors"
    assert "preprocess" not in read_header(file)
    assert read_info(file).preprocess == Preprocess(resolution=8)


def test_a_generator_of_other_settings_is_refused_in_one_line(tmp_path):
    state = create_state(tiny_config(write_archive(tmp_path / "a.zip")), CPU, "scans", Preprocess(resolution=8))
    file = state.save(tmp_path / "checkpoints", {}) / "G_ema.safetensors"
    header = read_header(file)
    header["preprocess"] = json.dumps({**json.loads(header["preprocess"]), "flatten": True})
    save_file(load_file(file), file, metadata=header)
    with pytest.raises(CheckpointError, match="of another version: .*flatten"):
        read_info(file)
