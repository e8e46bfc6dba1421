"""`phantom`: simulate a data set."""

from pathlib import Path

import click

from dnnlib.errors import ConfigError
from dnnlib.progress import progress_bar
from stylegan_oct import limits
from tools._options import FILE, SHARE, Whole, classes_option, resolution_option, seed_option, workers_option

EPILOG = """\b
Examples:
  python -m tools phantom data/phantom-64.zip --count 2000 --resolution 64
  python -m tools phantom scans.zip --count 400 --resolution 256 --seed 7 --masks
  python -m tools phantom --sheet phantom.png --resolution 256
"""


@click.command(epilog=EPILOG)
@click.argument("dest", type=FILE, required=False)
@click.option("-n", "--count", type=Whole(limits.PICTURES), default=2000, show_default=True, help="Number of scans.")
@resolution_option("Width and height in pixels.", allowed=limits.SIMULATED, default=64)
@seed_option
@click.option("--masks", is_flag=True, help="Add masks of the layers and the lesions.")
@click.option("--border/--no-border", default=True, show_default=True,
              help="White wedges and black margins, as scans have them.")
@classes_option
@click.option("--val", type=SHARE, default=0.1, show_default=True, help="Share for validation.")
@click.option("--test", type=SHARE, default=0.1, show_default=True, help="Share for testing.")
@workers_option()
@click.option("--sheet", type=FILE, help="Write a PNG with six of each class.")
@click.option("--overwrite", is_flag=True, help="Replace DEST if it is there.")
def phantom(dest: Path | None, count: int, resolution: int, seed: int, masks: bool, border: bool,
            classes: tuple[str, ...], val: float, test: float, workers: int | None, sheet: Path | None,
            overwrite: bool) -> None:
    """Simulate retinal OCT scans of the four classes, with their ground truth, in the archive DEST."""
    from stylegan_oct.classes import CLASSES
    from stylegan_oct.data.phantom_archive import save_phantom_sheet, write_phantom_archive

    if dest is None and sheet is None:
        raise ConfigError("Say where the archive goes, such as phantom.zip, or give --sheet phantom.png.")
    for path, suffix in ((dest, ".zip"), (sheet, ".png")):
        if path is not None and path.suffix.lower() != suffix:
            raise ConfigError(f"Name it {path.stem}{suffix}, after what is in it; got {path}.")
    if dest is not None and dest.exists() and not overwrite:
        raise ConfigError(f"{dest} is there already. Give another name, or --overwrite.")
    chosen = classes or CLASSES
    if sheet is not None:
        save_phantom_sheet(sheet, resolution=resolution, seed=seed, classes=chosen)
        click.echo(f"sheet in {sheet}")
    if dest is None:
        return
    shares = {"train": 1 - val - test, "val": val, "test": test}
    with progress_bar("simulating", count) as update:
        write_phantom_archive(dest, count=count, resolution=resolution, seed=seed, masks=masks, border=border,
                              workers=workers, classes=chosen, shares=shares, progress=update)
    click.echo(f"{count} scans of {resolution} px in {dest}; their ground truth is factors.csv in it")
