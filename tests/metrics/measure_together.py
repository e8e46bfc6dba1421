"""What each process of test_distributed_metrics runs: arguments are the generator's file, a folder and a name."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from stored_pictures import FieldsDetector, StoredPictures

from stylegan_oct.metrics.fidelity import measure_fidelity
from stylegan_oct.metrics.path_length import measure_path_lengths
from stylegan_oct.model import load_generator
from torch_utils.distributed import init_world

if __name__ == "__main__":
    generator, folder, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    world, detector = init_world("cpu"), FieldsDetector()
    values = measure_fidelity(
        StoredPictures("train", [100, 60], seed=1, scans=2), StoredPictures("test", [60, 40], seed=2, scans=2),
        StoredPictures("drawn", [60, 40], seed=3), [detector], cache=folder / name, world=world, batch=16)
    looks = detector.looks
    values += measure_path_lengths(load_generator(generator), np.arange(10) % 2, [detector], batch=2, world=world)
    found = {"looks": looks, "values": [asdict(value) for value in values]}
    (folder / f"{name}-{world.rank}.json").write_text(json.dumps(found))
    world.close()
