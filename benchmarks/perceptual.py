"""Which distances between scans see the disease rather than the speckle.

    python -m benchmarks.perceptual                                # simulated scans, and ../shared/data/oct2017
    python -m benchmarks.perceptual --scans OCT2017/test --resolution 128 --eyes 12

Growing with blur, noise and shift says little: squared error and untrained networks do so too. Asked here:

    grows    lesions of 1/4, 1/2, 3/4 and their full size in the same eye under the same speckle, against the healthy
             eye: share of eyes in which the distance grows at every step
    lesion   the chance (rank AUC) that a lesion under new speckle is farther from the healthy eye than new speckle is
    eye      the chance that the same eye under other speckle is nearer than another eye of its class
    patient  real scans: the same patient nearer than another, of whatever class
    within   the same, among patients of the same class
    class    real scans: another patient of the same class nearer than one of another class

.5 is chance, 1 is perfect; with 95 % intervals from a bootstrap over patients for the real scans. Expected before
measuring: squared error and untrained networks at most .65 on real scans; lite0 .75 with its deepest tap and .8 pooled,
.05 to .1 less without border repair and alignment; `lesion` higher with depth.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stylegan_oct.classes import CLASSES
from stylegan_oct.data.preprocess import Preprocess, process
from stylegan_oct.features.align import align
from stylegan_oct.features.detector import Detector, centred, load_detector, resize
from stylegan_oct.features.lite0 import Lite0, Lite0Detector
from stylegan_oct.features.perceptual import PerceptualDistance
from stylegan_oct.phantom import render
from torch_utils.images import to_uint8, to_unit

Pictures = NDArray[np.uint8]            # [N, R, R]
Matrix = NDArray[np.float64]            # [N, N] squared distances

SIZES = (0.25, 0.5, 0.75, 1.0)
SEED = 90_000
ROUNDS = 300


def untrained(seed: int = 0) -> Detector:
    """Return lite0 with random weights, each layer keeping the scale of its input (He et al. 2015)."""
    network = Lite0()
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter, generator=generator)
    return Lite0Detector(network, "0" * 64).eval().requires_grad_(False)


@dataclass(frozen=True)
class Measure:
    """A way to measure distances: squared differences of features, pooled ones less the mean of a reference set."""

    name: str
    features: Callable[[Pictures], Tensor]
    pooled: bool = False

    def distances(self, pictures: Pictures, mean: Tensor | None = None) -> Matrix:
        """Return those of all pairs."""
        x = self.features(pictures)
        x = (centred(x, mean) if self.pooled else x).double()
        square = x.square().sum(1)
        return (square[:, None] + square[None] - 2 * x @ x.T).clamp_min(0).numpy()


@torch.no_grad()
def tap_features(pictures: Pictures, detector: Detector, weights: Sequence[float] | None = None) -> Tensor:
    """Return the features of the perceptual distance."""
    distance = PerceptualDistance(detector, weights=weights)
    return torch.cat([distance.features(to_unit(part)) for part in as_tensor(pictures).split(8)])


def pooled_features(pictures: Pictures, detector: Detector, side: int | None = None) -> Tensor:
    """Return embeddings, of pictures resized to `side` if it is given."""
    return detector.embed(to_uint8(resize(to_unit(as_tensor(pictures)), side)))


def as_tensor(pictures: Pictures) -> Tensor:
    """Return uint8 [N, 1, R, R]."""
    return torch.from_numpy(np.ascontiguousarray(pictures))[:, None]


def measures() -> Iterator[Measure]:
    """Yield what is compared."""
    lite0, random = load_detector("lite0"), untrained()
    yield Measure("pixels, squared error", lambda pictures: to_unit(as_tensor(pictures)).flatten(1))
    yield Measure("untrained, taps", partial(tap_features, detector=random))
    yield Measure("untrained, pooled", partial(pooled_features, detector=random), pooled=True)
    for tap in range(5):
        alone = [float(tap == place) for place in range(5)]
        yield Measure(f"lite0, tap {tap + 1}", partial(tap_features, detector=lite0, weights=alone))
    for base in (1, 2, 4):
        weights = [base**place / sum(base**i for i in range(5)) for place in range(5)]
        yield Measure(f"lite0, taps by {base}^depth", partial(tap_features, detector=lite0, weights=weights))
    for side in (None, 128, 224):
        yield Measure(f"lite0, pooled at {side or 'own size'}", partial(pooled_features, detector=lite0, side=side),
                      pooled=True)


def auc(near: NDArray[np.float64], far: NDArray[np.float64]) -> float:
    """Return the chance that a value of `near` is below one of `far`; ties count half."""
    if not near.size or not far.size:
        return float("nan")
    order = np.sort(far)
    above = len(far) - np.searchsorted(order, near, "right")
    ties = np.searchsorted(order, near, "right") - np.searchsorted(order, near, "left")
    return float((above + ties / 2).mean() / len(far))


class Phantom:
    """Simulated eyes, rendered once: the same with growing lesions, and with other speckle."""

    def __init__(self, resolution: int, eyes: int) -> None:
        self.eyes = eyes
        self.growing, self.again = [], []
        for number, label in enumerate(CLASSES):
            def picture(index: int, label: str = label, series: int = SEED + number, **change: Any) -> Pictures:
                return render(series, index, label=label, resolution=(resolution, resolution), border=False,
                              **change).image

            self.again.append(np.stack([picture(index, speckle_seed=speckle) for speckle in (None, 1)
                                        for index in range(eyes)]))
            if label != "NORMAL":
                changes = [{"lesion_scale": scale} for scale in (0.0, *SIZES)]
                changes += [{"lesion_scale": scale, "speckle_seed": 1} for scale in (0.0, 1.0)]
                self.growing += [np.stack([picture(index, **change) for change in changes]) for index in range(eyes)]

    def judge(self, measure: Measure) -> dict[str, float]:
        """Return grows, lesion and eye."""
        mean = measure.features(np.concatenate(self.again)).mean(dim=0) if measure.pooled else None
        rows = np.stack([measure.distances(pictures, mean)[0] for pictures in self.growing])  # from the healthy eye
        # From one speckle to the other.
        across = [measure.distances(pictures, mean)[:self.eyes, self.eyes:] for pictures in self.again]
        same = np.eye(self.eyes, dtype=bool)
        return {"grows": float((np.diff(rows[:, :5]) > 0).all(axis=1).mean()), "lesion": auc(rows[:, 5], rows[:, 6]),
                "eye": auc(np.concatenate([one[same] for one in across]),
                           np.concatenate([one[~same] for one in across]))}


def real_scans(folder: Path, resolution: int) -> tuple[Pictures, Pictures, NDArray[np.int64], NDArray[np.int64]]:
    """Return scans as they are, repaired and aligned, [N, R, R] each; their classes and patients, [N] numbers."""
    files = [path for label in CLASSES for path in sorted((folder / label).glob("*.jp*g"))]
    plain, mended = (Preprocess(resolution=resolution, border=border, max_border=1.0) for border in (False, True))
    raw = np.stack([process(path.read_bytes(), plain).pixels for path in files])
    aligned = np.stack([align(process(path.read_bytes(), mended).pixels) for path in files])
    classes = np.array([CLASSES.index(path.parent.name) for path in files])
    patients = np.unique([path.stem.split("-")[1] for path in files], return_inverse=True)[1]
    return raw, aligned, classes, patients


def judge_real(distance: Matrix, classes: NDArray[np.int64], patients: NDArray[np.int64]) -> dict[str, float]:
    """Return patient, within and class; distances that are NaN do not count."""
    upper = np.triu(np.isfinite(distance), 1)
    patient, kind = patients[:, None] == patients[None], classes[:, None] == classes[None]
    return {"patient": auc(distance[upper & patient], distance[upper & ~patient]),
            "within": auc(distance[upper & patient & kind], distance[upper & ~patient & kind]),
            "class": auc(distance[upper & ~patient & kind], distance[upper & ~patient & ~kind])}


def bootstrap(distance: Matrix, classes: NDArray[np.int64], patients: NDArray[np.int64]) -> dict[str, float]:
    """Return half of the 95 % interval of each number of `judge_real`, drawing patients with replacement.

    A patient drawn twice counts as two, without pairs between them: no scan is compared with itself.
    """
    rng = np.random.default_rng(0)
    found = []
    for _ in range(ROUNDS):
        drawn = rng.integers(patients.max() + 1, size=patients.max() + 1)
        scans = [np.flatnonzero(patients == patient) for patient in drawn]
        index, place = np.concatenate(scans), np.repeat(np.arange(len(drawn)), [len(one) for one in scans])
        twice = (patients[index][:, None] == patients[index][None]) & (place[:, None] != place[None])
        found.append(judge_real(np.where(twice, np.nan, distance[np.ix_(index, index)]), classes[index], place))
    return {key: float(np.nanstd([row[key] for row in found]) * 1.96) for key in found[0]}


def show(values: dict[str, float], spread: dict[str, float] | None = None) -> str:
    """Return the numbers in columns."""
    return "  ".join(f"{key} {value:.3f}" + (f" ±{spread[key]:.2f}" if spread else "") for key, value in values.items())


def main() -> None:
    """Print a line for each distance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, default=Path("../shared/data/oct2017"))
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--eyes", type=int, default=8, help="simulated eyes of each class")
    parser.add_argument("--only", default="", help="measures whose name holds this")
    args = parser.parse_args()
    real = real_scans(args.scans, args.resolution) if args.scans.is_dir() else None
    phantom = Phantom(args.resolution, args.eyes)
    for measure in (measure for measure in measures() if args.only in measure.name):
        print(f"{measure.name:28} simulated: {show(phantom.judge(measure))}", flush=True)
        for what, pictures in zip(("as they are", "repaired, aligned"), real[:2] if real else (), strict=False):
            distance = measure.distances(pictures)
            values, spread = judge_real(distance, *real[2:]), bootstrap(distance, *real[2:])
            print(f"{'':28} real, {what}: {show(values, spread)}", flush=True)


if __name__ == "__main__":
    main()
