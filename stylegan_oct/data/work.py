"""Preprocessing many scans on all cores, so that a kill loses at most the pieces in the making.

A work folder beside the archive holds finished pieces: the PNGs of some scans one after another in NNNNNN.bin, and
what is known of each in NNNNNN.jsonl, which is written last. Starting again reads them and does what is missing.
"""

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dnnlib.config import Count, Hash, from_dict
from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_write, hold_lock
from dnnlib.logs import read_jsonl
from dnnlib.pictures import encode_png
from stylegan_oct.data.duplicates import THUMBNAIL, dhash, thumbnail
from stylegan_oct.data.preprocess import VERSION, Preprocess, process_picture
from stylegan_oct.data.sources import Refusal, Scan
from stylegan_oct.data.volumes import Files, load

PIECE = 16  # scans: seconds of work, a few megabytes
Row = dict[str, Any]
Progress = Callable[[int, int], object]


class WorkFolder:
    """The folder of finished pieces; readable by its owner alone, since it names the files of the source.

    Args:
        path: its place.
        settings: what the pieces depend on; a folder made with others is emptied.
    Raises:
        DataError: another process works in it.
    """

    def __init__(self, path: Path, settings: Preprocess) -> None:
        self.path = path
        self._settings = json.dumps({"version": VERSION, **asdict(settings)}, sort_keys=True)
        self._lock: IO[str] | None = None

    def __enter__(self) -> "WorkFolder":
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = hold_lock(self.path / ".lock")
        if self._lock is None:
            raise DataError(f"Another process converts into the same archive (it works in {self.path}). Wait for it, "
                            "or choose another destination.")
        stored = self.path / "settings.json"
        if not stored.exists() or stored.read_bytes() != self._settings.encode():
            for file in self.path.glob("*.*"):
                if file.name != ".lock":
                    file.unlink()
            with atomic_write(stored) as out:
                out.write(self._settings)
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def rows(self) -> dict[tuple[str, str], Row]:
        """Return what is known of each finished scan, by its path and stamp."""
        return {(row["path"], row["stamp"]): {**row, "piece": file.stem}
                for file in self._pieces() for row in read_jsonl(file) if _is_usable(row, file.with_suffix(".bin"))}

    def next_number(self) -> int:
        """Return the number of the next piece."""
        return 1 + max((int(file.stem) for file in self._pieces()), default=-1)

    def _pieces(self) -> list[Path]:
        return sorted(file for file in self.path.glob("*.jsonl") if re.fullmatch(r"[0-9]{6,12}", file.stem))

    def read_png(self, row: Row) -> bytes:
        """Return the picture of a scan."""
        with open(self.path / f"{row['piece']}.bin", "rb") as file:
            file.seek(row["offset"])
            return file.read(row["length"])

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What is known of any scan."""

    path: str
    stamp: str
    offset: Count
    length: Count


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What is known of a scan that was not refused."""

    file_hash: Hash
    pixel_hash: Hash
    dhash: str
    thumbnail: str
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        if len(bytes.fromhex(self.thumbnail)) != THUMBNAIL**2 or not 0 <= int(self.dhash, 16) < 2**64:
            raise ConfigError("thumbnail and dhash must be of their lengths.")


def _is_usable(row: Row, pictures: Path) -> bool:
    """Return whether a row is as it was written, and its picture there; else the scan is done again."""
    try:
        stored = from_dict(_Stored, row, strict=False)
        if "refused" not in row:
            from_dict(_Kept, row, strict=False)
        return isinstance(row.get("refused", ""), str) and stored.offset + stored.length <= pictures.stat().st_size
    except (ConfigError, OSError):
        return False


def preprocess_all(scans: Sequence[Scan], files: Files, settings: Preprocess, folder: WorkFolder, *,
                   workers: int | None = None, progress: Progress | None = None) -> list[Row]:
    """Return a row for each scan, in their order, doing those that the folder lacks.

    Args:
        scans: what to do.
        files: reads them.
        settings: of the preprocessing.
        folder: keeps the results.
        workers: processes; default: one a core, fewer for few scans.
        progress: called with (done, all).
    Raises:
        OSError: the disk is full; the finished pieces stay.
        DataError: a process was killed from outside.
    """
    done = folder.rows()
    todo = [scan for scan in scans if (scan.path, scan.stamp) not in done]
    pieces = [todo[i:i + PIECE] for i in range(0, len(todo), PIECE)]
    count = min(workers or os.cpu_count() or 1, len(pieces))
    finished = len(scans) - len(todo)
    if progress:
        progress(finished, len(scans))
    first = folder.next_number()
    calls = [(files, piece, settings, folder.path / f"{first + i:06d}") for i, piece in enumerate(pieces)]
    for length in _run(calls, count):
        finished += length
        if progress:
            progress(finished, len(scans))
    done = folder.rows()
    return [done[scan.path, scan.stamp] for scan in scans]


def _run(calls: Sequence[tuple[Files, list[Scan], Preprocess, Path]], workers: int) -> Iterator[int]:
    """Do the pieces; yield the number of scans of each as it ends."""
    if workers <= 1:
        for call in calls:
            yield _do_piece(*call)
        return
    context = multiprocessing.get_context("spawn")  # forking a process with threads (progress bars) can deadlock
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        futures: list[Future[int]] = [pool.submit(_do_piece, *call) for call in calls]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise DataError("A process was killed, perhaps for lack of memory. The same command goes on from here; with "
                        "--workers 1 it needs the least memory.") from error
    finally:  # lets the pieces in the making end, so that Ctrl-C loses nothing
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end with it when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _do_piece(files: Files, scans: Sequence[Scan], settings: Preprocess, path: Path) -> int:
    """Preprocess some scans and store the results; return how many."""
    rows, offset = [], 0
    with atomic_write(path.with_suffix(".bin"), "wb") as file:
        for scan in scans:
            row, png = _do_scan(files, scan, settings)
            rows.append({**row, "path": scan.path, "stamp": scan.stamp, "offset": offset, "length": len(png)})
            offset += file.write(png)
    with atomic_write(path.with_suffix(".jsonl")) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return len(scans)


def _do_scan(files: Files, scan: Scan, settings: Preprocess) -> tuple[Row, bytes]:
    try:
        loaded = load(files, scan.path, settings.channels)
        result = process_picture(loaded.picture, settings, loaded.missing)
    except Refusal as refusal:
        return {"refused": str(refusal)}, b""
    except Exception as error:  # whatever is odd about one file must not stop thousands
        return {"refused": f"cannot be processed: {type(error).__name__}: {error}"[:200]}, b""
    original, notes = result.original, result.facts.pop("notes", [])
    content = hashlib.sha256(f"{original.shape}".encode() + original.tobytes()).hexdigest()
    row = {"file_hash": loaded.file_hash, "pixel_hash": content,
           "dhash": f"{dhash(result.pixels):016x}", "thumbnail": thumbnail(result.pixels).tobytes().hex(),
           "facts": result.facts, "notes": notes}
    return row, encode_png(result.pixels)


def thumbnails_of(rows: Sequence[Row]) -> NDArray[np.uint8]:
    """Return the thumbnails of rows, [N, 16, 16]."""
    data = b"".join(bytes.fromhex(row["thumbnail"]) for row in rows)
    return np.frombuffer(data, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)
