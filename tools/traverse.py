"""`traverse`: move samples or projected scans along a direction."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from dnnlib.escape import file_name
from dnnlib.progress import progress_bar
from stylegan_oct import limits
from tools._options import (
    LAYERS,
    PATH,
    TEXT,
    Real,
    Whole,
    batch_option,
    checkpoint_option,
    device_option,
    fps_option,
    json_option,
    once,
    out_option,
    psi_option,
    seconds_option,
    seeds_option,
)

EPILOG = """\b
Examples:
  python -m tools traverse --class DRUSEN                         # along the direction with the largest effect
  python -m tools traverse -c demo256 --class DME --direction central_thickness_um
  python -m tools traverse --directions out/directions/directions.safetensors --direction drusen_height_um
  python -m tools traverse --directions FILE --direction central_thickness_um --in-unit --reach 60 --video mp4
  python -m tools traverse --directions FILE --codes out/project/private-codes-1a2b3c4d.safetensors
"""


@click.command(epilog=EPILOG)
@checkpoint_option
@click.option("--directions", "file", type=PATH, metavar="FILE",
              help="Written by `directions`. [default: those beside the generator for --class, else the first "
                   "principal component]")
@click.option("--direction", "name", type=TEXT, metavar="NAME",
              help="Which one. [default: that with the largest effect]")
@click.option("--layers", type=LAYERS, metavar="A-B", help="Move these layers alone. [default: those of the direction]")
@seeds_option("0-4", "Rows: 0-4 or 1,5,9-12.")
@click.option("--class", "class_name", type=TEXT, metavar="NAME",
              help="Of the rows. [default: that of the direction, or all]")
@click.option("--codes", type=PATH, multiple=True, callback=once, metavar="FILE",
              help="Projected scans as rows, instead of seeds.")
@click.option("--reach", type=Real(limits.REACH), default=3.0, show_default=True,
              help="How far, to either side.")
@click.option("--in-unit", is_flag=True, help="The reach is in the unit of the biomarker, such as um.")
@click.option("--columns", type=Whole(limits.COLUMNS), default=7, show_default=True, help="Steps.")
@click.option("--biomarker", type=TEXT, metavar="NAME",
              help="Curve below the grid. [default: what the direction moves]")
@click.option("--video", type=click.Choice(["mp4", "gif"]), help="Film it too.")
@seconds_option(4.0)
@fps_option(25.0)
@psi_option
@out_option("out")
@batch_option
@device_option
@json_option
@click.pass_context
def traverse(ctx: click.Context, checkpoint: str | None, file: Path | None, name: str | None,
             layers: tuple[int, int] | None, seeds: Sequence[int], class_name: str | None, codes: tuple[Path, ...],
             reach: float, in_unit: bool, columns: int, biomarker: str | None, video: str | None, seconds: float,
             fps: float, psi: float, out: Path, batch: int | None, device: str | None, as_json: bool) -> None:
    """Draw samples moved along a direction, with the curve of a biomarker below."""
    from stylegan_oct.latent.directions import traverse as library
    from stylegan_oct.latent.directions.search import choose_direction
    from stylegan_oct.model import load_generator
    from torch_utils.distributed import init_world

    G = load_generator(checkpoint, device=init_world(device).device)
    direction = choose_direction(G, file, name, class_name=class_name, layers=layers)
    rows = library.rows_of_codes(G, codes) if codes else library.rows_of_seeds(
        G, seeds, class_name or direction.class_name or None, psi=psi)
    curve = None if biomarker is None else library.check_biomarker(biomarker)
    steps = library.steps_between(direction, reach, columns, in_unit=in_unit)
    with progress_bar("drawing", len(rows.labels) * len(steps),
                      shorter="fewer --seeds or --columns make it shorter") as update:
        moved = library.traverse(G, direction, rows, steps, batch=batch, progress=update)
    curve = curve or moved.most_moved()
    stem = out / f"synthetic-traverse-{file_name(direction.name)}"
    path = library.save_traversal(stem.with_name(f"{stem.name}.png"), G, moved, curve, in_unit=in_unit)
    film = None
    if video:
        frames = max(2, round(seconds * fps))
        with progress_bar("filming", frames, shorter="--seconds or --fps makes it shorter") as update:
            film = library.film_traversal(stem.with_name(f"{stem.name}.{video}"), G, moved, curve, frames=frames,
                                          fps=fps, batch=batch, progress=update)
    facts = {**moved.facts(), "picture": str(path), "video": None if film is None else film.facts()}
    lines = [moved.summary(curve), str(path), *([str(film.path)] if film else [])]
    click.echo(json.dumps(facts) if as_json else "\n".join(lines))
    if film is not None and not film.complete:
        ctx.exit(130)
