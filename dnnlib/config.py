"""Frozen dataclasses to JSON and back, strictly, and dotted overrides such as `r1.gamma`."""

import dataclasses
import json
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from dnnlib.errors import ConfigError
from dnnlib.text import suggest

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as nested dicts of JSON types; tuples become lists."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(config))))


def to_json(config: Any) -> str:
    """Return a dataclass as indented JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_dict(cls: type[T], data: Mapping[str, Any], *, where: str = "") -> T:
    """Return the dataclass that `to_dict` came from.

    Args:
        cls: the dataclass; its fields may be dataclasses, tuples, dicts, literals and optional values.
        data: nested dicts.
        where: what is read, named in errors.
    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise ConfigError(f"{where or cls.__name__} has no field {key!r}.{suggest(key, fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise ConfigError(f"{where or cls.__name__} lacks the field {name!r}.")
    prefix = f"{where}." if where else ""
    return cls(**{key: _decode(hints[key], value, prefix + key) for key, value in data.items()})


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
        raise ConfigError(f"--set takes FIELD=VALUE, such as r1.gamma=2; got {reprlib.repr(text)}.")
    try:
        return path.strip(), json.loads(value)
    except (ValueError, RecursionError):  # no JSON, more digits than Python reads, or nested too deep
        return path.strip(), value


def _decode(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return from_dict(typing.cast(type[Any], kind), value, where=where)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _decode(next(arg for arg in args if arg is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where} must be one of {', '.join(map(str, args))}; got {reprlib.repr(value)}.")
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_decode(args[0], item, where) for item in value)
    if origin is dict and isinstance(value, Mapping):
        return {key: _decode(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= 1e300:  # nan too
            raise ConfigError(f"{where} must be a finite number; got "
                              f"{value if isinstance(value, float) else 'one of some hundred digits'}.")
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where} must be of type {getattr(kind, '__name__', kind)}; got {reprlib.repr(value)}.")
