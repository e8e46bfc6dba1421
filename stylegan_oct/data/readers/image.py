"""From the bytes of a PNG, JPEG or TIFF to a picture of 8 bits."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from stylegan_oct.data.sources import Refusal

FORMATS = ("PNG", "JPEG", "TIFF")  # the ones with few and well-tested decoders; no PostScript, no plugins
MAX_PIXELS = 40_000_000  # a wide scan has under a million
MIN_SIDE = 16
COLOUR_STEP = 24         # grey levels between channels from which a pixel counts as coloured; JPEG makes smaller ones


@dataclass(frozen=True)
class Picture:
    """A decoded scan."""

    pixels: NDArray[np.uint8]  # [H, W], or [H, W, 3] when colour was asked for
    facts: dict[str, Any]      # width, height, format, mode, bits; pages and coloured where they matter


def decode(data: bytes, channels: int = 1, *, page: int = 0) -> Picture:
    """Return the picture in the bytes, without anything else that the file carries (EXIF, comments, profiles).

    Args:
        data: a file.
        channels: 1 for grey (luma of colour pictures), 3 for RGB.
        page: which one, of a file with several.
    Raises:
        Refusal: it is not an image of a format read here, damaged, huge, tiny, or shows nothing.
    """
    try:
        with _quiet(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if page:
                image.seek(page)
            _check_geometry(image)
            facts = {"width": image.width, "height": image.height, "format": image.format, "mode": image.mode}
            if getattr(image, "n_frames", 1) > 1:
                facts["pages"] = getattr(image, "n_frames", 1)
            image.load()
            pixels, more = _to_bytes(image, channels)
    except Refusal:
        raise
    except UnidentifiedImageError:
        raise Refusal("is not a PNG, JPEG or TIFF image, whatever its name says") from None
    except Image.DecompressionBombError:
        raise Refusal("is a decompression bomb: far larger than any scan") from None
    except Exception as error:  # decoders raise many kinds on damaged files, and one file must not stop thousands
        raise Refusal(f"cannot be decoded: {_brief(error)}") from None
    if int(pixels.max()) - int(pixels.min()) < 2:
        raise Refusal("shows nothing: all pixels have the same value")
    return Picture(pixels, {**facts, **more})


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow from warning of odd EXIF and TIFF tags, and from logging what they say; what matters raises."""
    logger = logging.getLogger("PIL")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _check_geometry(image: Image.Image) -> None:
    """Refuse by the header, before any memory is spent on the pixels."""
    if image.width * image.height > MAX_PIXELS:
        raise Refusal(f"is {image.width} x {image.height} pixels, more than {MAX_PIXELS // 1_000_000} million: "
                      "a decompression bomb, or no scan")
    if min(image.size) < MIN_SIDE:
        raise Refusal(f"is {image.width} x {image.height} pixels; the shorter side must have {MIN_SIDE}")


def _to_bytes(image: Image.Image, channels: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Return 8-bit pixels, and the depth and colour that were found."""
    if image.mode.startswith(("I", "F")):
        pixels, bits = _from_deep(np.asarray(image))
        return (pixels if channels == 1 else np.repeat(pixels[:, :, np.newaxis], 3, axis=2)), {"bits": bits}
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "black"), upright.convert("RGBA"))
    if upright.mode in ("1", "L"):
        grey = np.asarray(upright.convert("L"))
        return (grey if channels == 1 else np.repeat(grey[:, :, np.newaxis], 3, axis=2)), {"bits": 8}
    colour = np.asarray(upright.convert("RGB"))
    spread = colour.max(axis=2).astype(np.int16) - colour.min(axis=2)
    facts = {"bits": 8, "coloured": round(float((spread >= COLOUR_STEP).mean()), 4)}
    return (np.asarray(upright.convert("RGB").convert("L")) if channels == 1 else colour), facts


def _from_deep(values: NDArray[Any]) -> tuple[NDArray[np.uint8], int]:
    """Return 16-bit or float values as 8 bits, linearly, and the depth that they use.

    Devices store 8, 10, 12 or 14 bits in 16; the depth is the smallest of these that holds the brightest pixel.
    Images are never stretched between their own darkest and brightest value: brightness carries meaning.
    """
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise Refusal("holds floating-point values outside 0 to 1")
        return np.rint(values * 255).astype(np.uint8), 32
    if values.min() < 0 or values.max() > 65535:
        raise Refusal("holds integer values outside 0 to 65535")
    bits = next(bits for bits in (8, 10, 12, 14, 16) if values.max() < 2**bits)
    return np.rint(values * (255.0 / (2**bits - 1))).astype(np.uint8), bits


def _brief(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text[:120]
