"""`neighbours`: the synthetic pictures nearest to scans."""

import json
from pathlib import Path
from typing import Literal

import click

from dnnlib.progress import progress_bar
from stylegan_oct import limits
from tools._options import (
    PATH,
    TEXT,
    Whole,
    checkpoint_option,
    device_option,
    json_option,
    once,
    out_option,
    selection_option,
)

EPILOG = """\b
Examples:
  python -m tools neighbours                               # four simulated scans, the demo generator
  python -m tools neighbours scan.dcm --scans middle -c runs/00003-oct256-256px-b32
  python -m tools neighbours scan.png --training data/OCT2017-256-1a2b3c.zip
  python -m tools neighbours --space w out/project/private-codes-0001.safetensors
"""


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, metavar="[SCAN]...", type=PATH, callback=once)
@checkpoint_option
@click.option("--library", "library_path", type=PATH, metavar="ZIP",
              help="As `library` wrote it. [default: 2000 pictures or fewer, drawn on the first use]")
@click.option("-k", type=Whole(limits.NEIGHBOURS), default=10, show_default=True, help="Neighbours of a scan.")
@click.option("--space", type=click.Choice(["features", "w"]), default="features", show_default=True,
              help="Compare what a detector sees, or latents; SCAN is then what `project` wrote.")
@click.option("--detector", type=TEXT, default="lite0", show_default=True, metavar="NAME",
              help="lite0, inception or oct.")
@click.option("--weights", type=PATH, help="Weights of the detector. [oct: the included ones]")
@click.option("--training", type=PATH, metavar="ZIP",
              help="Archive that the generator was trained on: are the neighbours copies of its scans?")
@selection_option
@out_option("out/neighbours")
@json_option
@device_option
def neighbours(paths: tuple[Path, ...], checkpoint: str | None, library_path: Path | None, k: int,
               space: Literal["features", "w"], detector: str, weights: Path | None, training: Path | None,
               selection: str, out: Path, as_json: bool, device: str | None) -> None:
    """Find the synthetic pictures nearest to each SCAN, and how near that is; without SCAN to simulated ones."""
    from stylegan_oct.features.detector import load_detector
    from stylegan_oct.latent.library import open_library
    from stylegan_oct.latent.neighbours import report
    from stylegan_oct.latent.neighbours.search import load_queries, search
    from stylegan_oct.model import load_generator
    from torch_utils.distributed import init_world

    def complain(line: str) -> None:
        click.echo(line, err=True)

    place = init_world(device).device
    G = load_generator(checkpoint, device=place)
    queries = load_queries(paths, G, space=space, selection=selection, say=complain)
    seer = load_detector(detector, weights=weights, device=place)
    with progress_bar("drawing", shorter="a shorter library: python -m tools library --count N") as update:
        library = open_library(library_path, G, progress=update, say=complain)
    with progress_bar("looking") as update:
        found = search(queries, library, seer, k=k, training=training, progress=update)
    files = report.save_report(out, queries, found.answers, library, space=found.space, training=found.training)
    if as_json:
        click.echo(json.dumps([report.facts(*pair) for pair in zip(queries, found.answers, strict=True)]))
        return
    for number, (query, answer) in enumerate(zip(queries, found.answers, strict=True), 1):
        click.echo("\n".join(report.lines(number, query, answer)))
    click.echo(f"pictures and a table in {out}, such as {files[0].name}; all neighbours are synthetic")
