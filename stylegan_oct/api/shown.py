"""Pictures that show themselves in a notebook and say what they are."""

import base64
import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_write
from dnnlib.pictures import Picture, encode_png
from stylegan_oct.data.privacy import write_private
from torch_utils.images import to_pictures

SHOWN_WIDTH = 128   # px in a notebook, at least


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Shown:
    """A picture with a line about it, and the text chunks of its PNG.

    A notebook shows it by itself; `numpy.asarray` and `image` give the pixels.
    """

    picture: Picture           # uint8 [H, W] or [H, W, 3]
    title: str                 # one line
    text: Mapping[str, str]    # chunks of the PNG
    private: bool = False      # of a patient, or derived from one: written for the owner alone

    @property
    def image(self) -> Image.Image:
        """The picture as PIL has it."""
        return Image.fromarray(self.picture)

    def png(self) -> bytes:
        """Return the picture as a PNG with its text chunks."""
        return encode_png(self.picture, self.text)

    def save(self, path: str | Path) -> Path:
        """Write the PNG, that of a patient for the owner alone; return its path.

        Raises:
            DataError: it cannot be written.
        """
        path = Path(path)
        try:
            if self.private:
                write_private(path, self.png())
            else:
                with atomic_write(path, "wb") as file:
                    file.write(self.png())
        except OSError as error:
            raise DataError(f"Cannot write {path}: {error.strerror}. Choose another place.") from error
        return path

    def lines(self) -> Iterable[str]:
        """Return what a notebook shows below the picture."""
        return ()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.picture, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        height, width = self.picture.shape[:2]
        return "\n".join([f"<{type(self).__name__}: {self.title}, {width} x {height} px>", *self.lines()])

    def _repr_png_(self) -> bytes:
        return self.png()

    def _repr_html_(self) -> str:
        width = self.picture.shape[1] * max(1, -(-SHOWN_WIDTH // self.picture.shape[1]))
        data = base64.b64encode(self.png()).decode()
        return (f'<img width="{width}" style="image-rendering: pixelated" alt="{html.escape(self.title)}" '
                f'src="data:image/png;base64,{data}"><br>{html.escape(self.title)}{as_html(self.lines())}')


def as_html(lines: Iterable[str]) -> str:
    """Return lines as a block of text of a page; "" for none."""
    text = html.escape("\n".join(lines))
    return f"<pre>{text}</pre>" if text else ""


def to_pixels(picture: Any) -> Picture:
    """Return any picture as uint8 [H, W] or [H, W, 3].

    Args:
        picture: a `Shown`, a PIL image, uint8 NumPy, or a tensor as a generator returns, [1, C, H, W] or [C, H, W].
    Raises:
        ConfigError: it is something else.
    """
    if isinstance(picture, Shown):
        return picture.picture
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB"))
    if isinstance(picture, Tensor):
        images = picture[None] if picture.ndim == 3 else picture
        if images.ndim == 4 and len(images) == 1 and images.shape[1] in (1, 3) and images.is_floating_point():
            return to_pictures(images.detach())[0]
    shape, dtype = getattr(picture, "shape", None), getattr(picture, "dtype", None)
    if isinstance(picture, np.ndarray) and dtype == np.uint8 and (picture.ndim == 2 or picture.shape[2:] == (3,)):
        return picture
    got = type(picture).__name__ if shape is None else f"{type(picture).__name__} {dtype} {list(shape)}"
    raise ConfigError(f"A picture is uint8 [H, W] or [H, W, 3], a PIL image, or one image of a generator; got {got}.")
