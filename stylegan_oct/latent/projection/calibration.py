"""What distances are usual: projections of the generator's own samples, and of held-out scans.

A generator's own samples can be recovered; how far a projection stays from them is the method's share. A scan whose
distance lies beyond all of them, and beyond those of held-out scans, is outside what the generator knows.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib.config import Finite, from_dict
from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_write
from dnnlib.stored import read_json
from stylegan_oct import batches
from stylegan_oct.data.archive import Archive
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.latent.projection.engine import Engine
from torch_utils.images import to_uint8

COUNT, FEW, LEAST = 32, 8, 4   # samples, and held-out scans; the smaller numbers where each takes long
WORK = 64 * 100            # pixels a side times steps, up to which a CPU projects COUNT in a minute
FIRST_SEED = 9_000_000     # of the samples; no library has them

Progress = Callable[[int, int, str], object]


@dataclass(frozen=True)
class Calibration:
    """Distances of known pictures, in one manner of projecting."""

    samples: list[Finite]      # of the generator's own samples, sorted
    recovered: Finite | None   # median |w found - w true| over the spread of w, for the samples
    held_out: list[Finite]     # of held-out scans, sorted; empty where there are none

    def __post_init__(self) -> None:
        if any(list(known) != sorted(known) for known in (self.samples, self.held_out)):
            raise ConfigError("distances of a calibration must rise.")

    def recovery(self) -> dict[str, float | int | None]:
        """Return how well the generator's own samples were found again: number, median distance, error of w."""
        middle = float(np.median(self.samples)) if self.samples else None
        return {"count": len(self.samples), "median_distance": middle, "w_error": self.recovered}

    def percentiles(self, distance: float) -> dict[str, float | None]:
        """Return which share, in percent, of samples and of held-out scans is nearer than `distance`."""
        return {name: 100 * float(np.searchsorted(known, distance)) / len(known) if known else None
                for name, known in (("among_samples", self.samples), ("among_held_out", self.held_out))}


@dataclass(frozen=True)
class _Stored:
    manner: dict[str, Any]
    calibration: Calibration


def usual_count(engine: Engine) -> int:
    """Return how many samples are projected when nobody says."""
    G = engine.G
    if G.device.type != "cpu" or G.info.resolution * engine.config.steps <= WORK:
        return COUNT
    return min(FEW, batches.usual_count(G.layers, G.device, 2 * FEW, least=LEAST))


def calibrate(engine: Engine, held_out: Path | None, *, count: int | None = None, cache: Path = Path("data"),
              progress: Progress = lambda *_: None) -> Calibration:
    """Return the distances of known pictures, measured once and then read from `cache`.

    Args:
        engine: the manner of projecting.
        held_out: an archive whose splits test or val hold scans that the generator never saw.
        count: pictures of each kind; None: `usual_count`; 0: no comparison.
        cache: folder of `calibration-*.json`.
        progress: called with (done, total, what).
    Raises:
        DataError: the archive does not fit, or has neither a test nor a val split.
    """
    count = usual_count(engine) if count is None else count
    if count == 0:
        return Calibration([], None, [])
    dataset = None if held_out is None else _held_out(engine, held_out)
    manner = {**engine.manner(), "tuned": False, "count": count,
              "held_out": None if dataset is None else [dataset.fingerprint, dataset.split]}
    file = cache / f"calibration-{hashlib.sha256(json.dumps(manner, sort_keys=True).encode()).hexdigest()[:12]}.json"
    known = read_calibration(file)
    if known is not None:
        return known
    samples, recovered = _samples(engine, count, progress)
    scans = [] if dataset is None else _scans(engine, dataset, count, progress)
    result = Calibration(sorted(samples), recovered, sorted(scans))
    with atomic_write(file) as out:
        json.dump({"manner": manner, "calibration": asdict(result)}, out)
    return result


def read_calibration(file: Path) -> Calibration | None:
    """Return what a file holds; None where it is missing or damaged, and is to be measured again."""
    try:
        return from_dict(_Stored, read_json(file)).calibration
    except (OSError, ConfigError):
        return None


def _samples(engine: Engine, count: int, progress: Progress) -> tuple[list[float], float]:
    G, names = engine.G, engine.G.info.classes
    distances: list[float] = []
    errors: list[float] = []
    size = engine.scans_at_once
    for begin in range(0, count, size):
        numbers = range(begin, min(begin + size, count))
        labels = [names[number % len(names)] for number in numbers] if names else None
        with torch.no_grad():
            w = G.ws(G.z([FIRST_SEED + number for number in numbers]), labels)
            targets = to_uint8(G.synthesize(w)).cpu()
        for true, found in zip(w.cpu(), _run(engine, targets, labels or [None] * len(numbers), begin, count,
                                             "projecting samples", progress), strict=True):
            distances.append(found[0])
            errors.append(float((found[1] - true).square().sum(dim=1).mean().sqrt() / engine.space.spread))
    return distances, float(np.median(errors))


def _scans(engine: Engine, dataset: ArchiveDataset, count: int, progress: Progress) -> list[float]:
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
    names = dataset.classes
    distances: list[float] = []
    size = engine.scans_at_once
    for begin in range(0, len(chosen), size):
        items = [dataset[int(index)] for index in chosen[begin:begin + size]]
        labels = [names[label] if names and engine.G.info.classes else None for _, label in items]
        found = _run(engine, torch.stack([pixels for pixels, _ in items]), labels, begin, len(chosen),
                     "projecting held-out scans", progress)
        distances += [distance for distance, _ in found]
    return distances


def _run(engine: Engine, targets: torch.Tensor, labels: list[str] | list[None] | list[str | None], begin: int,
         total: int, what: str, progress: Progress) -> list[tuple[float, torch.Tensor]]:
    plain = engine.without_tuning()
    results = plain.run(targets, None, list(labels), patient=False,
                        progress=lambda done, steps, _: progress(begin + len(targets) * done // steps, total, what))
    return [(result.untuned, result.codes.w) for result in results]


def _held_out(engine: Engine, path: Path) -> ArchiveDataset:
    G = engine.G.info
    first = Archive(path)
    split = next((split for split in ("test", "val") if split in first.splits), None)
    if split is None:
        raise DataError(f"{path} has neither a test nor a val split. Give an archive that `convert` has split.")
    if (first.resolution, first.channels) != (G.resolution, G.channels):
        raise DataError(f"{path} holds pictures of {first.resolution} px and {first.channels} channels; this generator "
                        f"draws {G.resolution} px and {G.channels}. Convert it with --resolution {G.resolution}.")
    unknown = set(first.classes) - set(G.classes) if G.classes else set()
    if unknown:
        raise DataError(f"{path} has the class {min(unknown)}, which this generator does not know; it knows "
                        f"{', '.join(G.classes)}.")
    return ArchiveDataset(path, split)
