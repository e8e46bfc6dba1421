import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from dnnlib.errors import DataError
from dnnlib.pictures import encode_png
from stylegan_oct.data.archive import Archive, ArchiveWriter
from stylegan_oct.data.dataset import ArchiveDataset


def write(path, counts=(("train", 5), ("val", 2)), classes=("A", "B"), channels=1, resolution=8):
    shape = (resolution, resolution) + ((3,) if channels == 3 else ())
    with ArchiveWriter(path, resolution=resolution, channels=channels, classes=classes, source="scans") as writer:
        for split, count in counts:
            for i in range(count):
                pixels = np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8)
                writer.add_image(split, encode_png(pixels), i % 2 if classes else None, {"number": i})
    return path


def write_foreign(path, labels, *, images=3, text=None, size=(8, 8), mode="L", name="00000/img{:08d}.png"):
    """Write a zip as other StyleGAN tools do."""
    with zipfile.ZipFile(path, "w") as file:
        for i in range(images):
            buffer = io.BytesIO()
            Image.new(mode, size).save(buffer, "png")
            file.writestr(name.format(i), buffer.getvalue())
        if text is not None or labels is not ...:
            file.writestr("dataset.json", text if text is not None else json.dumps({"labels": labels}))
    return path


def test_what_is_written_is_read_back(tmp_path):
    path = write(tmp_path / "a.zip")
    archive = Archive(path)
    assert (archive.resolution, archive.channels, archive.classes, archive.source) == (8, 1, ("A", "B"), "scans")
    assert archive.splits == ("train", "val")
    assert archive.names("train")[4] == "train/00000/img00000004.png"
    assert archive.labels("train").tolist() == [0, 1, 0, 1, 0] and archive.labels("train").dtype == np.int64
    pixels, label = ArchiveDataset(path)[3]
    expected = np.random.default_rng(3).integers(0, 256, (8, 8), dtype=np.uint8)
    assert label == 1 and pixels.dtype == torch.uint8 and pixels.shape == (1, 8, 8)
    assert np.array_equal(pixels[0].numpy(), expected)


def test_the_archive_is_a_zip_without_compression_that_other_tools_read(tmp_path):
    with zipfile.ZipFile(write(tmp_path / "a.zip")) as file:
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
        labels = json.loads(file.read("dataset.json"))["labels"]
        images = [name for name in file.namelist() if name.endswith(".png")]
        rows = [json.loads(line) for line in file.read("manifest.jsonl").splitlines()]
    assert sorted(name for name, _ in labels) == sorted(images)
    assert [row["name"] for row in rows] == images and rows[1]["number"] == 1 and rows[1]["split"] == "train"


def test_the_same_images_give_the_same_bytes_and_fingerprint_elsewhere(tmp_path):
    one, two = write(tmp_path / "a.zip"), write(tmp_path / "sub" / "b.zip")
    other = write(tmp_path / "c.zip", counts=(("train", 6),))
    assert one.read_bytes() == two.read_bytes()
    assert Archive(one).fingerprint == Archive(two).fingerprint != Archive(other).fingerprint


def test_a_failure_while_writing_leaves_the_old_archive_and_no_other_file(tmp_path):
    path = write(tmp_path / "a.zip")
    before = path.read_bytes()
    with pytest.raises(KeyError), ArchiveWriter(path, resolution=8, channels=1, classes=(), source="scans"):
        raise KeyError
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_a_full_disk_gives_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    writer = ArchiveWriter(tmp_path / "a.zip", resolution=8, channels=1, classes=(), source="scans")
    with pytest.raises(DataError, match="No space left on device"), writer:
        monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
        writer.add_image("train", encode_png(np.zeros((8, 8), np.uint8)), None, {})
    assert not list(tmp_path.iterdir())


def test_mirrored_items_follow_the_others_and_are_flipped_left_to_right(tmp_path):
    path = write(tmp_path / "a.zip", channels=3)
    plain, mirrored = ArchiveDataset(path), ArchiveDataset(path, mirror=True)
    assert len(mirrored) == 2 * len(plain) == len(mirrored.labels)
    assert torch.equal(mirrored[7][0], plain[2][0].flip(2)) and mirrored[7][1] == plain[2][1]
    assert torch.equal(mirrored[2][0], plain[2][0])


def test_without_classes_every_label_is_zero(tmp_path):
    dataset = ArchiveDataset(write(tmp_path / "a.zip", classes=()))
    assert dataset.n_classes == 0 and dataset.labels.tolist() == [0] * 5


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_read_the_same_as_this_one(tmp_path, method):
    dataset = ArchiveDataset(write(tmp_path / "a.zip", counts=(("train", 20),)))
    here = torch.stack([dataset[i][0] for i in range(20)])  # opens the file before the workers start
    loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context=method)
    assert torch.equal(torch.cat([images for images, _ in loader]), here)


