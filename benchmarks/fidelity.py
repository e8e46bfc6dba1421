"""What the distances of a generator are worth: their bias, their intervals, their speed and memory.

    python -m benchmarks.fidelity demo --archive data/phantom-64-8000.zip     # the demo generator
    python -m benchmarks.fidelity counts --archive data/phantom-64-8000.zip   # one distribution at several counts
    python -m benchmarks.fidelity intervals                                   # halves against the bootstrap
    python -m benchmarks.fidelity patients                                    # several scans of a patient
    python -m benchmarks.fidelity speed --archive data/phantom-64-8000.zip --count 2000

Expected before measuring: the Frechet distance of one distribution falls as one over the count, the kernel distance is
zero at all; the truth lies in 95 % of the intervals by halves, and outside nearly all by the bootstrap; lite0 sees 150
pictures of 64 px a second on a core; peak memory is the same at 2000 and at 8000 pictures but for the features that
precision and recall need.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stylegan_oct.features.detector import load_detector
from stylegan_oct.metrics.distances.fidelity import METRICS, NEIGHBOURS, measure_fidelity, scatter
from stylegan_oct.metrics.distances.frechet import frechet_distance, frechet_of_moments
from stylegan_oct.metrics.distances.kernel import Draws, kernel_distance
from stylegan_oct.metrics.distances.moments import Moments, Rows
from stylegan_oct.metrics.distances.path_length import measure_path_lengths
from stylegan_oct.metrics.distances.prdc import manifold
from stylegan_oct.metrics.observers.halves import draw_halvings
from stylegan_oct.metrics.observers.observe import Embedding, observe
from stylegan_oct.metrics.observers.pictures import ArchivePictures, DrawnPictures, SomePictures, spread_labels
from stylegan_oct.metrics.statistics.values import Interval, Value
from stylegan_oct.model import load_generator

SEED = 10_000_000   # of pictures that no library shows
DRAWN = 400         # pictures
SIM_DIM, SIM_SCANS, SIM_HALVINGS = 64, 4, 8


def demo(archive: Path, cache: Path, ways: int) -> None:
    """Print the demo generator's values as a table."""
    G = load_generator()
    splits = [split for split in ArchivePictures(archive).splits if split != "train"]
    real, held_out = ArchivePictures(archive, ["train"]), ArchivePictures(archive, splits) if splits else None
    fake = DrawnPictures(G, spread_labels(np.bincount((held_out or real).labels)), seed=SEED)
    detectors = [load_detector(name) for name in ("lite0", "oct")]
    start = time.perf_counter()
    values = measure_fidelity(real, held_out, fake, detectors, cache=cache)
    middle = time.perf_counter()
    values += measure_path_lengths(G, spread_labels([ways] * len(G.info.classes)), detectors)
    print(f"distances {middle - start:.0f} s, path lengths {time.perf_counter() - middle:.0f} s\n")
    print("| | class | value | 95 % | floor | 95 % | n | note |\n|---|---|---|---|---|---|---|---|")
    for value in values:
        print(f"| {value.metric} | {value.class_name or 'all'} | {value.value:.4g} | {_text(value.interval)} | "
              f"{_floor(value)} | {_text(value.floor_interval)} | {value.n} | {value.note} |")


