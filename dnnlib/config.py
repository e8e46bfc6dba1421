"""Frozen dataclasses to JSON and back, strictly, and dotted overrides such as `r1.gamma`.

The types of the fields say what may be read: kinds, lengths of tuples, and bounds as `Annotated[int, Within(1, 64)]`.
Where a field says nothing more, whole numbers fit into 64 bits and texts are lines of at most LONGEST characters.
"""

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

from dnnlib.errors import ConfigError
from dnnlib.stored import brief, brief_error, is_line, parse_json
from dnnlib.text import suggest

LONGEST = 4096  # characters of a text: more than any path has

T = TypeVar("T")


@dataclass(frozen=True)
class Within:
    """Bounds of a number, or of the length of a text, a list or an object; both belong to what is allowed."""

    least: float
    most: float

    def check(self, value: Any, where: str) -> None:
        """Refuse a value.

        Raises:
            ConfigError: it lies outside, or is NaN.
        """
        size = value if isinstance(value, int | float) else len(value)
        if not self.least <= size <= self.most:
            what = where if size is value else f"the length of {where}"
            raise ConfigError(f"{what} must lie between {self.least:g} and {self.most:g}; got {brief(size)}.")


@dataclass(frozen=True)
class OneOf:
    """The words that a text may be, where the type of the field is to stay a plain one."""

    words: tuple[str, ...]

    def check(self, value: Any, where: str) -> None:
        """Refuse a value.

        Raises:
            ConfigError: it is none of the words.
        """
        if value not in self.words:
            raise ConfigError(f"{where} must be one of {', '.join(self.words)}; got {brief(value)}.")


@dataclass(frozen=True)
class Lenient:
    """What a field may hold beyond plain numbers and lines."""

    nan: bool = False        # NaN: it could not be measured
    file: bool = False       # bytes that are no UTF-8, as names of files on Linux may have

    def plain(self, value: Any) -> Any:
        """Return the value as it is to be checked."""
        if self.nan and isinstance(value, float) and math.isnan(value):
            return 0.0
        return value.encode(errors="surrogateescape").decode(errors="replace") if self.file and isinstance(
            value, str) else value

    def check(self, value: Any, where: str) -> None:
        """Refuse nothing more."""


Measured = Annotated[float, Lenient(nan=True)]
FilePath = Annotated[str, Lenient(file=True)]
Count = Annotated[int, Within(0, 2**53)]          # of pictures, bytes, parameters
Share = Annotated[float, Within(0, 1)]
Finite = float                                    # as every number that is not `Measured`
Name = Annotated[str, Within(0, 255)]             # of a class, a preset, a kind
Names = Annotated[tuple[Name, ...], Within(0, 4096)]  # of classes
Hash = Annotated[str, Within(0, 128)]             # hexadecimal digits
Seed = Annotated[int, Within(0, 2**32 - 1)]


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as nested dicts of JSON types; tuples become lists."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(config))))


def to_json(config: Any) -> str:
    """Return a dataclass as indented JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_dict(cls: type[T], data: Mapping[str, Any], *, where: str = "", strict: bool = True) -> T:
    """Return the dataclass that `to_dict` came from.

    Args:
        cls: the dataclass; its fields may be dataclasses, tuples, lists, dicts, literals, unions and optional values.
        data: nested dicts.
        where: what is read, named in errors.
        strict: refuse fields that the dataclass itself has not; its parts are always strict.
    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type or lies outside its bounds.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where or cls.__name__} must be an object; got {brief(data)}.")
    hints, required = _fields(cast(Hashable, cls))
    unknown = [key for key in data if key not in hints]
    if unknown and strict:
        raise ConfigError(f"{where or cls.__name__} has no field {brief(unknown[0])}."
                          f"{suggest(str(unknown[0])[:LONGEST], hints)}")
    for name in required:
        if name not in data:
            raise ConfigError(f"{where or cls.__name__} lacks the field {name!r}.")
    prefix = f"{where}." if where else ""
    values = {key: _decode(hints[key], value, prefix + key) for key, value in data.items() if key in hints}
    try:
        return cls(**values)
    except (ArithmeticError, ValueError) as error:  # of what the dataclass computes of values that do not fit together
        what = where or cls.__name__
        raise ConfigError(f"{what} has values that do not fit together ({brief_error(error)}).") from error


def from_texts(cls: type[T], texts: Mapping[str, str]) -> T:
    """Return the dataclass that the header of a safetensors file holds: texts as they are, all else as JSON.

    Fields of the header that the dataclass has not are left out.

    Raises:
        ConfigError: as in `from_dict`, or a text is no JSON.
    """
    hints, _ = _fields(cast(Hashable, cls))
    data = {name: texts[name] if _is_text(kind) else parse_json(texts[name], name)
            for name, kind in hints.items() if name in texts}
    return from_dict(cls, data, where="header")


