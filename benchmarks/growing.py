"""What a given time buys at 256 px: grown or from scratch, by which stages, with which widths.

    python -m benchmarks.growing --archive data/phantom-256-8000.zip --minutes 15
    python -m benchmarks.growing --archive data/phantom-256-8000.zip --only scratch,grown --minutes 60
    python -m benchmarks.growing --archive data/phantom-256-8000.zip --start-from runs/00007-... --only going-on,mixing
    python -m benchmarks.growing --archive scans-256.zip --preset oct256 --at-64 400 --minutes 60 --only scratch,grown

On a CPU every run has the same CPU time in one thread, whatever else the machine does; on a GPU the same time. It is
then judged with the same samples:
Frechet distance, precision and recall (lite0) to held-out scans beside the floor of real scans, and the share of
samples in which the included judge sees the class asked for. A run whose folder is finished is judged and not trained
again, so that an interrupted table goes on.

With --start-from the runs begin with those weights and answer what helps at the end: path length, style mixing,
augmentation, batches of 16, a lower rate, a larger gamma.

Expected before measuring, 15 minutes: grown halves the distance of the run from scratch, which has layers and no lesion
yet; by way of 128 px a little better than directly; the longer first stage has the better agreement and the worse
distance; twice the width loses, as it sees half the images; without the speckle layer the distance is twice that with
it; bfloat16 sees a twentieth more images and ends alike; batches of 16 lose to 8.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from dnnlib.rundir import runs_in
from stylegan_oct.features.detector import load_detector
from stylegan_oct.features.oct import OctDetector
from stylegan_oct.metrics.distances.fidelity import measure_fidelity
from stylegan_oct.metrics.observers.pictures import ArchivePictures, DrawnPictures, some_of_each, spread_labels
from stylegan_oct.model import load_generator
from torch_utils.checkpoint import complete_checkpoints

FIRST_SEED = 700_000
BATCH = 20
WIDE = ["--set=G.channel_base=4096", "--set=D.channel_base=4096"]
COMMON = ["--set=save.every_min=2", "--kimg=100000"]
ON_A_CPU = ["--aug=off", "--batch-gpu=4"]

FROM_NOTHING = {
    "scratch": ["--grow=off"],
    "grown": ["--grow=64:{0.4},256"],
    "by-128": ["--grow=64:{0.3},128:{0.14},256"],
    "no-speckle-layer": ["--grow=64:{0.4},256", "--set=G.speckle=false"],
    "wide": ["--grow=64:{0.3},256", *WIDE],
    "longer-start": ["--grow=64:{0.7},256"],
    "bfloat16": ["--grow=64:{0.4},256", "--precision=bf16"],
    "batch-16": ["--grow=64:{0.4},256", "--batch=16"],
}
FROM_WEIGHTS = {
    "going-on": [],
    "path-length": ["--set=path_length.weight=1"],
    "mixing": ["--set=style_mixing=0.9"],
    "ada": ["--aug=ada"],
    "batch-16": ["--batch=16"],
    "lower-rate": ["--set=optimizer.G_lr=0.0015", "--set=optimizer.D_lr=0.0015"],
    "larger-gamma": ["--gamma=2"],
}


def train(options: list[str], out: Path, minutes: float) -> None:
    """Train in a process of its own until it has used up its CPU time, or on a GPU its time."""
    number, timer = ("SIGALRM", "ITIMER_REAL") if torch.cuda.is_available() else ("SIGPROF", "ITIMER_PROF")
    code = ("import os, signal, sys\n"
            f"signal.signal(signal.{number}, lambda *_: os.kill(os.getpid(), signal.SIGTERM))\n"
            f"signal.setitimer(signal.{timer}, {minutes * 60})\n"
            "from tools.__main__ import main\n"
            "main()\n")
    subprocess.run([sys.executable, "-c", code, "train", f"--outdir={out}", *options], check=True,
                   env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    (out / "done").touch()


def with_lengths(option: str, minutes: float, at_64: float) -> str:
    """Return an option with {shares of the time} as kimg, at the speed of 64 px: 64:{0.4} is 40 %."""
    return re.sub(r"\{([\d.]+)\}", lambda share: f"{float(share[1]) * minutes * 60 * at_64 / 1000:.2f}", option)


def judge(name: str, file: Path, archive: Path, cache: Path, count: int) -> str:
    """Return a line of the table."""
    G = load_generator(file)
    held_out = some_of_each(ArchivePictures(archive, ["val", "test"]), count)
    real = some_of_each(ArchivePictures(archive, ["train"]), count)
    classes = len(G.info.classes)
    fake = DrawnPictures(G, spread_labels([count // classes] * classes), seed=FIRST_SEED)
    with tempfile.TemporaryDirectory() as folder:
        values = measure_fidelity(real, held_out, fake, [load_detector("lite0")], cache=cache, fake_cache=Path(folder),
                                  halvings=4, batch=BATCH)
    of = {value.metric: value for value in values if value.class_name is None}
    oracle = OctDetector.load(None).eval()
    with torch.inference_mode():
        seen = [oracle.classify(fake.read(range(i, i + BATCH))).argmax(dim=1) for i in range(0, len(fake), BATCH)]
    wanted = torch.tensor([oracle.classes.index(fake.classes[label]) for label in fake.labels])
    hits = float((torch.cat(seen) == wanted).double().mean())
    half = 1.96 * np.sqrt(hits * (1 - hits) / len(fake))
    found = [of[f"{key}_lite0"] for key in ("fd", "precision", "recall")]
    numbers = [f"{value.value:.3g} / {value.floor:.3g}" for value in found]
    return f"| {name} | {G.info.nimg / 1000:.1f} | {' | '.join(numbers)} | {hits:.0%} ± {half:.0%} |"


def main() -> None:
    """Train and judge what is asked for, printing the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--start-from", type=Path)
    parser.add_argument("--only", help="names, by commas")
    parser.add_argument("--minutes", type=float, default=15, help="of one core, for each run")
    parser.add_argument("--preset", default="demo256")
    parser.add_argument("--at-64", type=float, default=17, help="images a second at 64 px, for the lengths of stages")
    parser.add_argument("--count", type=int, default=400, help="samples and held-out scans")
    parser.add_argument("--out", type=Path, default=Path("runs/growing"))
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(1)
    variants = FROM_WEIGHTS if args.start_from else FROM_NOTHING
    start = [f"--start-from={args.start_from}"] if args.start_from else []
    names = args.only.split(",") if args.only else list(variants)
    print("| run | kimg | Fréchet distance / floor | precision / floor | recall / floor | agreement |\n"
          "|---|---|---|---|---|---|", flush=True)
    for name in names:
        out = args.out / f"{'from-weights-' if start else ''}{name}-{args.minutes:g}min"
        if not (out / "done").exists():
            device = [] if torch.cuda.is_available() else ON_A_CPU
            options = [with_lengths(option, args.minutes, args.at_64) for option in variants[name]]
            train([f"--preset={args.preset}", *COMMON, *device, f"--data={args.archive}", *start, *options], out,
                  args.minutes)
        newest = complete_checkpoints(next(runs_in(out)).checkpoints)[-1]
        print(judge(name, newest, args.archive, args.out / "seen", args.count), flush=True)


if __name__ == "__main__":
    main()
