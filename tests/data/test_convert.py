"""Whole conversions of small folders."""

import itertools
import json
import os
import stat
import zipfile
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.data import work
from stylegan_oct.data.archive import Archive
from stylegan_oct.data.convert import convert
from stylegan_oct.data.dataset import ArchiveDataset


def run(source, dest, **options):
    return convert(source, dest, **{"resolution": 32, "workers": 1, **options})


def rows_of(archive, name="manifest.jsonl"):
    return [json.loads(line) for line in Archive(archive).read(name).splitlines()]


def audit_of(report):
    return report.audit.read_text(encoding="utf-8")


def test_a_folder_of_classes_becomes_an_archive_with_labels(make_folder, tmp_path):
    report = run(make_folder(), tmp_path / "a.zip")
    archive = Archive(report.archive)
    assert archive.classes == ("CNV", "NORMAL") and (archive.resolution, archive.channels) == (32, 1)
    assert sum(sum(counts.values()) for counts in report.counts.values()) == 24 == report.outcomes["kept"]
    for row in rows_of(report.archive):
        assert archive.classes[row["label"]] == row["class"]
    dataset = ArchiveDataset(report.archive)
    assert dataset[0][0].shape == (1, 32, 32) and np.ptp(dataset[0][0].numpy()) > 50


def test_the_scans_of_a_patient_are_in_one_split_whatever_their_class(make_folder, draw_scan, tmp_path):
    folder = make_folder(60)
    for i in range(30):  # the same patients under the other class
        label = ("NORMAL", "CNV")[i % 2]
        Image.fromarray(draw_scan(1000 + i)).save(folder / label / f"{label}-{900000 + i}-7.png")
    report = run(folder, tmp_path / "a.zip", split="50,25,25")
    splits = defaultdict(set)
    for row in rows_of(report.archive):
        splits[row["patient"]].add(row["split"])
    assert len(splits) == 30 and {len(found) for found in splits.values()} == {1}
    assert set.union(*splits.values()) == {"train", "val", "test"}


def test_nothing_that_identifies_a_patient_enters_the_archive(make_folder, draw_scan, tmp_path):
    folder = make_folder()
    image = Image.fromarray(draw_scan(77))
    exif = Image.Exif()
    exif[0x010E] = "Mrs Canary, born 1950"
    image.save(folder / "CNV" / "CNV-900077-1.jpeg", exif=exif, comment=b"Canary comment")
    Image.fromarray(draw_scan(78)).save(folder / "CNV" / "CNV-900078-1.tif", description="Canary")
    (folder / "CNV" / "CNV-900079-1.png").write_bytes(b"broken")
    (tmp_path / "fixed.key").write_text("ab" * 32)  # else a hash might hold a patient number by chance, now and then
    report = run(folder, tmp_path / "a.zip", key=tmp_path / "fixed.key")
    data = report.archive.read_bytes()
    with zipfile.ZipFile(report.archive) as file:
        data += b"".join(file.read(name) for name in file.namelist())
    place, key = str(tmp_path).encode(), report.key.read_bytes().strip()
    patients = [str(900000 + i).encode() for i in (*range(12), 77, 78, 79)]
    for secret in (b"Canary", b"CNV-", b".tif", b".jpeg", place, key, *patients):
        assert secret not in data, secret
    assert report.outcomes["kept"] == 26 and b"Canary" not in report.audit.read_bytes()


def test_the_order_of_patients_does_not_show(make_folder, tmp_path):
    report = run(make_folder(), tmp_path / "a.zip", split="100")
    labels = [row["label"] for row in rows_of(report.archive)]
    assert labels != sorted(labels)  # paths begin with the class
    runs = sum(a["patient"] == b["patient"] for a, b in itertools.pairwise(rows_of(report.archive)))
    assert runs < 6  # 12 if the two scans of each patient were neighbours


def test_hashes_of_patients_and_sources_need_the_key(make_folder, tmp_path):
    folder = make_folder(8)
    one, two = run(folder, tmp_path / "a.zip"), run(folder, tmp_path / "b.zip")
    shared = run(folder, tmp_path / "c.zip", key=one.key)
    keys = [{(row["patient"], row["source"]) for row in rows_of(report.archive)} for report in (one, two, shared)]
    assert keys[0] == keys[2] and not keys[0] & keys[1]


