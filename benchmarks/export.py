"""`python -m benchmarks.export`: pictures a second of an export, and the share of the time outside the generator.

The generator has the size of a preset and random weights. What it draws is replaced by simulated scans, which are as
hard to measure and to compress as those of a trained one; drawing takes as long as ever.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from dnnlib.progress import progress_bar
from stylegan_oct.config import DataConfig
from stylegan_oct.data.archive import Archive
from stylegan_oct.data.phantom_archive import write_phantom_archive
from stylegan_oct.export import report
from stylegan_oct.export.drawing import draw
from stylegan_oct.export.export import export
from stylegan_oct.export.prepare import Settings
from stylegan_oct.metrics.observers.pictures import ArchivePictures
from stylegan_oct.model import OctGenerator, generator_header, read_info
from stylegan_oct.networks.generator import Generator
from stylegan_oct.presets import PRESETS
from torch_utils.distributed import init_world

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
SCANS = 64


def write_generator(file: Path, preset: str, resolution: int, archive: Path) -> None:
    data = DataConfig(path="none", fingerprint=Archive(archive).fingerprint, resolution=resolution, channels=1,
                      classes=CLASSES)
    header = generator_header(PRESETS[preset](data, 1), 0, "phantom")
    save_file({"none": torch.zeros(1)}, file, metadata=header)
    save_file(Generator(**read_info(file).options).state_dict(), file, metadata=header)


def show_scans(archive: Path) -> None:
    """Have pictures drawn, and simulated scans of the class taken in their place."""
    scans, draw_pixels = ArchivePictures(archive), draw.draw_pixels
    rows = [(scans.labels == label).nonzero()[0] for label in range(len(CLASSES))]
    pixels = scans.read(range(len(scans)))

    def drawn(G: OctGenerator, seeds: Sequence[int], label: int, psi: float) -> Tensor:
        draw_pixels(G, seeds, label, psi)
        return pixels[[int(rows[label][seed % len(rows[label])]) for seed in seeds]]

    draw.draw_pixels = drawn


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--preset", default="oct256")
    parser.add_argument("--per-class", type=int, default=32, help="a multiple of 16 wastes none")
    parser.add_argument("--layout", default="imagefolder")
    parser.add_argument("--no-biomarkers", action="store_true")
    parser.add_argument("--copies", action="store_true", help="look for copies among 64 simulated scans too")
    parser.add_argument("--device")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with progress_bar("simulating") as update:
            for seed, name in enumerate(("scans.zip", "shown.zip")):
                write_phantom_archive(place / name, count=SCANS, resolution=options.resolution, seed=seed, border=False,
                                      progress=update)
        write_generator(place / "G_ema.safetensors", options.preset, options.resolution, place / "scans.zip")
        show_scans(place / "shown.zip")
        asked = Settings(out=place / "export", checkpoint=str(place / "G_ema.safetensors"), layout=options.layout,
                         per_class=options.per_class, biomarkers=not options.no_biomarkers, allow_unreviewed=True,
                         training=place / "scans.zip" if options.copies else None)
        with progress_bar("exporting") as update:
            begin = time.process_time()
            summary = export(asked, world=init_world(options.device), progress=update)
            seconds = time.process_time() - begin
        print(report.text(summary))
        size = sum(path.stat().st_size for path in place.joinpath("export").rglob("*") if path.is_file())
        print(f"{seconds / summary.pictures:.3f} s of CPU and {size / summary.pictures / 1024:.0f} KiB a picture; "
              f"{torch.get_num_threads()} threads")
