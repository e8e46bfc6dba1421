"""The picture of an audit: scans before and after conversion."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from dnnlib.pictures import Picture, sheet
from stylegan_oct.data.decisions import Decision
from stylegan_oct.data.files import Refusal
from stylegan_oct.data.volumes import Files, load
from stylegan_oct.data.work import WorkFolder

VISIBLE = 0.001  # share of padding from which a scan counts as padded
COLUMNS = 8      # scans in a row
CELL = 190       # pixels


def share_of_border(decision: Decision) -> float:
    """Return which share of a scan was padding, 0 to 1."""
    facts = decision.row["facts"]
    return float(facts.get("border_white", 0) + facts.get("border_black", 0))


def draw_audit(kept: Sequence[Decision], classes: Sequence[str], files: Files, channels: int,
               folder: WorkFolder) -> Picture:
    """Return a sheet: the scans with most padding before and after, and below them a few of every class."""
    padded = sorted(kept, key=lambda d: (-share_of_border(d), d.row["pixel_hash"]))
    most = [decision for decision in padded[:COLUMNS] if share_of_border(decision) >= VISIBLE]
    others: list[Decision] = []
    for label in classes or (None,):
        rest = [decision for decision in padded if decision.scan.label == label and decision not in most]
        rest.sort(key=lambda decision: str(decision.row["pixel_hash"]))
        others += rest[:max(COLUMNS // max(len(classes), 1), 1)]
    parts = [_pairs(group, title, files, channels, folder)
             for group, title in ((most, "most border, before and after"), (others[:COLUMNS], "others")) if group]
    width = max(part.shape[1] for part in parts)
    canvas = Image.new("RGB" if channels == 3 else "L", (width, sum(len(part) for part in parts)), "white")
    top = 0
    for part in parts:
        canvas.paste(Image.fromarray(part), (0, top))
        top += len(part)
    return np.asarray(canvas)


def _pairs(group: Sequence[Decision], title: str, files: Files, channels: int,
           folder: WorkFolder) -> Picture:
    captions = [f"{decision.scan.label or ''} {share_of_border(decision):.1%}" for decision in group]
    before = [_before(files, decision, channels) for decision in group]
    after = [_after(folder, decision) for decision in group]
    return sheet([before, after], row_labels=["before", "after"], column_labels=captions, cell=(CELL, CELL),
                 title=title)


def _before(files: Files, decision: Decision, channels: int) -> Picture:
    try:
        return load(files, decision.scan.path, channels).picture.pixels
    except Refusal:  # removed since it was read
        return np.full((CELL, CELL), 128, np.uint8)


def _after(folder: WorkFolder, decision: Decision) -> Picture:
    with Image.open(io.BytesIO(folder.read_png(decision.row))) as image:
        return np.asarray(image)
