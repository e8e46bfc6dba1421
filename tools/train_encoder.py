"""`train-encoder`: learn to guess latents from pictures, from the generator's own samples."""

from pathlib import Path

import click

from dnnlib.progress import progress_bar
from stylegan_oct import limits
from tools._options import BATCH, FILE, Whole, checkpoint_option, device_option, seed_option

EPILOG = """\b
Examples:
  python -m tools train-encoder                            # for the demo generator
  python -m tools train-encoder -c runs/00003-oct256-256px-b32 --steps 5000
"""


@click.command("train-encoder", epilog=EPILOG)
@checkpoint_option
@click.option("--steps", type=Whole(limits.STEPS),
              help="Of Adam. [default: 2000, some 10 minutes at 64 px; fewer where each takes long]")
@click.option("--batch", type=BATCH, default=16, show_default=True, help="Samples in a step.")
@seed_option
@click.option("--out", type=FILE, help="The file. [default: in data/]")
@device_option
def train_encoder(checkpoint: str | None, steps: int | None, batch: int, seed: int, out: Path | None,
                  device: str | None) -> None:
    """Train an encoder, from which `project` begins nearer to the scan; no real scan is needed."""
    from stylegan_oct.features.detector import load_detector
    from stylegan_oct.latent.projection import encoder as encoders
    from stylegan_oct.model import load_generator
    from torch_utils.distributed import init_world

    G = load_generator(checkpoint, device=init_world(device).device)
    path = out or encoders.default_encoder_path(G)
    steps = steps or encoders.usual_steps(G)
    with progress_bar("training", steps, shorter="--steps makes it shorter") as update:
        found, distances = encoders.train_encoder(G, load_detector("lite0", device=G.device), steps=steps, batch=batch,
                                                  seed=seed, progress=update)
    encoders.save_encoder(path, found, G)
    share = max(1, steps // 20)
    begin, end = sum(distances[:share]) / share, sum(distances[-share:]) / share
    click.echo(f"distance of a sample to the picture of its guess: {begin:.3f} at the start, {end:.3f} at the end")
    click.echo(f"encoder in {path}; `project` finds it there" if out is None else f"encoder in {path}")
