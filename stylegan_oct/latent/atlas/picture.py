"""An atlas as one PNG: a panel a map, projected scans as diamonds, a legend below."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dnnlib.errors import DataError
from dnnlib.pictures import Picture, encode_png, save_png, synthetic_text
from stylegan_oct.data.privacy import write_private
from stylegan_oct.latent.atlas.atlas import Atlas, PlacedCodes
from stylegan_oct.latent.atlas.colours import (
    CLASS,
    PALETTE,
    Rgb,
    check_colour,
    class_colour,
    ramp_colour,
    value_range,
)
from stylegan_oct.latent.atlas.page import SPACE_TITLES
from stylegan_oct.latent.biomarkers.measure import UNITS

PANEL, MARGIN, TOP, BOTTOM = 640, 24, 46, 40    # pixels
FINE = 2            # drawn so many times larger, so that the edges of dots are smooth
RADIUS = 3.0


def save_picture(path: Path, atlas: Atlas, scans: Sequence[PlacedCodes] = (), *, colour: str = CLASS) -> None:
    """Write the picture, with what it shows in its text chunks; one that shows a patient's scan for the owner alone.

    Args:
        path: of the PNG.
        atlas: what to draw.
        scans: projected scans, drawn on top and numbered.
        colour: "class" or a biomarker.
    Raises:
        ConfigError: there is no such biomarker.
        DataError: the file cannot be written.
    """
    private = any(scan.derived_from_patient for scan in scans)
    text = synthetic_text("generator", atlas=" ".join(atlas.maps), samples=len(atlas), colour=colour, psi=atlas.psi,
                          detector=atlas.detector, checkpoint_sha256=atlas.checkpoint_sha256,
                          derived_from_patient=str(private).lower())
    picture = draw_atlas(atlas, scans, colour=colour)
    try:
        if private:
            write_private(path, encode_png(picture, text))
        else:
            save_png(path, picture, text)
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error.strerror}. Choose another place with --out.") from error


def draw_atlas(atlas: Atlas, scans: Sequence[PlacedCodes] = (), *, colour: str = CLASS) -> Picture:
    """Return the picture, RGB; arguments as for `save_picture`."""
    check_colour(colour, atlas.values)
    size = PANEL * len(atlas.maps), TOP + PANEL + BOTTOM
    canvas = Image.new("RGB", (size[0] * FINE, size[1] * FINE), "white")
    pen = ImageDraw.Draw(canvas)
    dots = _colours(atlas, colour)
    for number, (space, map_) in enumerate(atlas.maps.items()):
        at = _frame(map_.places, [scan.places[space] for scan in scans], number * PANEL)
        for place, fill in zip(map_.places, dots, strict=True):
            x, y = at(place)
            pen.ellipse((x - RADIUS * FINE, y - RADIUS * FINE, x + RADIUS * FINE, y + RADIUS * FINE), fill=fill)
        for index, scan in enumerate(scans, 1):
            _diamond(pen, *at(scan.places[space]), str(index))
    small = canvas.resize(size, Image.Resampling.BOX)
    _write(ImageDraw.Draw(small), atlas, scans, colour)
    return np.asarray(small)


def _colours(atlas: Atlas, colour: str) -> list[Rgb]:
    if colour == CLASS:
        return [class_colour(label) for label in atlas.labels.tolist()]
    low, high = value_range(atlas.values[colour])
    return [ramp_colour(value, low, high) for value in atlas.values[colour].tolist()]


def _frame(places: Tensor, others: Sequence[Tensor], left: int) -> Callable[[Tensor], tuple[float, float]]:
    """Return a function from places to pixels of the large canvas; scale alike in both directions."""
    known = torch.cat([places, *(place[None] for place in others)])
    low, high = known.amin(dim=0), known.amax(dim=0)
    scale = (PANEL - 2 * MARGIN) / float((high - low).max().clamp_min(1e-9))
    middle = (low + high) / 2

    def at(place: Tensor) -> tuple[float, float]:
        x, y = ((place - middle) * scale).tolist()
        return (left + PANEL / 2 + x) * FINE, (TOP + PANEL / 2 - y) * FINE

    return at


def _diamond(pen: ImageDraw.ImageDraw, x: float, y: float, number: str) -> None:
    reach = 11.0 * FINE
    pen.polygon([(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)], fill="white", outline="black",
                width=2 * FINE)
    pen.text((x, y), number, fill="black", font=ImageFont.load_default(size=12 * FINE), anchor="mm")


def _write(pen: ImageDraw.ImageDraw, atlas: Atlas, scans: Sequence[PlacedCodes], colour: str) -> None:
    """Write the title, the names of the maps and the legend."""
    font, large = ImageFont.load_default(size=13), ImageFont.load_default(size=15)
    marks = f"; diamonds: projections of {len(scans)} scan{'s' * (len(scans) > 1)}" if scans else ""
    pen.text((MARGIN, 6), f"synthetic OCT pictures, {len(atlas)} of psi {atlas.psi:g}{marks}", fill="black", font=large)
    for number, (space, map_) in enumerate(atlas.maps.items()):
        title = f"{SPACE_TITLES[space]}, {map_.reducer.facts['method']}, trustworthiness {map_.trustworthiness:.2f}"
        pen.text((number * PANEL + MARGIN, 27), title, fill="#555555", font=font)
    x, y = float(MARGIN), TOP + PANEL + BOTTOM // 2
    if colour == CLASS:
        for label, name in enumerate(atlas.classes):
            pen.ellipse((x, y - 5, x + 10, y + 5), fill=PALETTE[label % len(PALETTE)])
            pen.text((x + 15, y), name, fill="black", font=font, anchor="lm")
            x += 35 + font.getlength(name)
        return
    low, high = value_range(atlas.values[colour])
    words = f"{colour.removesuffix('_um').removesuffix('_mm2').replace('_', ' ')}  {low:g}"
    pen.text((x, y), words, fill="black", font=font, anchor="lm")
    x += font.getlength(words) + 8
    for step in range(160):
        pen.line((x + step, y - 6, x + step, y + 6), fill=ramp_colour(step, 0, 159))
    pen.text((x + 168, y), f"{high:g} {UNITS[colour]}; grey: not measurable", fill="black", font=font, anchor="lm")
