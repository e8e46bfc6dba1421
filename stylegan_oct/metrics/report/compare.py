"""Two evaluations side by side, and which of their differences are beyond noise."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import norm

from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_write
from stylegan_oct.metrics.report.meanings import full_title, number
from stylegan_oct.metrics.report.report import Report, encode, write_json
from stylegan_oct.metrics.report.verdict import interval_text
from stylegan_oct.metrics.statistics.values import Interval, Value

FILE = "compare.json"
PAGE = "compare.html"
RATE = 0.05     # of false discoveries among the differences that are called beyond noise
NORMAL_95 = 1.96
RULE = ("A difference is called beyond noise where its p, from the intervals of both values, passes the rule of "
        "Benjamini and Hochberg among all that are compared: of those, at most 5 % are expected to be false. It tells "
        "these two files apart, not what made them: another training with another seed would differ too.")
SAME = ("count", "psi", "seed")  # settings in which two reports should agree


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric in both reports."""

    metric: str
    class_name: str | None
    a: Value
    b: Value
    difference: float             # of b from a
    interval: Interval | None     # 95 %
    p: float | None               # of so large a difference by chance, from the intervals
    beyond_noise: bool
    better: str                   # "a" or "b" where it is beyond noise and one is better, else ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two reports of the same archive."""

    a: Report
    b: Report
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]

    @property
    def beyond(self) -> list[Difference]:
        """The differences beyond noise, the clearest first."""
        return sorted((found for found in self.differences if found.beyond_noise), key=lambda found: found.p or 0.0)


def compare(a: Report, b: Report) -> Comparison:
    """Return what both measured, with the differences.

    The standard error of each value is the longer arm of its interval over 1.96, that of a difference the root of the
    sum of squares. Both were measured with the same scans, which as a rule moves both values alike; so the interval of
    the difference is rather too wide than too narrow. As many metrics are compared, some would differ by chance: those
    called beyond noise are chosen by Benjamini and Hochberg 1995 ("Controlling the False Discovery Rate"), so that at
    most 5 % of them are expected to be false.

    Raises:
        ConfigError: they were measured against different archives.
    """
    if a.reference.fingerprint != b.reference.fingerprint:
        raise ConfigError(f"The reports are of different archives ({a.reference.file}, {a.reference.fingerprint[:12]}, "
                          f"and {b.reference.file}, {b.reference.fingerprint[:12]}): their numbers cannot be compared. "
                          "Evaluate both with the same --data.")
    others = {(value.metric, value.class_name): value for value in b.values}
    pairs = [(value, others[value.metric, value.class_name]) for value in a.values
             if (value.metric, value.class_name) in others]
    fit = [(value, other) for value, other in pairs if value.detector == other.detector]
    raw = [_difference(value, other) for value, other in fit if math.isfinite(value.value + other.value)]
    if not raw:
        raise ConfigError("The two reports have no measured value in common. Evaluate both with the same parts and "
                          "detectors.")
    line = discovery_line([found.p for found in raw if found.p is not None])
    marked = [dataclasses.replace(found, beyond_noise=found.p is not None and found.p <= line) for found in raw]
    return Comparison(a=a, b=b, differences=tuple(dataclasses.replace(found, better=_better(found))
                                                  for found in marked),
                      warnings=_warnings(a, b, len(pairs) - len(fit)))


def discovery_line(ps: list[float]) -> float:
    """Return the largest p that counts: the greatest p_(i) that is at most RATE * i / m; -1 where none is."""
    ordered = sorted(ps)
    return max((p for place, p in enumerate(ordered, 1) if p <= RATE * place / len(ordered)), default=-1.0)


def comparison_lines(found: Comparison) -> list[str]:
    """Return the comparison as a table for the terminal, of all classes together, then what is beyond noise."""
    rows: list[tuple[str, ...]] = [("", "A", "B", "B - A", "95 %", "beyond noise")]
    for one in found.differences:
        if one.class_name is None:
            rows.append(_row(one))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"A  {found.a.subject.title}  {found.a.subject.sha256[:12]}",
             f"B  {found.b.subject.title}  {found.b.subject.sha256[:12]}"]
    lines += ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"mind: {warning}" for warning in found.warnings]
    return [*lines, summary(found)]


