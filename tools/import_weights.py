"""`import-weights`: official weights as a checkpoint, without running what is in their file."""

from pathlib import Path

import click

from tools._options import FILE, PATH, TEXT

EPILOG = """\b
Examples:
  python -m tools import-weights network-snapshot-005000.pkl official --classes CNV,DME,DRUSEN,NORMAL
  python -m tools generate -c official --class DRUSEN
  python -m tools train --data scans-256.zip --start-from official
"""


@click.command(epilog=EPILOG)
@click.argument("file", type=FILE)
@click.argument("out", type=PATH)
@click.option("--classes", type=TEXT, metavar="NAMES", help="Names of the classes in the order of the labels.")
@click.option("--grey", is_flag=True, help="Make networks of grey pictures of those of colour pictures.")
def import_weights(file: Path, out: Path, classes: str | None, grey: bool) -> None:
    """Write the networks of FILE, a .pkl of stylegan2-ada-pytorch or stylegan3, as the checkpoint OUT."""
    from stylegan_oct.training import official

    found = official.import_weights(file, out, classes.split(",") if classes else (), grey=grey)
    for line in found.lines:
        click.echo(line)
    names = ", ".join(found.classes) or "no classes"
    click.echo(f"{out}: {found.resolution} px, {found.channels} {'channel' if found.channels == 1 else 'channels'}, "
               f"{names}; draw with it: python -m tools generate -c {out}")
