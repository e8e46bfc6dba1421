"""What a projection found, and what it lost: codes, a picture, the numbers, a film.

Files of a patient's scan begin with `private-`, are for the owner alone, and carry eight digits of the hash of the
pixels instead of the scan's name. The JSON file is written last: where it is, the others are whole.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dnnlib.config import Finite, Name, from_dict
from dnnlib.errors import ConfigError, DataError
from dnnlib.escape import csv_cells
from dnnlib.files import atomic_write
from dnnlib.pictures import Picture, encode_png, synthetic_text
from dnnlib.stored import read_json
from stylegan_oct.data.privacy import write_private
from stylegan_oct.latent.biomarkers.lines import draw_lines
from stylegan_oct.latent.biomarkers.measure import NAMES, UNITS, Measurements, errors_at, measure
from stylegan_oct.latent.codes import Space, save_codes
from stylegan_oct.latent.intake import Target
from stylegan_oct.latent.projection.calibration import Calibration
from stylegan_oct.latent.projection.engine import Engine, Result
from stylegan_oct.latent.projection.fidelity import fidelity
from stylegan_oct.video import enlargement, save_video
from torch_utils.images import to_pictures

CELL = 256                   # least width of a picture in the report
LINE = 17                    # height of a line of text
RED, BLACK, GREY = (200, 20, 20), (0, 0, 0), (110, 110, 110)
OUTSIDE = 99.0               # percentile of the distance from which a scan counts as outside what the model knows
COLOURED = 0.02              # share of coloured pixels from which a picture is hardly an OCT scan
MAX_FRAMES = 200
FPS = 20
NOTE = ("Left: the scan. Right of it: what a generator draws, which is synthetic and not the scan. "
        "Red: changed by more than the measurement's own error. Not for diagnosis.")


@dataclass(frozen=True)
class Task:
    """One scan to be projected."""

    target: Target
    class_name: str | None    # None: found by comparison
    patient: bool = True      # else simulated

    @property
    def key(self) -> str:
        """Eight digits of the hash of the pixels: they name the files, since the scan's own name may tell a person.

        A scale that the file tells counts, too: the same pixels are measured otherwise with another.
        """
        data = self.target.pixels.tobytes() + self.target.valid.tobytes()
        data += b"" if self.target.scale_assumed else repr(self.target.um_per_px).encode()
        return hashlib.sha256(data).hexdigest()[:8]


def _stem(task: Task) -> str:
    return f"{'private' if task.patient else 'simulated'}-{{}}-{task.key}"


@dataclass(frozen=True, kw_only=True)
class _Biomarker:
    scan: Finite | None
    projected: Finite | None
    difference: Finite | None
    error: Finite | None
    reason: str | None
    beyond_error: bool | None


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What is told of a projection that was read back."""

    scan: Name
    number: int
    space: Space
    distance: Finite
    distances_of_the_classes: dict[Name, Finite]
    percentile_among_samples: Finite | None
    percentile_among_held_out: Finite | None
    psnr: Finite | None
    ssim: Finite
    mse: Finite
    biomarkers: dict[Name, _Biomarker]
    notes: list[str]
    derived_from_patient: bool
    manner: dict[str, Any]

    def __post_init__(self) -> None:
        if set(self.biomarkers) != set(NAMES):
            raise ConfigError("biomarkers must be those of this release.")


def read_facts(out: Path, task: Task, engine: Engine) -> dict[str, Any] | None:
    """Return the facts of a scan that was projected before in the same manner, or None."""
    facts = known_facts(out / (_stem(task).format("projection") + ".json"))
    # The same pixels may come with another scale, at which the numbers are others.
    wanted = task.key, _manner(task, engine), list(task.target.um_per_px)
    same = facts is not None and (facts["scan"], facts["manner"], facts.get("um_per_px")) == wanted
    return facts if same else None


def known_facts(file: Path) -> dict[str, Any] | None:
    """Return the facts in a file; None where it is missing or damaged, and the scan is to be projected again."""
    try:
        facts: dict[str, Any] = read_json(file, nan=True)
        from_dict(_Known, facts, strict=False)
    except (OSError, ConfigError):
        return None
    return facts


def _manner(task: Task, engine: Engine) -> dict[str, Any]:
    return json.loads(json.dumps({**engine.manner(), "class": task.class_name}))  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Seen:
    """A scan and its projection beside each other."""

    task: Task
    pictures: tuple[Picture, Picture]   # grey: the scan, the projection
    found: Measurements                 # of both
    facts: dict[str, Any]
    text: dict[str, str]                # chunks of the projected picture

    def page(self) -> NDArray[np.uint8]:
        """Return the report as a picture."""
        return draw_report(self.task, self.pictures, self.found, self.facts)


