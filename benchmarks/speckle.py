"""How much like scans the speckle of the speckle layer is, were everything else perfect.

    python -m benchmarks.speckle --archive data/phantom-256-8000.zip

Simulated eyes are rendered without speckle; the layer, measured on the archive's training scans, adds its own; and the
Frechet distance, precision and recall (lite0) of such pictures to held-out scans are compared with those of the same
eyes under the phantom's speckle. Beside it the speckle of a typical scan for all, half and twice as much of it, and the
same noise added to the grey instead of the light.

Expected before measuring: without speckle three times the floor; with the layer within a tenth of it, as most of what
lite0 sees of speckle is that there is some; a typical scan's for all has less recall; added to the grey alike, although
the vitreous looks wrong.
"""

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d

from stylegan_oct.classes import CLASSES
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.features.detector import load_detector
from stylegan_oct.metrics.distances.fidelity import measure_fidelity
from stylegan_oct.metrics.observers.pictures import ArchivePictures, some_of_each
from stylegan_oct.networks.synthesis import SpeckleLayer, read_off
from stylegan_oct.phantom import render
from stylegan_oct.training.speckle import measure_speckle
from torch_utils.images import to_uint8, to_unit

SEED = 77  # of the eyes, which no archive holds


class Given:
    """Pictures uint8 [N, 1, R, R], the classes in turn."""

    def __init__(self, name: str, pixels: Tensor) -> None:
        self.identity, self.classes, self._pixels = name, CLASSES, pixels
        self.groups, self.labels = np.arange(len(pixels)), np.arange(len(pixels)) % len(CLASSES)

    def __len__(self) -> int:
        return len(self._pixels)

    def read(self, rows: list[int]) -> Tensor:
        return self._pixels[list(rows)]


def eye(job: tuple[int, int, bool]) -> NDArray[np.uint8]:
    """Return an eye by (number, resolution, whether under speckle)."""
    number, side, speckle = job
    label = CLASSES[number % len(CLASSES)]
    return render(SEED, number, label=label, resolution=(side, side), border=False, speckle=speckle).image


def main() -> None:
    """Render, add speckle, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--count", type=int, default=400, help="eyes and held-out scans")
    args = parser.parse_args()
    dataset = ArchiveDataset(args.archive)
    side = int(dataset[0][0].shape[-1])
    jobs = [(number, side, speckle) for speckle in (True, False) for number in range(args.count)]
    with ProcessPoolExecutor() as pool:
        pictures = torch.from_numpy(np.stack(list(pool.map(eye, jobs, chunksize=20))))[:, None]
    scans, still = pictures[:args.count], to_unit(pictures[args.count:])
    measured, layer = measure_speckle(dataset), SpeckleLayer(side)
    measured.give_to(layer)
    torch.manual_seed(0)
    arms = {"under the phantom's speckle": scans, "without speckle": to_uint8(still),
            "with the layer": to_uint8(layer(still, noise_mode="random"))}
    layer.camera_grain.copy_(measured.grain.expand_as(layer.camera_grain))
    for factor in (1.0, 0.5, 2.0):
        layer.camera_strength.copy_((factor * measured.strength).expand_as(layer.camera_strength))
        arms[f"with that of a typical scan, {factor:g} times"] = to_uint8(layer(still, noise_mode="random"))
    noise = conv2d(torch.randn_like(still), measured.grain, padding=1)
    arms["the same noise added to the grey"] = to_uint8(
        still + 2 * read_off(measured.strength[None], (still + 1) / 2) * noise)
    held_out = some_of_each(ArchivePictures(args.archive, ["val", "test"]), args.count)
    real = some_of_each(ArchivePictures(args.archive, ["train"]), args.count)
    print("| simulated eyes | Frechet distance / floor | precision / floor | recall / floor |\n|---|---|---|---|")
    for name, pixels in arms.items():
        with tempfile.TemporaryDirectory() as folder:
            values = measure_fidelity(real, held_out, Given("eyes", pixels), [load_detector("lite0")],
                                      cache=Path(folder), fake_cache=Path(folder), halvings=4, batch=20)
        of = {value.metric: value for value in values if value.class_name is None}
        found = [of[f"{key}_lite0"] for key in ("fd", "precision", "recall")]
        print(f"| {name} | {' | '.join(f'{value.value:.3g} / {value.floor:.3g}' for value in found)} |", flush=True)


if __name__ == "__main__":
    main()
