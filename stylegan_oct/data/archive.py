"""The data archive: an uncompressed zip of PNGs in split folders, with dataset.json and manifest.jsonl.

dataset.json holds what StyleGAN tools read ({"labels": [[name, class number], ...]}, null without classes) and our own
keys `format`, `source`, `resolution`, `channels` and `classes`. Archives that other StyleGAN tools wrote lack those;
they are inferred from the images and the labels.
"""

import contextlib
import hashlib
import io
import json
import os
import shlex
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dnnlib.config import from_dict
from dnnlib.errors import ConfigError, DataError
from dnnlib.escape import printable
from dnnlib.files import atomic_path
from dnnlib.stored import BAD_ZIP, brief, brief_error, parse_json, read_member, reading
from dnnlib.text import suggest
from stylegan_oct.data.index import (
    FORMAT,
    INDEX,
    MANIFEST,
    SPLITS,
    SYNTHETIC,
    Index,
    ManifestRow,
    check_labels,
    image_names,
    is_image,
    split_of,
)

__all__ = ["INDEX", "MANIFEST", "SPLITS", "SYNTHETIC", "Archive", "ArchiveWriter", "image_name", "png_shape"]

PER_FOLDER = 1000  # images in one folder of the zip, as StyleGAN tools lay it out
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold: the same images give the same bytes
LARGEST_IMAGE = 64 * 2**20  # bytes of a file; one of 1024 px in RGB takes 3 MB
PER_IMAGE = 2**14           # bytes that dataset.json and the manifest may tell of an image
# What Pillow fails with where a picture is not what it should be.
BAD_IMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, MemoryError,
             struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning)

Source = Literal["phantom", "scans", "synthetic"]


class ArchiveWriter:
    """Writes an archive under a temporary name, which takes its place when the `with` block ends well.

    Args:
        dest: the zip; its folder is made.
        resolution: width and height of every image, in pixels.
        channels: 1 (grey) or 3 (RGB).
        classes: names in the order of the labels; empty for data without labels.
        source: "phantom", "scans" or "synthetic"; the last has the one split "synthetic", which the others have not.
        extra: further keys of dataset.json.
    Raises:
        DataError: the file cannot be written, for instance on a full disk; nothing is left behind.
    """

    def __init__(self, dest: Path, *, resolution: int, channels: int, classes: Sequence[str], source: str,
                 extra: Mapping[str, Any] | None = None) -> None:
        assert channels in (1, 3) and source in ("phantom", "scans", SYNTHETIC), (channels, source)
        self._dest = dest
        self._shape = (resolution, channels)
        self._classes = [*map(printable, classes)]
        self._index = {"format": FORMAT, "source": source, "resolution": resolution, "channels": channels,
                       "classes": self._classes, **(extra or {})}
        self._labels: list[list[str | int]] = []
        self._rows: list[str] = []
        self._counts: dict[str, int] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with _disk_errors(self._dest), contextlib.ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._dest))
            self._zip = stack.enter_context(zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED))
            self._stack = stack.pop_all()
        return self

    def add_image(self, split: str, png: bytes, label: int | None, row: Mapping[str, Any]) -> str:
        """Add one PNG and its row of the manifest; return its name within the archive."""
        resolution, channels = self._shape
        assert split in ((SYNTHETIC,) if self._index["source"] == SYNTHETIC else SPLITS), split
        if png_shape(png) != (resolution, resolution, channels):
            raise DataError(f"A picture of {png_shape(png)} rows, columns and channels does not belong into an archive "
                            f"of {resolution} px and {channels} channels.")
        assert label is None if not self._classes else label in range(len(self._classes)), label
        number = self._counts.get(split, 0)
        self._counts[split] = number + 1
        name = image_name(split, number)
        self.add_file(name, png)
        if label is not None:
            self._labels.append([name, int(label)])
        self._rows.append(json.dumps({"name": name, "split": split, "label": label, **row}) + "\n")
        return name

    def add_file(self, name: str, data: bytes) -> None:
        """Add any other file."""
        info = zipfile.ZipInfo(name, ZIP_DATE)
        info.external_attr = 0o644 << 16
        with _disk_errors(self._dest):
            self._zip.writestr(info, data)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if error is not None:
            with contextlib.suppress(OSError):  # closing a zip writes once more, and fails again on a full disk
                self._stack.__exit__(kind, error, trace)
            return
        with _disk_errors(self._dest), self._stack:
            index = {"labels": self._labels if self._classes else None, **self._index}
            self.add_file(INDEX, json.dumps(index).encode())
            self.add_file(MANIFEST, "".join(self._rows).encode())


