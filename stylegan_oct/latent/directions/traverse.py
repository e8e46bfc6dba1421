"""Samples or a projected scan moved along a direction: a grid, a curve of a biomarker below it, and a video."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_write
from dnnlib.pictures import Picture, encode_png, sheet, synthetic_text
from dnnlib.text import suggest
from stylegan_oct.batches import at_once
from stylegan_oct.data.privacy import write_private
from stylegan_oct.latent.biomarkers.measure import NAMES, UNITS
from stylegan_oct.latent.codes import check_codes, load_codes
from stylegan_oct.latent.directions.chart import draw_curve
from stylegan_oct.latent.directions.effects import correlation
from stylegan_oct.latent.directions.file import Direction
from stylegan_oct.latent.directions.population import Progress, Values, measure_here, pictures_of
from stylegan_oct.latent.directions.search import classes_of
from stylegan_oct.model import OctGenerator
from stylegan_oct.video import Video, save_video

CELL = 96           # px of a picture in the grid, at least
GAP = 2             # px between pictures
SCALE_WIDTH = 60    # px left of a curve in a video


@dataclass(frozen=True)
class Rows:
    """What is moved."""

    ws: Tensor                # [N, layers, w_dim]
    labels: tuple[str, ...]   # a row each
    from_patient: bool = False


@dataclass(frozen=True)
class Traversal:
    """Rows moved along a direction, and what was measured."""

    direction: Direction
    rows: Rows
    steps: NDArray[np.float64]          # rising
    pictures: list[list[Picture]]       # a list a row
    values: Values                      # biomarker -> [rows, steps]

    def most_moved(self) -> str:
        """Return the biomarker that the direction is named after, else the one that follows the step most closely."""
        if self.direction.target in NAMES:
            return self.direction.target
        x = np.tile(self.steps, len(self.rows.labels))
        return max(NAMES, key=lambda name: abs(correlation(x, self.values[name].ravel()) or 0.0))

    def summary(self, biomarker: str) -> str:
        """Return the mean of a biomarker at every step, in a line."""
        whole = self.values[biomarker][np.isfinite(self.values[biomarker]).all(axis=1)]
        if not len(whole):
            return f"{biomarker} could not be measured at every step of any row"
        means = " ".join(f"{value:.4g}" for value in whole.mean(axis=0))
        return f"{biomarker}, mean of {len(whole)} rows, {UNITS[biomarker]}: {means}".replace(", :", ":")

    def facts(self) -> dict[str, object]:
        """Return the numbers as JSON takes them, null where nothing was measured."""
        table = {name: [[None if np.isnan(value) else float(value) for value in row] for row in values]
                 for name, values in self.values.items()}
        return {"direction": self.direction.name, "unit": self.direction.unit, "steps": self.steps.tolist(),
                "rows": list(self.rows.labels), "values": table}


def rows_of_seeds(G: OctGenerator, seeds: Sequence[int], class_name: str | None, *, psi: float = 1.0) -> Rows:
    """Return a row for every seed, each once, of the class or of each class.

    Raises:
        ConfigError: there is no such class.
    """
    names: Sequence[str | None] = classes_of(G, class_name) or (None,)
    each = tuple(dict.fromkeys(seeds))
    with torch.no_grad():
        ws = torch.cat([G.ws(G.z(each), name, psi=psi).cpu() for name in names])
    return Rows(ws, tuple(f"{name or ''} {seed}".strip() for name in names for seed in each))


def rows_of_codes(G: OctGenerator, paths: Sequence[Path]) -> Rows:
    """Return a row for each file of codes; their names stay out of the picture.

    Raises:
        DataError: a file holds no codes, those of another generator, or changed weights.
    """
    codes = [load_codes(path) for path in paths]
    for one, path in zip(codes, paths, strict=True):
        check_codes(one, G, path)
        if one.delta:
            raise DataError(f"{path} holds a scan with weights of its own (pivotal tuning); directions move w alone. "
                            "Project it with --space w or w+.")
    return Rows(torch.stack([one.w for one in codes]),
                tuple(f"scan {number}" for number in range(1, len(codes) + 1)),
                any(one.derived_from_patient for one in codes))


def steps_between(direction: Direction, reach: float, columns: int, *, in_unit: bool = False) -> NDArray[np.float64]:
    """Return evenly spaced steps from -reach to reach.

    Args:
        direction: along which.
        reach: in steps, or in the unit of the biomarker that the direction is named after.
        columns: how many.
        in_unit: reach is in that unit.
    Raises:
        ConfigError: the direction is not named after a biomarker.
    """
    if in_unit and not direction.has_unit:
        raise ConfigError(f"{direction.name} is not named after a biomarker; give the reach in steps, "
                          "without --in-unit.")
    return np.linspace(-reach, reach, columns) / (abs(direction.amount) if in_unit else 1.0)


def traverse(G: OctGenerator, direction: Direction, rows: Rows, steps: NDArray[np.float64], *,
             batch: int | None = None, progress: Progress = lambda _: None) -> Traversal:
    """Return every row at every step, drawn and measured; `progress` gets how many pictures are done."""
    size = at_once(G.layers, G.device, asked=batch)
    flat: list[Picture] = []

    def drawn() -> Iterator[list[Picture]]:
        for pictures in pictures_of(G, _moved(direction, rows.ws, steps), batch=size):
            flat.extend(pictures)
            yield pictures

    shape = (len(rows.labels), len(steps))
    values = {name: column.reshape(shape) for name, column in measure_here(drawn(), progress).items()}
    return Traversal(direction, rows, steps, [flat[i:i + len(steps)] for i in range(0, len(flat), len(steps))], values)


def save_traversal(path: Path, G: OctGenerator, traversal: Traversal, biomarker: str, *,
                   in_unit: bool = False) -> Path:
    """Write the grid with the curve of a biomarker below it; return its path. A patient's is for the owner alone.

    Args:
        path: of the PNG.
        G: the generator.
        traversal: what to show.
        biomarker: whose curve.
        in_unit: give the steps above the columns in the unit of the biomarker that the direction is named after.
    Raises:
        ConfigError: the file cannot be written.
    """
    picture = grid(traversal, biomarker, side=max(G.info.resolution, CELL),
                   unit=UNITS[traversal.direction.target] if in_unit else "")
    data = encode_png(picture, _text(G, traversal))
    try:
        if traversal.rows.from_patient:
            write_private(path, data)
        else:
            with atomic_write(path, "wb") as file:
                file.write(data)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}. Choose another place with --out.") from error
    return path


def grid(traversal: Traversal, biomarker: str, *, side: int, unit: str = "") -> Picture:
    """Return the pictures, `side` px each, a row a sample and a column a step, with the curve of a biomarker below."""
    shown = traversal.steps * (abs(traversal.direction.amount) if unit else 1.0)
    labels = [f"{step:+.3g} {unit}".strip() if abs(step) > 1e-9 else "0" for step in shown]
    upper = sheet(traversal.pictures, row_labels=traversal.rows.labels, column_labels=labels, cell=(side, side),
                  gap=GAP)
    if upper.ndim == 2:
        upper = np.repeat(upper[:, :, None], 3, axis=2)
    left = upper.shape[1] - len(labels) * (side + GAP)
    places = [left + i * (side + GAP) + side / 2 for i in range(len(labels))]
    lower = draw_curve(traversal.values[biomarker], places, width=upper.shape[1], left=left,
                       title=f"synthetic; {biomarker} along {traversal.direction.name}")
    return np.concatenate([upper, lower])


def film_traversal(path: Path, G: OctGenerator, traversal: Traversal, biomarker: str, *, frames: int, fps: float,
                   batch: int | None = None, progress: Progress = lambda _: None) -> Video:
    """Write a video of all rows side by side, from one end to the other and back, above the curve.

    Args:
        path: as in `save_video`.
        G: the generator.
        traversal: what to film.
        biomarker: whose curve.
        frames, fps: how many, and how many a second.
        batch: pictures drawn at once, of which a frame has one for each row; None: as many as serve.
        progress: gets how many frames are done.
    Raises:
        ConfigError: the file cannot be written.
    """
    # Slow at the ends, so that the loop has no jerk.
    times = traversal.steps.mean() - np.ptp(traversal.steps) / 2 * np.cos(2 * np.pi * np.arange(frames) / frames)
    return save_video(path, _frames(G, traversal, biomarker, times, batch), fps=fps, text=_text(G, traversal),
                      private=traversal.rows.from_patient, progress=progress,
                      caption=lambda number: ("synthetic", f"step {times[number]:+.1f}"))


def check_biomarker(name: str) -> str:
    """Return the name of a biomarker.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in NAMES:
        raise ConfigError(f"There is no biomarker {name!r}.{suggest(name, NAMES)}")
    return name


