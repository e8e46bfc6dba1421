"""`python -m benchmarks.export`: pictures a second of an export, and the share of the time outside the generator.

The generator has the size of a preset and random weights. What it draws is replaced by simulated scans, which are as
hard to measure and to compress as those of a trained one; drawing takes as long as ever.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from dnnlib.progress import progress_bar
from stylegan_oct.config import PRESETS, DataConfig
from stylegan_oct.data.phantom_archive import write_phantom_archive
from stylegan_oct.export import draw, report
from stylegan_oct.export.export import export
from stylegan_oct.export.prepare import Settings
from stylegan_oct.metrics.pictures import ArchivePictures
from stylegan_oct.model import OctGenerator, generator_header, read_info
from stylegan_oct.networks.generator import Generator
from torch_utils.distributed import init_world

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
SCANS = 64


def write_generator(file: Path, preset: str, resolution: int) -> None:
    data = DataConfig(path="none", fingerprint="0", resolution=resolution, channels=1, classes=CLASSES)
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
    parser.add_argument("--per-class", type=int, default=24)
    parser.add_argument("--layout", default="imagefolder")
    parser.add_argument("--no-biomarkers", action="store_true")
    parser.add_argument("--copies", action="store_true", help="look for copies among 64 simulated scans too")
    parser.add_argument("--device")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_generator(place / "G_ema.safetensors", options.preset, options.resolution)
        with progress_bar("simulating") as update:
            write_phantom_archive(place / "scans.zip", count=SCANS, resolution=options.resolution, border=False,
                                  progress=update)
        show_scans(place / "scans.zip")
        asked = Settings(out=place / "export", checkpoint=str(place / "G_ema.safetensors"), layout=options.layout,
                         per_class=options.per_class, biomarkers=not options.no_biomarkers, allow_unreviewed=True,
                         training=place / "scans.zip" if options.copies else None)
        with progress_bar("exporting") as update:
            print(report.text(export(asked, world=init_world(options.device), progress=update)))
        size = sum(path.stat().st_size for path in place.joinpath("export").rglob("*") if path.is_file())
        print(f"{size / 4 / options.per_class / 1024:.0f} KiB a picture, {torch.get_num_threads()} threads")
