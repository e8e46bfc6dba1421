"""`library`: draw many pictures once, with their latents, to search in."""

from pathlib import Path

import click

from dnnlib.progress import progress_bar
from stylegan_oct import limits
from tools._options import (
    FILE,
    Whole,
    batch_option,
    checkpoint_option,
    device_option,
    first_seed_option,
    psi_option,
)

EPILOG = """\b
Examples:
  python -m tools library                                  # 2000 pictures of the demo generator, half a minute
  python -m tools library --out data/library-oct256.zip --count 20000 -c runs/00003-oct256-256px-b32
"""


@click.command(epilog=EPILOG)
@checkpoint_option
@click.option("--count", type=Whole(limits.PICTURES),
              help="Pictures, spread evenly over the classes; a larger number goes on with a library that is there. "
              "[default: 2000, fewer where each takes long]")
@psi_option
@first_seed_option
@click.option("--out", type=FILE, help="The zip. [default: in data/]")
@click.option("--overwrite", is_flag=True, help="Replace a library of another checkpoint, psi or seed.")
@batch_option
@device_option
@click.pass_context
def library(ctx: click.Context, checkpoint: str | None, count: int | None, psi: float, seed: int, out: Path | None,
            overwrite: bool, batch: int | None, device: str | None) -> None:
    """Draw a library of synthetic pictures with their latents; `neighbours` and `atlas` search in it."""
    from stylegan_oct.latent.library import default_count, default_path, write_library
    from stylegan_oct.model import load_generator
    from torch_utils.distributed import init_world

    G = load_generator(checkpoint, device=init_world(device).device)
    dest = out or default_path(G, psi=psi, seed=seed)
    count = count or default_count(G)
    with progress_bar("drawing", count, shorter="--count makes it shorter") as update:
        held = write_library(dest, G, count=count, psi=psi, seed=seed, batch=batch, overwrite=overwrite,
                             progress=update)
    click.echo(f"{held} synthetic pictures in {dest}")
    if held < count:
        click.echo("The same command goes on from here.")
        ctx.exit(130)
