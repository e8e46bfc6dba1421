"""`train-detector`: learn to tell the classes of an archive apart."""

import dataclasses
import json
from pathlib import Path

import click

from dnnlib.progress import progress_bar
from tools._options import (
    FILE,
    NAME_OR_PATH,
    device_option,
    json_option,
    learning_options,
    resolution_option,
    seed_option,
)

EPILOG = """\b
Examples:
  python -m tools train-detector scans-64.zip --out detector.safetensors
  python -m tools train-detector OCT2017 --resolution 128 --kimg 200
"""


@click.command(epilog=EPILOG)
@click.argument("archive", required=False, type=NAME_OR_PATH)
@click.option("--out", type=FILE, default=Path("out/detector.safetensors"),
              show_default=True, help="File to write.")
@resolution_option("Pixels it looks at, a power of two. [default: the archive's, at most 128]")
@learning_options(kimg=32.0, batch=64, least=2)
@seed_option
@json_option
@device_option
def train_detector(archive: str | None, out: Path, resolution: int | None, kimg: float, batch: int, seed: int,
                   as_json: bool, device: str | None) -> None:
    """Learn to tell the classes of ARCHIVE apart, and say how well that goes on scans not learned from.

    ARCHIVE is an archive, or scans as `convert` takes them; without it, simulated scans.
    """
    from stylegan_oct.data.prepare import is_archive, prepare_archive
    from stylegan_oct.features.oct_training import OctTraining, train_oct
    from torch_utils.distributed import init_world

    settings = OctTraining(nimg=round(1000 * kimg), batch=batch, resolution=resolution, seed=seed)
    made = archive is not None and is_archive(Path(archive))  # of a resolution that stays as it is
    place = prepare_archive(archive, None if made else resolution, preset=None, cache=Path("data"),
                            say=lambda line: click.echo(line, err=True))
    with progress_bar("learning", settings.nimg) as update:
        info = train_oct(place, out, settings, device=init_world(device).device, progress=update)
    if as_json:
        click.echo(json.dumps({"file": str(out), **dataclasses.asdict(info)}))
        return
    click.echo(f"{out}: {info.resolution} px, {len(info.classes)} classes")
    for split, count in info.count.items():
        shares = "  ".join(f"{name} {info.right[split][name]}/{n}" for name, n in count.items())
        click.echo(f"{split:5} {info.accuracy(split):.1%} right on average of the classes   {shares}")
    if not info.count:
        click.echo("how well it does is not known: the archive has no split val or test")