def look_at(task: Task, result: Result, engine: Engine, calibration: Calibration) -> Seen:
    """Return what a projection found and lost, measured."""
    pictures = _grey(task.target.pixels), _grey(result.picture.permute(1, 2, 0).squeeze(2).numpy())
    found = measure(np.stack(pictures), task.target.um_per_px, np.stack([task.target.valid] * 2))
    text = {**synthetic_text("generator", checkpoint_sha256=engine.G.info.sha256),
            "derived_from_patient": str(task.patient).lower()}
    return Seen(task, pictures, found, _facts(task, result, engine, calibration, pictures, found), text)


def save(out: Path, task: Task, result: Result, engine: Engine, calibration: Calibration, *,
         film: bool = False) -> dict[str, Any]:
    """Write codes, projected picture, report and numbers of a scan; return the numbers.

    Raises:
        DataError: they cannot be written.
    """
    stem = _stem(task)
    seen = look_at(task, result, engine, calibration)
    facts, text = seen.facts, seen.text
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o700 if task.patient else 0o777)
        save_codes(out / (stem.format("codes") + ".safetensors"), result.codes)
        projected = out / (stem.format("projected-synthetic") + ".png")
        _write(projected, encode_png(result.picture.permute(1, 2, 0).squeeze(2).numpy(), text), task.patient)
        page = encode_png(seen.page(), {**text, "Description": NOTE})
        _write(out / (stem.format("projection") + ".png"), page, task.patient)
        if film:
            _save_film(out / (stem.format("projection-synthetic") + ".mp4"), result, engine, text, task.patient)
        _write(out / (stem.format("projection") + ".json"), json.dumps(facts, indent=1).encode(), task.patient)
    except OSError as error:
        raise DataError(f"Cannot write to {out}: {error.strerror}. Choose another place with --out.") from error
    return facts


def _write(path: Path, data: bytes, private: bool) -> None:
    if private:
        write_private(path, data)
        return
    with atomic_write(path, "wb") as file:
        file.write(data)


def _grey(picture: Picture) -> Picture:
    return picture if picture.ndim == 2 else np.asarray(Image.fromarray(picture).convert("L"))


