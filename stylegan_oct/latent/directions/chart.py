"""A curve of a measured quantity over steps, drawn to stand below the pictures that it was measured on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dnnlib.pictures import Picture

HEIGHT = 120            # px of the panel
TOP, BOTTOM = 22, 10    # px above and below the curve
THIN, THICK, MARK = (170, 190, 215), (20, 60, 120), (200, 40, 40)


def draw_curve(values: NDArray[np.float64], places: Sequence[float], *, width: int, title: str, left: int,
               mark: float | None = None) -> Picture:
    """Return a panel [HEIGHT, width, 3]: a thin line a row, and a thick one for their mean.

    Args:
        values: [rows, steps], NaN where nothing was measured; lines have gaps there.
        places: horizontal pixel of each step, rising.
        width: of the panel.
        title: written on top.
        left: pixels kept for the scale.
        mark: horizontal pixel of a vertical line.
    """
    image = Image.new("RGB", (width, HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=13)
    draw.text((4, 1), title, fill="black", font=font)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        draw.text((left, HEIGHT // 2), "could not be measured", fill="black", font=font)
        return np.asarray(image)
    low, high = float(finite.min()), float(finite.max())
    span = high - low or 1.0

    def level(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / span * (HEIGHT - TOP - BOTTOM)

    for value in {low, high}:
        draw.line([(left, level(value)), (width, level(value))], fill=(225, 225, 225))
        draw.text((4, level(value) - 9), f"{value:.3g}", fill="black", font=font)
    if mark is not None:
        draw.line([(mark, TOP), (mark, HEIGHT - BOTTOM)], fill=MARK, width=2)
    # A mean over other rows at each step would jump where a row drops out.
    complete = values[np.isfinite(values).all(axis=1)]
    for row in values:
        _line(draw, [(x, level(value)) for x, value in zip(places, row, strict=True)], THIN, 1)
    if len(complete):
        _line(draw, [(x, level(v)) for x, v in zip(places, complete.mean(axis=0), strict=True)], THICK, 3)
    return np.asarray(image)


def _line(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: tuple[int, int, int],
          width: int) -> None:
    """Draw a line through the points, with gaps at NaN."""
    for a, b in zip(points, points[1:], strict=False):
        if np.isfinite(a[1]) and np.isfinite(b[1]):
            draw.line([a, b], fill=colour, width=width)
    for x, y in points:
        if np.isfinite(y):
            draw.ellipse([x - width, y - width, x + width, y + width], fill=colour)
