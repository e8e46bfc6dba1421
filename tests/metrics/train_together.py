"""One of several processes that share the trainings of usefulness: train_together.py FOLDER."""

import sys
from pathlib import Path

import torch
from made_pictures import plain_pictures

from stylegan_oct.metrics.usefulness.measure import Usefulness, UsefulnessSettings, measure_usefulness
from torch_utils.distributed import World, init_world

SHORT = UsefulnessSettings(seeds=3, shares=(0.2, 1.0), nimg=64, batch=16, resolution=8, resamples=100)


def measure(cache: Path, world: World) -> Usefulness:
    four = [0, 1, 2, 3]
    return measure_usefulness(plain_pictures("train", four * 10), plain_pictures("held", four * 5, first=100),
                              plain_pictures("fake", four * 10, first=1000), SHORT, cache=cache, world=world)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, own = Path(sys.argv[1]), init_world("cpu")
    (folder / f"process-{own.rank}.txt").write_text(repr(measure(folder / "seen", own)))
    own.close()
