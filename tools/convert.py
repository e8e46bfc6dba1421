"""`convert`: make an archive from scans."""

from pathlib import Path
from typing import Any

import click

from dnnlib.escape import printable
from dnnlib.progress import progress_bar
from stylegan_oct.data.archive import SPLITS
from tools._options import PATH, TEXT, axes_option, resolution_option, selection_option, workers_option

EPILOG = """\b
Examples:
  python -m tools convert OCT2017 data/oct-256.zip --resolution 256
  python -m tools convert scans.csv data/scans-512.zip --resolution 512 --split 70,15,15
  python -m tools convert octmnist_64.npz data/octmnist-64.zip --resolution 64
  python -m tools convert volumes data/volumes-256.zip --resolution 256 --scans 20-30 --class DME
  python -m tools convert OCT2017.zip other-tools.zip --resolution 256 --only-split train
"""


@click.command(epilog=EPILOG)
@click.argument("source", type=PATH)
@click.argument("dest", metavar="DEST.zip", type=PATH)
@resolution_option("Width and height in pixels, a power of two.", required=True)
@click.option("--channels", type=click.Choice(["1", "3"]), default="1", show_default=True, help="1 grey, 3 RGB.")
@click.option("--aspect", type=click.Choice(["stretch", "fit", "crop"]), default="stretch", show_default=True,
              help="To a square: distort, pad with the scan's noise, or cut off the sides.")
@click.option("--border/--no-border", default=True, show_default=True,
              help="Replace white wedges and black margins by the scan's noise.")
@click.option("--roi", is_flag=True, help="Keep a band of fixed height around the retina.")
@click.option("--split", type=TEXT, default="80,10,10", show_default=True,
              help="Shares of the patients: train, val, test.")
@click.option("--stratify/--no-stratify", default=None, help="Share out the patients of each class by number. "
              "[default: where a class would be missing from a split]")
@click.option("--only-split", type=TEXT, metavar="NAME", help=f"Write only {', '.join(SPLITS[:-1])} or {SPLITS[-1]}.")
@click.option("--patient-pattern", type=TEXT, metavar="REGEX",
              help="Group 1 is the patient, searched in the path of a scan.")
@click.option("--folders", type=click.Choice(["auto", "classes", "patients"]), default="auto", show_default=True,
              help="What the folders are, where their names are not those of known classes.")
@click.option("--class", "class_name", type=TEXT, metavar="NAME",
              help="Class of the scans that have none by themselves.")
@selection_option
@axes_option
@click.option("--key", type=PATH, help="Key of the hashes. [default: DEST.key, made if new]")
@workers_option()
@click.option("--overwrite", is_flag=True, help="Replace DEST.zip if it exists.")
def convert(source: Path, dest: Path, resolution: int, channels: str, **options: Any) -> None:
    """Turn scans or volumes (a folder, zip, CSV, file) into an archive for training; go on after an interruption."""
    from stylegan_oct.data.convert import convert as run

    with progress_bar("converting") as update:
        report = run(source, dest, resolution=resolution, channels=int(channels), **options, progress=update)
    for line in report.summary:
        click.echo(printable(line))
    for split, counts in report.counts.items():
        if counts:
            classes = ", ".join(f"{printable(name)} {counts[name]}" for name in report.classes if name in counts)
            click.echo(f"{split:6}{sum(counts.values())}" + (f"  ({classes})" if classes else ""))
    for line in report.splits:
        click.echo(printable(line))
    for line in report.remarks:
        click.echo(f"to look at: {line}")
    left = report.left_out()
    click.echo(f"left out: {left or 'nothing'}\n  archive  {report.archive}\n  audit    {report.audit} (private)\n"
               f"  key      {report.key} (private; links the hashes in the archive to patients)")
