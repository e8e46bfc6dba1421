"""Words and numbers as people write and read them."""

import difflib
import re
from collections.abc import Iterable

from dnnlib.errors import ConfigError


def parse_int_list(text: str, *, largest: int = 2**32 - 1, most: int = 100_000) -> list[int]:
    """Return the numbers of "0-3,7" as [0, 1, 2, 3, 7], in the order given.

    Args:
        text: the list.
        largest: number that may stand in it.
        most: numbers that it may hold.
    Raises:
        ConfigError: a part is neither a number nor a rising range, or a number is too large, or they are too many.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,20})(?:-(\d{1,20}))?\s*", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ConfigError(f"{part.strip()[:40]!r} in {text[:40]!r} is not a number or a rising range such as 0-7.")
        if last > largest:
            raise ConfigError(f"{part.strip()!r} goes beyond {largest}, the largest there is.")
        if len(numbers) + last - first >= most:
            raise ConfigError(f"{text[:40]!r} is a list of more than {most} numbers. Take it in parts.")
        numbers.extend(range(first, last + 1))
    return numbers


def format_seconds(seconds: float) -> str:
    """Return a duration as a person would say it: 4.2 s, 3 min 05 s, 2 h 10 min, 3 d 04 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def format_nimg(nimg: int) -> str:
    """Return an image count in thousands: 1500 -> '1.5 kimg'."""
    return f"{nimg / 1000:g} kimg"


def format_bytes(size: int) -> str:
    """Return a size such as 3.2 MB, in powers of 1000."""
    value, units = float(size), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" or value >= 99.5 else f"{value:.2g} {units[0]}"


def suggest(word: str, choices: Iterable[str]) -> str:
    """Return ' Did you mean X?' for the nearest of the choices, or their list where none is near."""
    names = list(choices)
    near = difflib.get_close_matches(word.lower(), [name.lower() for name in names], n=1)
    if near:
        return f" Did you mean {next(name for name in names if name.lower() == near[0])}?"
    return f" There are: {', '.join(names)}."
