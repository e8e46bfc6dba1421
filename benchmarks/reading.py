"""How fast training reads its pictures: PNGs from the archive, and the file of decoded pictures.

    python -m benchmarks.reading                     # simulated scans of 256 px
    python -m benchmarks.reading --resolution 512

Expected before measuring: 700 PNGs of 256 px a second on a core, and 20,000 decoded pictures (the goal is 2000). The
file is in the memory of the computer by then, as it is in training where it fits.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from dnnlib.pictures import encode_png
from stylegan_oct.data.archive import ArchiveWriter
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.phantom import render

EYES = 40  # simulated; the archive holds them over and over


def main() -> None:
    """Print pictures a second on one core, read in random order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--count", type=int, default=2000)
    args = parser.parse_args()
    size = (args.resolution, args.resolution)
    eyes = [encode_png(render(0, i, label="DME", resolution=size).image) for i in range(EYES)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scans.zip"
        with ArchiveWriter(path, resolution=args.resolution, channels=1, classes=("DME",), source="phantom") as writer:
            for i in range(args.count):
                writer.add_image("train", eyes[i % EYES], 0, {})
        order = np.random.default_rng(0).integers(0, args.count, args.count)
        for cached in (False, True):
            dataset = ArchiveDataset(path, cached=cached)
            start = time.perf_counter()
            for i in order:
                dataset[int(i)]
            rate = len(order) / (time.perf_counter() - start)
            print(f"{'decoded once' if cached else 'PNGs':12s} {rate:9.0f} pictures of {args.resolution} px a second")


if __name__ == "__main__":
    main()
