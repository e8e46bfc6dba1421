"""`evaluate`: how good a generator is, beside what real scans reach."""

import json
from pathlib import Path

import click

from dnnlib.progress import progress_bar
from stylegan_oct import limits
from tools._options import (
    NAME_OR_PATH,
    PATH,
    TEXT,
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
  python -m tools evaluate                               # the demo generator against simulated scans
  python -m tools evaluate -c runs/00003-oct256-256px-b32 --out out/evaluate-3
  python -m tools evaluate -c G_ema.safetensors --data scans-256.zip --weights oct=oct.safetensors
  python -m tools evaluate -c runs/adapt --against demo256 --weights oct=oct.safetensors
  python -m tools evaluate --only fidelity,memorisation --count 1000
  python -m tools evaluate --compare out/evaluate-2 out/evaluate-3
  torchrun --nproc-per-node 2 -m tools evaluate --official --weights inception=inception.pt
"""


@click.command(epilog=EPILOG)
@checkpoint_option
@click.option("--against", type=NAME_OR_PATH, metavar="PATH",
              help="Evaluate this generator on the same scans too, and compare.")
@click.option("--data", type=PATH, metavar="ZIP",
              help="Archive that the generator was trained on. [default: that of its run; for the demo, simulated]")
@out_option("out/evaluate")
@click.option("--detector", "detectors", type=TEXT, multiple=True, callback=once, metavar="NAME",
              help="lite0, oct, inception or vgg16-lpips; may be given several times. [default: lite0 and oct]")
@click.option("--weights", type=TEXT, multiple=True, metavar="NAME=FILE",
              help="Weights of a detector, such as oct=FILE.")
@click.option("--count", type=Whole(limits.SAMPLES.at_least(8)),
              help="Samples. [default: as many as held-out scans, 4000 or more]")
@psi_option
@click.option("--only", type=TEXT, metavar="PARTS", help="Some of fidelity,usefulness,memorisation,consistency.")
@click.option("--official", is_flag=True, help="fid50k_full and the other official metrics too; need their weights.")
@click.option("--show-scans", is_flag=True, help="Show scans of patients in the page, which is then private.")
@first_seed_option
@batch_option
@click.option("--compare", nargs=2, type=PATH, metavar="A B",
              help="Put two reports side by side instead, and say which differences are beyond noise.")
@json_option
@device_option
def evaluate(checkpoint: str | None, data: Path | None, out: Path, detectors: tuple[str, ...],
             weights: tuple[str, ...], count: int | None, psi: float, only: str | None, official: bool,
             show_scans: bool, seed: int, batch: int | None, compare: tuple[Path, Path] | None, against: str | None,
             as_json: bool, device: str | None) -> None:
    """Measure a generator, and write report.json and report.html: each number beside what real scans reach."""
    from stylegan_oct.metrics import evaluate as evaluation
    from stylegan_oct.metrics.ground import USUAL_DETECTORS, Ground, Settings, choose_archive, parse_weights
    from stylegan_oct.metrics.report import compare as comparing
    from stylegan_oct.metrics.report.lines import report_lines
    from stylegan_oct.metrics.report.report import PARTS, encode, read_report
    from stylegan_oct.model import load_generator
    from torch_utils.distributed import init_world

    if compare:
        found = comparing.compare(*map(read_report, compare))
        comparing.save_comparison(out, found)
        click.echo(json.dumps(comparing.facts(found)) if as_json else "\n".join(comparing.comparison_lines(found)))
        return
    parts = tuple(name.strip() for name in only.split(",")) if only else PARTS
    settings = Settings(detectors=detectors or USUAL_DETECTORS, weights=parse_weights(weights), count=count,
                        psi=psi, only=parts, official=official, seed=seed, batch=batch)
    world = init_world(device)

    def say(line: str) -> None:
        if world.is_first:
            click.echo(line, err=True)

    try:
        generators = [load_generator(path, device=world.device) for path in (checkpoint, against)[:1 + bool(against)]]
        archive = choose_archive(generators[0], data, cache=Path("data"), say=say)
        reports = []
        for G, folder in zip(generators, (out, out / "against"), strict=False):
            with progress_bar("evaluating", shorter="--count or --only makes it shorter") as update:
                ground = Ground(G, archive, settings, folder / "seen", world,
                                update if world.is_first else lambda *_: None)
                reports.append(evaluation.evaluate(ground, folder, show_scans=show_scans, say=say))
    finally:
        world.close()
    if world.is_first:
        click.echo(json.dumps(encode(reports[0])) if as_json else "\n".join(report_lines(reports[0], out)))
        if against:
            found = comparing.compare(reports[1], reports[0])
            comparing.save_comparison(out, found)
            click.echo("\n".join(comparing.comparison_lines(found)), err=as_json)
