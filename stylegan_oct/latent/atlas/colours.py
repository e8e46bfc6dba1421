"""Colours of an atlas, the same in the picture and on the page."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from dnnlib.errors import ConfigError
from dnnlib.text import suggest
from stylegan_oct.latent.biomarkers.measure import NAMES

CLASS = "class"
# Okabe and Ito 2008, told apart in the common kinds of colour blindness.
PALETTE = ("#0072B2", "#E69F00", "#CC79A7", "#009E73", "#56B4E9", "#D55E00", "#F0E442", "#000000")
# Ten colours along viridis (CC0), evenly brighter.
RAMP = ((68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142), (31, 158, 137), (53, 183, 121),
        (109, 205, 89), (180, 222, 44), (253, 231, 37))
UNKNOWN = (184, 184, 184)

Rgb = tuple[int, int, int]


def check_colour(name: str, measured: Collection[str]) -> None:
    """Refuse a name that is neither "class" nor among the biomarkers that were measured.

    Raises:
        ConfigError: it is neither.
    """
    if name not in (CLASS, *NAMES):
        raise ConfigError(f"There is no colour {name!r}.{suggest(name, (CLASS, *NAMES))}")
    if name != CLASS and name not in measured:
        raise ConfigError(f"{name} was not measured: the atlas is without biomarkers. Make it with them, or take "
                          "--color class.")


def value_range(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 2nd and 98th percentile of what could be measured: a few outliers do not take the colours."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = np.percentile(known, [2, 98])
    return float(f"{low:.3g}"), float(f"{high:.3g}")


def class_colour(label: int) -> Rgb:
    """Return the colour of a class."""
    code = PALETTE[label % len(PALETTE)]
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def ramp_colour(value: float, low: float, high: float) -> Rgb:
    """Return the colour of a value; grey for NaN."""
    if not np.isfinite(value):
        return UNKNOWN
    share = float(np.clip((value - low) / ((high - low) or 1.0), 0, 1)) * (len(RAMP) - 1)
    channels = zip(*RAMP, strict=True)
    red, green, blue = (round(float(np.interp(share, range(len(RAMP)), channel))) for channel in channels)
    return red, green, blue
