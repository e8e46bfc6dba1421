"""A report as one HTML file that needs nothing else."""

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from dnnlib.errors import DataError
from dnnlib.files import atomic_write
from dnnlib.pictures import SYNTHETIC_NOTE
from stylegan_oct.data.privacy import write_private
from stylegan_oct.latent.biomarkers.measure import MEANINGS as BIOMARKERS
from stylegan_oct.metrics.report.meanings import family_of, full_title, meaning_of, number, plain, seer_of
from stylegan_oct.metrics.report.plots import Curve, boxes_plot, curves_plot, histogram_plot, intervals_plot
from stylegan_oct.metrics.report.report import Part, Report
from stylegan_oct.metrics.report.verdict import gap, interval_text
from stylegan_oct.metrics.statistics.values import Value

TITLES = {"fidelity": "Fidelity", "usefulness": "Usefulness", "memorisation": "Memorisation",
          "consistency": "Consistency"}
GATHERED = ("wasserstein", "ks", "unmeasured")   # of every biomarker; one table for all
ABOUT = {
    "fidelity": "How near the samples are to scans of patients that the generator has not seen. The reference is one "
                "half of the held-out patients; the other half gives the floor.",
    "usefulness": "A classifier is trained on synthetic scans and tested on real ones of held-out patients, beside one "
                  "trained on real scans and one on both.",
    "memorisation": "Whether samples repeat training scans. Held-out scans cannot be copies: how near they come to the "
                    "training scans by chance is the floor.",
    "consistency": "Whether the samples show the class that was asked for, to a classifier that knows it, and the "
                   "anatomy and lesions of real scans, as measured from the pictures."}


@dataclass(frozen=True, kw_only=True)
class PagePicture:
    """A picture within the page."""

    title: str
    caption: str
    png: bytes
    part: str = ""     # the section it stands in; "" the top

    @property
    def url(self) -> str:
        """The picture as an address that holds it."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot or a table of shares."""

    title: str
    caption: str
    svg: str = ""
    table: dict[str, Any] | None = None
    wide: bool = False


@dataclass
class Group:
    """One metric: a plot, a table, notes."""

    title: str
    line: str
    svg: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    more: list[dict[str, Any]] = field(default_factory=list)   # the classes, where the rows are something else
    notes: list[str] = field(default_factory=list)


def save_page(path: Path, report: Report, pictures: Sequence[PagePicture] = (), *, private: bool = False) -> None:
    """Write the page; one that shows scans of patients for the owner alone.

    Raises:
        DataError: the file cannot be written.
    """
    page = render(report, pictures, private=private).encode()
    try:
        if private:
            write_private(path, page)
            return
        with atomic_write(path, "wb") as file:
            file.write(page)
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error.strerror}. Choose another place with --out.") from error


def render(report: Report, pictures: Sequence[PagePicture] = (), *, private: bool = False) -> str:
    """Return the page."""
    parts = [{"name": part.name, "title": TITLES[part.name], "about": ABOUT[part.name], "plots": part_plots(part),
              "groups": groups(part.values)} for part in report.parts if not part.reason]
    simulated = report.reference.source == "phantom"
    tags = ["synthetic pictures", "simulated reference" if simulated else "reference: real scans"]
    return fill("page.html", report=report, title=f"Evaluation of {report.subject.title}", about=_about(report),
                tags=tags, private=private, pictures=pictures, parts=parts, facts=facts(report))


