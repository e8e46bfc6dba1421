"""How fast and how exactly neighbours are found, whether they are of the scan's class, and whether copies show.

    python -m benchmarks.neighbours speed --count 100_000          # usearch against the exact search
    python -m benchmarks.neighbours speed --count 1_000_000        # minutes, 4 GB of memory
    python -m benchmarks.neighbours classes                        # fresh simulated scans, demo generator
    python -m benchmarks.neighbours ceiling                        # the same, among simulated scans
    python -m benchmarks.neighbours real ../shared/data/oct2017    # real scans, a folder for each class
    python -m benchmarks.neighbours copies                         # simulated eyes scanned twice, disguised

Expected before measuring: 1e6 vectors at recall@10 of .98 in 1 to 3 ms a query on two cores; at 64 px two thirds of
fresh simulated scans have a majority of neighbours of their class; nearly all real scans lie outside the library; small
pictures find disguised second scans of an eye with an AUC of .95, lite0 with .7.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import normalize

from stylegan_oct.classes import CLASSES
from stylegan_oct.data.preprocess import Preprocess, process
from stylegan_oct.features.detector import load_detector
from stylegan_oct.latent.library import open_library
from stylegan_oct.latent.looks import look
from stylegan_oct.latent.neighbours.answers import FeatureSpace, Neighbours
from stylegan_oct.latent.neighbours.index import EXPANSION_SEARCH, ExactIndex, GraphIndex
from stylegan_oct.model import load_generator
from stylegan_oct.phantom import render

DIM = 512
SEED = 91_000_000  # of simulated scans that no generator has seen


def clustered(count: int, centres: Tensor, generator: torch.Generator) -> Tensor:
    """Return unit vectors [count, DIM], float16, as far from their centre as centres are from the middle."""
    vectors = torch.empty(count, DIM, dtype=torch.float16)
    for begin in range(0, count, 50_000):
        part = vectors[begin:begin + 50_000]
        near = centres[torch.randint(len(centres), (len(part),), generator=generator)]
        part.copy_(normalize(near + torch.randn(len(part), DIM, generator=generator), dim=1))
    return vectors


def speed(count: int, clusters: int, path: Path, threads: int) -> None:
    """Print the time to build and to ask, the recall and the sizes."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(clusters, DIM, generator=generator)
    vectors, queries = clustered(count, centres, generator), clustered(200, centres, generator).float()
    start = time.perf_counter()
    exact = ExactIndex(vectors).search(queries, 10).positions
    print(f"{count} vectors in {clusters} clusters, {threads} threads; "
          f"exact: {5 * (time.perf_counter() - start):.2f} ms a query of 200")
    if not path.exists():
        start, cpu = time.perf_counter(), time.process_time()
        GraphIndex.build(path, vectors, threads=threads)
        print(f"graph built in {time.perf_counter() - start:.0f} s ({time.process_time() - cpu:.0f} s of CPU), "
              f"{path.stat().st_size / 1e6:.0f} MB")
    for expansion in sorted({EXPANSION_SEARCH, 64, 128, 256, 512}):
        index = GraphIndex(path, vectors, expansion_search=expansion)
        index.search(queries, 10)  # brings the pages of the file into memory
        start, cpu = time.perf_counter(), time.process_time()
        found = index.search(queries, 10).positions
        batch, work = time.perf_counter() - start, time.process_time() - cpu
        start = time.perf_counter()
        for query in torch.split(queries[:100], 1):
            index.search(query, 10)
        single = time.perf_counter() - start
        hits = (found[:, :, None] == exact[:, None, :]).any(dim=2).double().mean()
        print(f"expansion {expansion}: {5 * batch:.2f} ms a query in a batch of 200 ({5 * work:.2f} ms of CPU), "
              f"{10 * single:.2f} ms alone, recall@10 {hits:.4f}", flush=True)


def ask(name: str, pictures: Sequence[NDArray[np.uint8]], labels: Sequence[int], names: Sequence[str],
        detector: str, weights: Path | None) -> None:
    """Print how often the nearest ten are of the scan's class, and how many scans lie outside the library."""
    library = open_library(None, load_generator(), say=print)
    space = FeatureSpace(library, load_detector(detector, weights=weights))
    answers = Neighbours(library, space).ask(space.queries(pictures), 10)
    asked = [names[label] for label in labels]
    majority = np.array([next(iter(answer.votes)) == wanted for answer, wanted in zip(answers, asked, strict=True)])
    first = np.mean([answer.nearest[0].class_name == wanted for answer, wanted in zip(answers, asked, strict=True)])
    outside = np.mean([answer.outside for answer in answers])
    by_class = "  ".join(f"{wanted} {majority[np.array(asked) == wanted].mean():.0%}" for wanted in names)
    distances = np.array([answer.nearest[0].distance for answer in answers])
    print(f"{name}, {len(answers)} scans, {space.name}: majority of 10 in the class {majority.mean():.1%} "
          f"({by_class}), nearest {first:.1%}; nearest distance {np.median(distances):.3f} (median), outside the "
          f"library {outside:.0%}")


