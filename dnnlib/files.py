"""Files that are either whole or not there."""

import contextlib
import hashlib
import os
import secrets
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; synced and renamed to it on success, removed on any exception.

    The temporary name starts with `.tmp-`, so what a kill leaves behind can be told from finished files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".tmp-{path.name}-{secrets.token_hex(4)}"
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a full disk does not say where
        raise
    sync_directory(path.parent)


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing that replaces `path` only when the block ends without an exception.

    Text is written as UTF-8 with `\\n` line ends on every system.
    """
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    with atomic_path(path) as temporary, open(temporary, mode, **text) as file:  # type: ignore[call-overload]
        yield file


def hold_lock(path: Path) -> IO[str] | None:
    """Hold the lock file `path` for this process until the returned file is closed; a kill releases it too.

    Returns:
        The open file, or None where another process holds the lock. On Windows, which has no flock, always a file.
    """
    file = open(path, "w", encoding="utf-8")  # noqa: SIM115 (stays open as the lock)
    with contextlib.suppress(ImportError):
        import fcntl
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
    return file


def sync_directory(path: Path) -> None:
    """Make renames within `path` durable, where the system can."""
    with contextlib.suppress(OSError):  # Windows cannot open directories
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Finder:
    """Finds files by names that differ in case or in the form of their letters, as other systems write them."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, root: Path, name: str) -> Path | None:
        """Return the one file below `root` that a path with forward slashes means; None where there is none.

        The file that is named exactly so goes first; of several others none is taken.
        """
        place = root
        try:
            if (root / name).exists():
                return root / name
            for part in name.split("/"):
                if not (place / part).exists():
                    alike = self._names(place).get(_form(part), [])
                    if len(alike) != 1:
                        return None
                    part = alike[0]
                place = place / part
        except (OSError, ValueError):  # names that no system admits
            return None
        return place

    def _names(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listed:
            found: dict[str, list[str]] = {}
            for name in os.listdir(folder):
                found.setdefault(_form(name), []).append(name)
            self._listed[folder] = found
        return self._listed[folder]


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
