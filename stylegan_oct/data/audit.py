"""The audit of a conversion: all counts and reasons as a text, with a picture beside it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.escape import markdown
from dnnlib.pictures import encode_png
from stylegan_oct.data.archive import SPLITS
from stylegan_oct.data.audit_picture import VISIBLE, draw_audit, share_of_border
from stylegan_oct.data.decisions import Decision, Outcome
from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.data.privacy import write_private
from stylegan_oct.data.readers.bscan import count_notes
from stylegan_oct.data.sources import Source
from stylegan_oct.data.splits import Fractions
from stylegan_oct.data.work import WorkFolder

MAX_LISTED = 2000      # lines of one kind; an editor still opens the file
MANY = 20              # scans of one patient, from which on half of all is worth a look
COLOURED = 0.002       # share of coloured pixels from which an overlay is reported

OUTCOMES: dict[Outcome, str] = {
    "kept": "enter the archive",
    "refused": "refused: cannot be read or show no scan",
    "conflict": "quarantined: the same picture under two classes",
    "test patient": "left out: their patients are in the official test set",
    "duplicate": "left out: the same picture as another",
    "near duplicate": "left out: nearly the same as one in another split",
}


@dataclass(frozen=True)
class Audit:
    """What the audit tells about."""

    source: Path
    dest: Path
    listing: Source
    settings: Preprocess
    fractions: Fractions
    only_split: str | None
    classes: tuple[str, ...]
    decisions: Sequence[Decision]
    splits: Sequence[str] = ()   # lines on how the split was made and what it lacks

    @property
    def kept(self) -> list[Decision]:
        """The scans that enter the archive, all splits."""
        return [decision for decision in self.decisions if decision.outcome == "kept"]

    @property
    def read(self) -> list[Decision]:
        """The scans that could be read."""
        return [decision for decision in self.decisions if decision.outcome != "refused"]


def write_audit(audit: Audit, folder: WorkFolder) -> Path:
    """Write NAME-audit.md and NAME-audit.png beside the archive, for the owner alone; return the text's path."""
    base = audit.dest.with_name(f"{audit.dest.stem}-audit")
    picture = draw_audit(audit.kept, audit.classes, audit.listing.files, audit.settings.channels, folder)
    if picture is not None:
        write_private(base.with_suffix(".png"), encode_png(picture, {"Title": "scans before and after conversion"}))
    parts = [_head(audit), _read(audit), _entered(audit), _left_out(audit), _warnings(audit), _patients(audit),
             _sizes(audit), _border(audit), *_listings(audit), _settings(audit)]
    text = base.with_suffix(".md")
    write_private(text, "\n".join(part for part in parts if part).encode("utf-8", "backslashreplace"))
    return text


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table that is aligned as text too; the first column to the left, the others to the right."""
    cells = [[markdown(str(cell)) for cell in row] for row in rows]
    widths = [max(3, *(len(row[i]) for row in [header, *cells])) for i in range(len(header))]
    rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
    aligned = [[row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
               for row in [[*header], rule, *cells]]
    return "".join(f"| {' | '.join(row)} |\n" for row in aligned)


def _head(audit: Audit) -> str:
    return (f"# Audit of {markdown(audit.dest.name)}\n\nMade from the {audit.listing.kind} "
            f"{markdown(str(audit.source))}. This file, its "
            "picture and the key beside it name files and patients: they are for the owner of the scans alone. The "
            "archive itself holds neither.\n")


def _read(audit: Audit) -> str:
    return "## What was read where\n\n" + "".join(f"- {markdown(line)}\n" for line in audit.listing.summary())


def _entered(audit: Audit) -> str:
    groups = [(name, [d for d in audit.kept if d.scan.label == name]) for name in audit.classes] + [("all", audit.kept)]
    rows = []
    for label, of_class in groups:
        cells: list[object] = [label]
        for split in (*SPLITS, "all"):
            here = [d for d in of_class if split in ("all", d.split)]
            cells.append(f"{len(here)} / {len({d.scan.patient for d in here})}")
        rows.append(cells)
    only = f"\nOnly the split {audit.only_split} was written.\n" if audit.only_split else ""
    return "## What enters\n\nScans / patients.\n\n" + _table(["class", *SPLITS, "all"], rows) + only


def _left_out(audit: Audit) -> str:
    counts = Counter(decision.outcome for decision in audit.decisions)
    counts["refused"] += len(audit.listing.refused)
    rows = [(text, counts[outcome]) for outcome, text in OUTCOMES.items()]
    rows.append(("found in all", sum(counts.values())))
    others = audit.listing.ignored.most_common(9)
    ignored = ", ".join(f"{count} {markdown(suffix) or 'without suffix'}" for suffix, count in others)
    return "## What happened to the files\n\n" + _table(["scans", "count"], rows) + (
        f"\nFiles of other kinds, not looked at: {ignored}.\n" if ignored else "")


def _warnings(audit: Audit) -> str:
    lines = []
    unknown = sum(not d.scan.known_patient for d in audit.kept)
    if unknown:
        lines.append(f"For {unknown} scans the patient is not known: each counts as a patient of its own, so scans of "
                     "one patient may be in several splits. Give --patient-pattern, a folder a patient, or a CSV "
                     "with a column patient.")
    scans = Counter(d.scan.patient for d in audit.kept)
    most = max(scans.values(), default=0)
    if len(scans) > 1 and most > max(MANY, len(audit.kept) / 2) or (len(scans) == 1 and most > MANY):
        lines.append(f"One patient has {most} of the {len(audit.kept)} scans. Look whether what was taken for patients "
                     "are such; --patient-pattern or a CSV with a column patient says it otherwise.")
    lines += [f"{markdown(line)}." for line in audit.splits]
    coloured = sum(d.row["facts"].get("coloured", 0) > COLOURED for d in audit.read)
    if coloured and audit.settings.channels == 1:
        lines.append(f"{coloured} scans have coloured pixels (overlays, arrows, text?) and were turned to grey; "
                     "look at them, since a generator would learn the marks.")
    lines += [f"{line}." for line in remarks(audit.read)]
    pages = sum("pages" in d.row["facts"] for d in audit.read)
    if pages:
        lines.append(f"{pages} files hold several pages; the first of each was taken.")
    small = sum(min(d.row["facts"]["width"], d.row["facts"]["height"]) < audit.settings.resolution for d in audit.kept)
    if small:
        lines.append(f"{small} scans are smaller than {audit.settings.resolution} px on one side and were enlarged.")
    return "## To look at\n\n" + "".join(f"- {line}\n" for line in lines) if lines else ""


def remarks(read: Sequence[Decision]) -> list[str]:
    """Return what is odd about the brightness of the scans, a line for each kind."""
    lines = count_notes(d.row.get("notes", ()) for d in read)
    depths = Counter(d.row["facts"]["bits"] for d in read if str(d.row["facts"]["mode"]).startswith("I"))
    if len(depths) > 1:
        counts = ", ".join(f"{bits} bits: {count}" for bits, count in sorted(depths.items()))
        lines.append(f"the deep scans are scaled by several depths ({counts}), so that their brightness may not "
                     "compare; store them all in 8 bits, or with one depth")
    return lines


def _patients(audit: Audit) -> str:
    scans = Counter(d.scan.patient for d in audit.kept)
    labels = defaultdict(set)
    for decision in audit.kept:
        labels[decision.scan.patient].add(decision.scan.label)
    several = sum(len(names) > 1 for names in labels.values())
    counts = sorted(scans.values())
    return (f"## Patients\n\n{len(scans)} patients; scans of one: {counts[len(counts) // 2]} (median), at most "
            f"{counts[-1]}. {several} have scans in several classes. The split goes by the patient alone.\n")


def _sizes(audit: Audit) -> str:
    def facts(row: dict[str, Any]) -> tuple[str, str, str, str]:
        return f"{row['width']} x {row['height']}", row["format"], row["mode"], str(row["bits"])

    counts = Counter(facts(d.row["facts"]) for d in audit.read)
    rows = [(*kind, count) for kind, count in counts.most_common(20)]
    rest = len(counts) - len(rows)
    return ("## Sizes\n\n" + _table(["size", "format", "mode", "bits", "count"], rows) +
            (f"\nand {rest} more kinds.\n" if rest else "")) if rows else ""


def _border(audit: Audit) -> str:
    if not audit.settings.border:
        return "## Border\n\nNot looked for.\n"
    rows = []
    for label in audit.classes or (None,):
        shares = np.array([share_of_border(d) for d in audit.read if d.scan.label == label])
        if len(shares):
            rows.append((label or "images", f"{(shares >= VISIBLE).mean():.0%}", f"{shares.mean():.1%}",
                         f"{np.percentile(shares, 95):.1%}", f"{shares.max():.1%}"))
    return ("## Border\n\nWhite wedges and black margins, as shares of a scan's area before they were replaced by its "
            "noise. Where the classes differ, a classifier of the scans as they were could have used it.\n\n" +
            _table(["class", "scans with any", "mean", "95th percentile", "most"], rows))


def _listings(audit: Audit) -> list[str]:
    by_outcome = defaultdict(list)
    for path, reason in audit.listing.refused:
        by_outcome["refused"].append(f"{path}: {reason}")
    for decision in audit.decisions:
        by_outcome[decision.outcome].append(f"{decision.scan.path}: {decision.reason}")
    near = sum(decision.near > 0 for decision in audit.kept)
    titles = {"refused": "Refused", "conflict": "Conflicting labels", "duplicate": "Duplicates",
              "near duplicate": "Near duplicates across splits", "test patient": "Patients of the official test set"}
    parts = []
    for outcome, title in titles.items():
        lines = by_outcome[outcome]
        if lines:
            more = f"- and {len(lines) - MAX_LISTED} more\n" if len(lines) > MAX_LISTED else ""
            listed = "".join(f"- {markdown(line)}\n" for line in lines[:MAX_LISTED])
            parts.append(f"## {title}: {len(lines)}\n\n{listed}{more}")
    if near:
        parts.append(f"## Near duplicates within a split: {near}\n\nThese scans look nearly like another of the same "
                     "split (neighbours in a volume, say). They stay; the manifest counts them in `near_duplicates`.\n")
    return parts


def _settings(audit: Audit) -> str:
    s = audit.settings
    shares = ", ".join(f"{split} {share:.0%}" for split, share in zip(SPLITS, audit.fractions, strict=True))
    return (f"## Settings\n\nResolution {s.resolution}, channels {s.channels}, aspect {s.aspect}, border repair "
            f"{'on' if s.border else 'off'} (refused above {s.max_border:.0%}), region of interest "
            f"{'on' if s.roi else 'off'}, no denoising. Shares asked for: {shares}.\n")
