"""Of what use synthetic scans are, whether they show what was asked for, and how far the intervals can be trusted.

    python -m benchmarks.usefulness --data data/phantom-64-8000.zip                     # demo generator
    python -m benchmarks.usefulness --data data/scans.zip -c RUN --halve                # archive with a single split
    python -m benchmarks.usefulness --data data/phantom-64-8000.zip --permute           # wrong labels: of no use
    python -m benchmarks.usefulness --data data/phantom-64-8000.zip --part consistency
    python -m benchmarks.usefulness --coverage                                          # of the intervals
    torchrun --nproc-per-node 2 -m benchmarks.usefulness --threads 1                    # trainings shared by processes

Expected before measuring, demo generator, 2000 pictures, 32 px, 6400 simulated scans to train on, 1600 to test on: an
AUC of .985 trained on them (a trial with one seed gave .988), .95 on synthetic pictures, as the oracle sees the class
asked for in 92 of 100; so the bar of .01 is missed by far. Adding synthetic pictures to 64 scans wins .01 of AUC (.96
before), to all scans nothing. With wrong labels an AUC of .5.

The 48 real scans of 31 patients, half of the patients to test on, generator fine-tuned on all 48: trained on the other
half .75, on synthetic .85, as the generator has seen the test scans; intervals .2 wide, so that no question is decided.
The demo generator, which has seen simulated scans alone: .75.

Intervals of 95 % over patients and seeds: they hold the truth in 93 of 100 trials where the patients are what varies.
Where the five seeds are, resamples of five values know no far tails: 85. (86 they were, so they are now stretched by
the t distribution; 94 expected.)
"""

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from dnnlib.progress import progress_bar
from stylegan_oct.features.detector import load_detector
from stylegan_oct.features.oct import OctDetector
from stylegan_oct.metrics.consistency.measure import measure_consistency
from stylegan_oct.metrics.observers.halves import draw_halvings
from stylegan_oct.metrics.observers.pictures import (
    ArchivePictures,
    DrawnPictures,
    Pictures,
    SomePictures,
    spread_labels,
)
from stylegan_oct.metrics.statistics.resampling import Resampling
from stylegan_oct.metrics.statistics.values import Interval, Value
from stylegan_oct.metrics.usefulness.measure import Usefulness, UsefulnessSettings, measure_usefulness
from stylegan_oct.model import load_generator
from torch_utils.distributed import init_world


def scans(data: Path, halved: bool) -> tuple[Pictures, Pictures]:
    """Return scans to train on and scans of other patients."""
    if not halved:
        splits = ArchivePictures(data).splits
        return ArchivePictures(data, ["train"]), ArchivePictures(data, [name for name in splits if name != "train"])
    whole = ArchivePictures(data)
    (found,) = draw_halvings(whole.labels, whole.groups, whole.labels, len(whole.classes), number=1, seed=0,
                             limit=len(whole))
    held_out = np.isin(whole.groups, whole.groups[np.concatenate(found.real[0])])
    return SomePictures(whole, np.flatnonzero(~held_out)), SomePictures(whole, np.flatnonzero(held_out))


class Mislabelled:
    """Pictures whose labels are those of others."""

    def __init__(self, pictures: Pictures) -> None:
        self.identity, self.classes = f"{pictures.identity}-mislabelled", pictures.classes
        self.groups, self.read = pictures.groups, pictures.read
        self.labels = np.random.default_rng(0).permutation(pictures.labels)

    def __len__(self) -> int:
        return len(self.labels)


def coverage(trials: int, patients: int = 80, seeds: int = 5) -> None:
    """Print how often the intervals of a mean over patients and seeds hold the truth, which is 0."""
    labels, groups = np.arange(patients) % 4, np.arange(patients)
    for by_patient, by_seed in ((1.0, 0.0), (1.0, 1 / patients**0.5), (0.0, 1.0)):
        held = 0
        for trial in range(trials):
            rng = np.random.default_rng([7, trial])
            scores = (by_patient * rng.standard_normal(patients) + 0.3 * by_patient * rng.standard_normal(
                (seeds, patients)) + by_seed * rng.standard_normal((seeds, 1)))
            resampling = Resampling(labels, groups, seeds, 400, rng)
            weights = np.concatenate(list(resampling.weights()))
            table = scores @ weights.T / weights.sum(axis=1)
            interval = resampling.estimate(table).interval(-np.inf, np.inf)
            held += interval is not None and interval[0] <= 0 <= interval[1]
        print(f"spread over patients {by_patient:.2f}, over seeds {by_seed:.2f}: the interval of 95 % holds the truth "
              f"in {held / trials:.1%} of {trials} trials")


