"""The archive to train on, from whatever the user has: nothing, scans, or an archive."""

import hashlib
import os
import re
import time
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dnnlib.errors import DataError
from dnnlib.escape import printable
from dnnlib.progress import progress_bar
from dnnlib.stored import BAD_ZIP
from stylegan_oct.data.archive import INDEX, Archive
from stylegan_oct.data.convert import convert
from stylegan_oct.data.phantom_archive import write_phantom_archive
from stylegan_oct.data.sources import no_classes

RESOLUTION = 64          # when neither the user nor the preset's name says one
FEW_SPLIT = "65,35"      # train and val of a set of a few scans
SMALL, LARGE = 2000, 8000  # simulated scans up to 64 px, where training takes minutes, and above


def prepare_archive(data: str | None, resolution: int | None, *, preset: str | None, cache: Path,
                    simulate: int | None = None, few: bool = False, say: Callable[[str], object] = lambda _: None,
                    bar: Callable[..., AbstractContextManager[Callable[..., object]]] = progress_bar) -> Path:
    """Return an archive of the wanted resolution, made once and kept in the cache.

    Of the processes that torchrun starts on a computer, one makes it and the others wait.

    Args:
        data: an archive, or scans as `convert` takes them; None simulates scans.
        resolution: in pixels; None takes that of the archive, or of the preset's name, or 64.
        preset: name of the preset, or None.
        cache: folder for what is made.
        simulate: number of simulated scans; default by resolution.
        few: the scans are few: FEW_SPLIT of the patients of each class are for learning and for judging.
        say: called with one line before anything that takes long.
        bar: shows progress, as `progress_bar`.
    Raises:
        DataError: the data cannot be used, or have another resolution.
    """
    size = planned_resolution(data, resolution, preset)
    if data is not None and is_archive(Path(data)):
        _say_if_no_classes(Path(data), say)
        return Path(data)
    if data is None:
        count = simulate or (SMALL if size <= RESOLUTION else LARGE)
        archive = cache / f"phantom-{size}-{count}.zip"
    else:
        place = hashlib.sha256(str(Path(data).resolve()).encode()).hexdigest()[:6]
        archive = cache / f"{Path(data).stem}-{size}-{'few-' if few else ''}{place}.zip"
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    if archive.exists():
        if first:
            say(f"using {archive} (made before; remove it to make it anew)")
            _say_if_no_classes(archive, say)
    elif not first:
        while not archive.exists():  # torchrun ends this process if the other one fails
            time.sleep(0.5)
    elif data is None:
        say(f"simulating {count} scans of {size} px once, in {archive}")
        with bar("simulating", count) as update:
            # Without wedges, as real scans are after `convert`; a generator of one can then start from the other.
            write_phantom_archive(archive, count=count, resolution=size, border=False, progress=update)
    else:
        say(f"converting {data} to {size} px once, in {archive}")
        with bar("converting") as update:
            shares: dict[str, Any] = {"split": FEW_SPLIT, "stratify": True} if few else {}
            report = convert(Path(data), archive, resolution=size, progress=update, **shares)
        for line in report.summary:
            say(printable(line))
        for line in report.splits:
            say(printable(line))
        left = report.left_out()
        say(f"{report.outcomes.get('kept', 0)} scans taken{f', {left}' if left else ''}; which and why: {report.audit} "
            "(private)")
        for line in report.remarks:
            say(f"to look at: {line}")
    return archive


def _say_if_no_classes(archive: Path, say: Callable[[str], object]) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0" and not Archive(archive).classes:
        say(no_classes(f"{archive.name} gives none"))


def planned_resolution(data: str | None, resolution: int | None, preset: str | None) -> int:
    """Return the resolution that the archive has or will have. Arguments and errors as in `prepare_archive`."""
    if data is not None and not Path(data).exists():
        raise DataError(f"There is no {data}. Give an archive, or a folder, zip or CSV of scans.")
    if data is None or not is_archive(Path(data)):
        return resolution or _resolution_of(preset)
    found = Archive(data).resolution
    if resolution not in (None, found):
        raise DataError(f"{data} holds images of {found} px, and {resolution} are asked for. Leave the resolution "
                        "out, or give the scans themselves.")
    return found


def is_archive(path: Path) -> bool:
    """Whether this is a zip that says what its images are, and not one of scans as they come."""
    try:
        with zipfile.ZipFile(path) as file:
            return INDEX in file.namelist()
    except BAD_ZIP:
        return False


def _resolution_of(preset: str | None) -> int:
    """Return the number at the end of a preset's name: oct256 -> 256."""
    match = re.search(r"\d+$", preset or "")
    return int(match[0]) if match and int(match[0]) >= 8 else RESOLUTION
