"""`project`: the latents whose picture comes nearest to a scan."""

from pathlib import Path
from typing import Any, Literal

import click

from dnnlib.progress import progress_bar
from stylegan_oct import limits
from tools._options import (
    PATH,
    TEXT,
    Whole,
    axes_option,
    batch_option,
    checkpoint_option,
    device_option,
    json_option,
    once,
    out_option,
    seed_option,
    selection_option,
)

EPILOG = """\b
Examples:
  python -m tools project                                  # four simulated scans, the demo generator
  python -m tools project scans/ --out out/study -c runs/00003-oct256-256px-b32 --reference data/OCT2017-256.zip
  python -m tools project volume.vol --scans 20-30 --class DME --space pti --film
"""


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, metavar="[SCAN]...", type=PATH, callback=once)
@checkpoint_option
@click.option("--class", "class_name", type=TEXT, metavar="NAME", help="Class of the scans. [default: compares all]")
@selection_option
@axes_option
@click.option("--space", type=click.Choice(["w", "w+", "pti"]), help="One w, a w for each layer, or w with tuned "
              "weights. [default: w+]")
@click.option("--preset", type=click.Choice(["quick", "standard", "thorough", "official"]), default="standard",
              show_default=True, help="Schedule; official is that of StyleGAN2-ADA, ten times slower.")
@click.option("--steps", type=Whole(limits.STEPS), help="Steps of Adam. [default: as in the preset]")
@click.option("--noise", is_flag=True, help="Also fit the noise of the layers: nearer, but worse to edit.")
@click.option("--library", "library_path", type=PATH, metavar="ZIP",
              help="Pictures to begin from. [default: 2000 or fewer, drawn on the first use]")
@click.option("--encoder", "encoder_path", type=PATH, metavar="FILE",
              help="As `train-encoder` wrote it. [default: the generator's, where there is one]")
@click.option("--reference", type=PATH, metavar="ZIP",
              help="Archive with held-out scans, to tell how usual a distance is.")
@click.option("--compare", type=Whole(limits.SHOWN), metavar="N", help="Own samples, and held-out scans, to compare "
              "distances with; projected once. [default: 32, fewer where it takes long]")
@click.option("--film", is_flag=True, help="Also film the way there.")
@click.option("--again", is_flag=True, help="Project also what is done.")
@seed_option
@batch_option
@out_option("out/project")
@json_option
@device_option
def project(paths: tuple[Path, ...], checkpoint: str | None, class_name: str | None, selection: str, axes: Any,
            space: Literal["w", "w+", "pti"] | None, preset: str, steps: int | None, noise: bool,
            library_path: Path | None, encoder_path: Path | None, reference: Path | None, compare: int | None,
            film: bool, again: bool, seed: int, batch: int | None, out: Path, as_json: bool,
            device: str | None) -> None:
    """Find for each SCAN the latents of the nearest synthetic picture, and say what it lost."""
    from stylegan_oct.latent.projection import run
    from stylegan_oct.latent.projection.prepare import Wishes, prepare_engine, tasks_of
    from stylegan_oct.model import load_generator
    from torch_utils.distributed import init_world

    def complain(line: str) -> None:
        click.echo(line, err=True)

    G = load_generator(checkpoint, device=init_world(device).device)
    tasks = tasks_of(paths, G, selection=selection, class_name=class_name, axes=axes)
    wishes = Wishes(preset=preset, space=space, steps=steps, noise=noise, library=library_path, encoder=encoder_path,
                    reference=reference, compare=compare, seed=seed, batch=batch)
    with progress_bar("preparing", shorter="--compare 0 compares with nothing") as update:
        engine, calibration = prepare_engine(G, wishes, say=complain, progress=update)
    if calibration.samples:
        complain(f"its own samples are recovered to a distance of {calibration.recovery()['median_distance']:.4f} "
                 f"(median of {len(calibration.samples)})")
    rows = []
    with progress_bar("projecting", shorter="--preset quick takes fewer steps") as update:
        for facts in run.project_all(engine, tasks, calibration, run.Options(out, film, again), say=complain,
                                     progress=update):
            rows.append(facts)
            if not as_json:
                click.echo("\n".join(run.summary_lines(len(rows), facts)))
    table = run.write_summary(out, rows)
    if as_json:
        click.echo(run.to_json(rows))
    else:
        click.echo(f"pictures, codes and numbers in {out}, a table in {table.name}; projections are synthetic")
