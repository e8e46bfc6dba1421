"""Finds directions in w: within one class or over all, for all layers or a part, with or without names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from dnnlib.errors import ConfigError
from dnnlib.text import suggest
from stylegan_oct import limits
from stylegan_oct.latent.biomarkers.measure import NAMES, UNITS
from stylegan_oct.latent.directions.file import Direction, Kind, Readout, file_beside, load_directions, pick
from stylegan_oct.latent.directions.population import (
    Measure,
    Population,
    Progress,
    after,
    draw_ws,
    measure_here,
    pictures_of,
)
from stylegan_oct.latent.directions.supervised import fit_readout, likeliest_step, orthogonalised
from stylegan_oct.latent.directions.unsupervised import factor_steps, principal_steps
from stylegan_oct.limits import check_fields
from stylegan_oct.model import OctGenerator

Method = Kind
METHODS: tuple[Method, ...] = get_args(Kind)
Layers = tuple[int, int]

FIT, FRESH = 0, 1            # streams of samples: those that directions are found with, and those they are tested on
UNIT = "one standard deviation of w along it"
MIN_VALID = 100              # samples in which a biomarker could be measured, for a regression on it
FINE = 128                   # px beyond which drawing, not measuring, takes most of the time


@dataclass(frozen=True, kw_only=True)
class Search:
    """Which directions to find."""

    class_name: str | None = None             # None: over all classes
    methods: tuple[Method, ...] = METHODS
    layers: tuple[Layers, ...] = ()           # ranges, each searched by itself; none: all layers together
    components: int = 3                       # of PCA and of SeFa
    samples: int = 2000                       # that directions are found with
    orthogonal_to: tuple[str, ...] = ()       # biomarkers, classes, or "class" for every boundary
    psi: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, {"samples": limits.SAMPLES, "components": limits.COMPONENTS, "psi": limits.PSI,
                            "seed": limits.SEED})
        if self.samples < MIN_VALID:
            raise ConfigError(f"Directions need at least {MIN_VALID} samples; got {self.samples}. "
                              "One to two thousand give steady ones.")


@dataclass(frozen=True)
class Counts:
    """How many samples are drawn where nothing else is said."""

    fit: int       # to find directions with
    moved: int     # to measure what they do


def usual_counts(resolution: int) -> Counts:
    """Return counts that take a few minutes on two cores; docs/directions.md tells how steady directions are then."""
    return Counts(2000, 150) if resolution <= FINE else Counts(1000, 60)


def find_directions(G: OctGenerator, search: Search, *, batch: int = 32, measure: Measure = measure_here,
                    progress: Progress = lambda _: None) -> list[Direction]:
    """Return the directions, by range of layers and method.

    Args:
        G: the generator.
        search: what to find.
        batch: pictures at once.
        measure: what measures them, `measure_here` or `measuring_processes`.
        progress: gets how many samples are measured, of `samples_to_measure`.
    Raises:
        ConfigError: a class, layer or biomarker does not exist.
    """
    classes = classes_of(G, search.class_name)
    ranges = search.layers or ((0, G.network.num_ws - 1),)
    for layers in ranges:
        check_layers(G, layers)
    boundaries = _boundaries(G, search)
    for name in search.orthogonal_to:
        if name != "class" and name not in NAMES and name not in boundaries:
            raise ConfigError(f"Directions cannot be made orthogonal to {name!r}."
                              f"{suggest(name, ['class', *boundaries, *NAMES])}")
    needs = _biomarkers(search)
    found = []
    for index, layers in enumerate(ranges):
        population = draw_ws(G, classes, search.samples, seed=search.seed, stream=FIT, psi=search.psi, layers=layers)
        w = population.ws[:, layers[0]]
        readouts: dict[str, tuple[Readout, Tensor]] = dict(boundaries)
        if needs:
            before = index * len(population.ws)
            values = measure(pictures_of(G, population.ws, batch=batch), after(before, progress))
            population = Population(population.ws, population.labels, values)
            readouts.update(_regressions(population, w, needs))
        found += _in_layers(G, search, layers, w, readouts)
    return found


def samples_to_measure(G: OctGenerator, search: Search) -> int:
    """Return how many pictures `find_directions` measures."""
    classes = max(len(classes_of(G, search.class_name)), 1)
    return -(-search.samples // classes) * classes * max(len(search.layers), 1) if _biomarkers(search) else 0


def choose_direction(G: OctGenerator, file: Path | None, name: str | None, *, class_name: str | None = None,
                     layers: Layers | None = None) -> Direction:
    """Return a direction from a file: the one given, else that of the class beside the generator.

    Where there is neither it is the first principal component of w, which takes no time to find.

    Args:
        G: the generator.
        file: of directions; None: that beside the generator, or the principal component.
        name: which one; None: the first.
        class_name: within which directions were found, or the principal component is.
        layers: move these instead of the direction's own.
    Raises:
        ConfigError: the direction, class or layers do not exist.
        DataError: the file cannot be used.
    """
    if file is None and class_name is not None and G.info.classes:
        beside = file_beside(G, classes_of(G, class_name)[0])
        file = beside if beside.is_file() else None
    if file is None and name not in (None, "pca1"):
        with_some = [known for known in G.info.classes if file_beside(G, known).is_file()]
        if with_some and class_name is None:
            raise ConfigError(f"Say within which class {name!r} is meant: --class {' or '.join(with_some)}.")
        raise ConfigError(f"Say with --directions which file holds {name!r}; one is written by: "
                          "python -m tools directions")
    if file is None:
        found = find_directions(G, Search(class_name=class_name, methods=("pca",), components=1))
    else:
        found = load_directions(file, G)
    chosen = found[0] if name is None else pick(found, name)
    if layers is None:
        return chosen
    check_layers(G, layers)
    return replace(chosen, layers=layers)


def classes_of(G: OctGenerator, class_name: str | None) -> tuple[str, ...]:
    """Return the class as the generator writes it, or all of its classes.

    Raises:
        ConfigError: there is no such class.
    """
    if class_name is None:
        return G.info.classes
    if not G.info.classes:
        raise ConfigError("This generator was trained without classes; leave --class out.")
    return (G.info.classes[G.class_index(class_name)],)


def classes_beside(G: OctGenerator, class_name: str | None) -> tuple[str, ...]:
    """Return the class, or each, whose directions are to lie beside the generator.

    Raises:
        ConfigError: there is no such class, or none at all.
    """
    if not G.info.classes:
        raise ConfigError("This generator was trained without classes: no directions lie beside it; leave --beside "
                          "out.")
    return classes_of(G, class_name)


def check_layers(G: OctGenerator, layers: Layers) -> None:
    """Refuse layers that the generator does not have.

    Raises:
        ConfigError: the range is empty or goes beyond the last layer.
    """
    first, last = layers
    if not 0 <= first <= last < G.network.num_ws:
        raise ConfigError(f"There are no layers {first}-{last}; this generator has 0-{G.network.num_ws - 1}, coarse to "
                          "fine.")


def _biomarkers(search: Search) -> list[str]:
    """Return the biomarkers that are needed for what is searched."""
    return [name for name in NAMES if "regression" in search.methods or name in search.orthogonal_to]


def _boundaries(G: OctGenerator, search: Search) -> dict[str, tuple[Readout, Tensor]]:
    """Return a readout and the covariance of w for each boundary: from the class to each other one, or one to all."""
    classes = G.info.classes
    wanted = search.methods if not search.orthogonal_to else METHODS
    if len(classes) < 2 or "boundary" not in wanted:
        return {}
    population = draw_ws(G, classes, search.samples * len(classes) // 2, seed=search.seed, stream=FIT, psi=search.psi)
    w = population.ws[:, 0]
    own = None if search.class_name is None else G.class_index(search.class_name)
    found = {}
    for index, name in enumerate(classes):
        if index == own:
            continue
        used = torch.ones_like(population.labels, dtype=torch.bool) if own is None else (
            (population.labels == index) | (population.labels == own))
        there = torch.where(population.labels[used] == index, 1.0, -1.0)
        found[name] = (fit_readout(w[used], there), torch.cov(w[used].T))
    return found


def _regressions(population: Population, w: Tensor, names: Sequence[str]) -> dict[str, tuple[Readout, Tensor]]:
    """Return a readout of each biomarker that varies, and the covariance of w."""
    covariance = torch.cov(w.T)
    found = {}
    for name in names:
        values = population.values[name]
        valid = np.isfinite(values)
        if valid.sum() >= MIN_VALID and values[valid].std() > 0:
            found[name] = (fit_readout(w[torch.from_numpy(valid)], torch.from_numpy(values[valid])), covariance)
    return found


def _in_layers(G: OctGenerator, search: Search, layers: Layers, w: Tensor,
               readouts: dict[str, tuple[Readout, Tensor]]) -> list[Direction]:
    """Return the directions of one range of layers."""
    covariance = torch.cov(w.T)
    suffix = "" if layers == (0, G.network.num_ws - 1) else f"@{layers[0]}-{layers[1]}"
    constraints = _constraints(search, readouts)
    class_name = "" if search.class_name is None else classes_of(G, search.class_name)[0]

    def direction(name: str, kind: Kind, step: Tensor, readout: Readout | None = None, unit: str = "") -> Direction:
        kept = {other: known for other, known in constraints.items() if other != name}
        free = orthogonalised(step, list(kept.values()), covariance)
        amount = f", predicted to change it by {float(readout.weight @ free):.3g} {unit}" if readout and unit else ""
        title = f"to_{name}" if kind == "boundary" else name
        return Direction(name=title + suffix, kind=kind, class_name=class_name, layers=layers, unit=UNIT + amount,
                         step=free, readout=readout, orthogonal_to=tuple(kept))

    found = []
    if "pca" in search.methods:
        steps = principal_steps(w, search.components)
        found += [direction(f"pca{i}", "pca", step) for i, step in enumerate(steps, 1)]
    if "sefa" in search.methods:
        steps = factor_steps(G.network, w, layers, search.components)
        found += [direction(f"sefa{i}", "sefa", step) for i, step in enumerate(steps, 1)]
    for name, (readout, spread) in readouts.items():
        kind: Literal["regression", "boundary"] = "regression" if name in NAMES else "boundary"
        if kind in search.methods:
            found.append(direction(name, kind, likeliest_step(readout, spread), readout, UNITS.get(name, "")))
    return found


def _constraints(search: Search, readouts: dict[str, tuple[Readout, Tensor]]) -> dict[str, Readout]:
    """Return what every direction should leave as it is."""
    names = dict.fromkeys(name for wanted in search.orthogonal_to
                          for name in ([known for known in readouts if known not in NAMES] if wanted == "class"
                                       else [wanted]))
    missing = [name for name in names if name not in readouts]
    if missing:
        raise ConfigError(f"{missing[0]} could not be measured, or does not vary, in these samples; leave it out of "
                          "--orthogonal-to.")
    return {name: readouts[name][0] for name in names}
