"""`export`: samples that carry their own evidence, for training and for other people."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from dnnlib.progress import progress_bar
from stylegan_oct import limits
from tools._options import (
    NAME_OR_PATH,
    PATH,
    SHARE,
    TEXT,
    Text,
    Whole,
    batch_option,
    checkpoint_option,
    device_option,
    first_seed_option,
    json_option,
    once,
    out_option,
    psi_option,
)

EPILOG = """\b
Examples:
  python -m tools export                                    # 50 of each class, the demo generator
  python -m tools export --per-class 2000 --psi 0.8 --out data/synthetic -c runs/00003-oct256-256px-b32
      --training data/OCT2017-256-1a2b3c.zip --oracle oracle.safetensors --copies copies.safetensors
  python -m tools export --classes DRUSEN=500 --biomarker drusen_area_mm2=upper-third
  python -m tools export --verify data/synthetic
The same command goes on with an export that was stopped.
"""


@click.command(epilog=EPILOG)
@checkpoint_option
@out_option("out/export")
@click.option("--layout", type=TEXT, default="imagefolder", show_default=True, metavar="NAME",
              help="imagefolder, webdataset, medmnist, stylegan, fddm or multieye.")
@click.option("--mapping", type=TEXT, metavar="PAIRS",
              help="Names of the classes in fddm and multieye: CNV=WAMD,DME=DR.")
@click.option("--per-class", type=Whole(limits.PICTURES), default=50, show_default=True, help="Pictures of each class.")
@click.option("--classes", type=TEXT, metavar="COUNTS", help="Counts instead: NORMAL=2000,DRUSEN=500.")
@click.option("--like", type=PATH, metavar="ZIP",
              help="Share the pictures out as the classes of this archive.")
@click.option("--split", type=TEXT, default="90,10", show_default=True, help="Shares of train, val, test.")
@psi_option
@first_seed_option
@click.option("--oracle", type=NAME_OR_PATH, metavar="FILE",
              help="Reject what this class oracle puts elsewhere; none. [simulated scans: the included one]")
@click.option("--oracle-min", type=SHARE, default=0.0, show_default=True,
              help="Least probability of the class.")
@click.option("--training", type=PATH, metavar="ZIP",
              help="Reject what may be copies of scans of this archive, which the generator was trained on.")
@click.option("--copies", type=PATH, metavar="FILE",
              help="Copy detector of that archive. [beside it, trained on the first use]")
@click.option("--biomarker", "rules", type=TEXT, multiple=True, callback=once, metavar="[CLASS:]NAME=RANGE",
              help="Severity: upper-third, middle-third, lower-third, 0.02-0.1, 0.02- or -0.1; repeat for several.")
@click.option("--biomarkers/--no-biomarkers", default=True, show_default=True, help="Measure thickness, drusen, fluid.")
@click.option("--tries", type=Whole(limits.TRIES), default=20, show_default=True,
              help="Pictures to draw at most for each one kept.")
@click.option("--teacher", type=PATH, metavar="FILE",
              help="TorchScript or .onnx whose soft labels are added.")
@click.option("--teacher-input", type=TEXT, default="samex3-imagenet", show_default=True, metavar="SIZExCHANNELS-NORM",
              help="What it takes, such as 224x1-unit; norms: unit, signed, imagenet.")
@click.option("--teacher-classes", type=TEXT, metavar="NAMES",
              help="Its outputs in order. [default: the generator's classes]")
@click.option("--data-name", type=Text(blank=True), default="", metavar="TEXT",
              help="For the card: the data the generator was trained on.")
@click.option("--data-licence", type=Text(blank=True), default="", metavar="TEXT", help="Their licence.")
@click.option("--licence", type=TEXT, default="other", show_default=True, help="Of the export, such as cc-by-4.0.")
@click.option("--latents", is_flag=True, help="Add latents.safetensors.")
@click.option("--corner-mark", is_flag=True, help='Write "synthetic" into a corner of each picture.')
@click.option("--report", type=PATH, metavar="FILE",
              help="report.json of the generator. [beside it, in its run, out/evaluate]")
@click.option("--allow-unreviewed", is_flag=True, help="Export a generator that was not evaluated.")
@batch_option
@click.option("--verify", type=PATH, metavar="DIR",
              help="Check an export instead: hashes, manifest, and some pictures drawn again.")
@click.option("--count", type=Whole(limits.SHOWN), default=20, show_default=True,
              help="Pictures to draw again with --verify.")
@json_option
@device_option
@click.pass_context
def export(ctx: click.Context, /, verify: Path | None, count: int, as_json: bool, device: str | None,
           **options: Any) -> None:
    """Export samples with manifest, marks, hashes and a card; what the class oracle puts elsewhere is rejected."""
    from stylegan_oct.export import export as exporting
    from stylegan_oct.export import report
    from stylegan_oct.export.folder import verify as verifying
    from stylegan_oct.export.prepare import Settings
    from torch_utils.distributed import init_world

    world = init_world(device, timeout_sec=3600)
    shorter = "--per-class makes it shorter"
    bar = progress_bar("preparing", shorter=shorter) if world.is_first else contextlib.nullcontext(lambda *_: None)
    with contextlib.closing(world), bar as update:
        if verify is not None:
            verdict = verifying.verify(verify, checkpoint=options["checkpoint"], count=count, device=world.device,
                                       progress=update)
        else:
            summary = exporting.export(Settings(**options), world=world, progress=update,
                                       say=lambda line: click.echo(line, err=True))
    if verify is not None:
        click.echo(json.dumps(dataclasses.asdict(verdict)) if as_json else report.verdict_text(verify, verdict))
        ctx.exit(0 if verdict.good else 1)
    if world.is_first:
        click.echo(json.dumps(report.facts(summary)) if as_json else report.text(summary))
