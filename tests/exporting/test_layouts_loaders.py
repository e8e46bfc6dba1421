"""Each layout read by the library, or as the code base reads it, that its users have."""

import json
import math
import zipfile

import numpy as np
import pytest
from made_samples import CLASSES, COLLECTION, made_export, made_picture
from PIL import Image

from stylegan_oct.data.archive import Archive
from stylegan_oct.export.description.card import Facts, write_card
from stylegan_oct.export.description.manifest import manifest_of

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries


def _with_card(name, out):
    layout, rows = made_export(name, out)
    manifest_of(rows).write(out, rows())
    write_card(out, Facts(layout=name, collection=COLLECTION, checkpoint_sha256="0" * 64, nimg=1000,
                          data_source="phantom", psi=0.8), rows)
    return list(rows())


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = pytest.importorskip("datasets", reason="needs pip install 'stylegan-oct[loaders]'")
    found.disable_progress_bars()
    return found


def test_datasets_loads_imagefolder_with_every_column(datasets, tmp_path):
    items = _with_card("imagefolder", tmp_path / "export")
    found = datasets.load_dataset(str(tmp_path / "export"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in found.items()} == {"train": 16, "validation": 4}
    columns = set(manifest_of(lambda: iter(items)).names) - {"file_name"} | {"image"}
    assert set(found["train"].column_names) == set(found["validation"].column_names) == columns
    assert found["train"].features["label"].names == list(CLASSES)
    for row in found["train"]:
        assert (np.asarray(row["image"]) == made_picture(row["seed"])).all()
        assert row["label"] == row["label_id"] == row["seed"] % 4 and row["synthetic"] is True
        assert row["central_thickness_um"] == 250 + row["seed"]
    assert all(math.isnan(value) for value in found["validation"]["central_thickness_um"])


def test_datasets_loads_the_images_folder_alone(datasets, tmp_path):
    _with_card("imagefolder", tmp_path / "export")
    found = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "export" / "images"),
                                  cache_dir=str(tmp_path / "cache"))
    assert set(found) == {"train", "validation"} and set(found["train"]["label"]) == set(CLASSES)


def test_datasets_loads_webdataset_shards(datasets, tmp_path):
    _with_card("webdataset", tmp_path / "export")
    found = datasets.load_dataset(str(tmp_path / "export"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in found.items()} == {"train": 16, "validation": 4}
    row = found["train"][0]
    assert (np.asarray(row["png"]) == made_picture(row["json"]["seed"])).all()


def test_webdataset_decodes_png_json_and_cls(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="needs pip install 'stylegan-oct[loaders]'")
    made_export("webdataset", tmp_path)
    shards = str(tmp_path / "train" / "{000000..000001}.tar")
    found = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("__key__", "png", "json", "cls")
    samples = list(found)
    assert len(samples) == 16
    for key, image, row, label in samples:
        assert (np.asarray(image.convert("L")) == made_picture(row["seed"])).all()
        assert CLASSES[label] == row["label"] and key == f"{row['label']}-syn{row['seed']:08d}"


def test_medmnist_arrays_are_as_its_classes_index_them(tmp_path):
    _, rows = made_export("medmnist", tmp_path)
    found = np.load(tmp_path / "octsyn_16.npz")
    for split, count in (("train", 16), ("val", 4), ("test", 0)):
        images, labels = found[f"{split}_images"], found[f"{split}_labels"]
        assert images.shape == (count, 16, 16) and labels.shape == (count, 1)
        assert images.dtype == labels.dtype == np.uint8
        assert labels[:, 0].tolist() == [item.label_id for item in rows() if item.split == split]


def test_medmnist_loads_it_with_a_class_of_its_own(tmp_path):
    medmnist = pytest.importorskip("medmnist", reason="medmnist asks for torchvision; pip install --no-deps medmnist")
    made_export("medmnist", tmp_path)

    class OctSynthetic(medmnist.OCTMNIST):
        flag, available_sizes = "octsyn", [16]
    medmnist.INFO["octsyn"] = {**medmnist.INFO["octmnist"], "n_samples": {"train": 16, "val": 4, "test": 0}}
    data = OctSynthetic(split="train", root=str(tmp_path), size=16)
    image, label = data[0]
    assert len(data) == 16 and label.tolist() == [1] and (np.asarray(image) == made_picture(1)).all()


def test_this_project_reads_the_zip_as_synthetic(tmp_path):
    made_export("stylegan", tmp_path)
    for split, seeds in (("train", [seed for seed in range(20) if seed % 5]), ("val", [0, 5, 10, 15])):
        archive = Archive(tmp_path / f"synthetic-{split}.zip")
        assert archive.source == "synthetic" and archive.splits == ("synthetic",) and archive.classes == CLASSES
        assert archive.labels("synthetic").tolist() == [seed % 4 for seed in seeds]
        assert [archive.rows()[name]["seed"] for name in archive.names("synthetic")] == seeds
        assert (archive.read_pixels(archive.names("synthetic")[0]) == made_picture(seeds[0])).all()


def test_stylegan_tools_find_every_picture_and_its_label(tmp_path):
    made_export("stylegan", tmp_path)
    with zipfile.ZipFile(tmp_path / "synthetic-train.zip") as archive:  # as StyleGAN's convention has it
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        labels = dict(json.loads(archive.read("dataset.json"))["labels"])
        assert len(names) == 16 and set(labels) == set(names)
        with archive.open(names[0]) as file:
            assert (np.asarray(Image.open(file)) == made_picture(1)).all()
