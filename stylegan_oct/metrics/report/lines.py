"""A report as lines for the terminal."""

from pathlib import Path

from stylegan_oct.metrics.report.meanings import family_of, full_title, number
from stylegan_oct.metrics.report.report import Report
from stylegan_oct.metrics.report.verdict import gap, interval_text

LEFT_OUT = ("ks", "unmeasured")   # many numbers that say what others say


def report_lines(report: Report, out: Path) -> list[str]:
    """Return the values of all classes together beside their floors, then what they say."""
    rows = [("", "value", "95 %", "floor", "")]
    for part in report.parts:
        for value in part.values:
            if value.class_name is None and family_of(value.metric) not in LEFT_OUT:
                floor = number(value.floor, value.metric) if value.floor is not None else "-"
                rows.append((full_title(value.metric), number(value.value, value.metric),
                             interval_text(value.interval, value.metric), floor, "worse" if gap(value) else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"mind: {warning}" for warning in report.warnings]
    lines += [f"{finding.level}: {finding.text}" for finding in report.verdict]
    lines += [f"not measured: {part.name}: {part.reason}" for part in report.parts if part.reason]
    return [*lines, f"{out / 'report.html'} shows it all; {out / 'report.json'} holds every number"]
