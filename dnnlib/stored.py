"""What we wrote ourselves and read back: bounded before it is parsed, and wrong in one line.

A file may be cut short, edited, or made by somebody who means harm. `parse_json` gives JSON types within bounds,
`dnnlib.config.from_dict` makes a frozen dataclass of them, and `reading` turns what is wrong with it into the error of
the file's kind.
"""

import contextlib
import json
import math
import re
import reprlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from dnnlib.errors import ConfigError, UserError

MOST_JSON = 64 * 2**20  # bytes
DEEPEST = 32            # lists and objects within one another
DIGITS = 40             # of a number
# What a zip, and the library that reads it, can fail with where the bytes are not what they should be.
BAD_ZIP = (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError,
           struct.error, zlib.error)

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 60


def brief(value: Any) -> str:
    """Return a value for a message: on one line, without control characters, and short whatever it is."""
    return _CONTROL.sub("?", _repr.repr(value))


def is_line(text: str) -> bool:
    """Return whether a text is one line that can be shown and written: no control characters, no halves of pairs."""
    return _CONTROL.search(text) is None


def is_inside(name: str) -> bool:
    """Return whether a name stays within the folder or archive that it is read from."""
    return (0 < len(name) <= 1024 and is_line(name) and not name.startswith(("/", "\\")) and ":" not in name[:2]
            and ".." not in re.split(r"[/\\]", name))


def parse_json(raw: bytes | str, where: str, *, nan: bool = False, most: int = MOST_JSON) -> Any:
    """Return JSON types.

    Args:
        raw: UTF-8.
        where: what is read, named in errors.
        nan: let numbers be NaN.
        most: bytes at most.
    Raises:
        ConfigError: it is no JSON, longer than `most`, nested deeper than DEEPEST, names a field twice, or holds a
            number that is too long or not finite.
    """
    if len(raw) > most:
        raise ConfigError(f"{where} must be at most {most} bytes of JSON; got {len(raw)}.")
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8-sig")
        data = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_nan if nan else _refuse,
                          object_pairs_hook=_fields)
    except RecursionError:
        data = [None]
        for _ in range(DEEPEST):
            data = [data]
    except ValueError as error:
        raise ConfigError(f"{where} is not JSON ({brief_error(error)}).") from error
    level = [data]
    for _ in range(DEEPEST):
        level = [part for item in level if isinstance(item, list | dict)
                 for part in (item if isinstance(item, list) else item.values())]
        if not level:
            return data
    raise ConfigError(f"{where} must not be nested deeper than {DEEPEST} lists and objects.")


def read_json(file: Path, *, nan: bool = False, most: int = MOST_JSON) -> Any:
    """Return the JSON types of a file; no more than `most` bytes of it are read. Errors as in `parse_json`.

    Raises:
        OSError: the file cannot be read.
    """
    with open(file, "rb") as opened:
        return parse_json(opened.read(most + 1), "the file", nan=nan, most=most)


@contextlib.contextmanager
def reading(source: object, kind: type[UserError], remedy: str) -> Iterator[None]:
    """Turn what is wrong with something read within the block into one line of the kind: source, fault, remedy."""
    try:
        yield
    except ConfigError as error:
        raise kind(f"{source} is damaged or of another version: {error} {remedy}") from error
    except OSError as error:
        raise kind(f"{source} cannot be read: {error.strerror or brief_error(error)}. {remedy}") from error


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    """Return a file of a zip; no more is unpacked than the zip says and `most` allows.

    Raises:
        ConfigError: it is longer than `most`.
        BAD_ZIP: it is damaged.
    """
    if member.file_size > most:
        raise ConfigError(f"{brief(member.filename)} must be at most {most} bytes; the zip says {member.file_size}.")
    with archive.open(member) as stream:
        return stream.read(member.file_size)  # without a number all that is packed would be unpacked at once


def brief_error(error: BaseException) -> str:
    """Return the first line of an error's message, shortened, or its kind where it has none."""
    first = (str(error).splitlines() or [""])[0][:200]
    return _CONTROL.sub("?", first) or type(error).__name__


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the field {brief(twice)} stands there twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:DIGITS]} is too large")
    return value


def _nan(name: str) -> float:
    return math.nan if name == "NaN" else _refuse(name)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"the number {name}")