@contextlib.contextmanager
def _disk_errors(dest: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"Cannot write {dest}: {error.strerror or error}. Free some space or choose another place; "
                        "the same command goes on from here.") from error


def image_name(split: str, number: int) -> str:
    """Return the name within the archive of an image of a split by its number, counted from 0."""
    return f"{split}/{number // PER_FOLDER:05d}/img{number:08d}.png"


def png_shape(png: bytes) -> tuple[int, int, int]:
    """Return (height, width, channels) of a PNG of 8 bits a channel from its header.

    Raises:
        DataError: it is none.
    """
    known = len(png) > 26 and png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26]) if known else (0, 0, 0, 0)
    if depth != 8 or colour not in (0, 2):
        raise DataError("A picture is no PNG of 8 bits, grey or RGB; what is to be archived is damaged. Make it anew.")
    return height, width, 1 if colour == 0 else 3


class Archive:
    """An archive for reading; cheap to send to worker processes, each of which opens the file itself.

    Raises:
        DataError: the file is missing, not a zip, cut short, or its dataset.json makes no sense.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        self._names = image_names(self._zip, self.path)
        if not self._names:
            raise DataError(f"{self.path} holds no PNG or JPEG images. "
                            "Make an archive with: python -m tools convert SOURCE DEST.zip --resolution N")
        index = self._read_index()
        with reading(f"{INDEX} in {self.path}", DataError, "Make the archive again with: python -m tools convert"):
            told = from_dict(Index, index, strict=False)
        self.source: str = told.source
        self.preprocess = told.preprocess  # how scans became these pictures
        self._labels, classes = check_labels(index.pop("labels", None), told, self._names, self.path)
        self.classes: tuple[str, ...] = tuple(classes if told.classes is None else told.classes)
        self.resolution, self.channels = self._shape_from(told)
        self.index = index  # dataset.json without its labels, whatever tool wrote it

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, sizes and checksums of the images and of dataset.json; not of the file's place."""
        members = sorted((info.filename, info.CRC, info.file_size) for info in self._zip.infolist()
                         if info.filename == INDEX or is_image(info.filename))
        return hashlib.sha256(json.dumps(members).encode()).hexdigest()

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold images; an archive without split folders is all "train"."""
        found = {split_of(name) for name in self._names}
        return tuple(split for split in (*SPLITS, SYNTHETIC) if split in found)

    def names(self, split: str) -> list[str]:
        """Return the names of the images of a split, sorted.

        Raises:
            DataError: there is no such split.
        """
        if split not in self.splits:
            raise DataError(f"{self.path} has no split {split!r}.{suggest(split, self.splits)}")
        return [name for name in self._names if split_of(name) == split]

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return the class numbers of a split in the order of `names`, int64 [N]; zeros where there are no classes."""
        return np.array([self._labels.get(name, 0) for name in self.names(split)], dtype=np.int64)

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the manifest's row of each image by its name; {} where there is no manifest.

        Raises:
            DataError: the manifest is damaged.
        """
        if MANIFEST not in self._zip.NameToInfo:
            return {}
        rows: dict[str, dict[str, Any]] = {}
        names = set(self._names)
        with reading(f"{MANIFEST} in {self.path}", DataError, "Make the archive again."):
            lines = self.read(MANIFEST).splitlines()
            found = parse_json(b"[" + b",".join(lines) + b"]", "it", nan=True, most=self._most_of_all)
            if len(found) != len(self._names):
                raise ConfigError(f"it must tell of all {len(self._names)} images; got {len(found)}.")
            for number, row in enumerate(found, start=1):
                told = from_dict(ManifestRow, row, where=f"line {number}", strict=False)
                expected = self._labels.get(told.name) if self.classes else None
                if told.name in rows or told.name not in names or (told.split, told.label) != (
                        split_of(told.name), expected):
                    raise ConfigError(f"line {number} must tell of one image, its split and its label, once; got "
                                      f"{brief(told.name)}, {told.split} and {told.label}.")
                rows[told.name] = row
        return rows

    def read(self, name: str) -> bytes:
        """Return a file of the archive.

        Raises:
            DataError: it is not there or damaged.
        """
        member = self._zip.NameToInfo.get(name)
        if member is None:
            raise DataError(f"{self.path} holds no file {name}.")
        try:
            return read_member(self._zip, member, LARGEST_IMAGE if is_image(name) else self._most_of_all)
        except (*BAD_ZIP, ConfigError) as error:
            raise DataError(f"{name} in {self.path} cannot be read: {brief_error(error).rstrip('.')}. Make the archive "
                            "again.") from error

    @property
    def _most_of_all(self) -> int:
        """Bytes of a file that tells of all images: they may grow with their number, and with nothing else."""
        return LARGEST_IMAGE + PER_IMAGE * len(self._names)

    def read_pixels(self, name: str) -> NDArray[np.uint8]:
        """Return an image, uint8 [H, W] or [H, W, 3].

        Raises:
            DataError: it cannot be decoded, or is not of the archive's size and channels.
        """
        wanted = (self.resolution, self.resolution) + ((3,) if self.channels == 3 else ())
        with self._opened_image(name) as image:
            fits = (image.size, image.mode) == (wanted[1::-1], "RGB" if self.channels == 3 else "L")
            pixels = np.asarray(image) if fits else np.zeros(0, np.uint8)  # no other is unpacked
            found = f"{'grey' if image.mode == 'L' else image.mode} [{image.height}, {image.width}]"
        if not fits:
            raise DataError(f"{name} in {self.path} is {found}, but this archive needs "
                            f"{'RGB' if self.channels == 3 else 'grey'} {list(wanted[:2])}. Make it again with: "
                            "python -m tools convert")
        return pixels

    @contextlib.contextmanager
    def _opened_image(self, name: str) -> Iterator[Image.Image]:
        """Open an image; what goes wrong until the block ends is told of as its fault."""
        data = self.read(name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
                    yield image
        except BAD_IMAGE as error:
            raise DataError(f"{name} in {self.path} is not an image that can be decoded: {brief_error(error)}. "
                            "Make the archive again.") from error

    @property
    def _zip(self) -> zipfile.ZipFile:
        """The open file; opened anew in each process, since a forked one would share the file position."""
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = (os.getpid(), zipfile.ZipFile(self.path))
            except FileNotFoundError:
                raise DataError(f"There is no archive {self.path}. "
                                "Make one with: python -m tools convert SOURCE DEST.zip --resolution N") from None
            except BAD_ZIP as error:
                raise DataError(f"{self.path} is not a zip or is cut short ({brief_error(error)}). Copy it again, or "
                                "make it with: python -m tools convert SOURCE DEST.zip --resolution N") from error
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _read_index(self) -> dict[str, Any]:
        """Return dataset.json; {} where an archive without labels has none."""
        if INDEX not in self._zip.NameToInfo:
            return self._without_index()
        try:
            index = parse_json(self.read(INDEX), "it", most=self._most_of_all)
        except ConfigError as error:
            raise DataError(f"{INDEX} in {self.path} cannot be used: {error} A comma after the last entry is a "
                            "frequent cause. Mend it, or make the archive again.") from error
        if not isinstance(index, dict):
            raise DataError(f"{INDEX} in {self.path} must be an object with the key \"labels\"; "
                            f"got {type(index).__name__}.")
        return index

    def _without_index(self) -> dict[str, Any]:
        """Accept StyleGAN's own layout without labels; refuse a mere zip of pictures."""
        if all(PurePosixPath(name).name.startswith("img") for name in self._names):
            return {}
        raise DataError(f"{self.path} has no {INDEX}: it is a zip of pictures, not an archive. "
                        f"Convert it with: python -m tools convert {shlex.quote(str(self.path))} DEST.zip "
                        "--resolution N")

    def _shape_from(self, told: "Index") -> tuple[int, int]:
        """Return (resolution, channels), from the first image where dataset.json does not tell."""
        if told.resolution is not None and told.channels is not None:
            return told.resolution, told.channels
        name = self._names[0]
        with self._opened_image(name) as image:
            (width, height), bands = image.size, image.getbands()
        if width != height or len(bands) not in (1, 3):
            raise DataError(f"{name} in {self.path} is {width} x {height} with the channels {''.join(bands)}; archives "
                            "hold square images, grey or RGB. Make it with: python -m tools convert")
        return width, len(bands)
