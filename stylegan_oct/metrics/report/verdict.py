"""From values and floors to a few sentences, the heaviest first."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from stylegan_oct.metrics.report.meanings import family_of, full_title, meaning_of, number
from stylegan_oct.metrics.report.report import Finding
from stylegan_oct.metrics.statistics.values import Interval, Value

FAULT = 0.25   # weight from which a finding counts as a fault rather than a flaw
ENOUGH = 100   # pictures of either kind from which "no worse" is worth saying
FRECHET = ("fd", "fd_train")  # of few pictures mostly bias: their covariance has fewer dimensions than the features
NEAR = 0.1     # relative gap that counts as none where there is no interval


@dataclass(frozen=True)
class _Gap:
    value: Value
    size: float    # 0: at the floor or better; 1: as bad as can be

    @property
    def weight(self) -> float:
        return self.size * meaning_of(self.value.metric).importance


def judge(values: Sequence[Value]) -> tuple[Finding, ...]:
    """Return what the values say, the heaviest first and what is as good as real scans last.

    A value counts as worse than its floor where their intervals lie apart; without intervals, where they differ by a
    tenth. Where they meet, but the value lies outside the floor's interval, it is undecided, as is all that is no worse
    among fewer than `ENOUGH` pictures. So few do not call a value without interval worse, nor a Fréchet distance, which
    they hardly measure. Of several networks that looked, the one with the widest gap speaks. A class is named where it
    is worse than all classes together.
    """
    families: dict[str, list[Value]] = defaultdict(list)
    for value in values:
        told = value.better and meaning_of(value.metric).importance
        if told and value.floor is not None and math.isfinite(value.value):
            families[family_of(value.metric)].append(value)
    findings: list[Finding] = []
    good: list[Value] = []
    few: list[Value] = []
    undecided: list[Value] = []
    for family in families.values():
        together = [_Gap(value, gap(value)) for value in family if value.class_name is None]
        classes = [_Gap(value, gap(value)) for value in family if value.class_name is not None]
        worst = max(together, key=lambda found: found.weight, default=None)
        same = [found for found in classes if not worst or not worst.size or found.value.metric == worst.value.metric]
        lowest = max(same, key=lambda found: found.weight, default=None)
        if worst is not None and worst.size == 0 and (lowest is None or lowest.size == 0):
            enough = _pictures(worst.value) >= ENOUGH
            (undecided if not within(worst.value) else good if enough else few).append(worst.value)
        elif worst is not None or (lowest is not None and lowest.size):
            findings.append(_finding(worst, lowest))
    findings.sort(key=lambda found: -found.weight)
    for values, level, text in ((undecided, "open", "Somewhat worse than real scans, but too few pictures to be sure"),
                                (few, "open", "Not told from real scans, but so few pictures could hardly tell"),
                                (good, "good", "No worse than real scans, as far as so many pictures can tell")):
        if values:
            names = ", ".join(f"{full_title(value.metric)} {_against(value)}{_deciding(value, level)}"
                              for value in values)
            counts = [_pictures(value) for value in values if value.n is not None or value.n_real is not None]
            number_of = f" (at least {min(counts):.0f} of each)" if counts else ""
            findings.append(Finding(text=f"{text}{number_of}: {names}.", weight=0.0, level=level))
    return tuple(findings)


def _pictures(value: Value) -> float:
    """Return of how many pictures there were fewer, samples or scans; infinity where it is not said."""
    return min((count for count in (value.n, value.n_real) if count is not None), default=math.inf)


def scans_to_decide(value: Value) -> int | None:
    """Return about how many held-out scans would tell a value that is worse, but undecided, from its floor.

    The arms of both intervals, that face each other, shrink with the root of the count until they no longer meet.
    None where that cannot be said: the value is no worse, or there is no interval.
    """
    if value.floor is None or value.n_real is None or value.interval is None or value.floor_interval is None:
        return None
    loss, above = _loss(value, value.floor), value.value > value.floor
    arms = (value.value - value.interval[0] + value.floor_interval[1] - value.floor) if above else \
        (value.interval[1] - value.value + value.floor - value.floor_interval[0])
    if not loss or not math.isfinite(arms) or arms <= loss:
        return None
    count = value.n_real * (arms / loss) ** 2
    unit = int(10 ** max(math.floor(math.log10(count)) - 1, 0))
    return math.ceil(count / unit) * unit


def _deciding(value: Value, level: str) -> str:
    """Return how many scans would decide what is open, in brackets, or ""."""
    needed = scans_to_decide(value) if level == "open" else None
    return f" (about {max(needed, ENOUGH)} held-out scans would tell)" if needed else ""


def within(value: Value) -> bool:
    """Return whether a value that is not worse beyond its interval is also within the floor's interval, or better."""
    floor = value.floor
    if floor is None or not _loss(value, floor):
        return True
    if value.floor_interval is None and value.interval is None:
        return _share(value, floor) <= NEAR
    low, high = value.floor_interval or (floor, floor)
    return low <= value.value <= high


