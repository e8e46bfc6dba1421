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
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dnnlib.errors import DataError
from dnnlib.escape import printable
from dnnlib.files import atomic_path
from dnnlib.text import suggest

FORMAT = "stylegan_oct-1"
INDEX = "dataset.json"
MANIFEST = "manifest.jsonl"
SPLITS = ("train", "val", "test")
SYNTHETIC = "synthetic"  # source and only split of what a generator drew: nobody trains on it unaware
PER_FOLDER = 1000  # images in one folder of the zip, as StyleGAN tools lay it out
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold: the same images give the same bytes
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

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
        assert png_shape(png) == (resolution, resolution, channels), f"{png_shape(png)} is not {self._shape}"
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
    """Return (height, width, channels) of a PNG of 8 bits a channel from its header."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n", png[:8]
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    assert depth == 8 and colour in (0, 2), (depth, colour)
    return height, width, 1 if colour == 0 else 3


class Archive:
    """An archive for reading; cheap to send to worker processes, each of which opens the file itself.

    Raises:
        DataError: the file is missing, not a zip, cut short, or its dataset.json makes no sense.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        members = self._zip.infolist()
        self._names = sorted(info.filename for info in members if _is_image(info.filename))
        if not self._names:
            raise DataError(f"{self.path} holds no PNG or JPEG images. "
                            "Make an archive with: python -m tools convert SOURCE DEST.zip --resolution N")
        index = self._read_index()
        self.source: str = index.get("source", "scans")
        self.preprocess: dict[str, Any] | None = index.get("preprocess")  # how scans became these pictures
        self._labels, classes = _check_labels(index, self._names, self.path)
        self.classes: tuple[str, ...] = tuple(printable(str(name)) for name in index.get("classes", classes))
        self.resolution, self.channels = self._shape_from(index)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, sizes and checksums of the images and of dataset.json; not of the file's place."""
        members = sorted((info.filename, info.CRC, info.file_size) for info in self._zip.infolist()
                         if info.filename == INDEX or _is_image(info.filename))
        return hashlib.sha256(json.dumps(members).encode()).hexdigest()

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold images; an archive without split folders is all "train"."""
        found = {_split_of(name) for name in self._names}
        return tuple(split for split in (*SPLITS, SYNTHETIC) if split in found)

    def names(self, split: str) -> list[str]:
        """Return the names of the images of a split, sorted.

        Raises:
            DataError: there is no such split.
        """
        if split not in self.splits:
            raise DataError(f"{self.path} has no split {split!r}.{suggest(split, self.splits)}")
        return [name for name in self._names if _split_of(name) == split]

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return the class numbers of a split in the order of `names`, int64 [N]; zeros where there are no classes."""
        return np.array([self._labels.get(name, 0) for name in self.names(split)], dtype=np.int64)

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the manifest's row of each image by its name; {} where there is no manifest.

        Raises:
            DataError: the manifest is damaged.
        """
        if MANIFEST not in self._zip.namelist():
            return {}
        try:
            rows = [json.loads(line) for line in self.read(MANIFEST).splitlines()]
            return {row["name"]: row for row in rows}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{MANIFEST} in {self.path} is damaged. Make the archive again.") from error

    def read(self, name: str) -> bytes:
        """Return a file of the archive.

        Raises:
            DataError: it is not there or damaged.
        """
        try:
            return self._zip.read(name)
        except KeyError:
            raise DataError(f"{self.path} holds no file {name}.") from None
        except (OSError, zipfile.BadZipFile, EOFError) as error:
            raise DataError(f"{name} in {self.path} cannot be read: {error}. Make the archive again.") from error

    def read_pixels(self, name: str) -> NDArray[np.uint8]:
        """Return an image, uint8 [H, W] or [H, W, 3].

        Raises:
            DataError: it cannot be decoded, or is not of the archive's size and channels.
        """
        try:
            with Image.open(io.BytesIO(self.read(name))) as image:
                pixels = np.asarray(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{name} in {self.path} is not an image that can be decoded: {_brief(error)}. "
                            "Make the archive again.") from error
        wanted = (self.resolution, self.resolution) + ((3,) if self.channels == 3 else ())
        if pixels.shape != wanted or pixels.dtype != np.uint8:
            raise DataError(f"{name} in {self.path} is {pixels.dtype} {list(pixels.shape)}, but this archive needs "
                            f"uint8 {list(wanted)}. Make it again with: python -m tools convert")
        return pixels

    @property
    def _zip(self) -> zipfile.ZipFile:
        """The open file; opened anew in each process, since a forked one would share the file position."""
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = (os.getpid(), zipfile.ZipFile(self.path))
            except FileNotFoundError:
                raise DataError(f"There is no archive {self.path}. "
                                "Make one with: python -m tools convert SOURCE DEST.zip --resolution N") from None
            except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
                raise DataError(f"{self.path} is not a zip or is cut short ({_brief(error)}). Copy it again, or make "
                                "it with: python -m tools convert SOURCE DEST.zip --resolution N") from error
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _read_index(self) -> dict[str, Any]:
        """Return dataset.json; {} where an archive without labels has none."""
        try:
            raw = self._zip.read(INDEX)
        except KeyError:
            return self._without_index()
        except (OSError, zipfile.BadZipFile, EOFError) as error:
            raise DataError(f"{INDEX} in {self.path} is damaged ({_brief(error)}). Make the archive again.") from error
        try:
            index = json.loads(raw)
        except ValueError as error:
            raise DataError(f"{INDEX} in {self.path} is not JSON ({error}); a comma after the last entry is a frequent "
                            "cause. Mend it, or make the archive again.") from error
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

    def _shape_from(self, index: Mapping[str, Any]) -> tuple[int, int]:
        """Return (resolution, channels), from the first image where dataset.json does not tell."""
        if "resolution" in index and "channels" in index:
            return int(index["resolution"]), int(index["channels"])
        name = self._names[0]
        try:
            with Image.open(io.BytesIO(self.read(name))) as image:
                (width, height), bands = image.size, image.getbands()
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{name} in {self.path} is not an image that can be decoded: {_brief(error)}.") from error
        if width != height or len(bands) not in (1, 3):
            raise DataError(f"{name} in {self.path} is {width} x {height} with the channels {''.join(bands)}; archives "
                            "hold square images, grey or RGB. Make it with: python -m tools convert")
        return width, len(bands)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("__MACOSX/")


def _split_of(name: str) -> str:
    first = name.partition("/")[0]
    return first if first in (*SPLITS, SYNTHETIC) else "train"


def _brief(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _check_labels(index: Mapping[str, Any], names: Sequence[str], path: Path) -> tuple[dict[str, int], list[str]]:
    """Return the class number of each image, and class names where dataset.json gives none.

    Raises:
        DataError: an image lacks a label, a label is not a class number, or a number between the labels is unused.
    """
    pairs = index.get("labels")
    if pairs is None:
        return {}, []
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise DataError(f"\"labels\" in {INDEX} of {path} must be a list of [file name, class number].")
    labels: dict[str, int] = {}
    given = index.get("classes")
    for name, label in pairs:
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise DataError(f"{INDEX} in {path} gives {name} the label {label!r}; labels are the numbers 0, 1, 2, ... "
                            "of the classes. Make the archive again with: python -m tools convert")
        if given is not None and label >= len(given):
            raise DataError(f"{INDEX} in {path} gives {name} the label {label}, but there are {len(given)} classes.")
        labels[name] = label
    missing = [name for name in names if name not in labels]
    if missing:
        raise DataError(f"{INDEX} in {path} has no label for {missing[0]} (and {len(missing) - 1} more). Label every "
                        "image, or none with \"labels\": null.")
    count = max(labels.values(), default=-1) + 1
    unused = sorted(set(range(count)) - set(labels.values()))
    if given is None and unused:
        raise DataError(f"{INDEX} in {path} uses labels up to {count - 1}, but none is {unused[0]}: a gap would train "
                        "a class without images. Number the classes 0, 1, 2, ... without gaps.")
    return labels, [str(number) for number in range(count)]
