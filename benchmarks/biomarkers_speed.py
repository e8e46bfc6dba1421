"""What measuring biomarkers costs a core now, and at an earlier revision, and whether both give the same numbers.

    python -m benchmarks.biomarkers_speed --before 5f4aea6                 # demo64; a minute
    python -m benchmarks.biomarkers_speed --before 5f4aea6 -c demo256

Both versions measure the same drawn pictures in processes of their own that take turns, each three times; the least
seconds of the processor count, so that other programs on the machine disturb little. Needs git.

Expected before measuring, by a profile of the version before (64 px: shortest paths 36 %, fluid 18 %, foci, which 64 px
cannot show, 12 %, filters over rows that hold no retina the most of the rest): paths ten times as fast without masks,
all in all three times as fast, the numbers the same but for rounding.
"""

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from stylegan_oct.latent.biomarkers.measure import NAMES
from stylegan_oct.latent.directions.population import draw_ws, pictures_of
from stylegan_oct.model import load_generator

ROUNDS = 3
CHILD = """
import sys, time
import numpy as np
from stylegan_oct.latent.biomarkers.measure import measure
pictures = np.load(sys.argv[1])
measure(pictures[:2])
began = time.process_time()
found = measure(pictures)
print(time.process_time() - began)
np.savez(sys.argv[2], **found.values)
"""


def run(root: Path, pictures: Path, out: Path) -> float:
    """Return the seconds of the processor that the version in a folder needs for the pictures."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CHILD, str(pictures), str(out)], cwd=root, env=environment, check=True,
                          capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Print milliseconds a picture, and the largest difference of each biomarker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="REVISION")
    parser.add_argument("-c", "--checkpoint")
    parser.add_argument("--count", type=int, default=128)
    args = parser.parse_args()
    G = load_generator(args.checkpoint)
    ws = draw_ws(G, G.info.classes, args.count, seed=0, stream=0).ws
    pictures = np.concatenate([np.stack(part) for part in pictures_of(G, ws, batch=16)])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        packed = subprocess.run(["git", "archive", args.before], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(place / "before", filter="data")
        np.save(place / "pictures.npy", pictures)
        versions = {"before": place / "before", "now": Path.cwd()}
        best = dict.fromkeys(versions, np.inf)
        for _ in range(ROUNDS):
            for name, root in versions.items():
                best[name] = min(best[name], run(root, place / "pictures.npy", place / f"{name}.npz"))
        values = {name: dict(np.load(place / f"{name}.npz")) for name in versions}
    before, now = (1000 * best[name] / len(pictures) for name in versions)
    print(f"{len(pictures)} pictures of {G.info.resolution} px: before {before:.1f} ms a picture, now {now:.1f} ms: "
          f"{before / now:.1f} times as fast")
    for name in NAMES:
        old, new = values["before"][name], values["now"][name]
        gap = np.abs(old - new)
        if (np.isnan(old) != np.isnan(new)).any():
            print(f"  {name}: known in other pictures than before")
        elif np.isfinite(gap).any():
            print(f"  {name}: difference at most {np.nanmax(gap):.2g}, in 99 of 100 {np.nanpercentile(gap, 99):.2g}")


if __name__ == "__main__":
    main()
