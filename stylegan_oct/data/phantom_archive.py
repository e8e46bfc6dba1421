"""Simulated scans as an archive for training, with factors.csv and masks, and as a sheet to look at."""

import contextlib
import csv
import io
import multiprocessing
import os
import signal
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_path
from dnnlib.interrupt import end_children
from dnnlib.pictures import encode_png, save_png, sheet, synthetic_text
from dnnlib.text import suggest
from stylegan_oct import limits
from stylegan_oct.classes import CLASSES
from stylegan_oct.data.archive import SPLITS, ZIP_DATE, ArchiveWriter
from stylegan_oct.phantom import BORDER, LAYERS, LESIONS, factor_names, render

FACTORS = "factors.csv"
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
_GOLDEN = 0.6180339887498949  # its multiples fall evenly into [0, 1): every stretch of scans is split alike


@dataclass(frozen=True)
class _Rendered:
    png: bytes
    row: dict[str, str | int | float]
    masks: dict[str, bytes]   # "layers" and "lesions"


def write_phantom_archive(dest: Path, *, count: int, resolution: int, seed: int = 0, masks: bool = False,
                          border: bool = True, workers: int | None = None, classes: Sequence[str] = CLASSES,
                          shares: Mapping[str, float] = SHARES,
                          progress: Callable[[int, int], object] | None = None) -> None:
    """Write simulated scans, the classes in turn, with the ground truth of each in factors.csv.

    Scan i has class i modulo the number of classes, so a longer series begins with the shorter one. Every scan is an
    eye of its own: none has a neighbour in another split.

    Args:
        dest: the zip.
        count: number of scans.
        resolution: width and height in pixels.
        seed: of the series.
        masks: also write the zip `masks_path(dest)` with layers/NAME and lesions/NAME, PNGs whose greys are the
            numbers that dataset.json lists under "phantom". They lie beside the archive because tools that read
            archives take every picture within for an image to train on.
        border: False leaves out white wedges and black margins, as after `convert`.
        workers: processes; default: one for each core. The archive does not depend on it.
        classes: the classes to simulate, in the order of the labels.
        shares: of the splits; they are scaled to a sum of 1.
        progress: called with (scans done, all scans).
    Raises:
        ConfigError: an option is out of range.
        DataError: the file cannot be written.
    """
    _check(count, resolution, seed, classes, shares)
    legend = {"seed": seed, "border": border,
              "layers": {name: place for place, name in enumerate(LAYERS)} | {"border": BORDER},
              "lesions": {name: place for place, name in enumerate(LESIONS)}}
    table = io.StringIO(newline="")
    rows = csv.DictWriter(table, ["name", *factor_names()], lineterminator="\n")
    rows.writeheader()
    with ArchiveWriter(dest, resolution=resolution, channels=1, classes=classes, source="phantom",
                       extra={"phantom": legend}) as archive, contextlib.ExitStack() as stack:
        task = partial(_render, seed, resolution, masks, border, tuple(classes))
        mask_zip = stack.enter_context(_zip_for_masks(dest)) if masks else None
        for index, scan in enumerate(_in_order(task, count, workers)):
            name = archive.add_image(split_of(index // len(classes), shares), scan.png, index % len(classes),
                                     {"seed": seed, "index": index})
            for kind, png in scan.masks.items():
                assert mask_zip is not None
                mask_zip.writestr(zipfile.ZipInfo(f"{kind}/{name}", ZIP_DATE), png)
            rows.writerow({"name": name, **scan.row})
            if progress:
                progress(index + 1, count)
        archive.add_file(FACTORS, table.getvalue().encode())


def masks_path(archive: Path) -> Path:
    """Return where the masks of an archive lie: phantom.zip -> phantom-masks.zip."""
    return archive.with_name(f"{archive.stem}-masks.zip")


@contextlib.contextmanager
def _zip_for_masks(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with atomic_path(masks_path(archive)) as temporary, zipfile.ZipFile(temporary, "w") as file:
            yield file
    except OSError as error:
        raise DataError(f"Cannot write {masks_path(archive)}: {error.strerror or error}. Make room or choose another "
                        "place.") from error


def save_phantom_sheet(path: Path, *, resolution: int, seed: int = 0, columns: int = 6,
                       classes: Sequence[str] = CLASSES) -> None:
    """Write a labelled PNG with the first `columns` scans of each class, those an archive of the seed begins with.

    Raises:
        ConfigError: an option is out of range.
    """
    _check(columns * len(classes), resolution, seed, classes, SHARES)
    rows = [[render(seed, i * len(classes) + label, label=name, resolution=(resolution, resolution)).image
             for i in range(columns)] for label, name in enumerate(classes)]
    save_png(path, sheet(rows, row_labels=classes, title=f"simulated scans, seed {seed}, {resolution} px"),
             synthetic_text("phantom", seed=seed, resolution=resolution))


def split_of(place: int, shares: Mapping[str, float]) -> str:
    """Return the split of the scan that is number `place` of its class."""
    at = (place + 1) * _GOLDEN % 1 * sum(shares.values())
    chosen = [split for split in SPLITS if shares.get(split)]
    for split in reversed(chosen):  # test, then val, take the lower end
        at -= shares[split]
        if at < 0:
            return split
    return chosen[0]


def _check(count: int, resolution: int, seed: int, classes: Sequence[str], shares: Mapping[str, float]) -> None:
    for name in classes:
        if name not in CLASSES:
            raise ConfigError(f"There is no class {name!r}.{suggest(name, CLASSES)}")
    if not classes or len(set(classes)) < len(classes):
        raise ConfigError(f"classes must be some of {', '.join(CLASSES)}, each once; "
                          f"got {', '.join(classes) or 'none'}.")
    limits.PICTURES.check("count", count)
    if count < len(classes):
        raise ConfigError(f"count must be at least {len(classes)}, one scan for each class; got {count}.")
    limits.SIMULATED.check("resolution", resolution)
    limits.SEED.check("seed", seed)
    for split, share in shares.items():
        if split not in SPLITS:
            raise ConfigError(f"There is no split {split!r}.{suggest(split, SPLITS)}")
        if not share >= 0 or share > 1e9:
            raise ConfigError(f"The share of {split} must be 0 or more; got {share:g}. "
                              "Those of val and test must leave something for train.")
    if sum(shares.values()) <= 0:
        raise ConfigError("The shares of the splits must have a sum above 0.")


def _render(seed: int, resolution: int, masks: bool, border: bool, classes: tuple[str, ...], index: int) -> _Rendered:
    label = classes[index % len(classes)]
    scan = render(seed, index, label=label, resolution=(resolution, resolution), masks=masks, border=border)
    text = synthetic_text("phantom", seed=seed, index=index, label=label)
    found = {"layers": scan.layers, "lesions": scan.lesions}
    return _Rendered(encode_png(scan.image, text), scan.factors.row(),
                     {kind: encode_png(mask, text) for kind, mask in found.items() if mask is not None})


def _in_order(task: Callable[[int], _Rendered], count: int, workers: int | None) -> Iterator[_Rendered]:
    """Yield the scans by index, however many processes make them."""
    workers = min(workers or os.cpu_count() or 1, count)
    if workers == 1:
        yield from map(task, range(count))
        return
    # A fork would inherit the locks of the threads that torch may have started.
    # Ctrl-C reaches every process of the terminal; only this one shall answer.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"),
                             initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
        try:
            yield from pool.map(task, range(count), chunksize=max(1, min(16, count // (4 * workers))))
        except BaseException:
            end_children()
            pool.shutdown(cancel_futures=True)
            raise
