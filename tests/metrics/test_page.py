import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sample_report import sample_report

from dnnlib.errors import DataError
from dnnlib.pictures import encode_png
from stylegan_oct.metrics.report.page import PagePicture, render, save_page
from stylegan_oct.metrics.report.plots import Curve, boxes_plot, curves_plot, histogram_plot, intervals_plot
from stylegan_oct.metrics.report.report import Part
from stylegan_oct.metrics.report.verdict import judge
from stylegan_oct.metrics.statistics.values import Value


class Loads(HTMLParser):
    """Gathers what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in ("meta", "img", "path", "use", "rect", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "img", "path", "use", "rect", "br"):
            assert self.open.pop() == tag


def test_the_page_fetches_nothing_and_is_well_formed() -> None:
    picture = PagePicture(title="samples", caption="none", png=encode_png(np.zeros((4, 4), np.uint8)))
    page = render(sample_report(verdict=judge(sample_report().values)), [picture])
    parser = Loads()
    parser.feed(page)
    assert parser.open == [] and parser.addresses
    assert all(address.startswith(("data:", "#")) for address in parser.addresses)
    assert "@import" not in page and not re.search(r"url\((?!#)", page)


def test_the_page_tells_values_floors_faults_and_what_was_not_measured() -> None:
    report = sample_report(verdict=judge(sample_report().values))
    page = render(report)
    for words in ("a part of the variety is missing", "0.75 to 0.80", "Usefulness: there are only 4 scans", "a warning",
                  report.subject.sha256, "lite0", "not for diagnosis", "scans</th>"):
        assert words in page
    assert "FID" not in page


def test_names_from_outside_cannot_become_markup() -> None:
    reference = dataclasses.replace(sample_report().reference, file="<script>alert(1)</script>.zip")
    assert "<script" not in render(sample_report(reference=reference))


def test_plots_take_their_colours_from_the_page() -> None:
    svg = intervals_plot([value for value in sample_report().values if value.metric == "recall_lite0"])
    assert "var(--samples)" in svg and "var(--real)" in svg and not re.search(r"#[0-9a-f]{6}", svg)
    assert "<style" not in svg and 'id="figure' not in svg and ">0.4<" in svg


def test_plots_bear_empty_and_constant_data() -> None:
    nothing = np.zeros(0)
    histogram_plot(nothing, nothing, x_label="x", names=("a", "b"))
    histogram_plot(np.ones(5), np.ones(3), x_label="x", names=("a", "b"), limit=0.5)
    boxes_plot({"CNV": nothing, "DME": np.ones(3)}, {"DME": np.array([np.nan])}, x_label="um")
    curves_plot([Curve("both", [1, 2], [0.5, 0.6], [None, (0.5, 0.7)])], x_label="x", y_label="y", bar=0.55)
    assert "<svg" in intervals_plot([Value(metric="x", value=1.0)])


def test_a_page_with_scans_of_patients_is_for_the_owner_alone(tmp_path: Path) -> None:
    save_page(tmp_path / "private-report.html", sample_report(), private=True)
    save_page(tmp_path / "report.html", sample_report())
    assert (tmp_path / "private-report.html").stat().st_mode & 0o077 == 0
    assert "private: shows scans" in (tmp_path / "private-report.html").read_text()
    assert "private: shows scans" not in (tmp_path / "report.html").read_text()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="--out"):
        save_page(tmp_path / "file" / "report.html", sample_report())


def test_memorisation_and_consistency_show_their_distributions() -> None:
    memory = Part(name="memorisation", data={"samples": [1.0, 0.9], "held_out": [1.0, 1.1], "limit": 0.7, "pairs": []})
    distribution = {"biomarker": "central_thickness_um", "unit": "um", "class_name": "CNV", "probabilities": [0.5],
                    "real": [300.0, 320.0], "fake": [280.0], "n_real": 2, "n_fake": 1}
    confusion = {"asked": ["CNV", "DRUSEN"], "seen": ["CNV", "DRUSEN"], "fake": [[9, 1], [0, 10]],
                 "real": [[10, 0], [0, 10]]}
    consistent = Part(name="consistency", data={"confusion": confusion, "distributions": [distribution]})
    page = render(sample_report(parts=(memory, consistent)))
    for words in ("flagged below", "Central thickness", "What the oracle sees", "63%"):
        assert words in page


def test_usefulness_is_a_curve_over_the_amount_of_real_scans_beside_the_published_bar() -> None:
    def point(arm: str, scans: int, value: float, metric: str = "auc") -> dict[str, object]:
        return {"arm": arm, "metric": metric, "patients": scans, "scans": scans, "value": value,
                "interval": [value - 0.01, value + 0.01], "by_seed": [value]}

    curve = [point("synthetic", 0, 0.95), point("real", 64, 0.9), point("real", 640, 0.97), point("both", 64, 0.94),
             point("both", 640, 0.98), point("real", 64, 0.8, "accuracy"), point("both", 64, 0.8, "accuracy"),
             point("synthetic", 0, 0.7, "accuracy")]
    page = render(sample_report(parts=(Part(name="usefulness", data={"curve": curve, "bar": 0.01}),)))
    for words in ("real scans to train on", "published bar: real less 0.01", "synthetic alone", "Accuracy"):
        assert words in page
    assert page.count("published bar: real") == 1, "the bar is one of AUCs"


def test_names_of_classes_are_escaped() -> None:
    name = "<script>alert(1)</script> $b$"
    report = sample_report()
    parts = tuple(dataclasses.replace(part, values=tuple(dataclasses.replace(
        value, class_name=value.class_name and name, note=name) for value in part.values)) for part in report.parts)
    page = render(dataclasses.replace(report, parts=parts, warnings=(name,),
                                      subject=dataclasses.replace(report.subject, classes=("CNV", name))))
    assert "<script>alert" not in page and page.count("&lt;script&gt;alert") >= 4
    svg = boxes_plot({name: np.arange(9.0)}, {name: np.arange(9.0)}, x_label="um")
    assert "&lt;script&gt;alert" in svg and "$b$" in svg