def show(values: list[Value]) -> None:
    """Print a line for each value."""
    for value in values:
        floor = "" if value.floor is None else f"   real {value.floor:.3f} {span(value.floor_interval)}"
        print(f"{value.metric:34} {value.class_name or '':8} {value.value:6.3f} {span(value.interval)}{floor}")
    for note in dict.fromkeys(value.note for value in values if value.note):
        print(f"  {note}")


def show_curve(found: Usefulness) -> None:
    """Print the AUCs over the amount of real data."""
    for point in found.curve:
        if point.metric.startswith("auc"):
            seeds = " ".join(f"{value:.3f}" for value in point.by_seed)
            print(f"{point.arm:10} {point.metric:11} {point.scans:6} scans of {point.patients:5} patients: "
                  f"{point.value:.4f} {span(point.interval)}  by seed {seeds}")


def draw_curve(found: Usefulness, file: Path) -> None:
    """Save the AUCs over the amount of real data as a picture."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, metric, title in zip(figure.subplots(1, 2, sharey=True), ("auc", "auc_urgent"),
                                   ("four classes", "urgent (CNV, DME) against not"), strict=True):
        for arm, colour, name in (("real", "#555555", "real scans"), ("both", "#1f77b4", "real and synthetic"),
                                  ("synthetic", "#d62728", "synthetic alone")):
            points = [point for point in found.curve if (point.arm, point.metric) == (arm, metric)]
            spans = [point.interval or (point.value, point.value) for point in points]
            if arm == "synthetic":
                axes.axhline(points[0].value, color=colour, linestyle="--", label=name)
                axes.axhspan(*spans[0], color=colour, alpha=0.15, linewidth=0)
                continue
            x = [point.scans for point in points]
            axes.errorbar(x, [point.value for point in points], capsize=3, marker="o", color=colour, label=name,
                          yerr=np.abs(np.array(spans).T - [point.value for point in points]))
        axes.set(xscale="log", xlabel="real scans to train on", title=title)
        amounts = sorted({point.scans for point in found.curve if point.scans})
        axes.set_xticks(amounts, [str(amount) for amount in amounts])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("AUC on scans of other patients")
    figure.axes[0].legend(loc="lower right")
    figure.savefig(file, dpi=110)


def span(interval: Interval | None) -> str:
    return "" if interval is None else f"({interval[0]:.3f} to {interval[1]:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", "-c", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data/phantom-64-8000.zip"))
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--part", choices=("usefulness", "consistency"), default="usefulness")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--kimg", type=float, default=6.4)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--halve", action="store_true")
    parser.add_argument("--permute", action="store_true")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path("data/seen"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    world = init_world("cpu")
    if options.coverage:
        coverage(400)
        return
    train, held_out = scans(options.data, options.halve)
    labels = spread_labels([options.count // len(train.classes)] * len(train.classes))
    fake: Pictures = DrawnPictures(load_generator(options.checkpoint), labels)
    start, cpu = time.perf_counter(), time.process_time()
    if options.part == "consistency":
        oracle = load_detector("oct")
        assert isinstance(oracle, OctDetector)
        with progress_bar("looking") as bar:
            consistency = measure_consistency(held_out, fake, oracle, cache=options.cache, progress=bar)
        show(consistency.values)
        print(consistency.confusion)
    else:
        settings = dataclasses.replace(UsefulnessSettings(), seeds=options.seeds, nimg=round(options.kimg * 1000),
                                       resolution=options.resolution)
        with progress_bar("training") as bar:
            found = measure_usefulness(train, held_out, Mislabelled(fake) if options.permute else fake, settings,
                                       cache=options.cache, world=world, progress=bar)
        if not world.is_first:
            return
        show(found.values)
        show_curve(found)
        if options.plot is not None:
            draw_curve(found, options.plot)
    print(f"{time.perf_counter() - start:.0f} s, {time.process_time() - cpu:.0f} s of CPU, {options.threads} threads")


if __name__ == "__main__":
    main()
