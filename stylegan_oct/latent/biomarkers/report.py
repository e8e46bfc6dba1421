"""Biomarkers of samples, scans or an archive: measured, as a table, and drawn."""

import csv
import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnlib.errors import DataError
from dnnlib.escape import csv_cells
from dnnlib.files import atomic_write
from dnnlib.pictures import Picture, save_png, synthetic_text
from stylegan_oct.data.archive import SYNTHETIC, Archive
from stylegan_oct.data.border import find_border, repair
from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.data.readers.bscan import BScan
from stylegan_oct.data.readers.scan import read_scans
from stylegan_oct.latent.biomarkers.lines import draw_lines
from stylegan_oct.latent.biomarkers.measure import BATCH, NAMES, default_um_per_px, measure
from stylegan_oct.latent.intake import assumed_scale, assumed_scale_of, pixel_size
from stylegan_oct.sampling import Sample, picture_name

DRAWN_WIDTH = 512    # pixels, at least, of the longer side of the pictures with lines
VARYING = "the scale of the training data differs from scan to scan; that of a whole scan of 20 degrees is assumed"
ASSUMED = "the file gives no scale; that of a Spectralis is assumed"


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture to measure."""

    name: str
    class_name: str    # empty where unknown
    picture: Picture   # uint8 [H, W]
    valid: NDArray[np.bool_]
    um_per_px: tuple[float, float]
    synthetic: bool = False
    notes: tuple[str, ...] = ()   # what is odd about its brightness or scale, each in one line


@dataclass(frozen=True, eq=False)
class Measured:
    """The biomarkers of one picture."""

    name: str
    class_name: str
    values: dict[str, float]
    reasons: dict[str, str | None]
    drawn: Picture | None    # RGB
    synthetic: bool
    um_per_px: tuple[float, float]
    notes: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return the numbers, None where one cannot be told, and why."""
        whys = "; ".join(dict.fromkeys(f"{reason}" for reason in self.reasons.values() if reason))
        return {"name": self.name, "class": self.class_name,
                **{name: None if math.isnan(value) else round(value, 4) for name, value in self.values.items()},
                "unknown_because": whys, "um_per_px_z": round(self.um_per_px[0], 4),
                "um_per_px_x": round(self.um_per_px[1], 4), "notes": "; ".join(self.notes)}


def from_samples(samples: Iterable[Sample], preprocess: Preprocess,
                 um_per_px: tuple[float, float] | None = None) -> Iterator[Subject]:
    """Yield what a generator draws, at the scale that is given, or of a Spectralis scan of 20 degrees made square.

    Args:
        samples: of the generator.
        preprocess: of its training data.
        um_per_px: (z, x) size of a pixel.
    """
    return (of_sample(sample, preprocess, um_per_px) for sample in samples)


def of_sample(sample: Sample, preprocess: Preprocess, um_per_px: tuple[float, float] | None) -> Subject:
    """Return one picture as `from_samples` yields it."""
    known = um_per_px or pixel_size(preprocess)
    picture = _grey(sample.picture)
    return Subject(picture_name(sample), sample.class_name, picture, np.ones(picture.shape, bool),
                   known or default_um_per_px(*picture.shape), True, () if known else (VARYING,))


def from_archive(path: Path, um_per_px: tuple[float, float] | None, limit: int) -> Iterator[Subject]:
    """Yield the first `limit` pictures of an archive."""
    archive = Archive(path)
    labelled = ((name, label, split) for split in archive.splits
                for name, label in zip(archive.names(split), archive.labels(split), strict=True))
    rows = archive.rows() if archive.preprocess is not None else {}  # of scans; simulated ones show 20 degrees
    for name, label, split in itertools.islice(labelled, limit):
        picture = _grey(archive.read_pixels(name))
        scale = um_per_px or assumed_scale_of(rows.get(name, {}), archive.resolution)
        yield Subject(Path(name).stem, archive.classes[label] if archive.classes else "", *_mended(picture, None),
                      scale, split == SYNTHETIC, (ASSUMED,) if archive.source == "scans" and um_per_px is None else ())


def from_scans(files: Sequence[Path], um_per_px: tuple[float, float] | None, limit: int,
               left_out: Callable[[str], object] = lambda _: None) -> Iterator[Subject]:
    """Yield the first `limit` B-scans of files, at the scale that they carry, that is given, or of a Spectralis.

    Args:
        files: of any format that is read.
        um_per_px: (z, x) size of a pixel where the file does not tell.
        limit: B-scans at most.
        left_out: gets a line for each file of which not all could be read.
    """
    subjects = (subject for place, file in enumerate(files, 1)
                for subject in _of_file(place, file, um_per_px, left_out))
    return itertools.islice(subjects, limit)


