"""The lines that the biomarkers were read from, drawn into the picture."""

from typing import Final

import numpy as np
from PIL import Image

from dnnlib.pictures import Picture
from stylegan_oct.latent.biomarkers.measure import Measurements
from stylegan_oct.latent.biomarkers.paths import Curve

ILM: Final = (255, 90, 70)
RPE: Final = (80, 230, 90)
BRUCH: Final = (70, 170, 255)
FLUID: Final = {1: (0, 190, 255), 2: (255, 70, 255)}    # within the retina, under it
FOCUS: Final = (255, 220, 0)
TINT = 0.45


def draw_lines(picture: Picture, found: Measurements, number: int = 0, *, width: int | None = None) -> Picture:
    """Return the picture in colour with ILM (red), RPE (green), Bruch's membrane (blue), fluid tinted, foci marked.

    Args:
        picture: uint8 [H, W], as it was measured.
        found: what `measure` returned.
        number: which of its pictures this is.
        width: of the result, in pixels, enlarged or reduced evenly; default: as the picture.
    Returns:
        uint8 [H', W', 3].
    """
    height, columns = picture.shape
    size = (width or columns, round(height * (width or columns) / columns))
    smooth = Image.Resampling.BICUBIC if size[0] >= columns else Image.Resampling.BOX
    canvas = np.array(Image.fromarray(picture).resize(size, smooth).convert("RGB"))
    rows, cols = ((np.arange(n) * full // n) for n, full in ((size[1], height), (size[0], columns)))
    for kind, colour in FLUID.items():
        where = (found.fluid[number] == kind)[rows[:, None], cols]
        canvas[where] = ((1 - TINT) * canvas[where] + TINT * np.array(colour)).astype(np.uint8)
    scale = size[1] / height
    at = (np.arange(size[0]) + 0.5) * (columns / size[0]) - 0.5
    for curve, colour in ((found.bruch, BRUCH), (found.rpe, RPE), (found.ilm, ILM)):
        _draw(canvas, np.interp(at, np.arange(columns), curve[number]) * scale, colour)
    for row, column in np.argwhere(found.foci[number]):
        y, x = round((row + 0.5) * scale), round((column + 0.5) * scale)
        for dy, dx in ((-5, 0), (5, 0), (0, -5), (0, 5)):
            canvas[slice(*sorted((y + dy // 2, y + dy + 1))), slice(*sorted((x + dx // 2, x + dx + 1)))] = FOCUS
    return canvas


def _draw(canvas: Picture, depth: Curve, colour: tuple[int, int, int]) -> None:
    """Draw a curve one pixel thick, joined where it is steep; nothing where it is NaN."""
    for x in np.flatnonzero(~np.isnan(depth)):
        before = depth[x - 1] if x and not np.isnan(depth[x - 1]) else depth[x]
        low, high = sorted((int(before), int(depth[x])))
        canvas[max(low, 0):high + 1, x] = colour
