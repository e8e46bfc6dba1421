"""How well planted copies of training scans are told from scans of other eyes, by what looks, and what a judge costs.

    python -m benchmarks.memorisation phantom data/phantom-64-8000.zip    # second scans of simulated training eyes
    python -m benchmarks.memorisation real data/oct2017-64.zip            # real scans, disguised; their patients halved
    python -m benchmarks.memorisation demo data/phantom-64-8000.zip       # samples of the demo generator
    python -m benchmarks.memorisation picture data/phantom-64-8000.zip    # planted copies, new eyes, samples

A planted copy is a training scan moved by up to 3 of 64 px, half of them mirrored, blurred by up to 0.8 px, with a
gamma of 0.75 to 1.33; simulated eyes are scanned again under other speckle, real scans get multiplicative noise.

Expected before measuring, on 6400 simulated training scans: AUROC .98 for the copy detector's ratio and .97 for its
distance alone, .85 for thumbnails of 16 px where nothing is mirrored and .65 where half is, .6 for lite0 and hashes; on
real scans, of which two dozen are known, .97. Of 2000 demo samples 1 % are flagged, and half are authentic.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from dnnlib.pictures import save_png, sheet, synthetic_text
from stylegan_oct.data.archive import Archive, ArchiveWriter
from stylegan_oct.features.copies_training import CopyTraining, train_copies
from stylegan_oct.features.detector import load_detector
from stylegan_oct.latent.looks import look
from stylegan_oct.metrics.memorisation.measure import CopyJudge, measure_memorisation, open_judge
from stylegan_oct.metrics.memorisation.nearest import nearest
from stylegan_oct.metrics.memorisation.phash import HashObserver
from stylegan_oct.metrics.observers.pictures import ArchivePictures, DrawnPictures, spread_labels
from stylegan_oct.model import load_generator
from stylegan_oct.phantom import render

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
COPIES = 400
FRESH = 91_000_000  # seed of simulated eyes that no archive holds


def disguised(picture: Pixels, number: int, *, mirror: bool, noise: bool = False) -> Pixels:
    """Return a planted copy of a picture of 64 px."""
    rng = np.random.default_rng(number)
    moved = np.roll(picture, rng.integers(-3, 4, size=2), axis=(0, 1)) / 255
    bright = gaussian_filter(moved, rng.uniform(0, 0.8)) ** rng.uniform(0.75, 1.33)
    if noise:
        bright = (gaussian_filter(moved, 0.6) * (1 + 0.12 * rng.standard_normal(moved.shape))).clip(0, 1)
    pixels: Pixels = np.rint(255 * bright).astype(np.uint8)
    return pixels[:, ::-1].copy() if mirror and number % 2 else pixels


def auroc(copies: Floats, others: Floats) -> float:
    return float((copies[:, None] < others[None]).mean() + 0.5 * (copies[:, None] == others[None]).mean())


def stack(pictures: Sequence[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(pictures))[:, None]


def report(name: str, copies: Floats, others: Floats) -> None:
    found = (copies < np.quantile(others, 0.01)).mean()
    print(f"{name:32} AUROC {auroc(copies, others):.3f}   below the 1 % point of new eyes {found:.0%}", flush=True)


def by_rows(name: str, train: Tensor, held_out: Tensor, copies: Tensor, others: Tensor) -> None:
    """Report the distance to the nearest training row, and its ratio to the nearest held-out row."""
    rows = [part.float().numpy() for part in (train, held_out, copies, others)]
    near = [np.sqrt(nearest(part, rows[0])[1]) for part in rows[2:]]
    far = [np.sqrt(nearest(part, rows[1])[1]) for part in rows[2:]]
    report(f"{name}, distance", *near)
    report(f"{name}, ratio", *(a / np.maximum(b, 1e-6) for a, b in zip(near, far, strict=True)))


def second_scans(archive: Archive, count: int) -> tuple[NDArray[np.int64], list[Pixels]]:
    """Return the rows of some simulated training eyes, and another scan of each."""
    names, rows = archive.names("train"), archive.rows()
    chosen = np.random.default_rng(0).permutation(len(names))[:count]
    found = [rows[names[row]] for row in chosen]
    return chosen, [render(row["seed"], row["index"], label=archive.classes[row["label"]], resolution=(64, 64),
                           border=False, speckle_seed=1).image for row in found]


def phantom(path: Path, weights: Path | None) -> None:
    """Compare what can look for copies: second scans of training eyes among scans of new eyes."""
    archive = Archive(path)
    chosen, again = second_scans(archive, COPIES)
    sets = {split: [archive.read_pixels(name) for name in archive.names(split)] for split in archive.splits}
    sets |= {name: [disguised(picture, i, mirror=mirror) for i, picture in enumerate(again)]
             for name, mirror in (("none mirrored", False), ("half mirrored", True))}
    judge = open_judge(path, weights=weights)
    detector = judge.detector
    looks = {name: look(part, load_detector("lite0")) for name, part in sets.items()}
    centre = looks["train"].features.float().mean(dim=0)
    ways = {detector.identity: {name: detector.embed(stack(part), batch=256) for name, part in sets.items()},
            "thumbnails of 16 px": {name: one.thumbnails for name, one in looks.items()},
            "lite0": {name: one.directions(centre) for name, one in looks.items()},
            "dhash": {name: HashObserver()(stack(part)) for name, part in sets.items()}}
    for planted in ("none mirrored", "half mirrored"):
        print(planted)
        for name, rows in ways.items():
            by_rows(name, *(rows[which] for which in ("train", "val", planted, "test")))
        found = judge.judge(stack(sets[planted]))
        print(f"the nearest is that eye {(found.nearest == chosen).mean():.1%}, flagged {found.flagged.mean():.1%}")


def real(path: Path, folder: Path, splits: int) -> None:
    """Plant copies of the scans of one half of the patients; the other half is held out. Averages of several halves."""
    source = Archive(path)
    pictures = ArchivePictures(path)
    ratios: dict[str, list[float]] = {}
    for number in range(splits):
        patients = np.random.default_rng(number).permutation(np.unique(pictures.groups))
        mine = np.isin(pictures.groups, patients[:len(patients) // 2])
        half = folder / f"half-{number}.zip"
        with ArchiveWriter(half, resolution=64, channels=1, classes=source.classes, source="scans") as writer:
            for name, known, group, label in zip(pictures.names, mine, pictures.groups, pictures.labels, strict=True):
                writer.add_image("train" if known else "val", source.read(name), int(label), {"patient": str(group)})
        own = folder / f"own-{number}.safetensors"
        train_copies(half, own, CopyTraining(nimg=6000, batch=24))
        scans = Archive(half)
        planted = [disguised(scans.read_pixels(name), 7 * number + i, mirror=True, noise=bool(i % 3))
                   for i, name in enumerate(scans.names("train"))]
        for name, weights in (("trained on them", own), ("included, of simulated scans", None)):
            detector = load_detector("copies", weights=weights)
            judge = CopyJudge(half, detector)  # type: ignore[arg-type]
            verdicts = judge.judge(stack(planted))
            for what, copies, others in (("distance", verdicts.distance, judge.held_out.distance),
                                         ("ratio", verdicts.ratio, judge.held_out.ratio)):
                ratios.setdefault(f"{name}, {what}", []).append(auroc(copies, others))
            ratios.setdefault(f"{name}, flagged", []).append(float(verdicts.flagged.mean()))
        ratios.setdefault("dhash, distance", []).append(auroc(verdicts.hash_distance, judge.held_out.hash_distance))
    for name, found in ratios.items():
        print(f"{name:45} {np.mean(found):.3f}   ({'  '.join(f'{one:.3f}' for one in found)})")


def demo(path: Path, weights: Path | None, count: int, cache: Path) -> None:
    """Judge samples of the demo generator, and say what it costs."""
    start = time.process_time()
    judge = open_judge(path, weights=weights)
    print(f"judge ready after {time.process_time() - start:.1f} s of CPU")
    fake = DrawnPictures(load_generator(), spread_labels([count // 4] * 4), seed=1000)
    found = measure_memorisation(judge, fake, cache=cache)
    for value in found.values:
        low, high = value.interval or (float("nan"),) * 2
        floor = "" if value.floor is None else f"   held out {value.floor:.3f}"
        print(f"{value.metric:22} {value.class_name or 'all':8} {value.value:.3f} ({low:.3f} to {high:.3f}){floor}  "
              f"n {value.n}, {value.n_real}  {value.note}")
    pixels = fake.read(range(64))
    start = time.process_time()
    judge.judge(pixels)
    print(f"{1000 * (time.process_time() - start) / 64:.2f} ms of CPU a picture to judge")


def picture(path: Path, weights: Path | None, out: Path) -> None:
    """Write a sheet of planted copies, new eyes and samples, each above its nearest training scan, with the ratio."""
    judge, archive = open_judge(path, weights=weights), Archive(path)
    _, again = second_scans(archive, 5)
    new = [render(FRESH, i, label=name, resolution=(64, 64), border=False).image
           for i, name in enumerate(archive.classes)]
    drawn = DrawnPictures(load_generator(), spread_labels([1] * 4), seed=1000).read(range(4))[:, 0].numpy()
    shown = [*(disguised(one, i, mirror=True) for i, one in enumerate(again)), *new, *drawn]
    verdicts = judge.judge(stack(shown))
    known = judge.training.read(verdicts.nearest.tolist())[:, 0].numpy()
    labels = [f"{what} {ratio:.2f}" for what, ratio in
              zip(["copy"] * 5 + ["new eye"] * 4 + ["sample"] * 4, verdicts.ratio, strict=True)]
    save_png(out, sheet([shown, list(known)], row_labels=["judged", "nearest"], column_labels=labels, cell=(96, 96)),
             synthetic_text("phantom and generator", checkpoint_sha256=load_generator().info.sha256))
    print(out, np.round(verdicts.percentile, 2), verdicts.flagged)


def main() -> None:
    """Run the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["phantom", "real", "demo", "picture"])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--weights", type=Path, help="of the copy detector")
    parser.add_argument("--count", type=int, default=2000, help="samples")
    parser.add_argument("--splits", type=int, default=3, help="of the patients of real scans")
    parser.add_argument("--folder", type=Path, default=Path("out/memorisation"), help="for what is made; private")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if args.what == "phantom":
        phantom(args.archive, args.weights)
    elif args.what == "real":
        real(args.archive, args.folder, args.splits)
    elif args.what == "picture":
        picture(args.archive, args.weights, args.folder / "memorisation.png")
    else:
        demo(args.archive, args.weights, args.count, args.folder)


if __name__ == "__main__":
    main()
