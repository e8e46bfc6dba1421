"""`atlas`: lay synthetic pictures out on maps."""

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
    psi_option,
    seed_option,
)

EPILOG = """\b
Examples:
  python -m tools atlas                                       # needs the extra "atlas" for UMAP
  python -m tools atlas --method pca --color drusen_area_mm2
  python -m tools atlas --codes out/project/private-codes-1a2b3c4d.safetensors
  python -m tools atlas --from out/atlas.safetensors --codes out/project/private-codes-9c0d1e2f.safetensors
"""


@click.command(epilog=EPILOG)
@checkpoint_option
@click.option("--samples", type=Whole(limits.SAMPLES.at_least(32)),
              help="Pictures. [default: 2000, fewer where each takes long]")
@psi_option
@click.option("--method", type=click.Choice(["umap", "pca"]), default="umap", show_default=True,
              help="UMAP shows groups; PCA is there at once.")
@click.option("--codes", type=PATH, multiple=True, callback=once, metavar="FILE",
              help="Projected scan to place; repeat for several.")
@click.option("--color", type=TEXT, default="class", show_default=True, metavar="NAME",
              help="Of the dots in the PNG: class or a biomarker. The page switches.")
@click.option("--no-biomarkers", is_flag=True, help="Measure nothing, which is quicker.")
@seed_option
@click.option("--from", "source", type=PATH, metavar="FILE",
              help="Place scans in an atlas made before; its samples and maps stay.")
@click.option("--library", type=PATH, metavar="ZIP",
              help="Pictures drawn before, kept for the next time. [default: data/library-CHECKPOINT.zip]")
@out_option("out")
@device_option
@json_option
def atlas(checkpoint: str | None, samples: int | None, psi: float, method: Literal["umap", "pca"],
          codes: tuple[Path, ...], color: str, no_biomarkers: bool, seed: int, source: Path | None,
          library: Path | None, out: Path, device: str | None, as_json: bool) -> None:
    """Lay thousands of synthetic pictures out on maps of w and of what a detector sees: a page and a PNG."""
    from stylegan_oct.latent.atlas.make import Settings, make_atlas
    from stylegan_oct.model import load_generator
    from torch_utils.distributed import init_world

    G = load_generator(checkpoint, device=init_world(device).device)
    settings = Settings(samples=samples, psi=psi, method=method, biomarkers=not no_biomarkers, seed=seed)
    with progress_bar("drawing", shorter="--samples makes it shorter") as update:
        made = make_atlas(G, settings, out, codes=codes, source=source, library=library, colour=color, progress=update)
    if as_json:
        click.echo(json.dumps({"page": str(made.page), "picture": str(made.picture), **made.figures}))
        return
    for space, figures in made.figures["maps"].items():
        click.echo(f"{space:9s} {figures['method']}, trustworthiness {figures['trustworthiness']:.2f}")
    click.echo(f"open {made.page} in a browser; the maps as a picture are {made.picture}, to go on with {made.atlas}")
