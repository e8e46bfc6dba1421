"""What directions do, as a table, as CSV and JSON, and as a picture."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from dnnlib.errors import ConfigError, DataError
from dnnlib.escape import csv_cells
from dnnlib.files import atomic_write
from dnnlib.pictures import Picture, save_png, sheet, synthetic_text
from stylegan_oct.latent.biomarkers.measure import UNITS
from stylegan_oct.latent.directions.effects import Effect
from stylegan_oct.latent.directions.file import Direction, file_beside, save_directions
from stylegan_oct.latent.directions.population import draw_ws
from stylegan_oct.latent.directions.search import FRESH, Search, classes_of
from stylegan_oct.model import OctGenerator
from torch_utils.images import to_pictures

FILE, CSV_FILE, JSON_FILE = "directions.safetensors", "directions.csv", "directions.json"
PICTURE = "synthetic-directions.png"
SHOWN = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
CELL = 96        # px of a picture in the sheet, at least

COLUMNS = ("direction", "changes", "a step of 1", "in SD", "monotonic", "same class", "path", "r", "also changes")


def write_report(out: Path, G: OctGenerator, search: Search, directions: Sequence[Direction],
                 effects: Sequence[Effect]) -> None:
    """Write directions, table and picture into a folder, in the order of the effects.

    Args:
        out: the folder.
        G: the generator.
        search: how they were found.
        directions: all that were found; those without an effect go last into their file.
        effects: what was measured.
    Raises:
        ConfigError: the folder cannot be written.
    """
    ordered = _ordered(directions, effects)
    try:
        save_directions(out / FILE, ordered, checkpoint_sha256=G.info.sha256)
        with atomic_write(out / CSV_FILE) as file:
            csv.writer(file).writerows(map(csv_cells, csv_rows(effects)))
        with atomic_write(out / JSON_FILE) as file:
            json.dump(report_json(G, search, effects), file, indent=2)
        picture = strips(G, ordered, class_name=search.class_name, psi=search.psi, seed=search.seed)
        facts = {"class": search.class_name or "all", "psi": search.psi, "seed": search.seed,
                 "checkpoint_sha256": G.info.sha256}
        save_png(out / PICTURE, picture, synthetic_text("directions", **facts))
    except OSError as error:
        raise ConfigError(f"Cannot write to {out}: {error.strerror}. Choose another place with --out.") from error


def write_beside(G: OctGenerator, search: Search, directions: Sequence[Direction],
                 effects: Sequence[Effect]) -> Path:
    """Write directions within a class and what they do beside the generator, where `traverse` finds them.

    Arguments as in `write_report`. Returns the file of the directions.

    Raises:
        ConfigError: the files cannot be written.
    """
    assert search.class_name is not None
    path = file_beside(G, classes_of(G, search.class_name)[0])
    try:
        save_directions(path, _ordered(directions, effects), checkpoint_sha256=G.info.sha256)
        with atomic_write(path.with_suffix(".json")) as file:
            json.dump(report_json(G, search, effects), file)
    except (DataError, OSError) as error:
        raise ConfigError(f"Cannot write to {path.parent}, where the generator lies. Leave --beside out, or copy the "
                          "generator to a folder of your own.") from error
    return path


def _ordered(directions: Sequence[Direction], effects: Sequence[Effect]) -> list[Direction]:
    measured = [effect.direction for effect in effects]
    names = {direction.name for direction in measured}
    return [*measured, *(direction for direction in directions if direction.name not in names)]


def report_json(G: OctGenerator, search: Search, effects: Sequence[Effect]) -> dict[str, object]:
    """Return every number, and what they were measured with."""
    return {"checkpoint_sha256": G.info.sha256, "class": search.class_name, "fit_samples": search.samples,
            "samples": effects[0].samples if effects else 0, "psi": search.psi, "seed": search.seed,
            "directions": [effect.to_json() for effect in effects]}


def table(effects: Sequence[Effect]) -> str:
    """Return the effects as text, a line each under a heading."""
    rows = [COLUMNS, *(_row(effect) for effect in effects)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)


def csv_rows(effects: Sequence[Effect]) -> list[list[object]]:
    """Return a heading and a row for each direction and biomarker."""
    rows: list[list[object]] = [["direction", "kind", "class", "first_layer", "last_layer", "biomarker", "unit",
                                 "change_per_step", "half_width_95", "change_in_sd", "monotonic", "r_steps", "r_mean",
                                 "samples", "same_class", "path", "r_predicted"]]
    for effect in effects:
        d = effect.direction
        for name, change in effect.changes.items():
            rows.append([d.name, d.kind, d.class_name, *d.layers, name, UNITS[name], change.per_step,
                         change.half_width, change.in_sd, change.monotonic, change.r_steps, change.r_mean,
                         change.samples, effect.same_class, effect.path,
                         effect.r_predicted if d.target == name else None])
    return rows


def strips(G: OctGenerator, directions: Sequence[Direction], *, class_name: str | None, psi: float,
           seed: int) -> Picture:
    """Return one sample moved along each direction, a row each."""
    rows: list[list[Picture]] = []
    for direction in directions:
        w = draw_ws(G, classes_of(G, class_name)[:1], 1, seed=seed, stream=FRESH, psi=psi).ws
        with torch.no_grad():
            rows.append(to_pictures(G.synthesize(direction.move(w.expand(len(SHOWN), -1, -1), torch.tensor(SHOWN)))))
    side = max(G.info.resolution, CELL)
    return sheet(rows, row_labels=[direction.name for direction in directions],
                 column_labels=[f"{step:+g}" if step else "0" for step in SHOWN], cell=(side, side),
                 title=f"synthetic, {class_name or 'all classes'}: steps along each direction, largest effect first")


def _row(effect: Effect) -> tuple[str, ...]:
    change = effect.changes.get(effect.target or "")
    if change is None:
        return (effect.direction.name, "nothing that can be measured", *[""] * (len(COLUMNS) - 2))
    assert effect.target is not None
    side = effect.side_effect
    return (effect.direction.name, effect.target,
            f"{change.per_step:+.3g} +- {change.half_width:.2g} {UNITS[effect.target]}".rstrip(),
            f"{change.in_sd:+.2f}", f"{change.monotonic:.0%}",
            "-" if effect.same_class is None else f"{effect.same_class:.0%}", f"{effect.path:.4f}",
            "-" if effect.r_predicted is None else f"{effect.r_predicted:+.2f}",
            "-" if side is None else f"{side[0]} x{side[1]:.2f}")
