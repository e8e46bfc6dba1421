"""`pack`: one small file of a generator."""

from pathlib import Path

import click

from tools._options import checkpoint_option

EPILOG = """\b
Example:
  python -m tools pack oct256.safetensors -c runs/00003-oct256-256px-b32
"""


@click.command(epilog=EPILOG)
@click.argument("dest", type=click.Path(path_type=Path, dir_okay=False))
@checkpoint_option
@click.option("--full", is_flag=True, help="Keep float32, twice the size.")
@click.option("--calibrate", type=click.Path(path_type=Path), metavar="ZIP",
              help="Give its speckle the strength of the training scans in this archive.")
@click.option("--with-discriminator", is_flag=True, help="Write D.safetensors beside it, for others to train on.")
def pack(dest: Path, checkpoint: str | None, full: bool, with_discriminator: bool, calibrate: Path | None) -> None:
    """Write a generator without what only training needs to the file DEST, to hand on and to draw with."""
    from stylegan_oct.data.dataset import ArchiveDataset
    from stylegan_oct.model import DEMO, export_generator, load_generator
    from stylegan_oct.training.speckle import calibrate_speckle

    source, weights = Path(checkpoint) if checkpoint else DEMO, None
    if calibrate is not None:
        G = load_generator(source)
        factor = calibrate_speckle(G, ArchiveDataset(calibrate, resolution=G.info.resolution))
        weights = G.network.state_dict()
        click.echo(f"speckle {factor:.2f} times as strong as in training")
    export_generator(source, dest, half=not full, discriminator=with_discriminator, weights=weights)
    click.echo(f"{dest}, {dest.stat().st_size / 1e6:.1f} MB; draw with it: python -m tools generate -c {dest}")
