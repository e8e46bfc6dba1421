"""The pictures of a report: samples beside scans, and the samples nearest to training scans."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dnnlib.pictures import Picture, encode_png, sheet, synthetic_text
from stylegan_oct.metrics.ground import Ground
from stylegan_oct.metrics.observers.pictures import Pictures
from stylegan_oct.metrics.report.page import PagePicture
from stylegan_oct.metrics.report.report import Report

COLUMNS = 6     # of samples, and of scans, of a class
LARGEST = 80    # pixels at which a picture is shown
PAIRS = 8       # closest pairs that are shown


def pictures_of(ground: Ground, report: Report, *, show_scans: bool) -> list[PagePicture]:
    """Return the pictures for the page.

    Where scans must not be shown, neither are samples that may be copies of them.
    """
    found = [_samples(ground, report, show_scans)]
    part = report.part("memorisation")
    known = part.data.get("pairs", []) if part is not None and not part.reason and show_scans else []
    pairs = [pair for pair in known if pair["row"] < len(ground.fake) and pair["training"] < len(ground.training)]
    if pairs:
        found.append(_pairs(ground, pairs[:PAIRS]))
    return found


def _samples(ground: Ground, report: Report, show_scans: bool) -> PagePicture:
    part = report.part("memorisation")
    hidden = set(part.data.get("flagged", [])) if part is not None and not show_scans else set()
    rows, names = [], list(ground.fake.classes) or [""]
    scans = ground.held_out or ground.training
    for label in range(len(names)):
        drawn = [row for row in np.flatnonzero(ground.fake.labels == label).tolist() if row not in hidden]
        real = np.flatnonzero(scans.labels == label).tolist() if show_scans else []
        row = [*_read(scans, _spread(real)), *_read(ground.fake, drawn[:COLUMNS])]
        if row:
            rows.append(row)
    kinds = [name for label, name in enumerate(names) if (ground.fake.labels == label).any() or
             (show_scans and (scans.labels == label).any())]
    simulated = "simulated" if scans.archive.source == "phantom" else "real"
    headings = [*[simulated if place == 0 else "" for place in range(COLUMNS * show_scans)],
                *["synthetic" if place == 0 else "" for place in range(COLUMNS)]]
    title = f"{simulated.capitalize()} scans and samples" if show_scans else "Samples"
    text = synthetic_text("generator", psi=ground.settings.psi, checkpoint_sha256=ground.G.info.sha256)
    left = f"Left: held-out {simulated} scans. Right: samples. " if show_scans else \
        "Scans of patients are not shown, nor samples that may be copies of them. "
    return PagePicture(title=title, caption=f"{left}None is picked.",
                       png=_png(rows, kinds, headings, text))


def _pairs(ground: Ground, pairs: Sequence[dict[str, Any]]) -> PagePicture:
    drawn = _read(ground.fake, [pair["row"] for pair in pairs])
    scans = _read(ground.training, [pair["training"] for pair in pairs])
    headings = [f"{pair['ratio']:.2f}{' !' if pair['flagged'] else ''}" for pair in pairs]
    text = synthetic_text("generator, above; training scans, below")
    return PagePicture(
        part="memorisation", title="The samples nearest to training scans",
        caption="Above: the sample; below: its nearest training scan, to the copy detector. The number is the distance "
                "to it over that to the nearest held-out scan, about 1 for a new eye; ! marks those that are flagged.",
        png=_png([drawn, scans], ["sample", "training"], headings, text))


def _png(rows: list[list[Picture]], labels: Sequence[str], headings: Sequence[str], text: dict[str, str]) -> bytes:
    side = rows[0][0].shape[0]
    size = side * max(LARGEST // side, 1) if side <= LARGEST else LARGEST
    return encode_png(sheet(rows, row_labels=labels, column_labels=headings, cell=(size, size)), text)


def _read(pictures: Pictures, rows: Sequence[int]) -> list[Picture]:
    if not rows:
        return []
    pixels = pictures.read(list(rows)).permute(0, 2, 3, 1).numpy()
    return [picture[:, :, 0] if picture.shape[2] == 1 else picture for picture in pixels]


def _spread(rows: list[int]) -> list[int]:
    """Return COLUMNS of the rows, evenly spread: neighbours are often of one patient."""
    places = np.linspace(0, len(rows) - 1, min(COLUMNS, len(rows))).round().astype(int)
    return [rows[place] for place in places]
