"""Real scans beside simulated ones, the picture in docs/phantom.md.

    python -m benchmarks.phantom_and_real                                    # reads ../shared/data/oct2017
    python -m benchmarks.phantom_and_real --scans OCT2017/test --out sheet.png

Neither side is picked: the real scans are spread evenly over each class folder, the simulated ones are the first of
their seed. Names of files, which hold patient numbers, stay out of the picture.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib.pictures import Picture, save_png, sheet, synthetic_text
from stylegan_oct.classes import CLASSES
from stylegan_oct.phantom import render

ATTRIBUTION = ("Real scans: Kermany, Zhang, Goldbaum (2018), Labeled Optical Coherence Tomography (OCT) and Chest "
               "X-Ray Images for Classification, Mendeley Data, doi:10.17632/rscbjbr9sj.2, CC BY 4.0; resized.")
SIZE = (248, 256)  # rows and columns: 496 x 512 halved


def real_scans(folder: Path, count: int) -> list[Picture]:
    """Return scans spread over the sorted files of a folder, resized by area."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
    chosen = [files[len(files) * i // count] for i in range(count)]
    return [np.asarray(Image.open(path).convert("L").resize(SIZE[::-1], Image.Resampling.BOX)) for path in chosen]


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, default=Path("../shared/data/oct2017"))
    parser.add_argument("--out", type=Path, default=Path("docs/phantom-and-real.png"))
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rows = [[*real_scans(args.scans / name, args.count),
             *(render(args.seed, i * len(CLASSES) + label, label=name, resolution=SIZE).image
               for i in range(args.count))] for label, name in enumerate(CLASSES)]
    sides = ["real (OCT2017)"] * args.count + ["simulated"] * args.count
    picture = sheet(rows, row_labels=CLASSES, column_labels=sides)
    save_png(args.out, picture, {**synthetic_text("phantom", seed=args.seed), "Title": "real and simulated scans",
                                 "Description": f"Left {args.count} columns: real scans. The others: synthetic.",
                                 "synthetic": "right half", "Attribution": ATTRIBUTION})
    print(f"{args.out}. {ATTRIBUTION}")


if __name__ == "__main__":
    main()