def _text(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"


def _floor(value: Value) -> str:
    return "" if value.floor is None else f"{value.floor:.3g}"


def counts(archive: Path, cache: Path, draws: int) -> None:
    """Print the metrics of disjoint samples of one distribution, the training scans, at several counts."""
    rows = observe(ArchivePictures(archive, ["train"]), [Embedding(load_detector("lite0"))], cache)
    (features,) = rows.values()
    rng = np.random.default_rng(0)
    print("| pictures | fd | kd | precision | coverage |\n|---|---|---|---|---|")
    for n in (25, 50, 100, 200, 400, 800, 1600, 3200):
        found = []
        for _ in range(draws):
            places = rng.permutation(len(features))[:2 * n]
            found.append(_measure(features[np.sort(places[:n])], features[np.sort(places[n:])]))
        mean, sd = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
        print(f"| {n} | " + " | ".join(f"{mean[column]:.3g} ± {sd[column]:.2g}" for column in (1, 0, 2, 5)) + " |",
              flush=True)


def intervals(number: int, repeats: int) -> None:
    """Print how often intervals hold the truth, for correlated scans of patients and a generator that is near."""
    halves, resampled, biases, truths = [], [], [], []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        real, groups = _scans(rng, number)
        fake = (1.1 + rng.normal(size=(len(real), SIM_DIM))).astype(np.float32)
        values = _by_halves(real, groups, fake, repeat)
        truths.append(values.mean(axis=0))
        halves.append([scatter(values[:, column], name) for column, name in enumerate(METRICS)])
        whole, again = _by_bootstrap(real, groups, fake, rng)
        resampled.append(np.percentile(again, [2.5, 97.5], axis=0).T)
        biases.append((again.mean(axis=0) - whole) / again.std(axis=0))
    half_truth = np.mean(truths, axis=0)
    whole_truth = np.mean([_measure(*_fresh(repeats + repeat, number)) for repeat in range(repeats)], axis=0)
    print(f"{number} patients with {SIM_SCANS} scans, {SIM_DIM} features, {repeats} repeats\n")
    print("| | truth in the interval by halves | by the bootstrap | bootstrap's bias, in its standard deviations |\n"
          "|---|---|---|---|")
    for column, name in enumerate(METRICS):
        held = [_share(np.array(each)[:, column], truth[column])
                for each, truth in ((halves, half_truth), (resampled, whole_truth))]
        print(f"| {name} | {held[0]:.0%} | {held[1]:.0%} | {np.mean(biases, axis=0)[column]:+.1f} |")


def patients(number: int, repeats: int) -> None:
    """Print what a perfect generator gets, and the floor, where it is told which scans are of one patient or is not."""
    found = np.zeros((repeats, 2, 2, len(METRICS)))
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        (a, groups), (b, _) = _scans(rng, number // 2), _scans(rng, number // 2)
        perfect = (1 + rng.normal(size=a.shape)).astype(np.float32)
        for told, draws in enumerate((Draws(a), Draws(a, groups))):
            found[repeat, told] = _measure(draws, perfect), _measure(draws, Draws(b, draws.groups))
    print(f"{number} patients with {SIM_SCANS} scans, {SIM_DIM} features, {repeats} repeats\n")
    print("| | perfect generator, patients not told | floor | told | floor |\n|---|---|---|---|---|")
    for column, name in enumerate(METRICS):
        print(f"| {name} | " + " | ".join(f"{value:.3g}" for value in found.mean(axis=0)[..., column].ravel()) + " |")


def _share(found: NDArray[np.float64], truth: float) -> float:
    return float(((found[:, 0] <= truth) & (truth <= found[:, 1])).mean())


def _scans(rng: np.random.Generator, patients: int) -> tuple[Rows, NDArray[np.int64]]:
    """Return scans whose variance is two thirds between patients."""
    groups = np.repeat(np.arange(patients), SIM_SCANS)
    between = rng.normal(size=(patients, SIM_DIM))[groups]
    return (1 + 0.8 * between + 0.6 * rng.normal(size=between.shape)).astype(np.float32), groups


def _fresh(seed: int, patients: int) -> tuple[Draws, Rows]:
    rng = np.random.default_rng(seed)
    real = Draws(*_scans(rng, patients))
    return real, (1.1 + rng.normal(size=real.rows.shape)).astype(np.float32)


def _by_halves(real: Rows, groups: NDArray[np.int64], fake: Rows, seed: int) -> NDArray[np.float64]:
    label = np.zeros(len(real), np.int64)
    drawn = draw_halvings(label, groups, label, 1, number=SIM_HALVINGS, seed=seed, limit=len(real))
    return np.array([_measure(Draws(real[scans], groups[scans]), fake[synthetic]) for halving in drawn
                     for (scans,), (synthetic,) in zip(halving.real, halving.fake, strict=True)])


def _by_bootstrap(real: Rows, groups: NDArray[np.int64], fake: Rows, rng: np.random.Generator,
                  ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values of the whole, and those of patients and pictures drawn with repeats."""
    patients, again = int(groups.max()) + 1, []
    for _ in range(40):
        places = (rng.integers(0, patients, patients)[:, None] * SIM_SCANS + np.arange(SIM_SCANS)).ravel()
        again.append(_measure(Draws(real[places], groups), fake[rng.integers(0, len(fake), len(fake))]))
    return np.array(_measure(Draws(real, groups), fake)), np.array(again)


def _measure(real: Rows | Draws, fake: Rows | Draws) -> list[float]:
    """Return the metrics in the order of METRICS."""
    a, b = (each if isinstance(each, Draws) else Draws(each) for each in (real, fake))
    near = manifold(a.rows, b.rows, k=NEIGHBOURS, groups_real=a.groups, groups_fake=b.groups)
    return [kernel_distance(a, b), frechet_distance(a.rows, b.rows), near.precision, near.recall, near.density,
            near.coverage]


class Memory(threading.Thread):
    """Watches the memory of this process that is not a mapped file, which the system may take back at any time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._over = 0.0, threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.02):
            status = Path("/proc/self/status").read_text(encoding="ascii")
            fields = dict(line.split(":", 1) for line in status.splitlines())
            self.peak = max(self.peak, int(fields["RssAnon"].split()[0]) / 1024)

    def __enter__(self) -> "Memory":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def speed(archive: Path, count: int, threads: int) -> None:
    """Print pictures a second and peak memory, step by step; drawing is measured on DRAWN pictures."""
    torch.set_num_threads(threads)
    scans, G = ArchivePictures(archive, ["train"]), load_generator()
    real, other = (SomePictures(scans, (np.arange(count) + first) % len(scans)) for first in (0, len(scans) // 2))
    fake = DrawnPictures(G, spread_labels([DRAWN // 4] * 4), seed=SEED)
    observers = [Embedding(load_detector("lite0"))]
    print(f"{count} pictures, {threads} threads\n\n| step | s | s of CPU | peak MB | pictures / s of CPU |\n"
          "|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        seen = []
        for what, pictures in (("read and embed scans", real), ("the same again", other), ("draw and embed", fake)):
            found = _timed(what, lambda pictures=pictures: observe(pictures, observers, Path(folder)), len(pictures))
            seen += found.values()
        a, b = seen[:2]
        _timed("Frechet distance", lambda: frechet_of_moments(Moments.of(a), Moments.of(b)))
        _timed("kernel distance of 5000 at most", lambda: kernel_distance(a[:5000], b[:5000]))
        _timed("precision, recall, density, coverage", lambda: manifold(a, b))


def _timed(what: str, work: Callable[[], Any], pictures: int | None = None) -> Any:
    with Memory() as memory:
        start, cpu = time.perf_counter(), time.process_time()
        found = work()
        took, spent = time.perf_counter() - start, time.process_time() - cpu
    rate = "" if pictures is None else f"{pictures / spent:.0f}"
    print(f"| {what} | {took:.1f} | {spent:.1f} | {memory.peak:.0f} | {rate} |", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("demo", "counts", "intervals", "patients", "speed"))
    parser.add_argument("--archive", type=Path, default=Path("data/phantom-64-8000.zip"))
    parser.add_argument("--cache", type=Path, default=Path("data/benchmark-fidelity"))
    parser.add_argument("--count", type=int, default=2000, help="pictures (speed)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--patients", type=int, default=50, help="of the simulation (intervals)")
    parser.add_argument("--repeats", type=int, default=100, help="of intervals; a tenth of them of counts")
    parser.add_argument("--ways", type=int, default=250, help="of each class for path lengths (demo)")
    args = parser.parse_args()
    if args.what == "demo":
        demo(args.archive, args.cache, args.ways)
    elif args.what == "counts":
        counts(args.archive, args.cache, max(args.repeats // 10, 3))
    elif args.what == "intervals":
        intervals(args.patients, args.repeats)
    elif args.what == "patients":
        patients(args.patients, args.repeats)
    else:
        speed(args.archive, args.count, args.threads)


if __name__ == "__main__":
    main()
