"""`generate`: draw synthetic scans."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from dnnlib.progress import progress_bar
from stylegan_oct import limits
from tools._options import (
    Whole,
    batch_option,
    checkpoint_option,
    classes_option,
    device_option,
    out_option,
    psi_option,
    seeds_option,
)

EPILOG = """\b
Examples:
  python -m tools generate --seeds 0-63 --class DRUSEN --psi 0.7
  python -m tools generate --seeds 0-7 --grid --out out/grid
"""


@click.command(epilog=EPILOG)
@checkpoint_option
@seeds_option("0-7")
@classes_option
@psi_option
@click.option("--cutoff", type=Whole(limits.CUTOFF), help="Truncate only this many layers, the coarse ones.")
@click.option("--center", type=click.Choice(["class", "global"]), default="class", show_default=True,
              help="Truncate towards the mean of the class or of all.")
@click.option("--noise", type=click.Choice(["const", "random", "none"]), default="const", show_default=True,
              help="Speckle: fixed, new, or none.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "fp16", "bf16"]), default="auto", show_default=True,
              help="Of the network; bf16 takes a third less on CPUs that know it.")
@click.option("--grid", is_flag=True, help="One labelled sheet instead of single pictures.")
@out_option("out")
@batch_option
@device_option
def generate(checkpoint: str | None, seeds: Sequence[int], classes: tuple[str, ...], psi: float, cutoff: int | None,
             center: Literal["class", "global"], noise: Literal["const", "random", "none"],
             precision: Literal["auto", "fp32", "fp16", "bf16"], grid: bool, out: Path, batch: int | None,
             device: str | None) -> None:
    """Draw synthetic scans as PNG files that say so in their names and text chunks."""
    from stylegan_oct.model import load_generator
    from stylegan_oct.sampling import Manner, draw, save_each, save_grid, tasks_of
    from torch_utils.distributed import init_world

    G = load_generator(checkpoint, device=init_world(device).device, precision=precision)
    manner = Manner(psi=psi, cutoff=cutoff, center=center, noise_mode=noise)
    samples = draw(G, seeds, classes, manner, batch=batch)
    with progress_bar("drawing", len(tasks_of(G, seeds, classes))) as update:
        if grid:
            path = save_grid(G, samples, out, manner, update)
        else:
            paths = save_each(G, samples, out, manner, update)
    click.echo(f"grid in {path}" if grid else f"{len(paths)} pictures in {out}, such as {paths[0].name}")
