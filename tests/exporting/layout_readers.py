"""Readers of the layouts, written from descriptions of the programs that read them and from nothing of this project.

Each returns, by split, the class and the pixels of every picture; a class is what that program takes it for.
"""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Found = dict[str, list[tuple[Any, np.ndarray]]]

MULTIEYE = dict(enumerate(["NOR", "AMD", "CSC", "DR", "GLC", "MEM", "MYO", "RVO", "WAMD"]))
FDDM = ["NOR", "AMD", "WAMD", "DR", "CSC", "PED", "MEM", "FLD", "EXU", "CNV", "RVO"]


def read_multieye(out: Path) -> Found:
    """Open train, dev and test at once; a line is NAME INT, and every picture is looked for below train."""
    root, found = out / "assemble_oct", Found()
    for split in ("train", "dev", "test"):
        found[split] = []
        for line in (root / split / "large9cls.txt").read_text().splitlines():
            fields = line.split(" ")
            picture = Image.open(root / "train" / "ImageData" / "oct-filter-448x448" / f"{fields[0]}.png")
            found[split].append((MULTIEYE[int(fields[1])], np.asarray(picture.convert("RGB"))))
    return found


def read_fddm(out: Path, kind: str = "oct") -> Found:
    """Open train, val and test at once; a line is NAME and eleven bits, and every picture is looked for below train."""
    root, found = out / "image_data" / "topcon-mm", Found()
    for split in ("train", "val", "test"):
        found[split] = []
        for line in (root / split / f"{kind}.txt").read_text().splitlines():
            name, *bits = line.split(" ")
            labels = tuple(label for label, bit in zip(FDDM, map(int, bits), strict=True) if bit)
            picture = Image.open(root / "train" / "Images" / f"{kind}-images" / f"{name}.png")
            found[split].append((labels, np.asarray(picture.convert("RGB"))))
    return found


def eyes_of_fddm(out: Path) -> set[tuple[str, ...]]:
    """Return the first two fields of each file's name between hyphens."""
    return {tuple(path.name.split("-")[:2]) for path in (out / "image_data").rglob("*.png")}


def read_imagefolder(out: Path) -> Found:
    """As torchvision's ImageFolder on each split: its folders in order are the classes; an empty one is refused."""
    found = Found()
    for split in sorted(path for path in (out / "images").iterdir() if path.is_dir()):
        found[split.name] = []
        for number, folder in enumerate(sorted(path.name for path in split.iterdir() if path.is_dir())):
            files = sorted(path for path in (split / folder).rglob("*") if path.suffix.lower() == ".png")
            if not files:
                raise FileNotFoundError(folder)
            found[split.name] += [(number, np.asarray(Image.open(file))) for file in files]
    return found


def read_webdataset(out: Path) -> Found:
    """Files of a tar that follow each other and agree up to the first dot are a sample; the rest is its field."""
    found = Found()
    for shard in sorted(out.glob("*/*.tar")):
        samples: dict[str, dict[str, bytes]] = {}
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, name = member.name.partition(".")
                samples.setdefault(key, {})[name] = tar.extractfile(member).read()  # type: ignore[union-attr]
        found.setdefault(shard.parent.name, []).extend(
            (int(sample["cls"]), np.asarray(Image.open(io.BytesIO(sample["png"])))) for sample in samples.values())
    return found


def read_medmnist(out: Path) -> Found:
    """As MedMNIST's classes: three pairs of arrays, labels [N, 1]."""
    (file,) = out.glob("octsyn_*.npz")
    with np.load(file) as arrays:
        assert all(arrays[f"{split}_labels"].dtype == np.uint8 for split in ("train", "val", "test"))
        return {split: [(int(label), picture) for (label,), picture in
                        zip(arrays[f"{split}_labels"], arrays[f"{split}_images"], strict=True)]
                for split in ("train", "val", "test")}


def read_stylegan(out: Path) -> Found:
    """As StyleGAN's data set: all pictures of a zip by name, and the label of each from dataset.json."""
    found = Found()
    for file in sorted(out.glob("*.zip")):
        with zipfile.ZipFile(file) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".png"))
            labels = json.loads(archive.read("dataset.json"))["labels"]
            numbers = dict(labels) if labels is not None else dict.fromkeys(names, 0)
            found[file.stem.rpartition("-")[2]] = [
                (numbers[name], np.asarray(Image.open(io.BytesIO(archive.read(name))))) for name in names]
    return found
