"""`directions`: find directions in the latent space and measure what they do."""

import json
from pathlib import Path

import click

from dnnlib.progress import progress_bar
from tools._options import LAYERS, checkpoint_option, device_option

EPILOG = """\b
Examples:
  python -m tools directions --class DRUSEN
  python -m tools directions --class DME --method regression --orthogonal-to class
  python -m tools directions --layers 0-3 --layers 4-9 --samples 1000 --oracle detector.safetensors
"""


@click.command(epilog=EPILOG)
@checkpoint_option
@click.option("--class", "class_name", metavar="NAME", help="Within one class. [default: over all classes]")
@click.option("--method", "methods", multiple=True, type=click.Choice(["pca", "sefa", "boundary", "regression"]),
              help="How to find them; repeat for several. [default: all]")
@click.option("--layers", type=LAYERS, multiple=True, metavar="A-B",
              help="Move these layers alone, 0 the coarsest; repeat for several ranges. [default: all together]")
@click.option("--components", type=click.IntRange(min=1), default=3, show_default=True, help="Of PCA and of SeFa.")
@click.option("--orthogonal-to", multiple=True, metavar="NAME",
              help="Leave this as it is: a biomarker, a class, or `class` for all of them; repeat for several.")
@click.option("--fit-samples", type=click.IntRange(min=100), default=4000, show_default=True,
              help="Samples to find directions with.")
@click.option("--samples", type=click.IntRange(min=10), default=500, show_default=True,
              help="Other samples, to measure what the directions do.")
@click.option("--oracle", type=click.Path(path_type=Path), metavar="FILE",
              help="Classifier by `train-detector`: does the class stay? [simulated scans: the included one]")
@click.option("--psi", type=float, default=1.0, show_default=True, help="Truncation: below 1 nearer to the mean.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the samples.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/directions"), show_default=True,
              help="Folder.")
@click.option("--batch", type=click.IntRange(min=1), help="Pictures at once. [default: as many as serve]")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
@click.pass_context
def directions(ctx: click.Context, checkpoint: str | None, class_name: str | None, methods: tuple[str, ...],
               layers: tuple[tuple[int, int], ...], components: int, orthogonal_to: tuple[str, ...], fit_samples: int,
               samples: int, oracle: Path | None, psi: float, seed: int, out: Path, batch: int | None,
               device: str | None, as_json: bool) -> None:
    """Find directions, with names and without, and measure what each does. Ctrl-C keeps those measured so far."""
    from stylegan_oct.batches import at_once
    from stylegan_oct.features.detector import load_detector
    from stylegan_oct.features.perceptual import PerceptualDistance
    from stylegan_oct.latent.directions.effects import measure_effects, oracle_for, pictures_to_measure
    from stylegan_oct.latent.directions.population import measuring_processes
    from stylegan_oct.latent.directions.report import report_json, table, write_report
    from stylegan_oct.latent.directions.search import METHODS, Search, find_directions, samples_to_measure
    from stylegan_oct.model import load_generator
    from torch_utils.distributed import init_world

    G = load_generator(checkpoint, device=init_world(device).device)
    judge = oracle_for(G, oracle)
    search = Search(class_name=class_name, methods=methods or METHODS,  # type: ignore[arg-type]
                    layers=layers, components=components, samples=fit_samples, orthogonal_to=orthogonal_to, psi=psi,
                    seed=seed)
    perceptual = PerceptualDistance(load_detector(device=G.device))
    size = at_once(G.layers, G.device, asked=batch)
    with measuring_processes() as measure:
        with progress_bar("finding", samples_to_measure(G, search),
                          shorter="--fit-samples makes it shorter") as update:
            found = find_directions(G, search, batch=size, measure=measure, progress=update)
        with progress_bar("measuring", pictures_to_measure(G, found, samples, class_name),
                          shorter="--samples makes it shorter") as update:
            effects = measure_effects(G, found, perceptual, samples=samples, class_name=class_name, oracle=judge,
                                      psi=psi, seed=seed, batch=size, measure=measure, progress=update)
    write_report(out, G, found, effects, class_name=class_name, samples=samples, psi=psi, seed=seed)
    if as_json:
        click.echo(json.dumps(report_json(G, effects, samples=samples, psi=psi, seed=seed)))
    else:
        click.echo(table(effects))
        if judge is None:
            click.echo("Does the class stay? --oracle FILE tells; make one: python -m tools train-detector ARCHIVE")
        click.echo(f"{len(found)} directions, table and picture in {out}")
    if len(effects) < len(found):
        ctx.exit(130)