def _facts(task: Task, result: Result, engine: Engine, calibration: Calibration, pictures: tuple[Picture, Picture],
           found: Measurements) -> dict[str, Any]:
    names, target = engine.G.info.classes, task.target
    percentiles = calibration.percentiles(result.untuned)
    notes = []
    if (percentiles["among_held_out"] or 0) >= OUTSIDE:
        notes.append("outside what the model knows: farther than held-out scans")
    if target.coloured > COLOURED:
        notes.append(f"{target.coloured:.0%} of the pixels are coloured: is this an OCT scan?")
    if target.scale_assumed:
        notes.append("the file gives no scale; that of a Spectralis is assumed")
    notes += target.notes
    ranking = {names[label] if names else "": distance for label, distance in result.projection.ranking.items()}
    return {
        "scan": task.key, "number": target.number, "class": result.codes.class_name, "space": result.codes.space,
        "distance": result.codes.distance, "distance_before_tuning": result.untuned,
        "distances_of_the_classes": ranking, **{f"percentile_{name}": value for name, value in percentiles.items()},
        "own_samples": calibration.recovery(),
        **{name: _finite(value) for name, value in fidelity(*pictures, target.valid).items()},
        "valid_share": float(target.valid.mean()), "um_per_px": list(target.um_per_px),
        "laterality": target.laterality, "biomarkers": _biomarkers(found, target.um_per_px[0]), "notes": notes,
        "steps": max((len(curve) for curve in result.projection.curves.values()), default=0),
        "synthetic": "the projected picture is drawn by a generator; it is not the scan",
        "derived_from_patient": task.patient, "manner": _manner(task, engine)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _biomarkers(found: Measurements, um_per_row: float) -> dict[str, dict[str, Any]]:
    """Return each biomarker of scan and projection, and whether they differ beyond the measurement's error."""
    errors = errors_at(um_per_row)
    rows = {}
    for name in NAMES:
        scan, projected = (_finite(float(value)) for value in found.values[name])
        difference = None if scan is None or projected is None else projected - scan
        error = errors.get(name)
        rows[name] = {"scan": scan, "projected": projected, "difference": difference, "error": error,
                      "reason": next((why for why in found.reasons[name] if why), None),
                      "beyond_error": None if difference is None or error is None else abs(difference) > error}
    return rows


def draw_report(task: Task, pictures: tuple[Picture, Picture], found: Measurements,
                facts: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Return the report as a picture: scan, projection, signed difference; below them the lines and the numbers."""
    scan, projected = pictures
    scale = max(1, -(-CELL // scan.shape[1]))
    size = (scan.shape[1] * scale, scan.shape[0] * scale)
    shown = [Image.fromarray(scan).convert("RGB"), Image.fromarray(projected).convert("RGB"),
             Image.fromarray(signed_difference(scan, projected, task.target.valid))]
    lined = [Image.fromarray(draw_lines(picture, found, number, width=size[0]))
             for number, picture in enumerate(pictures)]
    gap, top, font = 6, LINE + 4, ImageFont.load_default(size=13)
    lines = [(part, colour) for line, colour in _lines(facts) for part in _wrap(line, font, size[0] - 4)]
    width = 3 * size[0] + 2 * gap
    page = Image.new("RGB", (width, top + size[1] + max(top + size[1], len(lines) * LINE) + LINE * 2 + 8), "white")
    draw = ImageDraw.Draw(page)
    what = "scan" if task.patient else "simulated scan"
    titles = [what, "projected: synthetic", "projected - scan: red brighter, blue darker"]
    for column, (title, image) in enumerate(zip(titles, shown, strict=True)):
        draw.text((column * (size[0] + gap) + 2, 2), title, fill="black", font=font)
        page.paste(image.resize(size, Image.Resampling.NEAREST), (column * (size[0] + gap), top))
    second = top + size[1]
    for column, (title, image) in enumerate(zip([f"{what}, measured", "synthetic, measured"], lined, strict=True)):
        draw.text((column * (size[0] + gap) + 2, second + 2), title, fill="black", font=font)
        page.paste(image, (column * (size[0] + gap), second + top))
    for row, (line, colour) in enumerate(lines):
        draw.text((2 * (size[0] + gap), second + 2 + row * LINE), line, fill=colour, font=font)
    for row, part in enumerate(_wrap(NOTE, font, width - 8)[:2]):
        draw.text((4, page.height - 2 * LINE - 4 + row * LINE), part, fill=GREY, font=font)
    return np.asarray(page)


def signed_difference(scan: Picture, projected: Picture, valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return projected - scan as colours on white [H, W, 3]: red brighter, blue darker; what does not count is grey."""
    difference = np.clip((projected.astype(np.float32) - scan) / 96, -1, 1)[:, :, None]
    red, blue = np.array([205.0, 30, 30]), np.array([30.0, 60, 205])
    colours = 255 + np.where(difference > 0, difference * (red - 255), -difference * (blue - 255))
    colours[~valid] = 170
    picture: NDArray[np.uint8] = colours.astype(np.uint8)
    return picture


def _lines(facts: Mapping[str, Any]) -> list[tuple[str, tuple[int, int, int]]]:
    """Return the numbers as lines with their colour."""
    lines = [(f"class {facts['class'] or '-'}, space {facts['space']}, distance {facts['distance']:.4f}", BLACK)]
    if len(facts["distances_of_the_classes"]) > 1:
        ranked = ", ".join(f"{name} {value:.3f}" for name, value in facts["distances_of_the_classes"].items())
        lines.append((f"early distances: {ranked}", GREY))
    for key, what in (("percentile_among_samples", "generated"), ("percentile_among_held_out", "held-out scans")):
        if facts[key] is not None:
            outside = what == "held-out scans" and facts[key] >= OUTSIDE
            lines.append((f"farther than {facts[key]:.0f} % of {what}", RED if outside else BLACK))
    quality = [f"{name.upper()} {facts[name]:.3g}" for name in ("psnr", "ssim", "mse") if facts[name] is not None]
    lines.append((", ".join(quality), BLACK))
    for name, row in facts["biomarkers"].items():
        lines.append((biomarker_line(name, row), RED if row["beyond_error"] else BLACK))
    return [*lines, *((note, RED if note.startswith("outside") else GREY) for note in facts["notes"])]


def biomarker_line(name: str, row: Mapping[str, Any]) -> str:
    """Return one biomarker as text: scan -> projected."""
    unit = UNITS[name]
    label = name.removesuffix(f"_{unit}").replace("_", " ") if unit else name.replace("_", " ")

    def value(which: str) -> str:
        return "?" if row[which] is None else f"{row[which]:.3g}"

    return f"{label}: {value('scan')} -> {value('projected')} {unit}".rstrip()


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) <= width else [*lines, word]
    return lines


def _save_film(path: Path, result: Result, engine: Engine, text: Mapping[str, str], private: bool) -> None:
    steps = result.projection.path
    chosen = [steps[round(place)] for place in np.linspace(0, len(steps) - 1, min(len(steps), MAX_FRAMES))]
    frames = (to_pictures(engine.G.synthesize(w[None].to(engine.G.device)))[0] for w in chosen)
    save_video(path, frames, fps=FPS, text=text, scale=enlargement(engine.G.info.resolution), private=private)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the facts of all scans as CSV, a line each; an empty cell is what could not be measured.

    Raises:
        DataError: it cannot be written.
    """
    columns = ["scan", "number", "class", "space", "distance", "percentile_among_samples", "percentile_among_held_out",
               "psnr", "ssim", "mse"]
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    parts = [(name, part) for name in NAMES for part in ("scan", "projected", "beyond_error")]
    writer.writerow([*columns, *(f"{name}_{part}" for name, part in parts), "notes"])
    for row in rows:
        measured = [row["biomarkers"][name][part] for name, part in parts]
        writer.writerow(csv_cells([*(row[column] for column in columns), *measured, "; ".join(row["notes"])]))
    try:
        _write(path, buffer.getvalue().encode(), any(row["derived_from_patient"] for row in rows))
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error.strerror}. Choose another place with --out.") from error
