"""The four sides of an evaluation, each from the ground to its part of the report."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnlib.errors import DataError
from stylegan_oct.batches import usual_count
from stylegan_oct.metrics.consistency.measure import consistency_observers, measure_consistency
from stylegan_oct.metrics.distances.fidelity import measure_fidelity
from stylegan_oct.metrics.distances.official import measure_official
from stylegan_oct.metrics.distances.path_length import measure_path_lengths
from stylegan_oct.metrics.ground import Ground
from stylegan_oct.metrics.memorisation.measure import measure_memorisation
from stylegan_oct.metrics.observers.observe import Embedding, Observer
from stylegan_oct.metrics.observers.pictures import Pictures, some_of_each
from stylegan_oct.metrics.report.report import Part, encode
from stylegan_oct.metrics.usefulness.measure import BAR, measure_usefulness, usefulness_observers

WAYS = 600    # of the path lengths, where a picture takes little time
PERCEPTUAL = ("lite0", "vgg16-lpips")   # networks whose distances follow what people see
MEASURED = 1000   # samples, and scans, whose biomarkers are measured: 45 ms each at 64 px
KEPT = 1000   # numbers of a distribution that are kept for its plot


@dataclass(frozen=True)
class Side:
    """One side: what must look at which samples, and how it is measured then."""

    observers: Callable[[Ground], list[Observer]]
    measure: Callable[[Ground], Part]
    pictures: Callable[[Ground], Pictures] = lambda ground: ground.fake


def fidelity(ground: Ground) -> Part:
    """Return how near samples are to scans."""
    values = measure_fidelity(ground.training, ground.held_out, ground.fake, ground.detectors, cache=ground.scans_cache,
                              fake_cache=ground.cache, world=ground.world, seed=ground.settings.seed,
                              batch=ground.batch, progress=ground.telling("looking"))
    labels = some_labels(ground.fake.labels, usual_count(ground.G.layers, ground.G.device, WAYS, least=100))
    values += measure_path_lengths(ground.G, labels, [seer for seer in ground.detectors if seer.name in PERCEPTUAL],
                                   psi=ground.settings.psi, seed=ground.settings.seed, batch=ground.batch,
                                   world=ground.world, progress=ground.telling("path lengths"))
    if ground.settings.official:
        weights = ground.settings.weights
        values += measure_official(ground.G, ground.training, cache=ground.scans_cache, fake_cache=ground.cache,
                                   inception=weights.get("inception"), vgg16=weights.get("vgg16"), world=ground.world,
                                   seed=ground.settings.seed, batch=ground.batch,
                                   progress=ground.telling("official metrics"))
    return Part(name="fidelity", values=tuple(values))


def memorisation(ground: Ground) -> Part:
    """Return whether samples repeat training scans."""
    judge = ground.judge
    found = measure_memorisation(judge, ground.fake, cache=ground.cache, world=ground.world,
                                 batch=ground.batch, progress=ground.telling("looking for copies"))
    data = {"samples": _thinned(found.rows.ratio), "held_out": _thinned(judge.held_out.ratio),
            "limit": float(judge.null.scores[judge.null.rank - 1]), "pairs": [asdict(pair) for pair in found.pairs],
            "flagged": np.flatnonzero(found.rows.flagged).tolist()}
    return Part(name="memorisation", values=tuple(found.values), data=encode(data))


def consistency(ground: Ground) -> Part:
    """Return whether samples show what was asked for."""
    scans = some_of_each(ground.held_out or ground.training, MEASURED)
    found = measure_consistency(scans, _measured(ground), ground.oracle,
                                cache=ground.scans_cache, fake_cache=ground.cache, world=ground.world,
                                seed=ground.settings.seed, batch=ground.batch,
                                progress=ground.telling("measuring"))
    data: dict[str, Any] = {"distributions": found.distributions, "confusion": found.confusion}
    return Part(name="consistency", values=tuple(found.values), data=encode(data))


def usefulness(ground: Ground) -> Part:
    """Return whether a classifier can be trained on samples."""
    if ground.held_out is None:
        raise DataError("the archive holds no held-out scans (val or test) to test a classifier on")
    found = measure_usefulness(ground.training, ground.held_out, ground.fake, ground.usefulness,
                               cache=ground.scans_cache, fake_cache=ground.cache, world=ground.world,
                               progress=ground.telling("training classifiers"))
    return Part(name="usefulness", values=tuple(found.values), data=encode({"curve": found.curve, "bar": BAR}))


def _measured(ground: Ground) -> Pictures:
    """Return the samples whose biomarkers are measured."""
    return some_of_each(ground.fake, MEASURED)


SIDES = {
    "fidelity": Side(lambda ground: [Embedding(detector) for detector in ground.detectors], fidelity),
    "usefulness": Side(lambda ground: usefulness_observers(ground.training, ground.usefulness), usefulness),
    "memorisation": Side(lambda ground: list(ground.judge.observers), memorisation),
    "consistency": Side(lambda ground: consistency_observers(ground.oracle), consistency, _measured),
}


def some_labels(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return at most `count` of labels that are spread evenly, with the same shares."""
    some: NDArray[np.int64] = labels[np.linspace(0, len(labels) - 1, min(len(labels), count)).round().astype(int)]
    return some


def _thinned(values: NDArray[np.float64]) -> list[float]:
    """Return at most KEPT of the values, evenly among the sorted ones, so that they have the same distribution."""
    ordered = np.sort(values)
    places = np.linspace(0, len(ordered) - 1, min(len(ordered), KEPT)).round().astype(int)
    return [float(f"{value:.4g}") for value in ordered[places]]
