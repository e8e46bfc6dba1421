"""Which share of generated images shows the class that was asked for, judged by a classifier.

    python -m benchmarks.class_agreement stylegan_oct/demo/demo64 --samples 500
    python -m benchmarks.class_agreement runs/00000-oct256 --detector detector.safetensors   # every snapshot of a run

The classifier is the one that comes with the project, trained on simulated scans that no generator was trained on, or
one that `train-detector` made. Its accuracy on held-out scans bounds what can be expected of a perfect generator.
Expected before measuring: classifier 90 to 97 %, a run of ten minutes 70 %, a run of an hour and more 90 %.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from stylegan_oct.features.oct import OctDetector
from stylegan_oct.model import GENERATOR_FILE, load_generator
from torch_utils.images import to_uint8

FIRST_SEED = 500_000
BATCH = 50


def report(name: str, hits: Tensor, by_class: dict[str, float]) -> None:
    """Print the share of agreement with its 95 % interval, and by class."""
    share, n = float(hits.double().mean()), len(hits)
    half = 1.96 * math.sqrt(share * (1 - share) / n)
    parts = "  ".join(f"{label} {value:.0%}" for label, value in by_class.items())
    print(f"{name}: {share:.1%} +- {half:.1%} of {n}   {parts}", flush=True)


@torch.inference_mode()
def judge(oracle: OctDetector, file: Path, samples: int, psi: float) -> None:
    """Print the agreement of one generator."""
    G = load_generator(file)
    hits: dict[str, Tensor] = {}
    for label in G.info.classes:
        seeds = range(FIRST_SEED, FIRST_SEED + samples)
        seen = [oracle.classify(to_uint8(G(G.z(seeds[i:i + BATCH]), label, psi=psi))).argmax(dim=1)
                for i in range(0, samples, BATCH)]
        hits[label] = torch.cat(seen) == oracle.classes.index(label)
    report(f"{G.info.nimg / 1000:g} kimg, psi {psi:g}", torch.cat(list(hits.values())),
           {label: float(of.double().mean()) for label, of in hits.items()})


def main() -> None:
    """Judge every generator below the given paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", help="runs or checkpoints")
    parser.add_argument("--detector", type=Path, help="file of train-detector; default: the included one")
    parser.add_argument("--samples", type=int, default=250, help="of each class")
    parser.add_argument("--psi", type=float, default=1.0)
    args = parser.parse_args()
    oracle = OctDetector.load(args.detector).eval()
    for split, counts in oracle.info.count.items():
        shares = "  ".join(f"{label} {oracle.info.right[split][label]}/{n}" for label, n in counts.items())
        print(f"{oracle.identity} on {split} scans: {oracle.info.accuracy(split):.1%}   {shares}")
    for path in args.paths:
        for file in sorted(path.rglob(GENERATOR_FILE)):
            judge(oracle, file, args.samples, args.psi)


if __name__ == "__main__":
    main()
