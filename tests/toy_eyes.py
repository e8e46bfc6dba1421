"""Pictures of layers that stand for eyes, drawn in no time: one eye can be shown again under other speckle."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnnlib.pictures import encode_png
from stylegan_oct.data.archive import ArchiveWriter

SIDE = 32


def toy_eye(number: int, *, speckle: int = 0, side: int = SIDE) -> NDArray[np.uint8]:
    """Return a picture of eye `number`, uint8 [side, side]."""
    rng = np.random.default_rng([17, number])
    x, y = np.linspace(-1, 1, side), np.linspace(0, 1, side)[:, None]
    depth = rng.uniform(0.4, 0.6) + rng.uniform(-0.1, 0.1) * x + rng.uniform(-0.08, 0.08) * x**2
    light = np.full((side, side), 0.1)
    for _ in range(4):
        top = depth
        wave = sum(rng.normal(0, 0.02) * np.sin(k * np.pi * x + rng.uniform(0, 6.3)) for k in (1, 2, 3))
        depth = depth + np.maximum(rng.uniform(0.05, 0.1) + wave, 0.02)
        light = np.where((y >= top) & (y < depth), rng.uniform(0.25, 0.9), light)
    noise = np.random.default_rng([number, speckle, 3])
    seen = light * (1 + 0.15 * noise.standard_normal(light.shape)) + 0.02 * noise.standard_normal(light.shape)
    return np.rint(255 * seen.clip(0, 1)).astype(np.uint8)


def write_eyes(path: Path, *, train: int, held_out: int, first: int = 0, source: str = "scans", per_patient: int = 1,
               side: int = SIDE, channels: int = 1, classes: tuple[str, ...] = ("CNV", "NORMAL")) -> Path:
    """Write an archive of eyes `first`, `first` + 1, ...: those of training, then those of val and test in turn."""
    with ArchiveWriter(path, resolution=side, channels=channels, classes=classes, source=source) as writer:
        for i in range(train + held_out):
            split = "train" if i < train else ("val", "test")[i % 2]
            patient = i // per_patient if i < train else 10_000 + (i - train) // per_patient
            picture = toy_eye(first + i, side=side)
            shown = picture if channels == 1 else np.repeat(picture[:, :, None], 3, axis=2)
            writer.add_image(split, encode_png(shown), i % len(classes) if classes else None,
                             {"patient": f"p{patient}"})
    return path
