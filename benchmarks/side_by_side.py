"""Training images and samples of a generator, a row of each for every class, as a PNG.

    python -m benchmarks.side_by_side data/oct2017-64.zip runs/00002-demo-64px-b8 docs/real-and-synthetic.png
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from dnnlib.pictures import save_png, sheet, synthetic_text
from stylegan_oct.data.archive import Archive
from stylegan_oct.model import load_generator
from torch_utils.images import to_pictures

COLUMNS = 8


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--psi", type=float, default=1.0)
    args = parser.parse_args()
    archive, G = Archive(args.archive), load_generator(args.checkpoint)
    names, labels = archive.names("train"), archive.labels("train")
    rows, titles = [], []
    for index, name in enumerate(archive.classes):
        chosen = np.flatnonzero(labels == index)
        chosen = chosen[np.linspace(0, len(chosen) - 1, COLUMNS).astype(int)]  # spread evenly, not picked
        with torch.inference_mode():
            samples = to_pictures(G(G.z(range(COLUMNS)), name, psi=args.psi))
        rows += [[archive.read_pixels(names[i]) for i in chosen], samples]
        titles += [f"{name}, training", f"{name}, synthetic"]
    title = f"synthetic: seeds 0 to {COLUMNS - 1}, psi {args.psi:g}, after {G.info.nimg / 1000:g} kimg"
    text = synthetic_text("generator", checkpoint_sha256=G.info.sha256, psi=args.psi)
    text |= {"synthetic": "every second row",
             "Description": "Rows of training images, and of synthetic ones below them."}
    save_png(args.out, sheet(rows, row_labels=titles, title=title), text)


if __name__ == "__main__":
    main()