@pytest.mark.skipif(os.name != "posix", reason="file modes are of POSIX")
def test_audit_picture_and_key_are_for_the_owner_alone(make_folder, tmp_path):
    old = os.umask(0)
    try:
        report = run(make_folder(), tmp_path / "a.zip")
    finally:
        os.umask(old)
    for path in (report.audit, report.audit.with_suffix(".png"), report.key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    with Image.open(report.audit.with_suffix(".png")) as picture:
        assert picture.width > 600


def test_the_work_folder_is_private_while_it_is_there_and_gone_afterwards(make_folder, tmp_path):
    modes = []

    def look(done, total):
        modes.append(stat.S_IMODE((tmp_path / ".a-work").stat().st_mode))

    run(make_folder(), tmp_path / "a.zip", progress=look)
    assert set(modes) == {0o700} and not (tmp_path / ".a-work").exists()


def test_the_audit_counts_what_happened(make_folder, draw_scan, tmp_path):
    folder = make_folder()
    padded = draw_scan(50)
    padded[:12] = 255
    Image.fromarray(padded).save(folder / "NORMAL" / "NORMAL-950000-1.png")
    (folder / "notes.txt").write_text("x")
    text = audit_of(run(folder, tmp_path / "a.zip"))
    assert "| found in all" in text and "1 .txt" in text and "96 x 64" in text
    (most,) = [line.split("|")[-2] for line in text.splitlines() if line.startswith("| NORMAL") and "%" in line]
    assert 18.7 < float(most.strip(" %")) < 20  # 12 rows of 64, and bright grains that touch them
    assert "13 patients" in text


def test_equal_pictures_enter_once(make_folder, tmp_path):
    folder = make_folder()
    with Image.open(folder / "CNV" / "CNV-900000-1.png") as image:
        image.save(folder / "CNV" / "CNV-900000-9.tif")  # the same pixels in another format
        image.save(folder / "CNV" / "CNV-999999-1.png")  # and under another patient
    report = run(folder, tmp_path / "a.zip")
    assert report.outcomes == {"kept": 24, "duplicate": 2}
    assert "CNV-900000-9.tif: is the same picture as CNV/CNV-900000-1.png" in audit_of(report)
    assert [row["decision"] for row in rows_of(report.archive, "excluded.jsonl")] == ["duplicate"] * 2


def test_a_picture_under_two_classes_is_quarantined_everywhere(make_folder, tmp_path):
    folder = make_folder()
    with Image.open(folder / "CNV" / "CNV-900000-1.png") as image:
        image.save(folder / "NORMAL" / "NORMAL-900000-1.png")
    report = run(folder, tmp_path / "a.zip")
    assert report.outcomes == {"kept": 23, "conflict": 2}
    assert "the same picture is under CNV and NORMAL" in audit_of(report)


def test_a_name_and_a_folder_that_disagree_are_a_conflict(make_folder, tmp_path):
    folder = make_folder()
    (folder / "CNV" / "CNV-900000-1.png").rename(folder / "NORMAL" / "CNV-900000-1.png")
    report = run(folder, tmp_path / "a.zip")
    assert report.outcomes["conflict"] == 1 and "its name says CNV, its folder NORMAL" in audit_of(report)


def near(scan):
    """Return a scan that is another file, but looks the same."""
    return np.clip(scan.astype(int) + np.random.default_rng(0).integers(0, 2, scan.shape), 0, 255).astype(np.uint8)


def test_near_duplicates_across_splits_leave_the_training_set(make_folder, draw_scan, tmp_path):
    make_folder(8, name="set/train")
    test = tmp_path / "set" / "test" / "CNV"
    test.mkdir(parents=True)
    Image.fromarray(near(draw_scan(0))).save(test / "CNV-5-1.png")
    report = run(tmp_path / "set", tmp_path / "a.zip")
    assert report.outcomes == {"kept": 8, "near duplicate": 1} and report.counts["test"] == {"CNV": 1}
    assert "train/CNV/CNV-900000-1.png: is nearly the same as test/CNV/CNV-5-1.png in test" in audit_of(report)


def test_near_duplicates_of_one_patient_stay_and_are_counted(make_folder, draw_scan, tmp_path):
    folder = make_folder(8)
    Image.fromarray(near(draw_scan(0))).save(folder / "CNV" / "CNV-900000-5.png")
    report = run(folder, tmp_path / "a.zip")
    assert report.outcomes == {"kept": 9}
    assert sorted(row["near_duplicates"] for row in rows_of(report.archive)) == [0] * 7 + [1, 1]


def test_patients_of_the_official_test_set_are_never_in_training(make_folder, draw_scan, tmp_path):
    make_folder(40, name="root/OCT2017/train")
    test = tmp_path / "root" / "OCT2017" / "test" / "CNV"
    test.mkdir(parents=True)
    for patient in (900000, 5):
        Image.fromarray(draw_scan(500 + patient)).save(test / f"CNV-{patient}-3.png")
    report = run(tmp_path / "root", tmp_path / "a.zip")
    rows = rows_of(report.archive)
    tested = {row["patient"] for row in rows if row["split"] == "test"}
    assert len(tested) == 2 and not tested & {row["patient"] for row in rows if row["split"] != "test"}
    assert report.outcomes == {"kept": 40, "test patient": 2} and report.counts["test"] == {"CNV": 2}


def test_only_the_split_asked_for_is_written(make_folder, tmp_path):
    report = run(make_folder(), tmp_path / "a.zip", only_split="train")
    archive = Archive(report.archive)
    assert archive.splits == ("train",) and archive.classes == ("CNV", "NORMAL")
    assert report.counts["val"] == report.counts["test"] == {}


def stop_after(count):
    def progress(done, total):
        if done >= count:
            raise KeyboardInterrupt

    return progress


def test_a_resumed_conversion_gives_the_bytes_of_an_uninterrupted_one(make_folder, tmp_path, monkeypatch):
    folder = make_folder(60)
    whole = run(folder, tmp_path / "a.zip")
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "b.zip", key=whole.key, progress=stop_after(20))
    assert not (tmp_path / "b.zip").exists()
    done = []
    process = work.process_picture
    monkeypatch.setattr(work, "process_picture", lambda *given: done.append(given) or process(*given))
    resumed = run(folder, tmp_path / "b.zip", key=whole.key)
    assert resumed.archive.read_bytes() == whole.archive.read_bytes()
    assert 0 < len(done) <= 40  # only what was missing


