"""Every layout gives its reader the class, the split and the picture that the manifest tells, whatever the classes."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import layout_readers as readers
import numpy as np
import pytest
from click.testing import CliRunner
from made_samples import CLASSES, COLLECTION, made_item, made_picture

from dnnlib.errors import ConfigError, DataError
from dnnlib.escape import csv_cells, printable
from stylegan_oct.export.description.card import Facts, write_card
from stylegan_oct.export.description.croissant import write_croissant
from stylegan_oct.export.description.manifest import Item, manifest_of
from stylegan_oct.export.layouts import LAYOUTS, finish_parts, make_layout, write_part
from tools.__main__ import main

OURS = {"NOR": "NORMAL", "AMD": "DRUSEN", "WAMD": "CNV", "DR": "DME"}
HOSTILE = "=cmd|' /C calc'!A0 <script>alert(1)</script> [red]*x*|\x1b[31m/../\\"
NAMES = {
    "usual": CLASSES,
    "another order": ("NORMAL", "DRUSEN", "CNV", "DME"),
    "one": ("DRUSEN",),
    "two of the four": ("NORMAL", "CNV"),
    "no names": ("0", "1", "2"),
    "backward numbers": ("2", "1", "0"),
    "blanks and dots": ("wet AMD", "v1.0", "AMD (dry), late"),
    "hyphens": ("wet-AMD", "wet-PED", "-ve"),
    "Unicode": ("正常", "Ödem", "ドルーゼン", "\U0001f441 eye"),
    "one but for its case": ("cnv", "CNV", "Cnv"),
    "hidden": (".hidden", "__pycache__", "..", "CON"),
    "hostile": tuple(map(printable, (HOSTILE, "b", "\n\t\x00", "x" * 255))),  # as archives and generators spell them
}
PLAIN = {"imagefolder": readers.read_imagefolder, "webdataset": readers.read_webdataset,
         "medmnist": readers.read_medmnist, "stylegan": readers.read_stylegan}
Truth = Counter[tuple[str, object, bytes]]


def _export(name: str, out: Path, classes: tuple[str, ...], *, mapping: dict[str, str] | None = None,
            count: int = 20) -> list[Item]:
    layout = make_layout(name, out, replace(COLLECTION, classes=classes), mapping=mapping)
    items = [made_item(seed, class_name=classes[seed % len(classes)], label_id=seed % len(classes), oracle_class="",
                       oracle_probabilities=dict.fromkeys(classes, 0.5)) for seed in range(count)]
    for part, some in enumerate((items[:count // 2], items[count // 2:])):
        write_part(layout, out, part, [(item, made_picture(item.seed)) for item in some])
    return list(finish_parts(layout, out)())


def _truth(items: list[Item], classes: Callable[[Item], object], **splits: str) -> Truth:
    return Counter((splits.get(item.split, item.split), classes(item), made_picture(item.seed).tobytes())
                   for item in items)


def _seen(found: readers.Found) -> Truth:
    return Counter((split, label, (picture if picture.ndim == 2 else picture[:, :, 0]).tobytes())
                   for split, pictures in found.items() for label, picture in pictures)


@pytest.mark.parametrize("classes", NAMES.values(), ids=list(NAMES))
@pytest.mark.parametrize("name", ["webdataset", "stylegan"])
def test_numbers_of_classes_are_the_generators(name: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    items = _export(name, tmp_path, classes)
    assert _seen(PLAIN[name](tmp_path)) == _truth(items, lambda item: item.label_id)


@pytest.mark.parametrize("classes", NAMES.values(), ids=list(NAMES))
def test_medmnist_numbers_its_classes_as_octmnist_where_it_has_them(classes: tuple[str, ...], tmp_path: Path) -> None:
    octmnist = {"CNV": 0, "DME": 1, "DRUSEN": 2, "NORMAL": 3}
    found = readers.read_medmnist((_export("medmnist", tmp_path, classes), tmp_path)[1])
    items = _export("medmnist", tmp_path, classes)
    assert _seen(found) == _truth(items, lambda item: octmnist[item.class_name] if set(classes) <= set(octmnist)
                                  else item.label_id)


@pytest.mark.parametrize("classes", NAMES.values(), ids=list(NAMES))
def test_folders_of_classes_are_numbered_alike_in_every_split(classes: tuple[str, ...], tmp_path: Path) -> None:
    items = _export("imagefolder", tmp_path, classes)
    folders = {item.class_name: item.file_name.split("/")[2] for item in items}
    numbers = {name: sorted(folders.values()).index(folder) for name, folder in folders.items()}
    assert len(set(folders.values())) == len({folder.casefold() for folder in folders.values()}) == len(classes)
    assert _seen(readers.read_imagefolder(tmp_path)) == _truth(items, lambda item: numbers[item.class_name])
    assert all(item.file_name.count("/") == 3 and (tmp_path / item.file_name).resolve().is_relative_to(tmp_path)
               for item in items)
    if set(classes) <= set(CLASSES) or classes == NAMES["Unicode"][:3]:
        assert all(name == folder for name, folder in folders.items())


def test_a_split_that_lacks_a_class_is_refused_by_imagefolder_and_not_numbered_otherwise(tmp_path: Path) -> None:
    layout = make_layout("imagefolder", tmp_path, COLLECTION)
    write_part(layout, tmp_path, 0, [
        (made_item(0, class_name="CNV", label_id=0, split="train"), made_picture(0)),
        *((made_item(seed, class_name="DME", label_id=1, split=split), made_picture(seed))
          for seed, split in ((1, "train"), (2, "val")))])
    finish_parts(layout, tmp_path)
    with pytest.raises(FileNotFoundError, match="CNV"):
        readers.read_imagefolder(tmp_path)


@pytest.mark.parametrize("classes", NAMES.values(), ids=list(NAMES))
def test_multieye_opens_every_class_under_any_name(classes: tuple[str, ...], tmp_path: Path) -> None:
    mapping = {name: list(readers.MULTIEYE.values())[number] for number, name in enumerate(classes)}
    items = _export("multieye", tmp_path, classes, mapping=mapping)
    assert _seen(readers.read_multieye(tmp_path)) == _truth(items, lambda item: mapping[item.class_name], val="dev")


@pytest.mark.parametrize("classes", NAMES.values(), ids=list(NAMES))
def test_fddm_opens_every_class_under_any_name_and_takes_each_picture_for_an_eye(classes: tuple[str, ...],
                                                                               tmp_path: Path) -> None:
    mapping = {name: readers.FDDM[number] for number, name in enumerate(classes)}
    items = _export("fddm", tmp_path, classes, mapping=mapping)
    assert _seen(readers.read_fddm(tmp_path)) == _truth(items, lambda item: (mapping[item.class_name],))
    assert len(readers.eyes_of_fddm(tmp_path)) == len(items)


def test_fddm_takes_several_classes_of_a_picture_and_multieye_one(tmp_path: Path) -> None:
    mapping = {"CNV": "WAMD+CNV", "DME": "DR+FLD"}
    items = _export("fddm", tmp_path / "fddm", CLASSES, mapping=mapping)
    labels = {"CNV": ("WAMD", "CNV"), "DME": ("DR", "FLD"), "DRUSEN": ("AMD",), "NORMAL": ("NOR",)}
    assert _seen(readers.read_fddm(tmp_path / "fddm")) == _truth(items, lambda item: labels[item.class_name])
    with pytest.raises(ConfigError, match="one class; got WAMD"):
        make_layout("multieye", tmp_path / "multieye", COLLECTION, mapping={"CNV": "WAMD+AMD"})


@pytest.mark.parametrize(("mapping", "words"), [({"DURSEN": "AMD"}, "Did you mean DRUSEN"),
                                                ({"CNV": "wamd"}, "Did you mean WAMD"), ({"CNV": ""}, "no such class")])
def test_a_mapping_that_would_do_nothing_is_refused(mapping: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        make_layout("multieye", tmp_path, COLLECTION, mapping=mapping)


@pytest.mark.parametrize("name", ["fddm", "multieye"])
def test_an_export_that_another_version_began_is_not_gone_on_with(name: str, tmp_path: Path) -> None:
    layout = make_layout(name, tmp_path, COLLECTION)
    write_part(layout, tmp_path, 0, [(made_item(1), made_picture(1))])
    rows = tmp_path / ".parts" / "000000.jsonl"
    rows.write_text(json.dumps({**json.loads(rows.read_text()), "file_name": "assemble_oct/train/ImageData/a.png"}))
    with pytest.raises(DataError, match=r"another version.*export anew"):
        finish_parts(layout, tmp_path)


def _invoke(name: str, out: Path, *args: str) -> list[dict[str, str]]:
    result = CliRunner().invoke(main, ["export", "--layout", name, "--out", str(out), *args])
    assert result.exit_code == 0, result.output
    with open(out / "manifest.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("args", [
    pytest.param((), marks=pytest.mark.slow, id="default"),
    pytest.param(("--no-biomarkers", "--per-class", "1"), id="one of each class"),
    pytest.param(("--no-biomarkers", "--per-class", "10", "--psi", "0.5", "--corner-mark"), id="psi"),
    pytest.param(("--classes", "DRUSEN=3", "--biomarker", "drusen_area_mm2=0.001-"), id="filtered"),
    pytest.param(("--no-biomarkers", "--classes", "CNV=4,NORMAL=12", "--split", "2,1,1"), id="test")])
@pytest.mark.parametrize("name", ["fddm", "multieye"])
def test_the_command_writes_what_opens_with_the_counts_of_the_manifest(name: str, args: tuple[str, ...],
                                                                       tmp_path: Path) -> None:
    rows = _invoke(name, tmp_path / "export", *args)
    found = readers.read_fddm(tmp_path / "export") if name == "fddm" else readers.read_multieye(tmp_path / "export")
    expected = Counter((row["split"].replace("val", "dev" if name == "multieye" else "val"), row["label"],
                        row["pixels_sha256"]) for row in rows)
    seen = Counter((split, OURS[label[0] if isinstance(label, tuple) else label], _hash(picture))
                   for split, pictures in found.items() for label, picture in pictures)
    assert seen == expected and set(found) == {"train", "test", "dev" if name == "multieye" else "val"}
    if not args:
        assert Counter((split, label) for split, label, _ in seen) == {
            (split, label): count for split, count in ((list(found)[0], 45), (list(found)[1], 5)) for label in CLASSES}


def _hash(picture: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(picture[:, :, 0]).tobytes()).hexdigest()


def test_every_layout_has_a_reader() -> None:
    assert set(LAYOUTS) == {*PLAIN, "fddm", "multieye"}


def _describe(name: str, out: Path, classes: tuple[str, ...]) -> list[Item]:
    items = _export(name, out, classes)
    manifest_of(lambda: iter(items)).write(out, items)
    facts = Facts(layout=name, collection=replace(COLLECTION, classes=classes), checkpoint_sha256="0" * 64, nimg=1000,
                  data_source="phantom", psi=0.8)
    write_card(out, facts, lambda: iter(items))
    write_croissant(out, facts, lambda: iter(items))
    return items


@pytest.mark.filterwarnings("ignore")  # of the library
@pytest.mark.parametrize("kind", ["another order", "backward numbers", "blanks and dots", "Unicode", "hostile"])
@pytest.mark.parametrize("name", ["imagefolder", "webdataset"])
def test_datasets_reads_the_names_of_classes(name: str, kind: str, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="needs pip install 'stylegan-oct[loaders]'")
    datasets.disable_progress_bars()
    items = _describe(name, tmp_path / "export", NAMES[kind])
    found = datasets.load_dataset(str(tmp_path / "export"), cache_dir=str(tmp_path / "cache"))
    if name == "webdataset":
        seen = {(split, row["json"]["label"], np.asarray(row["png"]).tobytes())
                for split, rows in found.items() for row in rows}
    else:
        names = found["train"].features["label"].names
        assert names == list(NAMES[kind])
        seen = {(split, names[row["label"]], np.asarray(row["image"]).tobytes())
                for split, rows in found.items() for row in rows}
    assert seen == set(_truth(items, lambda item: item.class_name, val="validation"))


@pytest.mark.filterwarnings("ignore")  # of the library
@pytest.mark.parametrize("kind", ["blanks and dots", "Unicode", "hostile"])
def test_croissant_reads_the_names_of_classes(kind: str, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="needs pip install 'stylegan-oct[loaders]'")
    items = _describe("imagefolder", tmp_path, NAMES[kind])
    found = mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))
    assert not found.metadata.issues.errors
    records = list(found.records("pictures"))
    assert [record["pictures/label"].decode() for record in records] == csv_cells(item.class_name for item in items)
    assert [record["pictures/label_id"] for record in records] == [item.label_id for item in items]