def fill(name: str, **facts: Any) -> str:
    """Return a template of this folder filled in; what is put into it is escaped."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
                                     trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(name).render(**facts, note=SYNTHETIC_NOTE)


def groups(values: Sequence[Value]) -> list[Group]:
    """Return the values metric by metric, in the order in which they were measured."""
    by_metric: dict[str, list[Value]] = defaultdict(list)
    for value in values:
        family = family_of(value.metric)
        by_metric[family if family in GATHERED else value.metric].append(value)
    return [_group(metric, found) for metric, found in by_metric.items()]


def facts(report: Report) -> list[tuple[str, str]]:
    """Return how it was measured, as names and texts."""
    subject, reference = report.subject, report.reference
    counts = "; ".join(
        f"{split.name} {', '.join(f'{name} {n}' for name, n in split.scans.items())}"
        + (f" of {split.patients} patients" if split.patients else "") for split in reference.splits)
    return [("generator", f"{subject.file}, sha256 {subject.sha256}, {subject.nimg} images, preset {subject.preset}, "
                          f"{subject.resolution} px"),
            ("trained on", subject.training_archive or "not known"),
            ("reference", f"{reference.file}, fingerprint {reference.fingerprint}, source {reference.source}"),
            ("scans", counts),
            *((f"network {seer.name}", f"sha256 {seer.sha256}, {seer.dim} features, {seer.resize}")
              for seer in report.detectors),
            ("settings", ", ".join(f"{name} {_plain(value)}" for name, value in report.settings.items())),
            ("time", "; ".join(f"{part.name} {part.seconds:.0f} s" for part in report.parts)),
            ("made", f"{report.made} with " + ", ".join(f"{name} {text}" for name, text in report.versions.items()))]


def part_plots(part: Part) -> list[Plot]:
    """Return the plots of a part beside those of its values."""
    maker = {"usefulness": _usefulness, "memorisation": _memorisation, "consistency": _consistency}.get(part.name)
    return maker(part.data) if maker and part.data else []


def _usefulness(data: Mapping[str, Any]) -> list[Plot]:
    plots = []
    for metric, title in (("auc", "AUC"), ("auc_urgent", "AUC, urgent (CNV, DME) against not"),
                          ("accuracy", "Accuracy")):
        points = [point for point in data["curve"] if point["metric"] == metric]
        if points:
            plots.append(_curve(points, title, data["bar"] if metric != "accuracy" else None))
    return plots


def _curve(points: Sequence[Mapping[str, Any]], title: str, bar: float | None) -> Plot:
    """Return a score over the amount of real scans, for each way of training."""
    amounts = sorted({point["scans"] for point in points if point["arm"] != "synthetic"})
    curves = []
    for arm in ("real", "both", "synthetic"):
        mine = sorted((point for point in points if point["arm"] == arm), key=lambda point: point["scans"])
        if arm == "synthetic":  # it needs no real scans: a level line
            mine = [{**point, "scans": amount} for point in mine for amount in (amounts[0], amounts[-1])]
        curves.append(Curve({"real": "real scans", "both": "real and synthetic", "synthetic": "synthetic alone"}[arm],
                            [point["scans"] for point in mine], [point["value"] for point in mine],
                            [point["interval"] for point in mine], real=arm == "real"))
    best = curves[0].y[-1]
    return Plot(title=title, caption="On real scans of held-out patients, by what the classifier was trained on.",
                svg=curves_plot(curves, x_label="real scans to train on", y_label=title.partition(",")[0],
                                bar=None if bar is None else best - bar, bar_label=f"published bar: real less {bar}"))


def _memorisation(data: Mapping[str, Any]) -> list[Plot]:
    svg = histogram_plot(np.asarray(data["held_out"], float), np.asarray(data["samples"], float),
                         names=("held-out scans", "samples"), limit=data["limit"], limit_label="flagged below",
                         x_label="distance to the nearest training scan / to the nearest held-out scan")
    return [Plot(title="Distance to the training scans", svg=svg,
                 caption="A copy lies far left. Held-out scans cannot be copies; a generator of new eyes has the same "
                         "distribution as they.")]


def _consistency(data: Mapping[str, Any]) -> list[Plot]:
    plots = []
    confusion = data.get("confusion")
    if confusion:
        for key, title in (("fake", "What the oracle sees in samples"), ("real", "and in held-out scans")):
            plots.append(Plot(title=title, caption="Rows: the class asked for, or of the scan. Columns: that seen.",
                              table=_shares(confusion["asked"], confusion["seen"], confusion[key])))
    by_marker: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for found in data.get("distributions", []):
        if found["class_name"] is not None or not confusion:
            by_marker[found["biomarker"]].append(found)
    for name, found in by_marker.items():
        real = {one["class_name"] or "all": np.asarray(one["real"], float) for one in found}
        fake = {one["class_name"] or "all": np.asarray(one["fake"], float) for one in found}
        if any(map(len, real.values())):
            svg = boxes_plot(real, fake, x_label=found[0]["unit"])
            plots.append(Plot(title=_capital(plain(name)), svg=svg, caption=f"{_capital(BIOMARKERS.get(name, name))}. "
                              "Grey: scans; blue: samples; 5 to 95 %, quartiles, median."))
    return plots


def _shares(rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return a table of counts, coloured by their share of the row."""
    return {"columns": columns, "rows": [
        {"name": name, "cells": [{"text": str(n), "heat": round(70 * n / max(sum(row), 1))} for n in row]}
        for name, row in zip(rows, counts, strict=True)]}


def _group(metric: str, values: Sequence[Value]) -> Group:
    gathered = metric in GATHERED
    names = {id(value): plain(seer_of(value.metric)) if gathered else value.class_name or "all" for value in values}
    shown = [value for value in values if value.class_name is None] if gathered else list(values)
    plotted = [value for value in shown if np.isfinite(value.value)]
    found = Group(full_title(metric), meaning_of(metric).line)
    if plotted and any(value.interval or value.floor is not None for value in plotted):
        found.svg = intervals_plot(plotted, [names[id(value)] for value in plotted],
                                   percent=meaning_of(metric).percent)
    found.rows = [_row(value, names[id(value)]) for value in shown]
    found.more = [_row(value, f"{names[id(value)]}, {value.class_name}") for value in values
                  if gathered and value.class_name is not None]
    noted: dict[str, list[str]] = defaultdict(list)
    for value in values:
        if value.note:
            noted[value.note].append(names[id(value)] if value in shown else f"{names[id(value)]}, {value.class_name}")
    found.notes = [f"{'; '.join(who)}: {text}." if len(who) < len(values) else f"{text}."
                   for text, who in noted.items()]
    return found


def _row(value: Value, name: str) -> dict[str, Any]:
    metric = value.metric
    return {"name": name, "value": number(value.value, metric), "interval": interval_text(value.interval, metric),
            "floor": number(value.floor, metric) if value.floor is not None else "",
            "floor_interval": interval_text(value.floor_interval, metric), "worse": gap(value) > 0,
            "n": value.n if value.n is not None else "", "n_real": value.n_real if value.n_real is not None else ""}


def _about(report: Report) -> str:
    kind = "simulated scans" if report.reference.source == "phantom" else "scans"
    held_out = report.reference.scans("val") + report.reference.scans("test")
    classes = ", ".join(report.subject.classes) or "no classes"
    return (f"{report.settings.get('count', '?')} samples of a generator ({classes}; "
            f"{report.subject.resolution} px) against {held_out} held-out {kind} of {report.reference.file}. "
            f"Made {report.made[:10]}. Not for diagnosis.")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