def summary(found: Comparison) -> str:
    """Return how many differences are beyond noise, and which way they point."""
    count, a, b = len(found.beyond), *(sum(one.better == name for one in found.beyond) for name in ("a", "b"))
    return (f"{count} of {len(found.differences)} differences are beyond noise (at most 1 in 20 of these expected to "
            f"be false): A is better in {a}, B in {b}.")


def save_comparison(out: Path, found: Comparison) -> None:
    """Write `compare.json` and `compare.html`.

    Raises:
        DataError: they cannot be written.
    """
    from stylegan_oct.metrics.report.page import fill  # matplotlib takes seconds to import

    write_json(out / FILE, facts(found))
    names = ("metric", "a", "b", "difference", "interval", "verdict")
    rows = [{**dict(zip(names, _row(one), strict=True)), "class_name": one.class_name or "all",
             "floor": number(one.a.floor, one.metric) if one.a.floor is not None else ""} for one in found.differences]
    page = fill("compare.html", title="Two evaluations", found=found, rows=rows, summary=summary(found), rule=RULE)
    try:
        with atomic_write(out / PAGE) as file:
            file.write(page)
    except OSError as error:
        raise DataError(f"Cannot write {out / PAGE}: {error.strerror}. Choose another place with --out.") from error


def facts(found: Comparison) -> dict[str, Any]:
    """Return the comparison as JSON types, without the rest of the reports."""
    subjects = {name: encode(report.subject) for name, report in (("a", found.a), ("b", found.b))}
    return {"schema": 1, **subjects, "reference": found.a.reference.fingerprint, "rate": RATE,
            "differences": encode(found.differences), "warnings": list(found.warnings), "summary": summary(found)}


def _difference(a: Value, b: Value) -> Difference:
    difference = b.value - a.value
    errors = [_error(value) for value in (a, b)]
    interval, p = None, None
    if errors[0] is not None and errors[1] is not None:
        error = math.hypot(errors[0], errors[1])
        interval = (difference - NORMAL_95 * error, difference + NORMAL_95 * error)
        p = float(2 * norm.sf(abs(difference) / error)) if error else float(difference == 0)
    return Difference(metric=a.metric, class_name=a.class_name, a=a, b=b, difference=difference, interval=interval, p=p,
                      beyond_noise=False, better="")


def _error(value: Value) -> float | None:
    """Return the standard error that the interval stands for; None where there is none."""
    if value.interval is None or not all(map(math.isfinite, value.interval)):
        return None
    return max(value.value - value.interval[0], value.interval[1] - value.value) / NORMAL_95


def _better(found: Difference) -> str:
    """Return which of the two is better, if the difference is beyond noise."""
    if not found.beyond_noise or not found.a.better or not found.difference:
        return ""
    if found.a.better == "floor":
        if found.a.floor is None or found.b.floor is None:
            return ""
        nearer = abs(found.b.value - found.b.floor) < abs(found.a.value - found.a.floor)
        return "b" if nearer else "a"
    rises = found.difference > 0
    return "b" if rises == (found.a.better == "higher") else "a"


def _row(found: Difference) -> tuple[str, ...]:
    metric = found.metric
    span = interval_text(found.interval, metric) or "not known"
    verdict = {"a": "A is better", "b": "B is better"}.get(found.better, "yes" if found.beyond_noise else "")
    return (full_title(metric), number(found.a.value, metric), number(found.b.value, metric),
            number(found.difference, metric), span, verdict)


def _warnings(a: Report, b: Report, others: int) -> tuple[str, ...]:
    found = []
    if a.subject.sha256 == b.subject.sha256 and a.subject.psi == b.subject.psi:
        found.append("Both reports are of the same generator.")
    for name in SAME:
        if a.settings.get(name) != b.settings.get(name):
            more = " The Fréchet distance depends on the number of pictures." if name == "count" else ""
            found.append(f"They differ in {name}: {a.settings.get(name)} and {b.settings.get(name)}.{more}")
    if others:
        found.append(f"{others} values are left out: other networks or weights looked at the pictures.")
    return tuple(found)
