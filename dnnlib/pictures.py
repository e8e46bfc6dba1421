"""PNG files with text chunks, and labelled sheets of pictures. Arrays are uint8, [H, W] grey or [H, W, 3] RGB."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from dnnlib.files import atomic_write

Picture = NDArray[np.uint8]

SYNTHETIC_NOTE = "Synthetic retinal OCT picture, made by a computer; not a scan of a patient, not for diagnosis."


def synthetic_text(source: str, **facts: Any) -> dict[str, str]:
    """Return the text chunks that every synthetic image carries, with the facts of this one."""
    return {"Title": "synthetic", "Description": SYNTHETIC_NOTE, "Software": "stylegan_oct", "synthetic": "true",
            "source": source, **{key: str(value) for key, value in facts.items()}}


def encode_png(picture: Picture, text: Mapping[str, str] | None = None, *, compress_level: int = 6,
               compress_type: int | None = None) -> bytes:
    """Return the picture as the bytes of a PNG with the given text chunks; `compress_type` is a strategy of zlib."""
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value) if not value.isascii() else info.add_text(key, value)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png", pnginfo=info, compress_level=compress_level,
                                  compress_type=-1 if compress_type is None else compress_type)
    return buffer.getvalue()


def save_png(path: Path, picture: Picture, text: Mapping[str, str] | None = None) -> None:
    """Write the picture as a PNG under a temporary name and rename it."""
    with atomic_write(path, "wb") as file:
        file.write(encode_png(picture, text))


def sheet(rows: Sequence[Sequence[Picture]], *, row_labels: Sequence[str] = (), column_labels: Sequence[str] = (),
          title: str = "", cell: tuple[int, int] | None = None, gap: int = 2) -> Picture:
    """Return pictures laid out in labelled rows on white, grey unless a picture is in colour.

    Args:
        rows: pictures of any size; rows may differ in length.
        row_labels: written left of the rows.
        column_labels: written above the columns.
        title: written on top.
        cell: (width, height) to which pictures are resized by area; default: as the first picture.
        gap: white pixels between pictures.
    """
    font = ImageFont.load_default(size=13)
    first = rows[0][0]
    width, height = cell or (first.shape[1], first.shape[0])
    left = max((int(font.getlength(label)) for label in row_labels), default=-10) + 10
    top = 18 * (bool(title) + bool(column_labels))
    columns = max(len(row) for row in rows)
    mode = "RGB" if any(picture.ndim == 3 for row in rows for picture in row) else "L"
    whole = max(left + columns * (width + gap), int(font.getlength(title)) + 8)
    canvas = Image.new(mode, (whole, top + len(rows) * (height + gap)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((4, 1), title, fill="black", font=font)
    for x, label in enumerate(column_labels):
        draw.text((left + x * (width + gap) + 2, top - 17), label, fill="black", font=font)
    for y, row in enumerate(rows):
        if row_labels:
            draw.text((4, top + y * (height + gap) + height // 2 - 8), row_labels[y], fill="black", font=font)
        for x, picture in enumerate(row):
            image = Image.fromarray(picture)
            if image.size != (width, height):
                shrinks = image.width >= width
                image = image.resize((width, height), Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST)
            canvas.paste(image, (left + x * (width + gap), top + y * (height + gap)))
    return np.asarray(canvas)
