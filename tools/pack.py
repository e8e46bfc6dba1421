"""`pack`: one small file of a generator."""

import shlex
from pathlib import Path

import click

from tools._options import FILE, checkpoint_option

EPILOG = """\b
Example:
  python -m tools pack oct256.safetensors -c runs/00003-oct256-256px-b32
"""


@click.command(epilog=EPILOG)
@click.argument("dest", type=FILE)
@checkpoint_option
@click.option("--full", is_flag=True, help="Keep float32, twice the size.")
@click.option("--with-discriminator", is_flag=True, help="Write D.safetensors beside it, for others to train on.")
def pack(dest: Path, checkpoint: str | None, full: bool, with_discriminator: bool) -> None:
    """Write a generator without what only training needs to the file DEST, to hand on and to draw with."""
    from stylegan_oct.model import DEMO
    from stylegan_oct.packing import export_generator

    export_generator(Path(checkpoint) if checkpoint else DEMO, dest, half=not full, discriminator=with_discriminator)
    click.echo(f"{dest}, {dest.stat().st_size / 1e6:.1f} MB; draw with it: python -m tools generate -c "
               f"{shlex.quote(str(dest))}")
