"""`train`: learn a generator."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from dnnlib.config import parse_setting, to_json
from dnnlib.progress import progress_bar
from dnnlib.text import format_nimg
from stylegan_oct import limits
from stylegan_oct.config import TrainConfig
from stylegan_oct.presets import PRESETS
from tools._options import (
    BATCH,
    KIMG,
    NAME_OR_PATH,
    PATH,
    SEED,
    SHARE,
    TEXT,
    Real,
    Whole,
    device_option,
    resolution_option,
)

if TYPE_CHECKING:
    from torch_utils.distributed import World

EPILOG = """\b
Examples:
  python -m tools train                               # a first look: phantom, 64 px, minutes on a laptop
  python -m tools train --resolution 256 --data OCT2017
  python -m tools train --data scans-512.zip --preset auto --set r1.gamma=4
"""


@click.command(epilog=EPILOG)
@click.option("--data", type=NAME_OR_PATH, metavar="PATH",
              help="Archive, or folder, zip or CSV of scans. [default: simulated scans]")
@click.option("--phantom-images", type=Whole(limits.PICTURES.at_least(16)), metavar="N",
              help="How many scans to simulate without --data. [default: 2000 up to 64 px, 8000 above]")
@resolution_option("Width and height in pixels, a power of two. [default: that of the archive, else 64]")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Sizes and constants. [default: by resolution]")
@click.option("--kimg", "total_kimg", type=KIMG, help="Length in 1000 images.")
@click.option("--outdir", type=PATH, default=Path("runs"), show_default=True,
              help="Where the runs are.")
@click.option("--new", is_flag=True, help="Start another run even if one with this configuration is unfinished.")
@click.option("--grow", type=TEXT, metavar="STAGES",
              help="Learn smaller pictures first: 64,256 or 64:30,256 (kimg), or off. "
              "[default: as the preset, off with --start-from]")
@click.option("--start-from", type=NAME_OR_PATH, metavar="PATH",
              help="Begin with the weights of this checkpoint or run (transfer).")
@click.option("--batch", type=BATCH, help="Images per update.")
@click.option("--batch-gpu", type=BATCH, help="Images at once on one GPU; less needs less memory.")
@click.option("--gamma", type=Real(limits.GAMMA), help="Weight of the R1 penalty.")
@click.option("--aug", type=click.Choice(["ada", "fixed", "off"]), help="Augmentation: adaptive, fixed or none.")
@click.option("--aug-groups", type=TEXT, metavar="NAMES", help="Augmentations: b, bg, bgc, bgcf, bgcfn, bgcfnc.")
@click.option("--aug-p", type=SHARE, help="Strength when fixed, or at the start.")
@click.option("--target", type=Real(limits.SIGN), help="ADA's target.")
@click.option("--freeze-d", type=Whole(limits.FROZEN), help="Highest discriminator layers that stay fixed.")
@click.option("--mirror/--no-mirror", default=None, help="Add every image flipped left to right.")
@click.option("--balanced/--no-balanced", default=None, help="Draw the classes equally often.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "fp16", "bf16"]),
              help="Of the blocks. [default: auto, float16 on a GPU and float32 on a CPU]")
@click.option("--graphs/--no-graphs", default=None, help="Let a GPU run its steps from records. [default: yes]")
@click.option("--tf32/--no-tf32", default=None, help="Faster float32 on a GPU, with factors of 10 bits. [default: no]")
@click.option("--seed", type=SEED, help="Of all that is random. [default: 0]")
@click.option("--metrics", type=TEXT, metavar="NAMES",
              callback=lambda _ctx, _param, text: list(dict.fromkeys(text.split(","))) if text else None,
              help="Measure these at every snapshot, such as kd_lite0,recall_lite0.")
@click.option("--metrics-count", type=Whole(limits.SAMPLES.at_least(16)), help="Samples for them. [default: 1000]")
@click.option("--best-by", type=TEXT, metavar="NAME",
              help="Keep the best checkpoint by this one. [default: the first of them]")
@click.option("--set", "settings", type=TEXT, multiple=True, metavar="FIELD=VALUE",
              help="Any other field of the configuration.")
@click.option("--processes", type=Whole(limits.PROCESSES.at_least(0)), default=1, show_default=True,
              help="On this computer, one a GPU; 0 takes what is best on a CPU.")
@device_option
@click.option("--profile", is_flag=True, help="Only show where the time of one step of each kind goes.")
@click.option("-n", "--dry-run", is_flag=True, help="Print the configuration and stop.")
def train(data: str | None, phantom_images: int | None, resolution: int | None, preset: str | None, outdir: Path,
          new: bool, settings: tuple[str, ...], processes: int, device: str | None, profile: bool,
          dry_run: bool, **options: Any) -> None:
    """Train a generator, or go on with the newest unfinished run of the same configuration."""
    import torch

    from stylegan_oct.training import launch
    from torch_utils.distributed import World, init_world, pick_device, start_processes

    changes = {launch.OPTION_FIELDS[name]: value for name, value in options.items()}
    changes.update(map(parse_setting, settings))
    alone = World(device=torch.device(pick_device(device)))
    archive = launch.archive_for(data, resolution, preset, changes, alone, simulate=phantom_images, say=click.echo)
    if processes != 1 and "WORLD_SIZE" not in os.environ and not dry_run:
        single = launch.resolve(launch.data_config(archive, alone), preset, changes, alone)
        start_processes(processes or launch.useful_processes(single, alone.device))
    world = init_world(device)
    try:
        config = launch.resolve(launch.data_config(archive, world), preset, changes, world)
        if dry_run:
            click.echo(to_json(config))
        elif profile:
            _profile(config, world, outdir)
        else:
            _train(config, world, outdir, new)
    finally:
        world.close()


def _train(config: TrainConfig, world: "World", outdir: Path, new: bool) -> None:
    from stylegan_oct.training import launch

    choice, outcome = launch.run(config, outdir, new=new, world=world, console=Console())
    if world.is_first and outcome is None:
        click.echo(f"{choice.run.path} is finished. Give a larger --kimg to go on, or --new (make train ARGS=--new) "
                   "to start another.")
    elif world.is_first and outcome is not None:
        click.echo(f"{'finished' if outcome.finished else 'stopped'} after {format_nimg(outcome.nimg)}")
        click.echo(f"  samples     {outcome.grid}\n  checkpoint  {outcome.checkpoint}\n  log         {choice.run.log}")
        if not outcome.finished:
            click.echo("The same command goes on from here.")


def _profile(config: TrainConfig, world: "World", outdir: Path) -> None:
    from stylegan_oct.training.launch import set_up_device
    from stylegan_oct.training.profile import profile_steps

    set_up_device(config, world)
    with progress_bar("profiling", 4) as update:
        found = profile_steps(config, world, outdir / f"profile-{config.preset}-{config.data.resolution}px", update)
    for step in found:
        click.echo(step.table())
