"""`train-copies`: learn to tell copies of an archive's scans from scans of other eyes."""

import dataclasses
import json
from pathlib import Path

import click

from dnnlib.progress import progress_bar
from tools._options import (
    FILE,
    PATH,
    device_option,
    json_option,
    learning_options,
    resolution_option,
    seed_option,
)

EPILOG = """\b
Examples:
  python -m tools train-copies data/OCT2017-256-1a2b3c.zip
  python -m tools train-copies scans-64.zip --out copies.safetensors --kimg 200
"""


@click.command(epilog=EPILOG)
@click.argument("archive", required=False, type=PATH)
@click.option("--out", type=FILE,
              help="File to write. [default: beside the archive, where `evaluate` and `export` look for it]")
@resolution_option("Pixels it looks at: 16, 32, 64 or 128.", default=32)
@learning_options(kimg=64.0, batch=128, least=4)
@seed_option
@json_option
@device_option
def train_copies(archive: Path | None, out: Path | None, resolution: int, kimg: float, batch: int, seed: int,
                 as_json: bool, device: str | None) -> None:
    """Learn to tell copies of the training scans of ARCHIVE from scans of other eyes, and say how well that goes.

    ARCHIVE is one that `convert` or `phantom` wrote; without it, simulated scans.
    """
    from dnnlib.errors import DataError
    from stylegan_oct.data.archive import Archive
    from stylegan_oct.data.prepare import prepare_archive
    from stylegan_oct.features.copies_training import CopyTraining, train_copies
    from stylegan_oct.metrics.memorisation.measure import detector_path, measure_judge, open_judge
    from torch_utils.distributed import init_world

    settings = CopyTraining(nimg=round(1000 * kimg), batch=batch, resolution=resolution, seed=seed)
    place = prepare_archive(str(archive) if archive else None, None, preset=None, cache=Path("data"),
                            say=lambda line: click.echo(line, err=True))
    file = out or detector_path(Archive(place))
    world = init_world(device)
    with progress_bar("learning", settings.nimg) as update:
        info = train_copies(place, file, settings, device=world.device, progress=update)
    values, doubt = [], ""
    try:
        with progress_bar("looking") as update:
            values = measure_judge(open_judge(place, weights=file, device=world.device, progress=update))
    except DataError as error:  # the detector is good all the same
        doubt = str(error)
    if as_json:
        click.echo(json.dumps({"file": str(file), **dataclasses.asdict(info),
                               **{value.metric: value.value for value in values}}))
        return
    click.echo(f"{file}: {info.resolution} px; keep it as you keep the scans it learned from")
    for value in values:
        click.echo(f"{value.metric} {value.value:.3f}  {value.note}".rstrip())
    if doubt:
        click.echo(f"how well it does is not known: {doubt}")