def test_a_changed_file_or_setting_is_done_again(make_folder, draw_scan, tmp_path):
    folder = make_folder(20)
    for change in ("file", "setting"):
        with pytest.raises(KeyboardInterrupt):
            run(folder, tmp_path / "b.zip", progress=stop_after(16), overwrite=True)
        if change == "file":
            Image.fromarray(draw_scan(999)).save(folder / "CNV" / "CNV-900000-1.png")
        resolution = 32 if change == "file" else 16
        again = run(folder, tmp_path / "b.zip", resolution=resolution, overwrite=True)
        fresh = run(folder, tmp_path / "c.zip", resolution=resolution, key=again.key, overwrite=True)
        assert again.archive.read_bytes() == fresh.archive.read_bytes()


def test_several_processes_give_the_bytes_of_one(make_folder, tmp_path):
    folder = make_folder(40)
    one = run(folder, tmp_path / "a.zip")
    two = run(folder, tmp_path / "b.zip", key=one.key, workers=2)
    assert one.archive.read_bytes() == two.archive.read_bytes()


def test_a_full_disk_gives_one_line_and_keeps_what_is_done(make_folder, tmp_path, monkeypatch):
    folder = make_folder(40)
    original, calls = work.atomic_write, []

    def fill(path, mode="w"):
        calls.append(path)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        return original(path, mode)

    monkeypatch.setattr(work, "atomic_write", fill)
    with pytest.raises(DataError, match="No space left on device.*goes on from here") as caught:
        run(folder, tmp_path / "a.zip")
    assert "\n" not in str(caught.value) and not (tmp_path / "a.zip").exists()
    monkeypatch.undo()
    seen = []
    run(folder, tmp_path / "a.zip", progress=lambda done, total: seen.append(done))
    assert seen[0] == 16


