"""Scans and pictures into Python: read, and measured."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.escape import printable
from dnnlib.pictures import synthetic_text
from stylegan_oct.api.shown import Shown, to_pixels
from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.data.readers.bscan import BScan
from stylegan_oct.data.readers.scan import read_scans
from stylegan_oct.latent.biomarkers import report
from stylegan_oct.latent.biomarkers.measure import UNITS
from stylegan_oct.latent.intake import Target, prepare
from stylegan_oct.sampling import Sample


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Scan(Shown):
    """A B-scan as read. It is shown as what it is, no synthetic picture."""

    bscan: BScan

    def lines(self) -> Iterable[str]:
        """Return what is odd about it."""
        return self.bscan.notes


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Biomarkers(Shown):
    """What was measured in a picture, which is shown with the lines that were found."""

    values: dict[str, float]           # NaN where one cannot be told; docs/biomarkers.md has the meanings
    reasons: dict[str, str | None]     # why one cannot be told
    um_per_px: tuple[float, float]     # (z, x)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def lines(self) -> Iterable[str]:
        """Return the values with their units, a line each."""
        for name, value in self.values.items():
            unit = UNITS[name]
            label = name.removesuffix(f"_{unit}").replace("_", " ")
            yield f"{label:22s} {'-: ' + str(self.reasons[name]) if math.isnan(value) else f'{value:.3g} {unit}'}"
        yield from self.notes


def read_scan(source: Any, *, number: int | None = None, patient: bool = True,
              um_per_px: tuple[float, float] | None = None) -> Scan:
    """Return a B-scan of a file, or a picture at hand as a scan.

    Args:
        source: path of a file of any format that is read, a PIL image, or uint8 [H, W] or [H, W, 3].
        number: of the B-scan in its file, from 1; default the middle one.
        patient: it is of a patient, so that what derives from it is written for the owner alone; False for phantoms.
        um_per_px: (z, x) size of a pixel, where the source does not tell.
    Raises:
        ConfigError: the source is no picture, or the number none of a B-scan.
        DataError: the file cannot be read.
    """
    if isinstance(source, Scan):
        return source
    if isinstance(source, str | Path):
        bscan = next(iter(read_scans(source, "middle" if number is None else str(number), channels=3)))
    else:
        bscan = BScan(pixels=to_pixels(source))
        patient = patient and getattr(source, "private", True)
    z, x = um_per_px or (None, None)
    bscan = replace(bscan, um_per_px_z=bscan.um_per_px_z or z, um_per_px_x=bscan.um_per_px_x or x)
    which = f", number {bscan.number}" if bscan.number > 1 else ""
    title = f"a scan{which}" if patient else f"a scan of no patient{which}"
    return Scan(picture=bscan.pixels, title=title, text={}, private=patient, bscan=bscan)


def to_target(scan: Any, settings: Preprocess) -> tuple[Target, bool]:
    """Return a scan, or what `read_scan` takes, as a generator's pictures are, and whether it is of a patient."""
    found = read_scan(scan)
    return prepare(found.bscan, settings), found.private


def measure(image: Any, *, um_per_px: tuple[float, float] | None = None) -> Biomarkers:
    """Return the biomarkers of one picture: thickness, drusen, fluid, foci.

    Args:
        image: a scan or what `read_scan` takes, or a picture that a generator drew.
        um_per_px: (z, x) size of a pixel, where the image does not tell; default that of a Spectralis scan.
    Raises:
        ConfigError: it is no picture.
        DataError: it cannot be read, or is smaller than 16 x 16.
    """
    drawn = isinstance(image, Drawn)
    if drawn:
        subject = report.of_sample(Sample(image.class_name, 0, image.picture), image.preprocess, um_per_px)
    else:
        image = read_scan(image)
        subject = report.of_scan("scan", image.bscan, um_per_px)
    found = next(iter(report.measure_all([subject], pictures=1)))
    text = synthetic_text("biomarkers") if drawn else {}
    picture = subject.picture if found.drawn is None else found.drawn
    return Biomarkers(picture=picture, title=f"{image.title}, measured", text=text, private=image.private,
                      values=found.values, reasons=found.reasons, um_per_px=found.um_per_px, notes=found.notes)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Drawn(Shown):
    """A picture that a generator drew: synthetic."""

    class_name: str           # "" where it is not known
    seed: int | None          # None for latents that come from no seed
    preprocess: Preprocess    # of the generator: gives the size of a pixel

    @staticmethod
    def caption(class_name: str, seed: int | None) -> str:
        """Return the line about such a picture."""
        return printable(" ".join(["synthetic", *[class_name] * bool(class_name),
                                   *[f"seed {seed}"] * (seed is not None)]))


def side_by_side(*pictures: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return pictures of one height in a row, white lines between them."""
    coloured = any(picture.ndim == 3 for picture in pictures)
    parts: list[Any] = []
    for picture in pictures:
        part = np.repeat(picture[:, :, None], 3, axis=2) if coloured and picture.ndim == 2 else picture
        parts += [part, np.full_like(part[:, :2], 255)]
    return np.concatenate(parts[:-1], axis=1)
