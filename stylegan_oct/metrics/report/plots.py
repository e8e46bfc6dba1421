"""Plots as inline SVG whose colours are those of the page, light or dark."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from stylegan_oct.metrics.statistics.values import Interval, Value

# Colours that stand for the page's variables: real scans, samples, text, lines.
REAL, SAMPLES, INK, LINE, ALERT = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05"
VARIABLES = {REAL: "--real", SAMPLES: "--samples", INK: "--ink", LINE: "--line", ALERT: "--alert"}
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "stylegan_oct", "font.size": 9.0, "text.color": INK,
         "axes.edgecolor": LINE, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.grid": False,
         "grid.color": LINE, "grid.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
         "legend.frameon": False, "legend.fontsize": 8.0, "axes.titlesize": 9.0, "axes.linewidth": 0.8,
         "text.parse_math": False}  # names of classes may hold $
WIDTH = 4.6  # inches of a plot

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A line with its intervals."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    intervals: Sequence[Interval | None]
    real: bool = False   # drawn in the colour of real scans


def intervals_plot(values: Sequence[Value], names: Sequence[str] = (), *, percent: bool = False) -> str:
    """Return values, by default named by their class: a dot with its interval, and the floor with its own as a band."""
    height = 0.42 + 0.27 * len(values)

    def draw(axes: Axes) -> None:
        for row, value in enumerate(values):
            if value.floor is not None:
                low, high = value.floor_interval or (value.floor, value.floor)
                axes.plot([low, high], [row, row], color=REAL, alpha=0.4, linewidth=9, solid_capstyle="butt")
                axes.plot([value.floor], [row], marker="|", markersize=9, color=REAL, linestyle="none")
            if value.interval is not None:
                axes.plot(list(value.interval), [row, row], color=SAMPLES, linewidth=1.6)
            axes.plot([value.value], [row], marker="o", markersize=5, color=SAMPLES, linestyle="none")
        axes.set_yticks(range(len(values)), names or [value.class_name or "all" for value in values])
        axes.set_ylim(len(values) - 0.45, -0.55)
        axes.xaxis.grid(True)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(5))  # more would run into each other where numbers are long
        if percent:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))

    return _svg(draw, height)


def curves_plot(curves: Sequence[Curve], *, x_label: str, y_label: str, bar: float | None = None,
                bar_label: str = "") -> str:
    """Return lines with intervals; `bar` is a line across, such as a bar to be cleared."""
    def draw(axes: Axes) -> None:
        styles = iter(("-", "--", ":", "-."))
        for curve in curves:
            colour = REAL if curve.real else SAMPLES
            x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
            spans = [span or (value, value) for span, value in zip(curve.intervals, curve.y, strict=True)]
            low, high = np.asarray(spans, float).T
            axes.plot(x, y, marker="o", markersize=4, linewidth=1.4, color=colour, label=curve.name,
                      linestyle="-" if curve.real else next(styles))
            axes.vlines(x, low, high, color=colour, linewidth=1.2)
        if bar is not None:
            axes.axhline(bar, color=ALERT, linewidth=1, linestyle=(0, (2, 2)), label=bar_label)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_xscale("log")
        axes.yaxis.grid(True)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return _svg(draw, 3.0)


def histogram_plot(real: Floats, samples: Floats, *, x_label: str, names: tuple[str, str],
                   limit: float | None = None, limit_label: str = "") -> str:
    """Return two distributions over common bins, as shares; `limit` is a line across them."""
    def draw(axes: Axes) -> None:
        both = np.concatenate([real, samples])
        both = both[np.isfinite(both)]
        if not len(both):
            return
        low, high = np.percentile(both, [0, 99.5])
        edges = np.linspace(low, max(high, low + 1e-9), 41)
        for values, colour, name in ((real, REAL, names[0]), (samples, SAMPLES, names[1])):
            if len(values):
                shares = np.full(len(values), 100 / len(values))
                axes.hist(np.clip(values, low, high), bins=edges.tolist(), weights=shares,
                          histtype="stepfilled", color=colour, alpha=0.35, label=name)
        if limit is not None:
            axes.axvline(limit, color=ALERT, linewidth=1.2, linestyle=(0, (2, 2)), label=limit_label)
        axes.set(xlabel=x_label, ylabel="% of pictures")
        axes.legend(loc="best")

    return _svg(draw, 2.5)


def boxes_plot(real: Mapping[str, Floats], samples: Mapping[str, Floats], *, x_label: str) -> str:
    """Return, by class, the range from 5 % to 95 %, the quartiles and the median of two distributions."""
    def draw(axes: Axes) -> None:
        for row, name in enumerate(real):
            for values, colour, shift in ((real[name], REAL, -0.17), (samples.get(name, np.zeros(0)), SAMPLES, 0.17)):
                found = np.asarray(values, float)
                found = found[np.isfinite(found)]
                if not len(found):
                    continue
                p5, p25, p50, p75, p95 = np.percentile(found, [5, 25, 50, 75, 95])
                y = row + shift
                axes.plot([p5, p95], [y, y], color=colour, linewidth=1)
                axes.plot([p25, p75], [y, y], color=colour, linewidth=7, alpha=0.45, solid_capstyle="butt")
                axes.plot([p50], [y], marker="|", markersize=9, markeredgewidth=2, color=colour, linestyle="none")
        axes.set_yticks(range(len(real)), list(real))
        axes.set_ylim(len(real) - 0.45, -0.55)
        axes.set_xlabel(x_label)
        axes.xaxis.grid(True)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)

    return _svg(draw, 0.6 + 0.42 * len(real))


def _svg(draw: Callable[[Axes], None], height: float) -> str:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _themed(buffer.getvalue())


def _themed(text: str) -> str:
    """Return the picture for a page: its colours and fonts, no header, no names that another picture has too."""
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", text[text.index("<svg"):],
                  flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*;?|(?<=<svg )width=\"\S+\" height=\"\S+\"|id=\"[\w.]+_\d+\"", "", text)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(?<=\d\.\d\d)\d+", "", tag[0]), text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return re.sub(r"\s*\n\s*", "\n", text)
