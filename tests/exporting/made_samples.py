"""Small pictures with their rows, and exports of them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stylegan_oct.export.description.manifest import Collection, Item, Rows
from stylegan_oct.export.layouts import Layout, finish_parts, make_layout, write_part

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
COLLECTION = Collection(classes=CLASSES, resolution=16, channels=1)
CHECKPOINT = "0123456789abcdef" * 4


def made_item(seed: int, **changes: object) -> Item:
    """Return the row of a picture; every fifth is for validation and lacks a biomarker."""
    lacking = seed % 5 == 0
    facts: dict[str, object] = {
        "class_name": CLASSES[seed % 4], "label_id": seed % 4, "split": "val" if lacking else "train", "seed": seed,
        "psi": 0.8, "noise": "const", "checkpoint_sha256": CHECKPOINT, "nimg": 1000, "resolution": 16,
        "um_per_px_x": 368.75, "um_per_px_z": 120.032, "oracle": "oct-1234", "oracle_class": CLASSES[seed % 4],
        "oracle_probabilities": {name: 1 / 4 for name in CLASSES}, "phash": f"{seed:016x}",
        "biomarkers": {"central_thickness_um": float("nan") if lacking else 250.0 + seed}}
    return Item(**{**facts, **changes})  # type: ignore[arg-type]


def made_picture(seed: int, side: int = 16) -> NDArray[np.uint8]:
    """Return a picture of noise, uint8 [side, side]."""
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def made_samples(seeds: range, fail_at: int | None = None, side: int = 16) -> Iterator[tuple[Item, NDArray[np.uint8]]]:
    """Yield pictures; raise before one of them, as a kill would stop the work."""
    for seed in seeds:
        if seed == fail_at:
            raise KeyboardInterrupt
        yield made_item(seed, resolution=side), made_picture(seed, side)


def made_export(name: str, out: Path, side: int = 16) -> tuple[Layout, Rows]:
    """Write 20 pictures in two parts."""
    layout = make_layout(name, out, replace(COLLECTION, resolution=side))
    write_part(layout, out, 0, made_samples(range(12), side=side))
    write_part(layout, out, 1, made_samples(range(12, 20), side=side))
    return layout, finish_parts(layout, out)