def test_two_conversions_into_one_archive_do_not_meet(make_folder, tmp_path):
    folder = make_folder(8)

    def start_another(done, total):
        with pytest.raises(DataError, match="Another process"):
            run(folder, tmp_path / "a.zip")

    run(folder, tmp_path / "a.zip", progress=start_another)


def test_an_existing_archive_is_replaced_only_when_told(make_folder, tmp_path):
    folder = make_folder(8)
    report = run(folder, tmp_path / "a.zip")
    with pytest.raises(DataError, match="--overwrite"):
        run(folder, tmp_path / "a.zip")
    again = run(folder, tmp_path / "a.zip", resolution=16, overwrite=True)
    assert Archive(again.archive).resolution == 16 and again.key == report.key


def test_colour_is_turned_to_grey_and_reported_or_kept_when_asked(make_folder, draw_scan, tmp_path):
    folder = make_folder(6)
    colour = np.repeat(draw_scan(70)[:, :, np.newaxis], 3, axis=2)
    colour[5:15, 5:40] = (255, 0, 0)
    Image.fromarray(colour).save(folder / "CNV" / "CNV-70-1.png")
    grey = run(folder, tmp_path / "a.zip")
    assert Archive(grey.archive).channels == 1 and "1 scans have coloured pixels" in audit_of(grey)
    kept = run(folder, tmp_path / "b.zip", channels=3)
    assert ArchiveDataset(kept.archive)[0][0].shape == (3, 32, 32)


@pytest.mark.parametrize("aspect", ["stretch", "fit", "crop"])
def test_every_shape_becomes_square(make_folder, draw_scan, tmp_path, aspect):
    folder = make_folder(4)
    for i, (width, height) in enumerate([(40, 200), (200, 40), (33, 33)]):
        Image.fromarray(draw_scan(i + 60, width=width, height=height)).save(folder / "CNV" / f"CNV-{i}-1.png")
    report = run(folder, tmp_path / "a.zip", aspect=aspect, split="100")
    assert report.outcomes == {"kept": 7}
    scales = {(row["scale_x"], row["scale_y"]) for row in rows_of(report.archive)}
    assert ((3.0, 2.0) in scales) == (aspect == "stretch") and ((3.0, 3.0) in scales) == (aspect == "fit")


def test_the_region_of_interest_holds_the_bright_layer_at_one_scale(draw_scan, tmp_path):
    for i in range(6):
        shifted = np.roll(draw_scan(i, width=256, height=248), 12 * (i - 3), axis=0)
        (tmp_path / "scans").mkdir(exist_ok=True)
        Image.fromarray(shifted).save(tmp_path / "scans" / f"{i}.png")
    report = run(tmp_path / "scans", tmp_path / "a.zip", roi=True, split="100", resolution=64)
    assert {row["scale_y"] for row in rows_of(report.archive)} == {round(149 / 64, 4)}
    dataset = ArchiveDataset(report.archive)
    for i in range(len(dataset)):
        image = dataset[i][0][0].float()  # [64, 64]
        rows = image.unfold(0, 3, 1).mean(dim=2).argmax(dim=0) + 1
        assert abs(float(rows.float().median()) - 0.65 * 64) < 5  # they lay up to 30 rows apart


def test_impossible_options_and_places_are_explained(make_folder, tmp_path):
    folder = make_folder(4)
    cases = [(ConfigError, "power of two.*Try --resolution 128", {"resolution": 100}),
             (ConfigError, "Did you mean train", {"only_split": "trian"}),
             (ConfigError, "80,10,10", {"split": "many"}),
             (ConfigError, "needs a group", {"patient_pattern": r"\d+"}),
             (ConfigError, "not a regular expression", {"patient_pattern": "("})]
    for kind, said, options in cases:
        with pytest.raises(kind, match=said):
            run(folder, tmp_path / "a.zip", **options)
    with pytest.raises(ConfigError, match=r"NAME\.zip"):
        run(folder, tmp_path / "a.tar")
    with pytest.raises(DataError, match="There is no"):
        run(tmp_path / "nowhere", tmp_path / "a.zip")
    (tmp_path / "bad.key").write_text("hello")
    with pytest.raises(DataError, match="is not a key"):
        run(folder, tmp_path / "a.zip", key=tmp_path / "bad.key")
    assert not (tmp_path / "a.zip").exists()
