"""dataset_card.md: what an export holds, how it was made, how it was judged, and what it is not fit for.

README.md is the same text under the name that Hugging Face reads; its first lines tell `datasets` the files of each
split and the types of the columns. Nothing depends on the time.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import jinja2

from dnnlib.errors import ConfigError
from dnnlib.escape import markdown, yaml_text
from dnnlib.files import atomic_write
from stylegan_oct import __version__
from stylegan_oct.export.description.manifest import TYPES, Collection, Rows, manifest_of
from stylegan_oct.export.drawing.select import KEPT
from stylegan_oct.metrics.report.meanings import full_title, number
from stylegan_oct.metrics.report.report import Part, Report
from stylegan_oct.metrics.statistics.values import Interval, Value

CARD = "dataset_card.md"
README = "README.md"
TEMPLATE = Path(__file__).with_name("card.md.jinja")
HF_SPLITS: Final = {"train": "train", "val": "validation", "test": "test"}
HF_FILES: Final = {"imagefolder": "images/{}/**", "webdataset": "{}/*.tar"}  # the layouts that `datasets` reads
SIZES: Final = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
HEADINGS: Final = {  # the FDA's words, where they are known
    "fidelity": "Nearness to real scans and variety (congruence and coverage in the FDA's scorecard for synthetic "
                "medical data, doi:10.1038/s44172-025-00450-1)",
    "memorisation": "Memorisation: does it repeat training scans?",
    "usefulness": "Usefulness: trained on synthetic, tested on real",
    "consistency": "Consistency: does a picture show its class?"}

Outcomes = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the card tells and the rows do not.

    Raises:
        ConfigError: the licence cannot be one.
    """

    layout: str
    collection: Collection
    checkpoint_sha256: str
    nimg: int                        # images shown in training
    data_source: str                 # of the generator's training: "phantom" or "scans"
    psi: float
    data_name: str = ""              # the data that the generator was trained on
    data_licence: str = ""
    licence: str = "other"           # of the export, as Hugging Face names it, such as cc-by-4.0
    drawn: Outcomes = field(default_factory=dict)  # class -> why rejected, or KEPT -> pictures
    conditions: Sequence[str] = ()   # on which pictures were kept, in words
    report: Report | None = None     # evaluation of this generator
    corner_mark: bool = False
    latents: bool = False
    teacher: str = ""                # whose soft labels there are

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.licence):
            raise ConfigError(f"{self.licence!r} is no licence as Hugging Face names them, in small letters: "
                              "cc-by-4.0, cc0-1.0, apache-2.0, or other.")


def write_card(out: Path, facts: Facts, rows: Rows) -> None:
    """Write dataset_card.md and README.md.

    Raises:
        OSError: they cannot be written.
    """
    counts = count_rows(rows)
    total = sum(sum(found.values()) for found in counts.values())
    files = HF_FILES.get(facts.layout)
    text = _template().render(
        facts=facts, card=CARD, version=__version__, counts=counts, table_of=_table, headings=HEADINGS,
        columns=manifest_of(rows).columns, types=TYPES, side=facts.collection.resolution,
        classes=[name for name in facts.collection.classes or [""] if any(name in found for found in counts.values())],
        size=next((name for most, name in SIZES if total < most), "n>1M"),
        hf_files={HF_SPLITS[split]: files.format(split) for split in counts} if files else {},
        outcomes=list(_outcomes(facts.drawn)), copies=count_copies(rows))
    for name in (CARD, README):
        with atomic_write(out / name) as file:
            file.write(text)


def count_rows(rows: Rows) -> dict[str, Counter[str]]:
    """Return the number of pictures by split and class, in the order of train, val, test."""
    counts: dict[str, Counter[str]] = {split: Counter() for split in HF_SPLITS}
    for item in rows():
        counts[item.split][item.class_name] += 1
    return {split: found for split, found in counts.items() if found}


@dataclass(frozen=True, kw_only=True)
class Copies:
    """What was found when copies of training scans were looked for among the exported pictures."""

    judged: int
    flagged: int
    nearest_percent: int   # pictures nearer than 99 % of held-out scans; chance gives one in a hundred


def count_copies(rows: Rows) -> Copies | None:
    """Return what the rows tell of copies; None where nobody looked."""
    judged = flagged = near = 0
    for item in rows():
        if item.nearest_percentile is not None:
            judged += 1
            flagged += bool(item.memorised)
            near += item.nearest_percentile <= 1
    return Copies(judged=judged, flagged=flagged, nearest_percent=near) if judged else None


def _template() -> jinja2.Template:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
                                     undefined=jinja2.StrictUndefined, autoescape=False)  # Markdown, not HTML
    environment.filters |= {"md": markdown, "yaml": yaml_text}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _outcomes(drawn: Outcomes) -> Iterator[tuple[str, int, int, str, str]]:
    """Yield class, drawn, kept, share rejected and its reasons."""
    for name, found in drawn.items():
        total, kept = sum(found.values()), found.get(KEPT, 0)
        reasons = [f"{n / total:.1%} {reason}" for reason, n in sorted(found.items(), key=lambda pair: -pair[1])
                   if reason != KEPT and n]
        yield markdown(name) or "all", total, kept, f"{1 - kept / total:.1%}", markdown("; ".join(reasons)) or "-"


@dataclass(frozen=True)
class _Table:
    rows: list[tuple[str, ...]]
    notes: list[str]   # told once below the table; a row names them by their number


def _table(part: Part) -> _Table:
    """Return the figures of all classes together, and of single classes where those are not known."""
    together = {value.metric for value in part.values if value.class_name is None}
    shown = [value for value in part.values if value.class_name is None or value.metric not in together]
    notes = list(dict.fromkeys(value.note for value in shown if value.note))
    return _Table([_cells(value, notes) for value in shown], notes)


def _cells(value: Value, notes: Sequence[str]) -> tuple[str, ...]:
    mark = f" [{notes.index(value.note) + 1}]" if value.note else ""
    return (markdown(full_title(value.metric)) + mark, markdown(value.class_name or "all"),
            _spanned(value.value, value.interval, value.metric),
            "-" if value.floor is None else _spanned(value.floor, value.floor_interval, value.metric),
            "-" if value.n is None else f"{value.n:,}")


def _spanned(value: float, interval: Interval | None, metric: str) -> str:
    span = "" if interval is None else f" ({number(interval[0], metric)} to {number(interval[1], metric)})"
    return number(value, metric) + span
