"""`biomarkers`: measure the retina in pictures."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from dnnlib.errors import DataError
from dnnlib.progress import progress_bar
from stylegan_oct import limits
from tools._options import (
    PATH,
    Real,
    Whole,
    batch_option,
    checkpoint_option,
    classes_option,
    device_option,
    json_option,
    once,
    out_option,
    psi_option,
    seeds_option,
)

EPILOG = """\b
Examples:
  python -m tools biomarkers                                    # samples of the demo generator
  python -m tools biomarkers scan.png volume.dcm --out out/mine
  python -m tools biomarkers data/phantom.zip --limit 500 --pictures 0 --json
"""


@click.command(epilog=EPILOG)
@click.argument("scans", nargs=-1, type=PATH, callback=once)
@checkpoint_option
@seeds_option("0-3", "Samples to draw without SCANS: 0-63 or 1,5,9-12.")
@classes_option
@psi_option
@click.option("--um-per-px", type=(Real(limits.UM_PER_PX), Real(limits.UM_PER_PX)),
              metavar="Z X", help="Size of a pixel in um, where the file does not tell. [default: as a Spectralis]")
@click.option("--limit", type=Whole(limits.PICTURES), default=1000, show_default=True, help="Pictures at most.")
@click.option("--pictures", type=Whole(limits.SHOWN), default=24, show_default=True,
              help="How many to draw with their lines.")
@out_option("out/biomarkers")
@batch_option
@json_option
@device_option
def biomarkers(scans: tuple[Path, ...], checkpoint: str | None, seeds: Sequence[int], classes: tuple[str, ...],
               psi: float, um_per_px: tuple[float, float] | None, limit: int, pictures: int, out: Path,
               batch: int | None, as_json: bool, device: str | None) -> None:
    """Measure thickness, drusen, fluid and foci in SCANS (files, folders, an archive), or in a generator's samples."""
    from stylegan_oct.data.readers.bscan import count_notes
    from stylegan_oct.latent.biomarkers import report
    from stylegan_oct.latent.intake import scan_files

    left_out: list[str] = []
    if not scans:
        from stylegan_oct.model import load_generator
        from stylegan_oct.sampling import Manner, draw, tasks_of
        from torch_utils.distributed import init_world

        G = load_generator(checkpoint, device=init_world(device).device)
        samples = draw(G, seeds, classes, Manner(psi=psi), batch=batch)
        subjects = report.from_samples(samples, G.info.preprocess, um_per_px)
        total = len(tasks_of(G, seeds, classes))
    elif len(scans) == 1 and scans[0].suffix == ".zip":
        subjects, total = report.from_archive(scans[0], um_per_px, limit), limit
    else:
        files = [file for path in scans for file in scan_files(path)]
        subjects = report.from_scans(files, um_per_px, limit, left_out.append)
        total = len(files)
    results = []
    try:
        with progress_bar("measuring", total, shorter="--limit or fewer --seeds make it shorter") as update:
            for result in report.measure_all(subjects, update, pictures=pictures):
                results.append(result)
    finally:
        if results:
            report.save(results, out)
    if not results:
        more = f" Nor could the {len(left_out) - 1} others be used." if len(left_out) > 1 else ""
        raise DataError(f"{left_out[0]}{more}" if left_out else
                        "There are no scans to measure. Give files, folders of them, or an archive.")
    for line in left_out:
        click.echo(f"left out: {line}", err=True)
    for line in count_notes(result.notes for result in results):
        click.echo(f"to look at: {line}", err=True)
    if as_json:
        click.echo(json.dumps([result.row() for result in results]))
        return
    click.echo(report.table(results))
    click.echo(f"{len(results)} pictures measured; um and mm2; - is unknown. {out / 'biomarkers.csv'} says why.")
