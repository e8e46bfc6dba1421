"""The files of a source: what is found in a folder or a zip, and how it is read."""

import os
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dnnlib.errors import DataError
from stylegan_oct.data.names import clean_path
from stylegan_oct.data.readers.axes import Axes

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
VOLUMES = (".dcm", ".dicom", ".vol", ".e2e", ".mhd", ".mha", ".nii", ".nii.gz", ".npy", ".npz",
           ".fda", ".fds")  # files of many B-scans
PICTURES = "PNG, JPEG, TIFF, BMP or WebP"
MAX_FILE_BYTES = 256 * 2**20  # far above any scan; keeps one file from filling the memory
MAX_ROUTES = 4                # ways by links on which a folder is read: its scans may be under several classes
SYSTEM_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "lost+found")  # thumbnails and what was deleted


class Refusal(Exception):
    """Why a scan cannot be used; it is reported and skipped."""


class Found(NamedTuple):
    """An image file of a source."""

    path: str   # for reading it, relative to the source
    told: str   # for reading class, patient and split from it: as its author wrote it
    stamp: str  # changes when the file does


@dataclass
class Listing:
    """What was left aside while listing a source."""

    refused: list[tuple[str, str]] = field(default_factory=list)  # (path, reason)
    ignored: Counter[str] = field(default_factory=Counter)        # suffixes of other files


@dataclass(frozen=True)
class FolderFiles:
    """Reads files below a folder."""

    root: Path
    axes: Axes = "auto"  # of the volumes

    def read(self, path: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            Refusal: it cannot be read or is too large.
        """
        try:
            # A pipe or device named like a picture would block for ever.
            info = (self.root / path).stat()
            if not stat.S_ISREG(info.st_mode):
                raise Refusal("is not a regular file")
            _check_size(info.st_size)
            return (self.root / path).read_bytes()
        except OSError as error:
            raise Refusal(f"cannot be read: {error.strerror or error}") from None

    def pictures(self, listing: Listing) -> Iterator[Found]:
        """Yield the pictures and volumes below the folder, also through links; a loop of links ends."""
        above: dict[str, frozenset[tuple[int, int]]] = {}
        routes: Counter[tuple[int, int]] = Counter()

        def report(error: OSError) -> None:
            name = Path(error.filename).relative_to(self.root).as_posix() if error.filename else "."
            listing.refused.append((f"{name}/", f"cannot be listed: {error.strerror}"))

        for folder, children, names in os.walk(self.root, followlinks=True, onerror=report):
            info = os.stat(folder)
            here, parents = (info.st_dev, info.st_ino), above.get(os.path.dirname(folder), frozenset())
            routes[here] += 1
            if here in parents or routes[here] > MAX_ROUTES:
                children.clear()
                continue
            above[folder] = parents | {here}
            children[:] = sorted(name for name in children if not _is_hidden(name))
            for name in sorted(names):
                if _is_hidden(name) or (name.endswith("-audit.png") and f"{name[:-4]}.md" in names):
                    continue  # the second: left here by an earlier conversion
                path = (Path(folder) / name).relative_to(self.root).as_posix()
                if is_scan_file(name):
                    yield Found(path, path, stamp_of(Path(folder) / name))
                else:
                    listing.ignored[Path(name).suffix.lower()] += 1

    def find_beside(self, folder: str, name: str) -> bytes | None:
        """Return a file of the source, or of the folder that all images lie in."""
        for place in (self.root / name, self.root / folder / name):
            if place.is_file():
                return self.read(place.relative_to(self.root).as_posix())
        return None


class ZipFiles:
    """Reads members of a zip; nothing is extracted, so that no member can be written anywhere."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_opened": None}

    def open(self) -> zipfile.ZipFile:
        """Return the open zip of this process."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), zipfile.ZipFile(self.path))
        return self._opened[1]

    def read(self, path: str) -> bytes:
        """Return the bytes of a member.

        Raises:
            Refusal: it is damaged, encrypted or larger than it says.
        """
        try:
            with self.open().open(path) as file:
                data = file.read(MAX_FILE_BYTES + 1)  # the size in the directory may lie
        except Exception as error:  # zlib, lzma and bz2 each raise their own kinds on damaged data
            # Their words may quote the name of the member.
            raise Refusal(f"cannot be read from the zip: it is damaged ({type(error).__name__})") from None
        _check_size(len(data))
        return data

    def pictures(self, listing: Listing) -> Iterator[Found]:
        """Yield the images in the zip that are safe to read.

        Raises:
            DataError: the zip is damaged.
        """
        try:
            members = self.open().infolist()
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(f"{self.path} is a damaged zip: {error}. Copy or download it again.") from error
        for info in members:
            told = _as_written(info)
            if told.endswith(("/", "\\")) or _is_hidden(told):
                continue
            if not is_picture(told):
                listing.ignored[Path(clean_path(told)).suffix.lower()] += 1
            elif reason := _refuse_member(info, told):
                listing.refused.append((told, reason))
            else:
                yield Found(info.filename, told, f"{info.file_size}-{info.CRC}")

    def find_beside(self, folder: str, name: str) -> bytes | None:
        """Return a file of the zip, or of the folder that all images lie in."""
        names = {clean_path(info.filename): info.filename for info in self.open().infolist()}
        found = names.get(name) or names.get(f"{folder}/{name}")
        return self.read(found) if found else None


def is_picture(name: str) -> bool:
    """Whether a file is named as a picture."""
    return name.strip().lower().endswith(SUFFIXES)


def is_scan_file(name: str) -> bool:
    """Whether a file is named as a picture or a volume."""
    return is_picture(name) or suffix_of(name) in VOLUMES


def suffix_of(name: str) -> str:
    """Return the suffix of a file in lower case; ".nii.gz" is one."""
    name = name.strip().lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def stamp_of(path: Path) -> str:
    """Return what changes when a file does."""
    try:
        info = path.stat()
    except (OSError, ValueError):  # a broken link; reading reports it
        return "?"
    return f"{info.st_size}-{info.st_mtime_ns}"


def _as_written(info: zipfile.ZipInfo) -> str:
    """Return a member's name as its author wrote it: macOS stores UTF-8 without saying so."""
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _refuse_member(info: zipfile.ZipInfo, told: str) -> str:
    """Return why a member of a zip is not read, "" where it is."""
    parts = clean_path(told).split("/")
    if told.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        return "its path leaves the zip"
    if info.flag_bits & 1:
        return "is encrypted"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.file_size > MAX_FILE_BYTES:
        return f"is larger than {MAX_FILE_BYTES >> 20} MiB when unpacked"
    return ""


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise Refusal(f"is larger than {MAX_FILE_BYTES >> 20} MiB")
    if size == 0:
        raise Refusal("is empty (0 bytes)")


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") and part != ".." or part.casefold() in SYSTEM_FOLDERS
               for part in clean_path(path).split("/"))
