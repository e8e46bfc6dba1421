"""What the numbers that users give may be: the one place for the options of the commands and for Python callers.

The bounds are wide enough for every use that is known, and narrow enough that nothing overflows or fills the memory.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dnnlib.errors import ConfigError

LONGEST = 40  # characters of a wrong value that a message repeats


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The numbers from `least` to `most`: whole ones, of which only powers of two if so, or any."""

    least: float
    most: float
    whole: bool = True
    power_of_two: bool = False

    def __str__(self) -> str:
        kind = "a power of two" if self.power_of_two else "a whole number" if self.whole else "a number"
        return f"{kind} from {self.least:.10g} to {self.most:.10g}"

    def allow(self, value: object) -> bool:
        """Tell whether a value is such a number; nan and the infinities never are."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        fits = self.least <= value <= self.most
        return fits and (not self.power_of_two or math.log2(value).is_integer())

    def check(self, name: str, value: object) -> None:
        """Refuse a value that does not fit.

        Raises:
            ConfigError: names it and says what is allowed.
        """
        if not self.allow(value):
            raise ConfigError(f"{name} must be {self}; got {shortened(value)}.")

    def parse(self, text: str) -> float | None:
        """Return the number that a text is, or None where it is none or does not fit."""
        form = r"[+-]?\d+" if self.whole else r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"
        text = text.strip()
        if len(text) > LONGEST or not re.fullmatch(form, text, re.ASCII | re.IGNORECASE):
            return None
        number = int(text) if self.whole else float(text)
        return number if self.allow(number) else None

    def at_least(self, least: float) -> "Limits":
        """Return the limits with another lower end."""
        return dataclasses.replace(self, least=least)


def shortened(value: object) -> str:
    """Return a value as messages show it, quoted and in one line, its middle left out where it is long."""
    if isinstance(value, int) and abs(value) >= 10**LONGEST:  # str() refuses some thousand digits
        return f"a number of more than {LONGEST} digits"
    text = str(value)
    short = text if len(text) <= LONGEST else f"{text[:LONGEST // 2]}...{text[-LONGEST // 4:]}"
    return repr(short) if isinstance(value, str) else short


def check_fields(config: Any, limits: Mapping[str, Limits], *, where: str = "") -> None:
    """Refuse a dataclass of which a field does not fit; a field that is None fits.

    Raises:
        ConfigError: names the field and says what is allowed.
    """
    for name, allowed in limits.items():
        value = getattr(config, name)
        if value is not None:
            allowed.check(f"{where}{name}", value)


def _real(least: float, most: float) -> Limits:
    return Limits(least=least, most=most, whole=False)


# What is drawn.
SEED = Limits(least=0, most=2**31 - 1)        # the first of a series too: the last stays below 2**32
DRAWN_SEED = Limits(least=0, most=2**32 - 1)  # of a single picture, as numpy takes it
SEEDS = Limits(least=1, most=100_000)         # how many a list may hold
PSI = _real(0, 2)
CUTOFF = Limits(least=1, most=18)             # layers of a generator of 1024 px
LAYER = Limits(least=0, most=99)               # a generator says which it has
RESOLUTION = Limits(least=8, most=1024, power_of_two=True)
SIMULATED = Limits(least=8, most=2048)        # pixels of simulated scans, which any size suits

# How many.
PICTURES = Limits(least=1, most=1_000_000)    # that are written, or read
SAMPLES = Limits(least=1, most=100_000)       # that are held in memory as features or latents
SHOWN = Limits(least=0, most=10_000)          # drawn with lines, or projected to compare with
BATCH = Limits(least=1, most=4096)
NEIGHBOURS = Limits(least=1, most=1000)
COMPONENTS = Limits(least=1, most=64)
TRIES = Limits(least=1, most=100)
PROCESSES = Limits(least=1, most=256)

# How long.
KIMG = _real(0.001, 1_000_000)
SHOWN_IN_TRAINING = Limits(least=1, most=1_000_000_000)  # images, that is 1000 * KIMG
STEPS = Limits(least=1, most=100_000)
SECONDS = _real(0.01, 3600)
FRAMES = Limits(least=2, most=100_000)
FPS = _real(1, 120)
MINUTES = _real(0, 1_000_000)

# How much.
SHARE = _real(0, 1)
SIGN = _real(-1, 1)                           # the mean sign of D, as ADA aims at it
GAMMA = _real(0, 100_000)
REACH = _real(0.001, 1000)
UM_PER_PX = _real(0.1, 500)
TAKEN = Limits(least=8, most=2048)            # pixels that a network of others takes
SCALE = Limits(least=1, most=32)
COLUMNS = Limits(least=2, most=64)
SIDE = Limits(least=1, most=32)               # of a grid, in pictures
FROZEN = Limits(least=0, most=64)             # layers
INTERVAL = Limits(least=1, most=1_000_000)    # batches
CHANNELS = Limits(least=1, most=2048)
RATE = _real(1e-9, 1)                         # of learning
BETA = _real(0, 0.999999)                     # of Adam
WIDTH = Limits(least=1, most=4096)            # of latents and layers
