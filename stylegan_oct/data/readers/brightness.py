"""From stored values to 8 bits, and what is odd about the brightness of a scan."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

PADDING = 245        # grey value from which a pixel may be a white wedge, which says nothing of the scan
LEAST_SPAN = 64      # grey values between the darkest and brightest half percent; real scans have 160 and more
FEW_LEVELS = 8       # grey values in all
BRIGHT_MEDIAN = 128  # of a scan; real ones have 20 to 60,
LEAST_SKEW = -0.5    # and more dark pixels than bright ones: 1.1 and more
NOTHING_DARK = 80    # for the darkest half percent; real ones have 0
WHITE = 250          # is saturated
CORE = 9             # pixels: a square of white this wide is padding, not tissue
MOST_WHITE = 0.02    # of the pixels that are no padding; real scans have up to 0.005


def to_8_bits(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """Return values as grey, linear from the one that is shown black to the one shown white, which may be the lower."""
    grey = (values.astype(np.float64) - black) * (255.0 / (white - black))
    pixels: NDArray[np.uint8] = np.rint(grey.clip(0, 255)).astype(np.uint8)
    return pixels


def shows_nothing(pixels: NDArray[np.uint8], missing: NDArray[np.bool_] | None = None) -> bool:
    """Tell whether all pixels that are there have the same value."""
    seen = pixels if missing is None else pixels[~missing]
    return seen.size == 0 or int(seen.max()) - int(seen.min()) < 2


def remarks(pixels: NDArray[np.uint8], missing: NDArray[np.bool_] | None = None) -> list[str]:
    """Return what is odd about the brightness of a scan, a line each: next to none for scans as devices show them.

    Args:
        pixels: [H, W] or [H, W, 3].
        missing: [H, W], left out.
    """
    seen = (pixels if missing is None else pixels[~missing]).ravel()
    counts = np.bincount(seen, minlength=256)
    levels = int((counts > 0).sum())
    if levels <= FEW_LEVELS:
        return [f"has only {levels} grey values"]
    inner = counts[:PADDING] if counts[:PADDING].sum() > 0.5 * counts.sum() else counts
    low, middle, high = np.searchsorted(inner.cumsum() / inner.sum(), (0.005, 0.5, 0.995))
    if high - low < LEAST_SPAN:
        return [f"fills a small part of its range of values ({low} to {high} of 0 to 255): stored with another depth "
                "than the file says?"]
    grey = np.arange(256)
    mean = (counts * grey).sum() / counts.sum()
    spread = (counts * (grey - mean) ** 2).sum() / counts.sum()
    skew = (counts * (grey - mean) ** 3).sum() / counts.sum() / spread**1.5
    if middle >= BRIGHT_MEDIAN and skew < LEAST_SKEW:
        return ["is dark on bright: black and white exchanged?"]
    if low > NOTHING_DARK:
        return [f"has nothing dark (its values begin at {low} of 0 to 255): values without sign taken for signed ones?"]
    share = _saturated(pixels if pixels.ndim == 2 else pixels.min(axis=2))
    return [f"is saturated ({share:.0%} of its tissue is white)"] if share > MOST_WHITE else []


def _saturated(grey: NDArray[np.uint8]) -> float:
    """Return the share of the pixels that are white, without padding, which is white over a wider area."""
    white = grey >= WHITE
    if white.mean() <= MOST_WHITE:
        return 0.0
    framed = np.pad(white, CORE, constant_values=True)
    padding = ndimage.maximum_filter(ndimage.minimum_filter(framed, CORE), CORE)[CORE:-CORE, CORE:-CORE] & white
    return float((white & ~padding).sum() / max(int((~padding).sum()), 1))
