"""One of several processes that train a tiny run: trained_together.py ARCHIVE FOLDER."""

import functools
import io
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from tiny import tiny_config

from stylegan_oct.training import launch, monitor, steps
from torch_utils.distributed import World, init_world
from torch_utils.gradients import FlatGradients


class CountingWorld(World):
    """Counts the messages that were sent before the end of a backward pass."""

    early = 0

    def all_reduce_later_(self, tensor: torch.Tensor) -> Callable[[], None]:
        CountingWorld.early += sys._getframe(2).f_code.co_name == "arrived"
        return super().all_reduce_later_(tensor)


def train(archive: Path, outdir: Path, world: World) -> None:
    # Batches of one image, so that four processes can share a batch; the path length takes its part of each.
    config = tiny_config(archive, batch=4, batch_gpu=1, path_length__interval=2, total_kimg=0.016)
    choice = launch.choose_run_together(config, outdir, new=False, world=world)
    assert launch.start(config, choice, world, Console(file=io.StringIO())).finished


if __name__ == "__main__":
    torch.set_num_threads(1)
    monitor._event_writer = lambda *_: None  # its import takes seconds
    steps.FlatGradients = functools.partial(FlatGradients, chunk_bytes=4096)  # tiny networks, many messages
    place = init_world("cpu")
    own = CountingWorld(place.rank, place.size, place.device, place.watch)
    train(Path(sys.argv[1]), Path(sys.argv[2]), own)
    own.close()
    print(f"{CountingWorld.early} early")
