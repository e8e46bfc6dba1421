"""From the bytes of a PNG, JPEG, TIFF, BMP or lossless WebP to a picture of 8 bits."""

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from stylegan_oct.data.files import PICTURES, Refusal
from stylegan_oct.data.readers.brightness import remarks, shows_nothing, to_8_bits
from stylegan_oct.data.readers.bscan import MAX_SIDE, check_size

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")  # with few and well-tested decoders; no PostScript
MAGIC = re.compile(rb"\x89PNG|\xff\xd8\xff|II\*\0|MM\0\*|BM.{4}\0{4}|RIFF.{4}WEBP", re.DOTALL)
COLOUR_STEP = 24         # grey levels between channels from which a pixel counts as coloured; JPEG makes smaller ones
DEPTHS = (8, 10, 12, 14, 16)
SUBFILE, BITS, PHOTOMETRIC, TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT = 254, 258, 262, 322, 323, 339   # tags of a TIFF
SIGNED = 2               # of SAMPLE_FORMAT
REDUCED_OR_MASK = 0b101  # bits of SUBFILE
SCREEN_GAMMA = 1 / 2.2   # of PNGs that are meant to be shown as they are


@dataclass(frozen=True)
class Picture:
    """A decoded scan."""

    pixels: NDArray[np.uint8]  # [H, W], or [H, W, 3] when colour was asked for
    facts: dict[str, Any]      # width, height, format, mode, bits; pages, coloured and notes where they matter

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about its brightness, a line each."""
        return tuple(self.facts.get("notes", ()))


@dataclass(frozen=True)
class Deep:
    """How values of more than 8 bits are meant; of 8 bits Pillow sees to it."""

    inverted: bool   # 0 is white
    stored: int      # bits that a TIFF says, 0 where it does not
    least: int       # bits of the pages beside it


def decode(data: bytes, channels: int = 1, *, page: int = 0, bits: int | None = None) -> Picture:
    """Return the picture in the bytes, without anything else that the file carries (EXIF, comments, profiles).

    Args:
        data: a file.
        channels: 1 for grey (luma of colour pictures), 3 for RGB.
        page: which one, of a TIFF with several.
        bits: depth of deep values; default: the least that holds them all.
    Raises:
        Refusal: it is not an image of a format read here, damaged, huge, tiny, or shows nothing.
    """
    try:
        if data.startswith(b"RIFF"):
            _check_webp(data)
        with _quiet(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if page:
                image.seek(page)
            _check_kind(image)
            facts = {"width": image.width, "height": image.height, "format": image.format, "mode": image.mode}
            if image.format == "TIFF" and not page and (pages := getattr(image, "n_frames", 1)) > 1:
                facts["pages"] = pages
            notes = _not_applied(image)
            deep = Deep(_tag(image, PHOTOMETRIC) == 0, _tag(image, BITS) or 0, bits or 0)  # loading may drop the tags
            image.load()
            pixels, more = _to_bytes(ImageOps.exif_transpose(image), channels, deep)
    except Refusal:
        raise
    except UnidentifiedImageError:
        if MAGIC.match(data):
            raise Refusal(f"is damaged, or a {PICTURES} of a kind that is not read") from None
        raise Refusal(f"is not a {PICTURES} image, whatever its name says") from None
    except Image.DecompressionBombError:
        raise Refusal("is a decompression bomb: far larger than any scan") from None
    except Exception as error:  # decoders raise many kinds on damaged files, and one file must not stop thousands
        raise Refusal(f"cannot be decoded: {_brief(error)}") from None
    if shows_nothing(pixels):
        raise Refusal("shows nothing: all pixels have the same value")
    notes += [*more.pop("notes", ()), *remarks(pixels)]
    return Picture(pixels, {**facts, **more, **({"notes": notes} if notes else {})})


def depth_of_pages(data: bytes, pages: int) -> int | None:
    """Return the depth that holds the values of all pages of a TIFF, so that they keep their relative brightness."""
    depths = []
    for page in range(pages):
        try:
            depths.append(int(decode(data, page=page).facts["bits"]))
        except Refusal:  # reading it as a B-scan will say so
            continue
    return max(depths, default=None)


def count_pages(path: Path) -> int:
    """Return how many pages a TIFF has; 1 where it cannot be told, as reading it will say."""
    try:
        with _quiet(), Image.open(path, formats=("TIFF",)) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # as in `decode`
        return 1


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


def _tag(image: Image.Image, number: int) -> int | None:
    """Return the first value of a tag of a TIFF, None where there is none or in other formats."""
    value = getattr(image, "tag_v2", {}).get(number)
    value = value[0] if isinstance(value, tuple) and value else value
    return int(value) if isinstance(value, int) else None


def _check_kind(image: Image.Image) -> None:
    """Refuse by the header, before any memory is spent on the pixels."""
    check_size(image.width, image.height)
    tile = max(_tag(image, TILE_WIDTH) or 0, _tag(image, TILE_HEIGHT) or 0)
    if tile > MAX_SIDE:
        raise Refusal(f"is stored in tiles of {tile} pixels: a decompression bomb, or no scan")
    if (_tag(image, SUBFILE) or 0) & REDUCED_OR_MASK:
        raise Refusal("is a reduced copy or a mask of another page")
    if _tag(image, SAMPLE_FORMAT) == SIGNED and (_tag(image, BITS) or 0) <= 8:  # Pillow takes these for unsigned
        raise Refusal("stores signed values of 8 bits, which is not read; store them without sign")
    if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise Refusal("is an animation, no scan")
    if image.mode.startswith(("I", "F")) and "transparency" in image.info:
        raise Refusal("has transparent pixels in 16 bits, which is not read; store it without")


def _check_webp(data: bytes) -> None:
    """Refuse a WebP that is not lossless, by the names of its chunks."""
    at = 12
    while at + 8 <= len(data):
        if data[at:at + 4] in (b"VP8 ", b"ANMF"):
            raise Refusal("is a lossy or moving WebP, which is not read: it smooths speckle; store scans lossless")
        at += 8 + int.from_bytes(data[at + 4:at + 8], "little") + 1 & ~1


def _not_applied(image: Image.Image) -> list[str]:
    """Return what the file says of colours that is not followed: its values are taken as they are stored."""
    gamma, profile = image.info.get("gamma"), image.info.get("icc_profile") or b""
    if gamma and "srgb" not in image.info and abs(gamma - SCREEN_GAMMA) > 0.05:
        return [f"has a gamma that is not applied ({gamma:g})"]
    known = (b"sRGB", "sRGB".encode("utf-16-be"), b"Gray Gamma 2.2", "Gray Gamma 2.2".encode("utf-16-be"))
    return ["has a colour profile that is not applied"] if profile and not any(k in profile for k in known) else []


def _to_bytes(image: Image.Image, channels: int, deep: Deep) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Return 8-bit pixels, and the depth and colour that were found."""
    if image.mode.startswith(("I", "F")):
        pixels, facts = from_deep(np.asarray(image), deep)
        return (pixels if channels == 1 else np.repeat(pixels[:, :, np.newaxis], 3, axis=2)), facts
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    if image.mode in ("1", "L"):
        grey = np.asarray(image.convert("L"))
        return (grey if channels == 1 else np.repeat(grey[:, :, np.newaxis], 3, axis=2)), {"bits": 8}
    colour = np.asarray(image.convert("RGB"))
    spread = colour.max(axis=2).astype(np.int16) - colour.min(axis=2)
    facts = {"bits": 8, "coloured": round(float((spread >= COLOUR_STEP).mean()), 4)}
    return (np.asarray(image.convert("RGB").convert("L")) if channels == 1 else colour), facts


def from_deep(values: NDArray[Any], deep: Deep) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Return 16-bit or float values as 8 bits, linearly, and the depth that they use.

    Devices store 8, 10, 12 or 14 bits in 16; unless the file says it, the depth is the least of these that holds the
    largest value. Images are never stretched between their own darkest and brightest value: brightness carries meaning.
    """
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise Refusal("holds floating-point values outside 0 to 1")
        return to_8_bits(values, float(deep.inverted), float(not deep.inverted)), {"bits": 32}
    top = int(values.max())
    if values.min() < 0 or top > 65535:
        raise Refusal("holds integer values outside 0 to 65535")
    said = 8 < deep.stored < 16
    bits = deep.stored if said else max(deep.least, next(depth for depth in DEPTHS if top < 2**depth))
    facts: dict[str, Any] = {"bits": bits}
    if not said and bits < 8 * values.dtype.itemsize:
        facts["notes"] = [f"is scaled by {bits} bits, the least that hold its values (they end at {top})"]
    white = 2**bits - 1
    return to_8_bits(values, white if deep.inverted else 0, 0 if deep.inverted else white), facts


def _brief(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text[:120]
