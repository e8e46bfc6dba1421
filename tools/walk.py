"""`walk`: film a walk through the latent space."""

import json
from pathlib import Path
from typing import Literal

import click

from dnnlib.progress import progress_bar
from dnnlib.text import parse_int_list
from tools._options import GRID, checkpoint_option, device_option

EPILOG = """\b
Examples:
  python -m tools walk                                            # all classes, side by side
  python -m tools walk --class DRUSEN --seeds 0-31 --grid 4x2     # 8 walks through 4 seeds each
  python -m tools walk --classes NORMAL,DRUSEN,CNV --seeds 7      # one eye, from class to class
  python -m tools walk --codes out/project/private-codes-1a2b3c4d.safetensors --codes FILE
"""


@click.command(epilog=EPILOG)
@checkpoint_option
@click.option("--seeds", metavar="LIST", help="Seeds to pass, shared out among the walks: 0-31. [default: 4 a walk]")
@click.option("--class", "classes", multiple=True, metavar="NAME", help="Class; repeat for several. [default: all]")
@click.option("--classes", "morph", metavar="NAMES", help="Walk from class to class, z fixed: NORMAL,DRUSEN,CNV.")
@click.option("--codes", type=click.Path(path_type=Path), multiple=True, metavar="FILE",
              help="Walk between projected scans; give it twice or more.")
@click.option("--grid", type=GRID, metavar="CxR", help="Walks in step. [default: a column a class]")
@click.option("--psi", type=float, default=1.0, show_default=True, help="Truncation: below 1 nearer to the mean.")
@click.option("--one-way", is_flag=True, help="Stop at the last place; otherwise the video is a loop.")
@click.option("--speed", type=click.Choice(["spline", "perceptual"]), default="spline", show_default=True,
              help="Even in time from place to place, or even in what is seen; the latter draws twice.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=8.0, show_default=True)
@click.option("--frames", type=click.IntRange(min=2), help="Instead of --seconds.")
@click.option("--fps", type=click.FloatRange(min=1, max=120), default=30.0, show_default=True, help="Frames a second.")
@click.option("--format", "kind", type=click.Choice(["mp4", "gif", "png"]), default="mp4", show_default=True)
@click.option("--scale", type=click.IntRange(1, 32), help="Enlarge pixels. [default: to 256 a picture or more]")
@click.option("--no-strip", is_flag=True, help="Leave out the caption; name and metadata still say synthetic.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out"), show_default=True, help="Folder.")
@click.option("--batch", type=click.IntRange(min=1), help="Pictures at once. [default: as many as serve]")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
@click.pass_context
def walk(ctx: click.Context, checkpoint: str | None, seeds: str | None, classes: tuple[str, ...], morph: str | None,
         codes: tuple[Path, ...], grid: tuple[int, int] | None, psi: float, one_way: bool,
         speed: Literal["spline", "perceptual"], seconds: float, frames: int | None, fps: float, kind: str,
         scale: int | None, no_strip: bool, out: Path, batch: int | None, device: str | None, as_json: bool) -> None:
    """Film a walk: through seeds, from class to class, or between projected scans. Ctrl-C keeps what is done."""
    from stylegan_oct.latent.walk.film import film
    from stylegan_oct.latent.walk.routes import plan
    from stylegan_oct.model import load_generator
    from torch_utils.distributed import init_world

    G = load_generator(checkpoint, device=init_world(device).device)
    route = plan(G, seeds=parse_int_list(seeds) if seeds else (), classes=classes,
                 morph=morph.split(",") if morph else (), codes=codes, grid=grid, psi=psi, closed=not one_way)
    path = out / f"synthetic-walk-{route.name}{'' if kind == 'png' else '.' + kind}"
    count = frames or max(2, round(seconds * fps))
    with progress_bar("drawing", count, shorter="--seconds or --frames makes it shorter") as update:
        video = film(G, route, path, frames=count, fps=fps, speed=speed, scale=scale, strip=not no_strip, batch=batch,
                     progress=update)
    line = f"{video.frames} of {count} frames, {video.seconds:.1f} s, {video.width}x{video.height} in {video.path}"
    click.echo(json.dumps({**video.facts(), "speed": speed, "psi": psi}) if as_json else line)
    if not video.complete:
        ctx.exit(130)
