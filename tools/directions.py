"""`directions`: find directions in the latent space and measure what they do."""

import json
from pathlib import Path

import click

from dnnlib.progress import progress_bar
from stylegan_oct import limits
from tools._options import (
    LAYERS,
    PATH,
    TEXT,
    Whole,
    batch_option,
    checkpoint_option,
    device_option,
    json_option,
    once,
    out_option,
    psi_option,
    seed_option,
)

EPILOG = """\b
Examples:
  python -m tools directions --class DRUSEN
  python -m tools directions --class DME --method regression --orthogonal-to class
  python -m tools directions -c demo256 --beside                  # of all classes, where `traverse` finds them
  python -m tools directions --layers 0-3 --layers 4-9 --samples 1000 --oracle detector.safetensors
"""


@click.command(epilog=EPILOG)
@checkpoint_option
@click.option("--class", "class_name", type=TEXT, metavar="NAME", help="Within one class. [default: over all classes]")
@click.option("--method", "methods", multiple=True, callback=once,
              type=click.Choice(["pca", "sefa", "boundary", "regression"]),
              help="How to find them; repeat for several. [default: all]")
@click.option("--layers", type=LAYERS, multiple=True, callback=once, metavar="A-B",
              help="Move these layers alone, 0 the coarsest; repeat for several ranges. [default: all together]")
@click.option("--components", type=Whole(limits.COMPONENTS), default=3, show_default=True, help="Of PCA and of SeFa.")
@click.option("--orthogonal-to", type=TEXT, multiple=True, callback=once, metavar="NAME",
              help="Leave this as it is: a biomarker, a class, or `class` for all of them; repeat for several.")
@click.option("--fit-samples", type=Whole(limits.SAMPLES.at_least(100)),
              help="Samples to find directions with. [default: 2000, above 128 px 1000]")
@click.option("--samples", type=Whole(limits.SAMPLES.at_least(10)),
              help="Other samples, to measure what the directions do. [default: 150, above 128 px 60]")
@click.option("--oracle", type=PATH, metavar="FILE",
              help="Classifier by `train-detector`: does the class stay? [simulated scans: the included one]")
@psi_option
@seed_option
@out_option("out/directions")
@click.option("--beside", is_flag=True,
              help="Write beside the generator, within the class or each, instead of --out.")
@batch_option
@device_option
@json_option
@click.pass_context
def directions(ctx: click.Context, checkpoint: str | None, class_name: str | None, methods: tuple[str, ...],
               layers: tuple[tuple[int, int], ...], components: int, orthogonal_to: tuple[str, ...],
               fit_samples: int | None, samples: int | None, oracle: Path | None, psi: float, seed: int, out: Path,
               beside: bool, batch: int | None, device: str | None, as_json: bool) -> None:
    """Find directions, with names and without, and measure what each does. Ctrl-C keeps the samples moved so far."""
    from stylegan_oct.batches import at_once
    from stylegan_oct.features.detector import load_detector
    from stylegan_oct.features.perceptual import PerceptualDistance
    from stylegan_oct.latent.directions.effects import measure_effects, oracle_for, pictures_to_measure
    from stylegan_oct.latent.directions.population import measuring_processes
    from stylegan_oct.latent.directions.report import report_json, table, write_beside, write_report
    from stylegan_oct.latent.directions.search import (
        METHODS,
        Search,
        classes_beside,
        find_directions,
        samples_to_measure,
        usual_counts,
    )
    from stylegan_oct.model import load_generator
    from torch_utils.distributed import init_world

    G = load_generator(checkpoint, device=init_world(device).device)
    judge = oracle_for(G, oracle)
    usual = usual_counts(G.info.resolution)
    moved = samples or usual.moved
    perceptual = PerceptualDistance(load_detector(device=G.device))
    size = at_once(G.layers, G.device, asked=batch)
    with measuring_processes() as measure:
        for name in classes_beside(G, class_name) if beside else (class_name,):
            search = Search(class_name=name, methods=methods or METHODS,  # type: ignore[arg-type]
                            layers=layers, components=components, samples=fit_samples or usual.fit,
                            orthogonal_to=orthogonal_to, psi=psi, seed=seed)
            with progress_bar("finding", samples_to_measure(G, search),
                              shorter="--fit-samples makes it shorter") as update:
                found = find_directions(G, search, batch=size, measure=measure, progress=update)
            with progress_bar("measuring", pictures_to_measure(G, found, moved, name),
                              shorter="--samples makes it shorter") as update:
                effects = measure_effects(G, found, perceptual, samples=moved, class_name=name, oracle=judge, psi=psi,
                                          seed=seed, batch=size, measure=measure, progress=update)
            complete = bool(effects) and effects[0].samples >= moved
            if not beside:
                write_report(out, G, search, found, effects)
            elif complete:
                write_beside(G, search, found, effects)
            if as_json:
                click.echo(json.dumps(report_json(G, search, effects)))
            else:
                click.echo(table(effects))
                if judge is None:
                    click.echo("Does the class stay? --oracle FILE tells; make one: python -m tools train-detector "
                               "ARCHIVE")
                click.echo(f"{len(found)} directions, table and picture in {out}" if not beside else
                           f"{len(found)} directions {'' if complete else 'not '}written beside the generator")
            if not complete:
                ctx.exit(130)