def override(config: T, changes: Mapping[str, Any]) -> T:
    """Return the dataclass with dotted fields replaced; a change to None means "leave as it is".

    Raises:
        ConfigError: a field does not exist or the value has the wrong type.
    """
    data = to_dict(config)
    for path, value in changes.items():
        if value is None:
            continue
        *parents, last = path.split(".")
        part = data
        for parent in parents:
            part = part.get(parent, {})
            if not isinstance(part, dict):
                raise ConfigError(f"{parent!r} in {path!r} has no fields of its own.")
        if last not in part:
            raise ConfigError(f"There is no option {path!r}.{suggest(last, part)}")
        part[last] = value
    return from_dict(type(config), data)


def parse_setting(text: str) -> tuple[str, Any]:
    """Return ('r1.gamma', 2.0) for "r1.gamma=2.0"; the value is read as JSON, or taken as a word.

    Raises:
        ConfigError: there is no equals sign.
    """
    path, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set takes FIELD=VALUE, such as r1.gamma=2; got {brief(text)}.")
    try:
        return path.strip(), json.loads(value)
    except (ValueError, RecursionError):  # no JSON, more digits than Python reads, or nested too deep
        return path.strip(), value


@functools.cache
def _fields(cls: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the types of a dataclass's fields, and the names of those without a default."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = [field for field in dataclasses.fields(cls) if field.init]
    return ({field.name: hints[field.name] for field in fields},
            [field.name for field in fields
             if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING])


def _is_text(kind: Any) -> bool:
    if typing.get_origin(kind) is Annotated:
        return _is_text(typing.get_args(kind)[0])
    return kind is str or (typing.get_origin(kind) is typing.Literal
                           and all(isinstance(choice, str) for choice in typing.get_args(kind)))


@functools.cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...], bool]:
    return typing.get_origin(kind), typing.get_args(kind), dataclasses.is_dataclass(kind)


def _decode(kind: Any, value: Any, where: str) -> Any:
    origin, args, is_dataclass = _parts(kind)
    if origin is Annotated:
        lenient = next((mark for mark in args[1:] if isinstance(mark, Lenient)), None)
        if lenient is None:
            found = _decode(args[0], value, where)
        else:
            _decode(args[0], lenient.plain(value), where)
            found = float(value) if args[0] is float else value
        for bounds in args[1:]:
            bounds.check(found, where)
        return found
    if kind is Any:
        return value
    if is_dataclass:
        return from_dict(typing.cast(type[Any], kind), value, where=where)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(args, value, where)
    if origin is typing.Literal:
        if isinstance(value, str | int) and value in args:
            return value
        raise ConfigError(f"{where} must be one of {', '.join(map(str, args))}; got {brief(value)}.")
    if origin in (tuple, list) and isinstance(value, list):
        kinds = [args[0]] * len(value) if origin is list or args[-1] is ... else args
        if len(kinds) != len(value):
            raise ConfigError(f"{where} must hold {len(kinds)} values; got {len(value)}.")
        return origin(_decode(part, item, f"{where}[{place}]")
                      for place, (part, item) in enumerate(zip(kinds, value, strict=True)))
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return {_decode(args[0], key, f"a key of {where}"): _decode(args[1], item, f"{where}.{key}")
                for key, item in value.items()}
    return _plain(kind, value, where)


def _decode_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """Return what the first kind that fits makes of a value."""
    if value is None and type(None) in kinds:
        return None
    *others, last = [kind for kind in kinds if kind is not type(None)]
    for kind in others:
        try:
            return _decode(kind, value, where)
        except ConfigError:
            continue
    return _decode(last, value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    """Return a number, a text or a truth value of exactly this kind; whole numbers serve as floats."""
    if kind is float and type(value) in (int, float):
        if not abs(value) <= 1e300:  # NaN too
            raise ConfigError(f"{where} must be a finite number; got {brief(value)}.")
        return float(value)
    if kind is str and isinstance(value, str):
        if len(value) > LONGEST or not is_line(value):
            raise ConfigError(f"{where} must be one line of at most {LONGEST} characters, without control characters; "
                              f"got {brief(value)}.")
        return value
    if kind is int and type(value) is int and not -2**63 <= value < 2**63:
        raise ConfigError(f"{where} must be a whole number of 64 bits; got {brief(value)}.")
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where} must be of type {getattr(kind, '__name__', kind)}; got {brief(value)}.")
