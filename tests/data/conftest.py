"""Small scans made on the spot: a bright curved band in speckle, each drawn from its seed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Scan = NDArray[np.uint8]
DrawScan = Callable[..., Scan]
MakeFolder = Callable[..., Path]


def _draw(seed: int, *, width: int = 96, height: int = 64) -> Scan:
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, width)
    tilt, curve, waves = rng.uniform((-0.1, -0.1, 2), (0.1, 0.2, 9))
    depth = height * (0.5 + tilt * x + curve * x**2 + 0.08 * np.sin(waves * x))
    y = np.arange(height)[:, np.newaxis]
    level = 25 + 130 * np.exp(-(((y - depth) / 4) ** 2)) + 60 * ((y < depth) & (y > depth - height / 4))
    return np.clip(level * rng.gamma(4, 0.25, (height, width)), 0, 235).astype(np.uint8)


@pytest.fixture
def draw_scan() -> DrawScan:
    return _draw


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Write `count` scans named as in OCT2017 into class folders, two scans a patient; return the folder."""

    def make(count: int = 24, classes: tuple[str, ...] = ("CNV", "NORMAL"), name: str = "scans") -> Path:
        for i in range(count):
            label = classes[i // 2 % len(classes)]
            place = tmp_path / name / label / f"{label}-{900000 + i // 2}-{i % 2 + 1}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(_draw(i)).save(place)
        return tmp_path / name

    return make