def _frames(G: OctGenerator, traversal: Traversal, biomarker: str, times: NDArray[np.float64],
            batch: int | None) -> Iterator[Picture]:
    scale = -(-2 * CELL // G.info.resolution)
    count = len(traversal.rows.labels)
    width = max(count * G.info.resolution * scale, 2 * SCALE_WIDTH + 2 * CELL)
    title = f"{biomarker}, {UNITS[biomarker]}" if UNITS[biomarker] else biomarker
    places = np.linspace(SCALE_WIDTH, width - 10, len(traversal.steps))
    size = at_once(G.layers, G.device, asked=batch)
    for part in np.array_split(times, -(-len(times) // max(size // count, 1))):
        ws = _moved(traversal.direction, traversal.rows.ws, part)
        pictures = [picture for some in pictures_of(G, ws, batch=size) for picture in some]
        for index, time in enumerate(part):
            upper = np.concatenate(pictures[index::len(part)], axis=1).repeat(scale, axis=0).repeat(scale, axis=1)
            upper = upper if upper.ndim == 3 else np.repeat(upper[:, :, None], 3, axis=2)
            upper = np.pad(upper, ((0, 0), (0, width - upper.shape[1]), (0, 0)))
            mark = float(np.interp(time, traversal.steps, places))
            yield np.concatenate([upper, draw_curve(traversal.values[biomarker], places.tolist(), width=width,
                                                    title=title, left=SCALE_WIDTH, mark=mark)])


def _moved(direction: Direction, ws: Tensor, steps: NDArray[np.float64]) -> Tensor:
    """Return each row at every step, [rows * steps, layers, w_dim]."""
    repeated = ws.repeat_interleave(len(steps), dim=0)
    return direction.move(repeated, torch.from_numpy(np.tile(steps, len(ws))))


def _text(G: OctGenerator, traversal: Traversal) -> dict[str, str]:
    return synthetic_text("generator", direction=traversal.direction.name, rows="; ".join(traversal.rows.labels),
                          steps=" ".join(f"{step:g}" for step in traversal.steps),
                          derived_from_patient=str(traversal.rows.from_patient).lower(),
                          checkpoint_sha256=G.info.sha256)