def _of_file(place: int, file: Path, um_per_px: tuple[float, float] | None,
             left_out: Callable[[str], object]) -> Iterator[Subject]:
    # The place among the files stands for their name, which may carry that of a patient.
    try:
        for scan in read_scans(file):
            yield of_scan(f"scan{place:04d}-{scan.number:03d}", scan, um_per_px)
    except DataError as error:
        left_out(str(error))


def of_scan(name: str, scan: BScan, um_per_px: tuple[float, float] | None) -> Subject:
    """Return one B-scan as `from_scans` yields it."""
    picture = _grey(scan.pixels)
    known, guess = (scan.um_per_px_z, scan.um_per_px_x), um_per_px or assumed_scale(*picture.shape)
    scale = (known[0] or guess[0], known[1] or guess[1])
    mended, valid = _mended(picture, scan.missing)
    notes = (*scan.notes, *([ASSUMED] if None in known and um_per_px is None else []))
    return Subject(name, "", mended, valid, scale, notes=notes)


def _mended(picture: Picture, missing: NDArray[np.bool_] | None) -> tuple[Picture, NDArray[np.bool_]]:
    border = find_border(picture).mask
    border = border if missing is None else border | missing
    return repair(picture, border), ~border


def _grey(picture: Picture) -> Picture:
    return picture if picture.ndim == 2 else picture.mean(axis=2).round().astype(np.uint8)


def measure_all(subjects: Iterable[Subject], progress: Callable[[int], object] = lambda _: None, *,
                pictures: int) -> Iterator[Measured]:
    """Yield the biomarkers of every subject; those of equal size and scale are measured together.

    Args:
        subjects: what to measure.
        progress: called with the number that are done.
        pictures: the first so many are drawn with their lines.
    Raises:
        DataError: a picture is too small to be measured.
    """
    done = 0
    alike = itertools.groupby(subjects, lambda subject: (subject.picture.shape, subject.um_per_px))
    for (shape, scale), group in alike:
        if min(shape) < 16:
            raise DataError(f"Biomarkers need pictures of at least 16 x 16 pixels; got {shape[1]} x {shape[0]}.")
        while part := list(itertools.islice(group, BATCH)):
            found = measure(np.stack([subject.picture for subject in part]), scale,
                            np.stack([subject.valid for subject in part]))
            width = shape[1] * max(1, -(-DRAWN_WIDTH // max(shape)))
            for number, subject in enumerate(part):
                yield Measured(subject.name, subject.class_name,
                               {name: float(found.values[name][number]) for name in NAMES},
                               {name: found.reasons[name][number] for name in NAMES},
                               draw_lines(subject.picture, found, number, width=width) if done + number < pictures
                               else None, subject.synthetic, scale, subject.notes)
            progress(done := done + len(part))


def save(results: Sequence[Measured], out: Path) -> None:
    """Write biomarkers.csv and the pictures with their lines, `NAME-lines.png`."""
    with atomic_write(out / "biomarkers.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(results[0].row())
        writer.writerows(csv_cells(result.row().values()) for result in results)
    for result in results:
        if result.drawn is not None:
            text = synthetic_text("biomarkers", **{"class": result.class_name}) if result.synthetic else {}
            save_png(out / f"{result.name}-lines.png", result.drawn, text)


def table(results: Sequence[Measured]) -> str:
    """Return a table of the pictures, or of the classes (median and quartiles) where there are many."""
    groups: dict[str, list[Measured]] = {}
    many = len(results) > 24
    for result in results:
        groups.setdefault(result.class_name if many else result.name, []).append(result)
    heads = [name.rsplit("_", 1)[0] if name.endswith(("_um", "_mm2")) else name for name in NAMES]
    first = max(len(name) for name in [*groups, "picture"]) + 2
    lines = [" " * first + "  ".join(f"{head:>{_width(head, many)}}" for head in heads)]
    for name, group in groups.items():
        cells = [_cell([result.values[marker] for result in group], many) for marker in NAMES]
        lines.append(f"{name or 'all':<{first}}"
                     + "  ".join(f"{cell:>{_width(head, many)}}" for cell, head in zip(cells, heads, strict=True)))
    return "\n".join(line.rstrip() for line in lines)


def _width(head: str, many: bool) -> int:
    return max(len(head), 20 if many else 7)


def _cell(values: Sequence[float], many: bool) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "-"
    if not many or len(known) < 2:
        return f"{known[0]:.3g}"
    quarters = statistics.quantiles(known, n=4)
    return f"{quarters[1]:.3g} ({quarters[0]:.3g}-{quarters[2]:.3g})"
