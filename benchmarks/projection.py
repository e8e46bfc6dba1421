"""How near projections come in which time: our schedules against the official one, on scans that nobody trained on.

    OMP_NUM_THREADS=1 python -m benchmarks.projection                 # 8 fresh simulated scans, the demo generator
    OMP_NUM_THREADS=1 python -m benchmarks.projection --scans ../shared/data/oct2017 --count 8

Every schedule minimises the same distance from the same detector; the official one starts at the class mean, adds
noise to w, fits the noise of the layers and keeps the last step (SG2, appendix D). Times are of the processor.
Expected before measuring: `standard` reaches the official end in a tenth of its time, `thorough` goes below it in half.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stylegan_oct.classes import CLASSES
from stylegan_oct.data.readers.bscan import BScan
from stylegan_oct.features.detector import load_detector
from stylegan_oct.latent.intake import Target, load_targets, prepare
from stylegan_oct.latent.library import open_library
from stylegan_oct.latent.projection.encoder import default_encoder_path, load_encoder
from stylegan_oct.latent.projection.engine import Engine
from stylegan_oct.latent.projection.projector import PRESETS
from stylegan_oct.model import OctGenerator, load_generator
from stylegan_oct.phantom import render

SEED = 20_260_200
MARKS = (1, 5, 10, 20, 40, 70, 100, 200, 400, 700, 1000)


def simulated(G: OctGenerator, count: int) -> tuple[list[Target], list[str | None]]:
    """Return fresh simulated scans and their classes."""
    names = [CLASSES[i % len(CLASSES)] for i in range(count)]
    scans = [render(SEED, i, label=name, border=False).image for i, name in enumerate(names)]
    return [prepare(BScan(pixels=scan, number=1), G.info.preprocess) for scan in scans], list(names)


def real(G: OctGenerator, folder: Path, count: int) -> tuple[list[Target], list[str | None]]:
    """Return scans of a folder, evenly chosen; the class is found by comparison."""
    targets = [item for item in load_targets(folder, "all", G.info.preprocess) if isinstance(item, Target)]
    chosen = [targets[i] for i in np.linspace(0, len(targets) - 1, count).round().astype(int)]
    return chosen, [None] * count


def measure(engine: Engine, targets: Sequence[Target],
            classes: Sequence[str | None]) -> tuple[float, float, float, list[float]]:
    """Return mean distance after and before tuning, seconds of the processor a scan, and the mean best by step."""
    pixels = torch.from_numpy(np.stack([target.pixels for target in targets]))[:, None]
    valid = torch.from_numpy(np.stack([target.valid for target in targets]))[:, None]
    begin = time.process_time()
    results = engine.run(pixels, valid, classes, patient=False)
    seconds = (time.process_time() - begin) / len(targets)
    steps = max(len(result.projection.curves[result.projection.label]) for result in results)
    curves = np.stack([np.minimum.accumulate(np.pad(curve, (0, steps - len(curve)), mode="edge"))
                       for curve in (result.projection.curves[result.projection.label] for result in results)])
    ends = [[result.projection.distance, result.untuned] for result in results]
    return *np.mean(ends, axis=0).tolist(), seconds, list(curves.mean(axis=0))


def main() -> None:
    """Print a table of all schedules."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint")
    parser.add_argument("--scans", type=Path, help="folder; default simulated scans")
    parser.add_argument("--count", type=int, default=8)
    args = parser.parse_args()
    G = load_generator(args.checkpoint)
    detector = load_detector("lite0")
    library = open_library(None, G, say=print)
    path = default_encoder_path(G)
    encoder = load_encoder(path, G, detector) if path.exists() else None
    targets, classes = simulated(G, args.count) if args.scans is None else real(G, args.scans, args.count)
    manners = {
        "official": Engine(G, detector, PRESETS["official"]),
        "standard, from the class mean": Engine(G, detector, PRESETS["standard"]),
        "standard, with the library": Engine(G, detector, PRESETS["standard"], library=library),
        **({} if encoder is None else {
            "standard, library and encoder": Engine(G, detector, PRESETS["standard"], library=library,
                                                    encoder=encoder)}),
        "standard, in w": Engine(G, detector, replace(PRESETS["standard"], space="w"), library=library,
                                 encoder=encoder),
        "quick": Engine(G, detector, PRESETS["quick"], library=library, encoder=encoder),
        "thorough": Engine(G, detector, PRESETS["thorough"], library=library, encoder=encoder),
        "standard + pivotal tuning": Engine(G, detector, replace(PRESETS["standard"], space="w"), library=library,
                                            encoder=encoder, tuned=True),
    }
    official_end, official_time = 0.0, 1.0
    for name, engine in manners.items():
        distance, untuned, seconds, curve = measure(engine, targets, classes)
        if name == "official":
            official_end, official_time = distance, seconds
        passed = next((step + 1 for step, value in enumerate(curve) if value <= official_end), None)
        at = "" if passed is None or name == "official" else f", passes the official end at step {passed}"
        before = f" ({untuned:.4f} before tuning)" if engine.tuned else ""
        share = seconds / official_time
        print(f"{name}: {distance:.4f}{before} in {seconds:.2f} s a scan ({share:.2f} of official){at}")
        best = ", ".join(f"{step}: {curve[step - 1]:.3f}" for step in MARKS if step <= len(curve))
        print(f"   best so far: {best}", flush=True)


if __name__ == "__main__":
    main()