def simulated(first: int, count: int, *, speckle: int | None = None) -> tuple[list[NDArray[np.uint8]], list[int]]:
    """Return simulated scans of 64 px and their classes."""
    labels = [i % len(CLASSES) for i in range(count)]
    return [render(SEED, first + i, label=CLASSES[label], resolution=(64, 64), border=False, speckle_seed=speckle).image
            for i, label in enumerate(labels)], labels


def ceiling(queries: int, detector: str, weights: Path | None) -> None:
    """Print how often the nearest of 2000 simulated scans are of a simulated scan's class: no generator is between."""
    seer = load_detector(detector, weights=weights)
    (known, labels), (asked, wanted) = simulated(queries, 2000), simulated(0, queries)
    known_looks, asked_looks = look(known, seer), look(asked, seer)
    centre = known_looks.features.float().mean(dim=0)
    found = ExactIndex(known_looks.directions(centre)).search(asked_looks.directions(centre), 10).positions
    classes = torch.tensor(labels)[found]  # [Q, 10]
    # As `Answer.votes`: of classes with as many votes the one whose picture is nearest comes first.
    votes = [next(iter(Counter(row).most_common()))[0] for row in classes.tolist()]
    right = (torch.tensor(votes) == torch.tensor(wanted)).double()
    by_class = "  ".join(f"{name} {right[i::len(CLASSES)].mean():.0%}" for i, name in enumerate(CLASSES))
    print(f"simulated among 2000 simulated, {queries} scans, {seer.identity}: majority of 10 in the class "
          f"{right.mean():.1%} ({by_class})")


def disguised(picture: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Return a scan shifted by up to 2 px of 64, with another gamma, a little blurred, as a generator might copy it."""
    rng = np.random.default_rng(number)
    moved = np.roll(picture, rng.integers(-2, 3, size=2), axis=(0, 1)) / 255
    bright = gaussian_filter(moved, rng.uniform(0, 0.7)) ** rng.uniform(0.8, 1.25)
    pixels: NDArray[np.uint8] = np.rint(255 * bright).astype(np.uint8)
    return pixels


def copies(detector: str, weights: Path | None, eyes: int) -> None:
    """Print how well the nearest of `eyes` scans tells another scan of one of these eyes from that of a new eye."""
    seer = load_detector(detector, weights=weights)

    def scans(first: int, speckle: int) -> list[NDArray[np.uint8]]:
        pictures, _ = simulated(first, eyes, speckle=speckle)
        return [disguised(picture, i) for i, picture in enumerate(pictures)] if speckle else pictures

    stored, again, new = (look(pictures, seer) for pictures in (scans(0, 0), scans(0, 1), scans(eyes, 1)))
    centre = stored.features.float().mean(dim=0)
    ways: list[tuple[str, Tensor, Tensor, Tensor]] = [
        ("small pictures", stored.thumbnails, again.thumbnails, new.thumbnails),
        (seer.identity, stored.directions(centre), again.directions(centre), new.directions(centre))]
    for name, known, copied, fresh in ways:
        index = ExactIndex(known)
        near, far = (index.search(queries, 1).distances[:, 0] for queries in (copied, fresh))
        auc = (near[:, None] < far[None, :]).double().mean()
        below = (near < far.quantile(0.01)).double().mean()
        right = (index.search(copied, 1).positions[:, 0] == torch.arange(eyes)).double().mean()
        print(f"{name}: AUC {auc:.3f}, nearest is the same eye {right:.1%}, nearer than 99 % of new eyes {below:.1%}")


def main() -> None:
    """Run the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "classes", "ceiling", "real", "copies"])
    parser.add_argument("folder", nargs="?", type=Path, help="of real scans")
    parser.add_argument("--count", type=int, default=100_000, help="vectors, or scans of the others, at most 400")
    parser.add_argument("--clusters", type=int, default=1000, help="of the vectors; the larger each, the harder")
    parser.add_argument("--index", type=Path, help="where the graph is kept; default data/")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--detector", default="lite0")
    parser.add_argument("--weights", type=Path)
    args = parser.parse_args()
    if args.what == "speed":
        path = args.index or Path(f"data/clustered-{args.count}-{args.clusters}.usearch")
        speed(args.count, args.clusters, path, args.threads)
    elif args.what == "classes":
        pictures, labels = simulated(0, min(args.count, 400))
        ask("simulated", pictures, labels, CLASSES, args.detector, args.weights)
    elif args.what == "ceiling":
        ceiling(min(args.count, 400), args.detector, args.weights)
    elif args.what == "real":
        files = sorted(file for name in CLASSES for file in (args.folder / name).iterdir())
        pictures = [process(file.read_bytes(), Preprocess(resolution=64)).pixels for file in files]
        ask("real", pictures, [CLASSES.index(file.parent.name) for file in files], CLASSES, args.detector, args.weights)
    else:
        copies(args.detector, args.weights, min(args.count, 400))


if __name__ == "__main__":
    main()
