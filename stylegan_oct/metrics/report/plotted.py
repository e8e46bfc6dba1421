"""What a part of a report holds behind its plots, as it is read back: JSON types that the page can rely on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dnnlib.config import Count, Finite, Name, from_dict
from dnnlib.errors import ConfigError

Number = Finite | None  # None stands for NaN


@dataclass(frozen=True, kw_only=True)
class _Point:
    arm: Literal["real", "both", "synthetic"]
    metric: Name
    patients: Count
    scans: Count
    value: Number
    interval: tuple[Number, Number] | None
    by_seed: list[Number]


@dataclass(frozen=True, kw_only=True)
class _Usefulness:
    curve: list[_Point]
    bar: Finite

    def __post_init__(self) -> None:
        if {point.metric for point in self.curve} != {point.metric for point in self.curve if point.arm == "real"}:
            raise ConfigError("curve must have points of real scans for each metric.")


@dataclass(frozen=True, kw_only=True)
class _Pair:
    row: Count
    training: Count
    ratio: Number
    flagged: bool


@dataclass(frozen=True, kw_only=True)
class _Memorisation:
    samples: list[Number]
    held_out: list[Number]
    limit: Number
    pairs: list[dict[str, Any]]
    flagged: list[Count]

    def __post_init__(self) -> None:
        for pair in self.pairs:
            from_dict(_Pair, pair, where="pair", strict=False)


@dataclass(frozen=True, kw_only=True)
class _Distribution:
    biomarker: Name
    unit: Name
    class_name: Name | None
    probabilities: list[Finite]
    real: list[Number]
    fake: list[Number]
    n_real: Count
    n_fake: Count


@dataclass(frozen=True, kw_only=True)
class _Confusion:
    asked: list[Name]
    seen: list[Name]
    fake: list[list[Count]]
    real: list[list[Count]]

    def __post_init__(self) -> None:
        for table in (self.fake, self.real):
            if [len(row) for row in table] != [len(self.seen)] * len(self.asked):
                raise ConfigError("confusion must have a row for each class asked for and a column for each seen.")


@dataclass(frozen=True, kw_only=True)
class _Consistency:
    distributions: list[_Distribution]
    confusion: _Confusion | None


KINDS: dict[str, type[Any]] = {"usefulness": _Usefulness, "memorisation": _Memorisation, "consistency": _Consistency}


def check_data(name: str, data: Mapping[str, Any]) -> None:
    """Refuse what is behind the plots of a part where the page could not draw it; a part may have nothing.

    Raises:
        ConfigError: says what is wrong.
    """
    if data and name in KINDS:
        from_dict(KINDS[name], data, where=f"data of {name}")
