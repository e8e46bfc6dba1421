import hashlib
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from made_samples import COLLECTION, made_export, made_item, made_picture, made_samples
from safetensors.numpy import load_file

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.export.description.hashes import SUMS, write_sums
from stylegan_oct.export.description.latents import FILE, write_latents
from stylegan_oct.export.layouts import (
    LAYOUTS,
    complete_parts,
    finish_parts,
    make_layout,
    read_parts,
    write_part,
)
from stylegan_oct.export.layouts import base as base_module

LISTED = ("fddm", "multieye")


def _files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _stored(out, name):
    """Return the bytes of a picture by its name in the manifest, also within a tar or zip."""
    if (out / name).is_file():
        return (out / name).read_bytes()
    container = next(path for path in (out / name).parents if path.is_file())
    inner = (out / name).relative_to(container).as_posix()
    if container.suffix == ".tar":
        with tarfile.open(container) as tar:
            return tar.extractfile(inner).read()
    with zipfile.ZipFile(container) as archive:
        return archive.read(inner)


@pytest.mark.parametrize("name", LAYOUTS)
def test_two_exports_of_the_same_pictures_are_equal_bit_by_bit(name, tmp_path):
    made_export(name, tmp_path / "a")
    made_export(name, tmp_path / "b")
    assert _files(tmp_path / "a") == _files(tmp_path / "b")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_killed_export_goes_on_to_the_same_files(name, tmp_path):
    made_export(name, tmp_path / "whole")
    out = tmp_path / "killed"
    layout = make_layout(name, out, COLLECTION)
    write_part(layout, out, 0, made_samples(range(12)))
    with pytest.raises(KeyboardInterrupt):
        write_part(layout, out, 1, made_samples(range(12, 20), fail_at=17))
    assert complete_parts(out) == [0] and len(list(read_parts(out))) == 12
    assert not [path for path in out.rglob(".tmp-*")]
    write_part(layout, out, 1, made_samples(range(12, 20)))
    finish_parts(layout, out)
    assert _files(out) == _files(tmp_path / "whole")


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    layout, _ = made_export("imagefolder", tmp_path)
    half = tmp_path / "images" / "train" / ".tmp-CNV-syn00000004.png"
    half.write_bytes(b"half")
    finish_parts(layout, tmp_path)
    assert not half.exists()


@pytest.mark.parametrize("name", LAYOUTS)
def test_parts_may_be_written_in_any_order(name, tmp_path):
    made_export(name, tmp_path / "a")
    out = tmp_path / "b"
    layout = make_layout(name, out, COLLECTION)
    write_part(layout, out, 1, made_samples(range(12, 20)))
    write_part(layout, out, 0, made_samples(range(12)))
    finish_parts(layout, out)
    assert _files(out) == _files(tmp_path / "a")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_stopped_export_can_be_finished_with_the_parts_it_has(name, tmp_path):
    layout = make_layout(name, tmp_path, COLLECTION)
    write_part(layout, tmp_path, 0, made_samples(range(12)))
    assert len(list(finish_parts(layout, tmp_path)())) == 12


@pytest.mark.parametrize("name", LAYOUTS)
def test_finishing_twice_changes_nothing(name, tmp_path):
    layout, _ = made_export(name, tmp_path)
    before = _files(tmp_path)
    finish_parts(layout, tmp_path)
    assert _files(tmp_path) == before


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "medmnist"])
def test_each_row_tells_where_its_picture_is_and_its_hash(name, tmp_path):
    _, rows = made_export(name, tmp_path)
    items = list(rows())
    assert [item.seed for item in items] == list(range(20))
    assert len({item.file_name for item in items}) == 20
    for item in items:
        assert hashlib.sha256(_stored(tmp_path, item.file_name)).hexdigest() == item.sha256


@pytest.mark.parametrize("name", LAYOUTS)
def test_pixels_are_hashed_as_they_are_stored(name, tmp_path):
    _, rows = made_export(name, tmp_path)
    item = next(rows())
    assert item.pixels_sha256 == hashlib.sha256(made_picture(0).tobytes()).hexdigest()


def test_medmnist_rows_tell_the_place_in_the_array(tmp_path):
    _, rows = made_export("medmnist", tmp_path)
    arrays = np.load(tmp_path / "octsyn_16.npz")
    for item in rows():
        _, array, place = item.file_name.split("/")
        assert (arrays[array][int(place)] == made_picture(item.seed)).all()
        assert item.sha256 == ""


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "medmnist"])
def test_names_of_pictures_say_that_they_are_synthetic(name, tmp_path):
    _, rows = made_export(name, tmp_path)
    assert all("syn" in item.file_name for item in rows())


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_full_disk_is_told_and_the_complete_parts_stay(name, tmp_path, monkeypatch):
    layout = make_layout(name, tmp_path, COLLECTION)
    write_part(layout, tmp_path, 0, made_samples(range(4)))

    def samples():
        yield from made_samples(range(4, 6))
        raise OSError(28, "No space left on device")
    with pytest.raises(DataError, match="No space left on device.*goes on from here"):
        write_part(layout, tmp_path, 1, samples())
    assert complete_parts(tmp_path) == [0]


