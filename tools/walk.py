"""`walk`: film a walk through the latent space."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from dnnlib.escape import file_name
from dnnlib.progress import progress_bar
from stylegan_oct import limits
from tools._options import (
    GRID,
    PATH,
    TEXT,
    Whole,
    batch_option,
    checkpoint_option,
    classes_option,
    device_option,
    fps_option,
    json_option,
    out_option,
    psi_option,
    seconds_option,
    seeds_option,
)

EPILOG = """\b
Examples:
  python -m tools walk                                            # all classes, side by side
  python -m tools walk --class DRUSEN --seeds 0-31 --grid 4x2     # 8 walks through 4 seeds each
  python -m tools walk --classes NORMAL,DRUSEN,CNV --seeds 7      # one eye, from class to class
  python -m tools walk --codes out/project/private-codes-1a2b3c4d.safetensors --codes FILE
"""


@click.command(epilog=EPILOG)
@checkpoint_option
@seeds_option(None, "Seeds to pass, shared out among the walks: 0-31. [default: 4 a walk]")
@classes_option
@click.option("--classes", "morph", type=TEXT, metavar="NAMES",
              help="Walk from class to class, z fixed: NORMAL,DRUSEN,CNV.")
@click.option("--codes", type=PATH, multiple=True, metavar="FILE",
              help="Walk between projected scans; give it twice or more.")
@click.option("--grid", type=GRID, metavar="CxR", help="Walks in step. [default: a column a class]")
@psi_option
@click.option("--one-way", is_flag=True, help="Stop at the last place; otherwise the video is a loop.")
@click.option("--speed", type=click.Choice(["spline", "perceptual"]), default="spline", show_default=True,
              help="Even in time from place to place, or even in what is seen; the latter draws twice.")
@seconds_option(8.0)
@click.option("--frames", type=Whole(limits.FRAMES), help="Instead of --seconds.")
@fps_option(30.0)
@click.option("--format", "kind", type=click.Choice(["mp4", "gif", "png"]), default="mp4", show_default=True)
@click.option("--scale", type=Whole(limits.SCALE), help="Enlarge pixels. [default: to 256 a picture or more]")
@click.option("--no-strip", is_flag=True, help="Leave out the caption; name and metadata still say synthetic.")
@out_option("out")
@batch_option
@device_option
@json_option
@click.pass_context
def walk(ctx: click.Context, checkpoint: str | None, seeds: Sequence[int] | None, classes: tuple[str, ...],
         morph: str | None, codes: tuple[Path, ...], grid: tuple[int, int] | None, psi: float, one_way: bool,
         speed: Literal["spline", "perceptual"], seconds: float, frames: int | None, fps: float, kind: str,
         scale: int | None, no_strip: bool, out: Path, batch: int | None, device: str | None, as_json: bool) -> None:
    """Film a walk: through seeds, from class to class, or between projected scans. Ctrl-C keeps what is done."""
    from stylegan_oct.latent.walk.film import film
    from stylegan_oct.latent.walk.routes import plan
    from stylegan_oct.model import load_generator
    from torch_utils.distributed import init_world

    G = load_generator(checkpoint, device=init_world(device).device)
    route = plan(G, seeds=seeds or (), classes=classes,
                 morph=morph.split(",") if morph else (), codes=codes, grid=grid, psi=psi, closed=not one_way)
    path = out / f"synthetic-walk-{file_name(route.name)}{'' if kind == 'png' else '.' + kind}"
    count = frames or max(2, round(seconds * fps))
    with progress_bar("drawing", count, shorter="--seconds or --frames makes it shorter") as update:
        video = film(G, route, path, frames=count, fps=fps, speed=speed, scale=scale, strip=not no_strip, batch=batch,
                     progress=update)
    line = f"{video.frames} of {count} frames, {video.seconds:.1f} s, {video.width}x{video.height} in {video.path}"
    click.echo(json.dumps({**video.facts(), "speed": speed, "psi": psi}) if as_json else line)
    if not video.complete:
        ctx.exit(130)
