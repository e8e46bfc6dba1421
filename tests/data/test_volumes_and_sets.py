"""`convert` takes volumes and sets of MedMNIST: every chosen B-scan once, a patient in one split."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.data.convert import convert
from stylegan_oct.data.sources import open_source


def stack(draw_scan, seed, count=3):
    return np.stack([draw_scan(100 * seed + i) for i in range(count)])


def make_volumes(tmp_path, draw_scan, patients=6):
    for i in range(patients):
        place = tmp_path / "volumes" / ("CNV", "NORMAL")[i % 2] / f"P{i:03d}"
        place.mkdir(parents=True)
        np.save(place / "a.npy", stack(draw_scan, 2 * i))
        np.save(place / "b.npy", stack(draw_scan, 2 * i + 1))
    return tmp_path / "volumes"


def run(source, tmp_path, **options):
    return convert(source, tmp_path / "out.zip", resolution=32, workers=1, **options)



def test_all_b_scans_of_volumes_enter_and_a_patient_stays_in_one_split(tmp_path, draw_scan):
    report = run(make_volumes(tmp_path, draw_scan), tmp_path, split="50,25,25")
    assert report.outcomes == {"kept": 36} and report.classes == ("CNV", "NORMAL")
    source = open_source(tmp_path / "volumes")
    assert {scan.patient for scan in source.scans} == {f"p{i:03d}" for i in range(6)}
    assert all(sum(counts.values()) % 6 == 0 for counts in report.counts.values())


@pytest.mark.parametrize("selection, numbers", [("middle", {2}), ("2-9", {2, 3}), ("1,3", {1, 3})])
def test_only_the_chosen_b_scans_enter(tmp_path, draw_scan, selection, numbers):
    source = open_source(make_volumes(tmp_path, draw_scan), selection=selection)
    assert {int(scan.path.rpartition("#")[2]) for scan in source.scans} == numbers
    assert len(source.scans) == 12 * len(numbers)
    with pytest.raises(ConfigError, match="chosen"):
        open_source(tmp_path / "volumes", selection="0-3")


def test_one_volume_is_a_source_with_its_class_given_and_all_in_one_split(tmp_path, draw_scan):
    np.save(tmp_path / "exam.npy", stack(draw_scan, 0).transpose(1, 2, 0))
    report = run(tmp_path / "exam.npy", tmp_path, class_name="dme", axes="hwn")
    assert report.counts == {"train": {"DME": 3}, "val": {}, "test": {}}
    with pytest.raises(DataError, match=r"exam\.npy holds 64 B-scans, if its axes are nhw"):
        run(tmp_path / "exam.npy", tmp_path, axes="nhw", overwrite=True)  # cut the other way its sides are too short


def test_volumes_in_a_csv_take_class_and_patient_from_their_row(tmp_path, draw_scan):
    for i in range(3):
        np.save(tmp_path / f"v{i}.npy", stack(draw_scan, i))
    (tmp_path / "list.csv").write_text("path,label,patient\nv0.npy,CNV,7\nv1.npy,DME,8\nv2.npy,DME,8\n")
    source = open_source(tmp_path / "list.csv", selection="middle")
    assert [(scan.path, scan.label, scan.patient) for scan in source.scans] == [
        ("v0.npy#2", "CNV", "7"), ("v1.npy#2", "DME", "8"), ("v2.npy#2", "DME", "8")]


def test_each_page_of_a_tiff_enters(tmp_path, draw_scan):
    pages = [Image.fromarray(scan) for scan in stack(draw_scan, 0)]
    (tmp_path / "DME").mkdir()
    pages[0].save(tmp_path / "DME" / "a.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "DME" / "single.tif")
    assert [scan.path for scan in open_source(tmp_path / "DME").scans] == [
        "a.tif#1", "a.tif#2", "a.tif#3", "single.tif"]


def test_a_volume_that_cannot_be_read_is_named_and_the_others_enter(tmp_path, draw_scan):
    folder = make_volumes(tmp_path, draw_scan, patients=2)
    (folder / "CNV" / "P000" / "c.nii").write_bytes(b"no volume" * 99)
    report = run(folder, tmp_path)
    assert report.outcomes == {"kept": 12, "refused": 1}
    assert "c.nii" in report.audit.read_text() and "NIfTI" in report.audit.read_text()


def test_archives_of_volumes_name_no_file(tmp_path, draw_scan):
    run(make_volumes(tmp_path, draw_scan), tmp_path)
    data = (tmp_path / "out.zip").read_bytes()
    assert b"P00" not in data and b"npy" not in data


def octmnist(path, draw_scan, counts=None, **changes):
    arrays = {}
    for at, (split, count) in enumerate((counts or {"train": 8, "val": 4, "test": 4}).items()):
        scans = [draw_scan(1000 * at + i, width=28, height=28) for i in range(count)]
        arrays |= {f"{split}_images": np.stack(scans), f"{split}_labels": np.arange(count)[:, np.newaxis] % 4}
    np.savez_compressed(path, **(arrays | changes))
    return arrays


@pytest.mark.parametrize("name, classes", [("octmnist.npz", ("CNV", "DME", "DRUSEN", "NORMAL")),
                                           ("other.npz", ("0", "1", "2", "3"))])
def test_a_set_of_medmnist_keeps_labels_and_test_set(tmp_path, draw_scan, name, classes):
    arrays = octmnist(tmp_path / name, draw_scan)
    source = open_source(tmp_path / name)
    assert source.classes == classes and len(source.scans) == 16
    for scan in source.scans:
        split, _, index = scan.path.partition("/")
        assert scan.label == classes[arrays[f"{scan.official}_labels"][int(index), 0]]
        assert split == f"{scan.official}_images" and not scan.known_patient
    report = run(tmp_path / name, tmp_path, border=False)
    assert sum(report.counts["test"].values()) == 4 and sum(report.outcomes.values()) == 16


def test_pictures_of_a_set_are_those_of_its_arrays_in_grey_and_colour(tmp_path, draw_scan):
    images = np.stack([draw_scan(i, width=28, height=28) for i in range(4)])
    np.savez(tmp_path / "grey.npz", images=images, labels=np.arange(4))
    np.savez(tmp_path / "x.npz", x_train=np.stack([images] * 3, axis=3), y_train=np.arange(4))
    source = open_source(tmp_path / "grey.npz")
    assert [scan.label for scan in source.scans] == ["0", "1", "2", "3"] and source.kind == "npz"
    assert np.array_equal(source.files.picture("images/2", 1).pixels, images[2])
    source = open_source(tmp_path / "x.npz")
    for scan, want in zip(source.scans, images, strict=True):
        assert np.array_equal(source.files.picture(scan.path, 1).pixels, want)
        assert source.files.picture(scan.path, 3).pixels.shape == (28, 28, 3)


@pytest.mark.parametrize("changes, said", [
    ({"train_labels": np.zeros((7, 1), int)}, "no classes"), ({"train_labels": np.zeros((8, 14), int)}, "no classes"),
    ({"train_labels": np.full((8, 1), 0.5)}, "no classes"), ({"train_labels": np.full((8, 1), -1)}, "no classes"),
    ({"train_images": np.zeros((8, 28), "u1")}, "its axes are"),
    ({"train_labels": np.array([{}] * 8)}, "kind|axes|sizes")])
def test_sets_whose_arrays_do_not_fit_are_refused_in_one_line(tmp_path, draw_scan, changes, said):
    octmnist(tmp_path / "octmnist.npz", draw_scan, **changes)
    with pytest.raises(DataError) as caught:
        open_source(tmp_path / "octmnist.npz")
    assert "\n" not in str(caught.value) and any(word in str(caught.value) for word in said.split("|"))


def test_a_set_that_would_run_code_or_is_cut_is_refused(tmp_path, draw_scan):
    octmnist(tmp_path / "octmnist.npz", draw_scan, train_images=np.array([{"a": 1}] * 8, object))
    with pytest.raises(DataError):
        open_source(tmp_path / "octmnist.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (9, 28, 28)})
    with zipfile.ZipFile(tmp_path / "octmnist.npz", "w") as file:
        file.writestr("train_images.npy", header.getvalue() + bytes(99))
    with pytest.raises(DataError, match="cut short"):
        open_source(tmp_path / "octmnist.npz")
    octmnist(tmp_path / "octmnist.npz", draw_scan)
    data = (tmp_path / "octmnist.npz").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 8):
            broken[at] = rng.integers(256)
        (tmp_path / "octmnist.npz").write_bytes(broken)
        try:
            list(open_source(tmp_path / "octmnist.npz").scans)
        except DataError as error:
            assert "\n" not in str(error)
