"""What is told of an export on the terminal."""

import shlex
from pathlib import Path
from typing import Any

from dnnlib.config import to_dict
from dnnlib.text import format_seconds
from stylegan_oct.export.drawing.select import KEPT
from stylegan_oct.export.export import Summary
from stylegan_oct.export.folder.folder import rejected
from stylegan_oct.export.folder.verify import Verdict

SHOWN = 10  # names of each kind


def facts(summary: Summary) -> dict[str, Any]:
    """Return everything as JSON types."""
    return {"out": str(summary.out), "pictures": summary.pictures, **to_dict(summary.record),
            "drawn_now": summary.drawn_now, "seconds": summary.seconds, "shares": summary.shares}


def verdict_text(out: Path, verdict: Verdict) -> str:
    """Return what was checked and what is wrong, by name."""
    again = verdict.same + len(verdict.near) + len(verdict.other)
    lines = [*(f"WRONG {what}" for what in verdict.wrong[:SHOWN]),
             *(f"WRONG {name}: drawn again, it is another picture" for name in verdict.other[:SHOWN])]
    more = len(verdict.wrong) + len(verdict.other) - len(lines)
    lines += [f"and {more} more"] * bool(more)
    near = f", {len(verdict.near)} within a grey level (other rounding)" if verdict.near else ""
    lines.append(f"{out}: {verdict.files} files and {verdict.pictures} pictures checked; {again} drawn again: "
                 f"{verdict.same} the same to the bit{near}. "
                 + ("All is well." if verdict.good else "The export is not what it says."))
    return "\n".join(lines)


def text(summary: Summary) -> str:
    """Return a table of what was kept and rejected, the ranges, and the speed."""
    plan = summary.record.plan
    lines = [f"{'class':10}{'drawn':>8}{'kept':>8}{'rejected':>10}"]
    for name, counts in summary.record.drawn.items():
        drawn, kept = sum(counts.values()), counts.get(KEPT, 0)
        reasons = ", ".join(f"{share:.1%} {reason}" for reason, share in rejected(counts).items())
        lines.append(f"{name or 'all':10}{drawn:8}{kept:8}{1 - kept / drawn:10.1%}  {reasons}".rstrip())
    lines += [f"kept only with {rule}" for rule in summary.record.rules]
    if summary.drawn_now:
        speed = summary.drawn_now / summary.seconds
        shares = ", ".join(f"{work} {share:.0%}" for work, share in summary.shares.items())
        lines.append(f"{summary.drawn_now} pictures in {format_seconds(summary.seconds)}, {speed:.1f} a second: "
                     f"{shares}")
    lines.append(f"{summary.pictures} synthetic pictures in {summary.out}, layout {plan.layout}; check them with: "
                 f"python -m tools export --verify {shlex.quote(str(summary.out))}")
    return "\n".join(lines)