def test_a_picture_that_cannot_be_written_leaves_no_half_file(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        base_module.write_picture(tmp_path / "a.png", b"12")
    assert not list(tmp_path.iterdir())


def test_a_damaged_row_is_told(tmp_path):
    made_export("imagefolder", tmp_path)
    (tmp_path / ".parts" / "000000.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="damaged"):
        list(read_parts(tmp_path))


def test_a_damaged_part_of_a_zip_is_told(tmp_path):
    layout, _ = made_export("stylegan", tmp_path)
    tar = tmp_path / ".parts" / "000000.tar"
    tar.write_bytes(b"no tar" * 1000)
    with pytest.raises(DataError, match="damaged"):
        finish_parts(layout, tmp_path)


def test_an_unknown_layout_gets_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean webdataset"):
        make_layout("webdatset", tmp_path, COLLECTION)


@pytest.mark.parametrize("name", LISTED)
def test_lists_need_classes_that_they_know(name, tmp_path):
    with pytest.raises(ConfigError, match="has no such class"):
        make_layout(name, tmp_path, replace(COLLECTION, classes=("CNV", "CSR")))
    with pytest.raises(ConfigError, match="needs classes"):
        make_layout(name, tmp_path, replace(COLLECTION, classes=()))
    make_layout(name, tmp_path, replace(COLLECTION, classes=("CNV", "CSR")), mapping={"CSR": "CSC"})


def test_a_mapping_is_refused_where_it_would_do_nothing(tmp_path):
    with pytest.raises(ConfigError, match="mapping"):
        make_layout("imagefolder", tmp_path, COLLECTION, mapping={"CNV": "WAMD"})


@pytest.mark.parametrize("name", ["imagefolder", "webdataset", "medmnist", "stylegan"])
def test_a_generator_without_classes_can_be_exported(name, tmp_path):
    layout = make_layout(name, tmp_path, replace(COLLECTION, classes=()))
    samples = [(made_item(seed, class_name="", label_id=0), made_picture(seed)) for seed in range(4)]
    write_part(layout, tmp_path, 0, samples)
    assert len(list(finish_parts(layout, tmp_path)())) == 4


@pytest.mark.parametrize("name", LAYOUTS)
def test_pictures_in_colour_keep_it(name, tmp_path):
    layout = make_layout(name, tmp_path, replace(COLLECTION, channels=3))
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    (item,) = write_part(layout, tmp_path, 0, [(made_item(1), picture)])
    finish_parts(layout, tmp_path)
    assert item.pixels_sha256 == hashlib.sha256(picture.tobytes()).hexdigest()


@pytest.mark.parametrize("name", LAYOUTS)
def test_hashes_cover_every_file_that_is_handed_on(name, tmp_path):
    layout, rows = made_export(name, tmp_path)
    (tmp_path / ".lock").touch()
    write_sums(tmp_path, rows, own_files=layout.own_files)
    listed = [line.split("  ", 1)[1] for line in (tmp_path / SUMS).read_text().splitlines()]
    there = {path for path in _files(tmp_path) if not path.startswith(".")} - {SUMS}
    assert set(listed) == there and len(listed) == len(there)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum on this system")
@pytest.mark.parametrize("name", LAYOUTS)
def test_sha256sum_accepts_the_hashes_and_finds_a_changed_picture(name, tmp_path):
    layout, rows = made_export(name, tmp_path)
    write_sums(tmp_path, rows, own_files=layout.own_files)
    assert subprocess.run(["sha256sum", "-c", "--strict", SUMS], cwd=tmp_path, capture_output=True).returncode == 0
    changed = tmp_path / (tmp_path / SUMS).read_text().splitlines()[0].split("  ", 1)[1]
    changed.write_bytes(changed.read_bytes() + b"x")
    assert subprocess.run(["sha256sum", "-c", SUMS], cwd=tmp_path, capture_output=True).returncode == 1


def test_latents_are_read_by_safetensors_in_the_order_of_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("stylegan_oct.export.description.latents.BATCH", 7)
    _, rows = made_export("imagefolder", tmp_path)

    def latents_of(items):
        return np.array([[item.seed, item.label_id, 0.5] for item in items], np.float32)
    write_latents(tmp_path, rows, latents_of, facts={"psi": "0.8"})
    found = load_file(tmp_path / FILE)
    assert (found["w"] == latents_of(list(rows()))).all() and found["w"].dtype == np.float32
    assert found["seed"].tolist() == list(range(20))
    assert found["label"].tolist() == [item.label_id for item in rows()]
