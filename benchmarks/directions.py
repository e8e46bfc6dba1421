"""How far the names of directions can be trusted: r of what a readout predicts from w with what is measured.

    python -m benchmarks.directions                       # the included generator; minutes
    python -m benchmarks.directions --fit-samples 1000 --checkpoint FILE

A readout is fitted to samples of one class, or of all classes together, and tested on others. All classes have the same
samples as each class by itself.

Expected before measuring: |r| of 0.7 or more for every name in the class that has what it names: elevations in CNV,
drusen in DRUSEN, fluid within the retina in DME, fluid under it in CNV or DME, thickness in all of them.
"""

import argparse

import numpy as np
import torch
from numpy.typing import NDArray

from dnnlib.progress import progress_bar
from stylegan_oct.latent.biomarkers.measure import NAMES
from stylegan_oct.latent.directions.effects import correlation
from stylegan_oct.latent.directions.population import Population, draw_ws, measuring_processes, pictures_of
from stylegan_oct.latent.directions.search import FIT, FRESH, MIN_VALID
from stylegan_oct.latent.directions.supervised import fit_readout
from stylegan_oct.model import load_generator


def agreement(fit: Population, fresh: Population, name: str, label: int | None) -> float | None:
    """Return r of a biomarker on the fresh samples of a class, or of all; None where there is nothing to regress on."""
    (w, y), (w_fresh, y_fresh) = (chosen(population, name, label) for population in (fit, fresh))
    valid = np.isfinite(y)
    if valid.sum() < MIN_VALID or y[valid].std() == 0:
        return None
    readout = fit_readout(w[torch.from_numpy(valid)], torch.from_numpy(y[valid]))
    return correlation(readout(w_fresh).double().numpy(), y_fresh)


def chosen(population: Population, name: str, label: int | None) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """Return w [N, w_dim] and a biomarker [N] of the samples of a class, or of all."""
    kept = torch.ones_like(population.labels, dtype=torch.bool) if label is None else population.labels == label
    return population.ws[kept, 0], population.values[name][kept.numpy()]


def main() -> None:
    """Print r of every biomarker, and the share of samples that have it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint")
    parser.add_argument("--fit-samples", type=int, default=2000, help="of each class")
    parser.add_argument("--samples", type=int, default=500, help="of each class, to test on")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    G = load_generator(args.checkpoint)
    classes = G.info.classes
    populations = []
    with measuring_processes() as measure:
        for stream, each in ((FIT, args.fit_samples), (FRESH, args.samples)):
            drawn = draw_ws(G, classes, each * max(len(classes), 1), seed=args.seed, stream=stream)
            with progress_bar("measuring", len(drawn.ws)) as update:
                values = measure(pictures_of(G, drawn.ws, batch=32), update)
            populations.append(Population(drawn.ws, drawn.labels, values))
    fit, fresh = populations
    columns = {**{name: index for index, name in enumerate(classes)}, "all": None}
    print(f"r on {args.samples} fresh samples of each class, fitted to {args.fit_samples} of each; "
          "in brackets the share of the fresh samples in which it is known and not 0")
    print(f"{'':24}" + "".join(f"{name:>14}" for name in columns))
    for name in NAMES:
        cells = []
        for label in columns.values():
            r, y = agreement(fit, fresh, name, label), chosen(fresh, name, label)[1]
            share = np.mean(np.nan_to_num(y) != 0)
            cells.append(f"{'-' if r is None else f'{r:+.2f}'} ({share:.0%})")
        print(f"{name:24}" + "".join(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    main()
