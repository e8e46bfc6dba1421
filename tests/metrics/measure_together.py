"""What each process of test_distributed_metrics runs: arguments are the generator's file and a folder."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stored_pictures import FieldsDetector, StoredPictures

from stylegan_oct.metrics.distances.fidelity import measure_fidelity
from stylegan_oct.metrics.distances.path_length import measure_path_lengths
from stylegan_oct.model import load_generator
from torch_utils.distributed import World, init_world


def measure(generator: Path, folder: Path, world: World) -> dict[str, Any]:
    """Return the values, and how many pictures this process looked at."""
    detector = FieldsDetector()
    values = measure_fidelity(
        StoredPictures("train", [100, 60], seed=1, scans=2), StoredPictures("test", [60, 40], seed=2, scans=2),
        StoredPictures("drawn", [60, 40], seed=3), [detector], cache=folder, world=world, batch=16)
    looks = detector.looks
    values += measure_path_lengths(load_generator(generator), np.arange(10) % 2, [detector], batch=2, world=world)
    found: dict[str, Any] = json.loads(json.dumps({"looks": looks, "values": [asdict(value) for value in values]}))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    world = init_world("cpu")
    result = measure(Path(sys.argv[1]), Path(sys.argv[2]), world)
    Path(sys.argv[2]).with_name(f"process-{world.rank}.json").write_text(json.dumps(result))
    world.close()