def test_another_process_opens_the_file_anew(tmp_path, monkeypatch):
    archive = Archive(write(tmp_path / "a.zip"))
    opened = []
    original = zipfile.ZipFile
    monkeypatch.setattr(zipfile, "ZipFile", lambda path: opened.append(path) or original(path))
    archive.read("dataset.json")
    assert not opened
    monkeypatch.setattr("os.getpid", lambda: -1)  # as after a fork, where a shared file would share its position
    archive.read("dataset.json")
    assert opened == [archive.path]


def test_an_archive_can_be_pickled_while_it_is_open(tmp_path):
    archive = Archive(write(tmp_path / "a.zip"))
    assert pickle.loads(pickle.dumps(archive)).read("dataset.json") == archive.read("dataset.json")


def test_an_unreadable_image_is_named(tmp_path):
    path = write(tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    at = data.index(b"train/00000/img00000002.png") + 60
    data[at] ^= 255
    path.write_bytes(data)
    dataset = ArchiveDataset(path)
    with pytest.raises(DataError, match=r"train/00000/img00000002\.png in .*a\.zip cannot be read"):
        dataset[2]
    assert dataset[1][0].shape == (1, 8, 8)


def test_an_image_of_another_size_is_named(tmp_path):
    path = write_foreign(tmp_path / "a.zip", None)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("00000/img00000003.png", encode_png(np.zeros((4, 4), np.uint8)))
    with pytest.raises(DataError, match=r"img00000003\.png in .* is grey \[4, 4\].*\[8, 8\]"):
        ArchiveDataset(path)[3]


def test_a_missing_split_names_those_there_are(tmp_path):
    with pytest.raises(DataError, match="no split 'test'. There are: train, val"):
        ArchiveDataset(write(tmp_path / "a.zip"), split="test")


@pytest.mark.parametrize("mode, channels", [("L", 1), ("RGB", 3)])
def test_archives_of_other_stylegan_tools_are_understood(tmp_path, mode, channels):
    labels = [[f"00000/img{i:08d}.png", i % 2] for i in range(3)]
    archive = Archive(write_foreign(tmp_path / "a.zip", labels, mode=mode))
    assert (archive.resolution, archive.channels, archive.classes) == (8, channels, ("0", "1"))
    assert archive.splits == ("train",) and archive.labels("train").tolist() == [0, 1, 0]
    assert Archive(write_foreign(tmp_path / "b.zip", None)).classes == ()
    assert Archive(write_foreign(tmp_path / "c.zip", ...)).classes == ()


NAMES = [f"00000/img{i:08d}.png" for i in range(3)]


@pytest.mark.parametrize("content, said", [
    ('{"labels": [["00000/img00000000.png", 0],]}', "not JSON.*comma"),
    (json.dumps({"labels": [[NAMES[0], 0], [NAMES[1], 1]]}), "no label for 00000/img00000002.png"),
    (json.dumps({"labels": [[NAMES[0], "CNV"], [NAMES[1], 1], [NAMES[2], 0]]}), "the label 'CNV'"),
    (json.dumps({"labels": [[NAMES[0], 0], [NAMES[1], 2], [NAMES[2], 0]]}), "none is 1: a gap"),
    (json.dumps({"labels": [[NAMES[0], -1], [NAMES[1], 2], [NAMES[2], 0]]}), "the label -1"),
    (json.dumps({"labels": {NAMES[0]: 1}}), "must be a list"),
    ("[]", "must be an object"),
])
def test_a_wrong_dataset_json_is_explained(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        Archive(write_foreign(tmp_path / "a.zip", None, text=content))


def test_files_that_are_no_archives_are_explained(tmp_path):
    (tmp_path / "text.zip").write_text("hello")
    cut = write(tmp_path / "cut.zip")
    cut.write_bytes(cut.read_bytes()[:400])
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    scans = write_foreign(tmp_path / "scans.zip", ..., name="CNV/CNV-{}-1.png")
    wide = write_foreign(tmp_path / "wide.zip", None, size=(8, 4))
    no_zip = "not a zip or is cut short"
    for path, said in ((tmp_path / "none.zip", "There is no archive"), (tmp_path / "text.zip", no_zip), (cut, no_zip),
                       (tmp_path / "empty.zip", "holds no PNG"), (scans, "zip of pictures.*tools convert"),
                       (wide, "8 x 4")):
        with pytest.raises(DataError, match=said):
            Archive(Path(path))
