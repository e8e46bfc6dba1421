"""Simulated scans a second, written to an archive by two processes.

    python -m benchmarks.phantom_speed                      # 256 px
    python -m benchmarks.phantom_speed --resolution 64 --repeat 5

Expected before measuring, on two idle cores: 40 to 50 images/s at 64 px and 256 px, as each scan is drawn at 496 rows
whatever the resolution (about 40 ms of one core: speckle 8, layers 8, choroid 16), and about 35 at 512 px, where more
is compressed. Starting the processes takes a second, so a short archive looks slower. The goal is 20.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from stylegan_oct.data.phantom_archive import write_phantom_archive


def main() -> None:
    """Print images/s of each repeat, their median and spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()

    rates = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(args.repeat):
            begin = time.perf_counter()
            write_phantom_archive(Path(folder) / f"{repeat}.zip", count=args.count, resolution=args.resolution,
                                  seed=repeat, workers=args.workers)
            rates.append(args.count / (time.perf_counter() - begin))
            print(f"repeat {repeat + 1}/{args.repeat}: {rates[-1]:.1f} images/s", flush=True)
    print(f"{args.count} scans of {args.resolution} px, {args.workers} processes on {os.cpu_count()} cores: "
          f"median {statistics.median(rates):.1f} images/s, from {min(rates):.1f} to {max(rates):.1f}")


if __name__ == "__main__":
    main()
