"""Sets of pictures and labels in one .npz, such as those of MedMNIST, as a source."""

import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dnnlib.errors import DataError
from stylegan_oct.data.files import Refusal
from stylegan_oct.data.readers.array import check_ratio, head_of, load_member, map_npy, reading
from stylegan_oct.data.readers.brightness import remarks, shows_nothing
from stylegan_oct.data.readers.bscan import check_size
from stylegan_oct.data.readers.image import COLOUR_STEP, Deep, Picture, from_deep
from stylegan_oct.data.readers.stack import MAX_BYTES, check_bytes

# Names of the arrays of pictures and of labels, and the split that they are; None where there is none.
NAMES = (("train_images", "train_labels", "train"), ("val_images", "val_labels", "val"),
         ("test_images", "test_labels", "test"), ("x_train", "y_train", "train"), ("x_val", "y_val", "val"),
         ("x_test", "y_test", "test"), ("images", "labels", None))
MOST_LABELS = 64 * 2**20  # bytes


@dataclass(frozen=True)
class Item:
    """A picture of a set."""

    path: str            # train/12
    label: str | None    # its number
    split: str | None


class ArrayFiles:
    """Reads pictures of the arrays in a .npz, which are unpacked to a folder of their own as long as this is there.

    Raises:
        DataError: the file holds no pictures, is damaged, or there is no room to unpack it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = Path(tempfile.mkdtemp(prefix="stylegan-oct-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)  # also where the next lines refuse
        self._maps: dict[str, NDArray[Any]] = {}
        self.labels: dict[str, tuple[NDArray[Any] | None, str | None]] = {}
        try:
            with reading(".npz"), zipfile.ZipFile(path) as file:
                self._unpack(file)
        except Refusal as refusal:
            raise DataError(f"{path} {refusal}.") from None

    @staticmethod
    def is_set(path: Path) -> bool:
        """Tell whether a .npz has arrays of such names; images without labels may be a volume."""
        try:
            with zipfile.ZipFile(path) as file:
                names = set(file.namelist())
            return any(f"{images}.npy" in names and (split or f"{labels}.npy" in names)
                       for images, labels, split in NAMES)
        except (OSError, zipfile.BadZipFile):
            return False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}, "labels": {}}

    def items(self) -> Iterator[Item]:
        """Yield all pictures, in the order of the arrays."""
        for name, (labels, split) in self.labels.items():
            for index in range(len(self._array(name))):
                yield Item(f"{name}/{index}", str(int(labels[index])) if labels is not None else None, split)

    def picture(self, path: str, channels: int) -> Picture:
        """Return a picture.

        Raises:
            Refusal: it is none of a scan.
        """
        name, _, index = path.partition("/")
        values = np.ascontiguousarray(self._array(name)[int(index)])
        check_size(values.shape[1], values.shape[0])
        facts: dict[str, Any] = {"width": values.shape[1], "height": values.shape[0], "format": "NPZ", "mode": "L"}
        if values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8:
            spread = values.max(axis=2).astype(np.int16) - values.min(axis=2)
            more: dict[str, Any] = {"bits": 8, "coloured": round(float((spread >= COLOUR_STEP).mean()), 4)}
            pixels = values if channels == 3 else np.asarray(Image.fromarray(values).convert("L"))
        else:
            pixels, more = from_deep(values.squeeze(), Deep(inverted=False, stored=0, least=8))
            pixels = np.repeat(pixels[:, :, np.newaxis], 3, axis=2) if channels == 3 else pixels
        if shows_nothing(pixels):
            raise Refusal("shows nothing: all pixels have the same value")
        notes = [*more.pop("notes", ()), *remarks(pixels)]
        return Picture(pixels, {**facts, **more, **({"notes": notes} if notes else {})})

    def _array(self, name: str) -> NDArray[Any]:
        if name not in self._maps:
            self._maps[name] = map_npy(self.folder / f"{name}.npy")
        return self._maps[name]

    def _unpack(self, file: zipfile.ZipFile) -> None:
        names = set(file.namelist())
        for images, labels, split in NAMES:
            if f"{images}.npy" not in names:
                continue
            info = file.getinfo(f"{images}.npy")
            shape, _, dtype, start = head_of(file, info)
            if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
                raise Refusal(f"holds no pictures in {images}: its axes are {shape}, where [N, H, W] and "
                              "[N, H, W, 1 or 3] are read")
            size = check_bytes(shape, dtype.itemsize, MAX_BYTES) + start
            check_ratio(info)
            if shutil.disk_usage(self.folder).free < size:
                raise Refusal(f"needs {size >> 20} MiB in {self.folder.parent} to be unpacked; make room there or "
                              "set TMPDIR")
            with file.open(info) as member, open(self.folder / f"{images}.npy", "wb") as out:
                while size and (block := member.read(min(size, 2**22))):
                    size -= out.write(block)
            if size:
                raise Refusal(f"is cut short: {images} should hold {' x '.join(map(str, shape))} values")
            self.labels[images] = (_labels(file, labels, shape[0]) if f"{labels}.npy" in names else None, split)
        if not self.labels:
            raise Refusal(f"holds no set that is read here: arrays train_images and train_labels (also val and test) "
                          f"as of MedMNIST, x_train and y_train, or images and labels; it has {len(names)} others")


def _labels(file: zipfile.ZipFile, name: str, count: int) -> NDArray[Any]:
    """Return the number of the class of each picture, [N]."""
    labels = load_member(file, f"{name}.npy", MOST_LABELS)
    if labels.dtype.kind not in "iu" or labels.size != count or labels.shape[0] != count or (labels < 0).any():
        raise Refusal(f"has labels in {name} that are no classes: one whole number from 0 for each of {count} pictures "
                      "is read")
    return labels.reshape(count)
