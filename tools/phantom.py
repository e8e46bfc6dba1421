"""`phantom`: simulate a data set."""

from pathlib import Path

import click

from dnnlib.errors import ConfigError
from dnnlib.progress import progress_bar

EPILOG = """\b
Examples:
  python -m tools phantom data/phantom-64.zip --count 2000 --resolution 64
  python -m tools phantom scans.zip --count 400 --resolution 256 --seed 7 --masks
  python -m tools phantom --sheet phantom.png --resolution 256
"""


@click.command(epilog=EPILOG)
@click.argument("dest", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("-n", "--count", type=click.IntRange(min=1), default=2000, show_default=True, help="Number of scans.")
@click.option("-r", "--resolution", type=int, default=64, show_default=True, help="Width and height in pixels.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed, other eyes.")
@click.option("--masks", is_flag=True, help="Add masks of the layers and the lesions.")
@click.option("--border/--no-border", default=True, show_default=True,
              help="White wedges and black margins, as scans have them.")
@click.option("--class", "classes", multiple=True, metavar="NAME", help="Class; repeat for several. [default: all]")
@click.option("--val", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Share for validation.")
@click.option("--test", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Share for testing.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes. [default: one for each core]")
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Write a PNG with six of each class.")
@click.option("--overwrite", is_flag=True, help="Replace DEST if it is there.")
def phantom(dest: Path | None, count: int, resolution: int, seed: int, masks: bool, border: bool,
            classes: tuple[str, ...], val: float, test: float, workers: int | None, sheet: Path | None,
            overwrite: bool) -> None:
    """Simulate retinal OCT scans of the four classes, with their ground truth, in the archive DEST."""
    from stylegan_oct.classes import CLASSES
    from stylegan_oct.data.phantom_archive import save_phantom_sheet, write_phantom_archive

    if dest is None and sheet is None:
        raise ConfigError("Say where the archive goes, such as phantom.zip, or give --sheet phantom.png.")
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
