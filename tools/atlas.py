"""`atlas`: lay synthetic pictures out on maps."""

import json
from pathlib import Path
from typing import Literal

import click

from dnnlib.progress import progress_bar
from tools._options import checkpoint_option, device_option

EPILOG = """\b
Examples:
  python -m tools atlas                                       # needs the extra "atlas" for UMAP
  python -m tools atlas --method pca --color drusen_area_mm2
  python -m tools atlas --codes out/project/private-codes-1a2b3c4d.safetensors
  python -m tools atlas --from out/atlas.safetensors --codes out/project/private-codes-9c0d1e2f.safetensors
"""


@click.command(epilog=EPILOG)
@checkpoint_option
@click.option("--samples", type=click.IntRange(min=32),
              help="Pictures. [default: 2000, fewer where each takes long]")
@click.option("--psi", type=float, default=1.0, show_default=True, help="Truncation: below 1 nearer to the mean.")
@click.option("--method", type=click.Choice(["umap", "pca"]), default="umap", show_default=True,
              help="UMAP shows groups; PCA is there at once.")
@click.option("--codes", type=click.Path(path_type=Path), multiple=True, metavar="FILE",
              help="Projected scan to place; repeat for several.")
@click.option("--color", default="class", show_default=True, metavar="NAME",
              help="Of the dots in the PNG: class or a biomarker. The page switches.")
@click.option("--no-biomarkers", is_flag=True, help="Measure nothing, which is quicker.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of UMAP.")
@click.option("--from", "source", type=click.Path(path_type=Path), metavar="FILE",
              help="Place scans in an atlas made before; its samples and maps stay.")
@click.option("--library", type=click.Path(path_type=Path), metavar="ZIP",
              help="Pictures drawn before, kept for the next time. [default: data/library-CHECKPOINT.zip]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out"), show_default=True, help="Folder.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
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
