"""`biomarkers`: measure the retina in pictures."""

import json
from pathlib import Path

import click

from dnnlib.progress import progress_bar
from dnnlib.text import parse_int_list
from tools._options import checkpoint_option, device_option

EPILOG = """\b
Examples:
  python -m tools biomarkers                                    # samples of the demo generator
  python -m tools biomarkers scan.png volume.dcm --out out/mine
  python -m tools biomarkers data/phantom.zip --limit 500 --pictures 0 --json
"""


@click.command(epilog=EPILOG)
@click.argument("scans", nargs=-1, type=click.Path(path_type=Path))
@checkpoint_option
@click.option("--seeds", default="0-3", show_default=True, metavar="LIST", help="Samples to draw without SCANS.")
@click.option("--class", "classes", multiple=True, metavar="NAME", help="Class; repeat for several. [default: all]")
@click.option("--psi", type=float, default=1.0, show_default=True, help="Truncation of the samples.")
@click.option("--um-per-px", type=(click.FloatRange(min=0.1, max=500), click.FloatRange(min=0.1, max=500)),
              metavar="Z X", help="Size of a pixel in um, where the file does not tell. [default: as a Spectralis]")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="Pictures at most.")
@click.option("--pictures", type=click.IntRange(min=0), default=24, show_default=True,
              help="How many to draw with their lines.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/biomarkers"), show_default=True,
              help="Folder.")
@click.option("--batch", type=click.IntRange(min=1),
              help="Samples to draw at once. [default: as many as serve]")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
@device_option
def biomarkers(scans: tuple[Path, ...], checkpoint: str | None, seeds: str, classes: tuple[str, ...], psi: float,
               um_per_px: tuple[float, float] | None, limit: int, pictures: int, out: Path, batch: int | None,
               as_json: bool, device: str | None) -> None:
    """Measure thickness, drusen, fluid and foci in SCANS (files or an archive), or in a generator's samples."""
    from stylegan_oct.latent.biomarkers import report

    if not scans:
        from stylegan_oct.model import load_generator
        from stylegan_oct.sampling import Manner, draw
        from torch_utils.distributed import init_world

        G = load_generator(checkpoint, device=init_world(device).device)
        subjects = report.from_samples(draw(G, parse_int_list(seeds), classes, Manner(psi=psi), batch=batch))
        total = len(parse_int_list(seeds)) * (len(classes) or max(len(G.info.classes), 1))
    elif len(scans) == 1 and scans[0].suffix == ".zip":
        subjects, total = report.from_archive(scans[0], um_per_px, limit), limit
    else:
        subjects, total = report.from_scans(scans, um_per_px, limit), len(scans)
    results = []
    try:
        with progress_bar("measuring", total, shorter="--limit or fewer --seeds make it shorter") as update:
            for result in report.measure_all(subjects, update, pictures=pictures):
                results.append(result)
    finally:
        if results:
            report.save(results, out)
    if as_json:
        click.echo(json.dumps([result.row() for result in results]))
        return
    click.echo(report.table(results))
    click.echo(f"{len(results)} pictures measured; um and mm2; - is unknown. {out / 'biomarkers.csv'} says why.")
