"""How many samples directions need: how alike those of two halves are, and r on others, by the number of samples.

    python -m benchmarks.directions_samples                                    # class CNV, demo64; some minutes
    python -m benchmarks.directions_samples -c demo256 --class DME --fit 1000 --samples 250

Alike is the cosine of the steps found with two sets of so many samples each, with lengths in standard deviations of w,
in which steps are measured; it is the correlation of what the two readouts predict. r is that of what a readout of so
many samples predicts with what is measured on fresh ones.

Expected before measuring: mean thickness .9 alike from 500 samples on; drusen, whose r is half, .7 with 1000; from 2000
to 4000 samples r gains less than .03, which is what its own interval is with 500 fresh samples.
"""

import argparse
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.progress import progress_bar
from stylegan_oct.batches import at_once
from stylegan_oct.latent.biomarkers.measure import NAMES
from stylegan_oct.latent.directions.effects import correlation
from stylegan_oct.latent.directions.population import draw_ws, measuring_processes, pictures_of
from stylegan_oct.latent.directions.search import FIT, FRESH, MIN_VALID
from stylegan_oct.latent.directions.supervised import fit_readout
from stylegan_oct.model import load_generator

LEAST = 125


def steadiness(w: Tensor, y: NDArray[np.float64], fresh: Tensor, seen: NDArray[np.float64],
               count: int) -> tuple[float, float] | None:
    """Return how alike readouts of neighbouring sets of `count` samples are, and their r on fresh ones, on average."""
    predicted = []
    for begin in range(0, len(w) - count + 1, count):
        part, valid = slice(begin, begin + count), np.isfinite(y[begin:begin + count])
        if valid.sum() < MIN_VALID or y[part][valid].std() == 0:
            return None
        readout = fit_readout(w[part][torch.from_numpy(valid)], torch.from_numpy(y[part][valid]))
        predicted.append(readout(fresh).double().numpy())
    alike = [correlation(a, b) or 0.0 for a, b in zip(predicted[::2], predicted[1::2], strict=False)]
    fits = [correlation(each, seen) or 0.0 for each in predicted]
    return (float(np.mean(alike)) if alike else np.nan, float(np.mean(fits)))


def show(w: Tensor, values: Mapping[str, NDArray[np.float64]], fresh: Tensor,
         seen: Mapping[str, NDArray[np.float64]]) -> None:
    """Print a line for each biomarker: alike, then r, for 125, 250, ... samples."""
    counts = [LEAST * 2**power for power in range(20) if LEAST * 2**power <= len(w)]
    print(f"{'':24}" + "".join(f"{count:>14}" for count in counts))
    for name in NAMES:
        cells = [steadiness(w, values[name], fresh, seen[name], count) for count in counts]
        print(f"{name:24}" + "".join(f"{'-' if cell is None else f'{cell[0]:.2f}  r {cell[1]:+.2f}':>14}"
                                     for cell in cells))


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--checkpoint")
    parser.add_argument("--class", dest="label", default="CNV")
    parser.add_argument("--fit", type=int, default=4000, help="samples to fit to")
    parser.add_argument("--samples", type=int, default=1000, help="fresh ones")
    args = parser.parse_args()
    G = load_generator(args.checkpoint)
    found = []
    with measuring_processes() as measure:
        for stream, count in ((FIT, args.fit), (FRESH, args.samples)):
            ws = draw_ws(G, (args.label,), count, seed=0, stream=stream).ws
            with progress_bar("measuring", count) as update:
                found += [ws[:, 0], measure(pictures_of(G, ws, batch=at_once(G.layers, G.device)), update)]
    show(*found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
