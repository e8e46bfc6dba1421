"""From a decoded scan to the square picture of the archive.

In order: the border is found, a region of interest is cut if asked for, the shape is made square, what is missing is
filled with noise of the scan's own background, and the result is resampled. Nothing is denoised, nothing is stretched
between its own extremes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dnnlib.config import from_dict
from dnnlib.errors import ConfigError
from stylegan_oct.data.border import Grey, Mask, find_border, repair, repaired
from stylegan_oct.data.files import Refusal
from stylegan_oct.data.readers.image import Picture, decode

VERSION = 2           # raise when the same scan would give other pixels: unfinished work is then begun anew
ROI_HEIGHT = 0.6      # share of the scan's height that the region of interest keeps, so that the scale is one for all
ROI_RPE = 0.65        # where in it the pigment epithelium lies, from the top: the retina above, choroid below
MIN_EVEN_SHRINK = 2.0  # from this factor on the mean over each output pixel is taken


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocess:
    """How scans become pictures of the archive."""

    resolution: int                                       # pixels, a power of two from 8 to 1024
    channels: int = 1                                     # 1 grey, 3 RGB
    aspect: Literal["stretch", "fit", "crop"] = "stretch"  # to a square: distort, pad with noise, or cut the sides
    border: bool = True                                   # replace white wedges and black margins
    max_border: float = 0.4                               # refuse a scan with a larger share of padding
    roi: bool = False                                     # keep a band of fixed height around the retina

    def __post_init__(self) -> None:
        if self.resolution not in (8, 16, 32, 64, 128, 256, 512, 1024):
            powers = [2**k for k in range(3, 11)]
            nearest = min(powers, key=lambda power: abs(power - self.resolution))
            raise ConfigError(f"The resolution must be a power of two from 8 to 1024; got {self.resolution}. "
                              f"Try --resolution {nearest}.")
        if self.channels not in (1, 3):
            raise ConfigError(f"Archives have 1 channel (grey) or 3 (RGB); got {self.channels}.")
        if self.aspect not in ("stretch", "fit", "crop"):
            raise ConfigError(f"The aspect mode must be stretch, fit or crop; got {self.aspect!r}.")
        if not 0 <= self.max_border <= 1:
            raise ConfigError(f"The largest share of padding lies between 0 and 1; got {self.max_border}.")


def parse_preprocess(found: Mapping[str, Any] | None, resolution: int, channels: int) -> Preprocess:
    """Return the settings that a file holds; the defaults where it holds none, as for simulated scans.

    Raises:
        ConfigError: they are not such settings, or are for pictures of another size.
    """
    if found is None:
        return Preprocess(resolution=resolution, channels=channels)
    settings = from_dict(Preprocess, found, where="preprocess")
    if (settings.resolution, settings.channels) != (resolution, channels):
        raise ConfigError(f"preprocess is for {settings.resolution} px and {settings.channels} channels; the pictures "
                          f"have {resolution} px and {channels}.")
    return settings


@dataclass(frozen=True, eq=False)
class Square:
    """The square picture of some pixels."""

    pixels: Grey                 # [R, R] or [R, R, 3]
    valid: Mask                  # [R, R], false where a pixel holds noise that was put in place of what was missing
    scale: tuple[float, float]   # pixels of the scan per pixel of the picture: down, across
    facts: dict[str, Any]        # for the manifest


@dataclass(frozen=True)
class Processed:
    """A picture for the archive and what was done to get it."""

    pixels: Grey             # [R, R] or [R, R, 3]
    original: Grey           # as decoded
    facts: dict[str, Any]    # for the manifest


def process(data: bytes, settings: Preprocess) -> Processed:
    """Return the square picture for the bytes of an image file.

    Raises:
        Refusal: it cannot be decoded or is mostly padding.
    """
    return process_picture(decode(data, settings.channels), settings)


def process_picture(picture: Picture, settings: Preprocess, missing: Mask | None = None) -> Processed:
    """Return the same for a picture.

    Args:
        picture: with the channels of the settings, or grey for colour.
        settings: how.
        missing: [H, W], where the device stored nothing.
    Raises:
        Refusal: it is mostly padding.
    """
    pixels = picture.pixels
    if settings.channels == 3 and pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, np.newaxis], 3, axis=2)
    square = to_square(pixels, settings, missing)
    return Processed(square.pixels, picture.pixels, {**picture.facts, **square.facts})


def to_square(pixels: Grey, settings: Preprocess, missing: Mask | None = None) -> Square:
    """Return the square picture of a decoded scan.

    Args:
        pixels: [H, W] or [H, W, 3].
        settings: how.
        missing: [H, W], where the device stored nothing; treated as border.
    Raises:
        Refusal: it is mostly padding.
    """
    facts: dict[str, Any] = {}
    missing = np.zeros(pixels.shape[:2], bool) if missing is None else missing
    if settings.border:
        border = find_border(to_grey(pixels))
        facts |= {"border_white": round(border.white, 4), "border_black": round(border.black, 4)}
        missing = missing | border.mask
    share = float(missing.mean())
    if share > settings.max_border:
        raise Refusal(f"is {share:.0%} padding, more than {settings.max_border:.0%}")
    if settings.roi:
        top, height = find_roi(to_grey(pixels), missing)
        facts["roi_rows"] = [top, top + height]
        pixels, missing = _take_rows(pixels, missing, top, height)
    pixels, missing = _make_square(pixels, missing, settings.aspect)
    side = settings.resolution
    scale = (pixels.shape[0] / side, pixels.shape[1] / side)
    # Times the device's micrometres per pixel, this is the scale of the picture.
    facts |= {"aspect": settings.aspect, "scale_x": round(scale[1], 4), "scale_y": round(scale[0], 4)}
    return Square(resample(repair(pixels, missing), side), _valid(missing, side), scale, facts)


def _valid(missing: Mask, side: int) -> Mask:
    """Return the pixels of the picture, [side, side], over which nothing was missing."""
    holes = Image.fromarray(repaired(missing).astype(np.float32))
    return np.asarray(holes.resize((side, side), Image.Resampling.BOX)) < 1e-3


def to_grey(pixels: Grey) -> Grey:
    """Return the luma of RGB, or the picture itself."""
    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


def resample(pixels: Grey, side: int) -> Grey:
    """Return the picture at side x side pixels, antialiased along both axes.

    Shrinking twofold and more averages over the area, as a detector with larger pixels would; less, or enlarging,
    goes by cubic interpolation, since areas that hold one or two pixels in turn would make stripes in speckle.
    """
    image = Image.fromarray(pixels)
    for size, factor in (((side, image.height), image.width / side), ((side, side), image.height / side)):
        if image.size != size:
            even = factor >= MIN_EVEN_SHRINK
            image = image.resize(size, Image.Resampling.BOX if even else Image.Resampling.BICUBIC)
    return np.asarray(image)


def find_roi(grey: Grey, missing: Mask) -> tuple[int, int]:
    """Return (first row, rows) of the band around the retina; it may leave the picture above or below.

    The pigment epithelium is taken as the brightest smooth line with retina above it: the shortest path from the left
    to the right through the brightness, weighted with the share of the column's light that lies above.
    """
    step = max(grey.shape[0] // 248, 1)
    light = np.where(missing, 0, grey).astype(np.float32)
    rows, columns = grey.shape[0] // step, grey.shape[1] // (2 * step)
    small = light[:rows * step, :columns * 2 * step].reshape(rows, step, columns, 2 * step).mean(axis=(1, 3))
    small = ndimage.gaussian_filter(small, (1.5, 2.0))
    light_above = np.maximum(small - np.median(small), 0).cumsum(axis=0)
    score = small * np.sqrt(light_above / np.maximum(light_above[-1:], 1e-6))  # [rows, columns]
    depth = float(np.median(_best_path(score))) * step
    height = round(ROI_HEIGHT * grey.shape[0])
    return round(depth - ROI_RPE * height), height


def _best_path(score: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the row in each column of the path with the largest sum that moves by at most one row a column."""
    total, moves = score[:, 0], np.zeros(score.shape, np.intp)
    for column in range(1, score.shape[1]):
        padded = np.pad(total, 1, constant_values=-np.inf)
        options = np.stack([padded[:-2], padded[1:-1], padded[2:]])  # from the row above, the same, below
        moves[:, column] = options.argmax(axis=0) - 1
        total = options.max(axis=0) + score[:, column]
    path = np.empty(score.shape[1], np.intp)
    path[-1] = total.argmax()
    for column in range(score.shape[1] - 1, 0, -1):
        path[column - 1] = path[column] + moves[path[column], column]
    return path


def _take_rows(pixels: Grey, missing: Mask, top: int, height: int) -> tuple[Grey, Mask]:
    """Cut a band; rows outside the picture are missing."""
    rows = np.arange(top, top + height)
    outside = (rows < 0) | (rows >= len(pixels))
    inside = rows.clip(0, len(pixels) - 1)
    return pixels[inside], missing[inside] | outside[:, np.newaxis]


def _make_square(pixels: Grey, missing: Mask, aspect: str) -> tuple[Grey, Mask]:
    height, width = missing.shape
    if aspect == "stretch" or height == width:
        return pixels, missing
    if aspect == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        at = np.s_[top:top + side, left:left + side]
        return pixels[at], missing[at]
    side = max(height, width)
    before = ((side - height) // 2, (side - width) // 2)
    pad = [(before[0], side - height - before[0]), (before[1], side - width - before[1])]
    return np.pad(pixels, pad + [(0, 0)] * (pixels.ndim - 2)), np.pad(missing, pad, constant_values=True)