def gap(value: Value) -> float:
    """Return how far a value is worse than its floor, as a share of the larger of the two, 0 to 1.

    0 where the intervals meet, and where too few pictures leave the value undecided. Where the floor is to be met, a
    value beyond it counts if that means anything.
    """
    floor = value.floor
    if floor is None or not value.better or not math.isfinite(value.value) or not math.isfinite(floor):
        return 0.0
    size = _share(value, floor)
    low, high = value.interval or (value.value, value.value)
    floor_low, floor_high = value.floor_interval or (floor, floor)
    unmeasured = value.interval is None and value.floor_interval is None
    if _pictures(value) < ENOUGH and (unmeasured or family_of(value.metric) in FRECHET):
        return 0.0
    if unmeasured:
        return size if size > NEAR else 0.0
    return size if low > floor_high or high < floor_low else 0.0


def _share(value: Value, floor: float) -> float:
    """Return by what share of the larger of the two a value is worse than its floor, 0 to 1."""
    largest = max(abs(value.value), abs(floor))
    return min(_loss(value, floor) / largest, 1.0) if largest else 0.0


def _loss(value: Value, floor: float) -> float:
    """Return how much worse a value is than its floor, 0 where it is not."""
    above = value.value - floor
    if value.better in ("higher", "lower"):
        return max(-above if value.better == "higher" else above, 0.0)
    meaning = meaning_of(value.metric)
    return abs(above) if (meaning.above if above > 0 else meaning.worse) else 0.0


def _finding(worst: _Gap | None, lowest: _Gap | None) -> Finding:
    """Return the sentence for one kind of metric."""
    heaviest = max((found for found in (worst, lowest) if found), key=lambda found: found.weight)
    shown = worst if worst is not None and worst.size else heaviest
    value = shown.value
    where = f" of {value.class_name}" if value.class_name else ""
    text = f"{full_title(value.metric)}{where} {_against(value)}: {_meant(value)}."
    if lowest is not None and shown is not lowest and lowest.size > shown.size:
        text += f" Worst in {lowest.value.class_name}: {_against(lowest.value)}."
    weight = heaviest.weight
    return Finding(text=text, weight=round(weight, 4), level="fault" if weight >= FAULT else "flaw",
                   metric=value.metric)


def _meant(value: Value) -> str:
    """Return what the gap means."""
    meaning = meaning_of(value.metric)
    beyond = value.better == "floor" and value.floor is not None and value.value > value.floor
    return meaning.above if beyond else meaning.worse


def _against(value: Value) -> str:
    assert value.floor is not None
    return f"{number(value.value, value.metric)} where real scans reach {number(value.floor, value.metric)}"


def interval_text(interval: Interval | None, metric: str) -> str:
    """Return an interval as people read it, "" where there is none."""
    if interval is None or not all(map(math.isfinite, interval)):
        return ""
    low, high = (number(bound, metric) for bound in interval)
    return f"{low.removesuffix(' %')} to {high}"
