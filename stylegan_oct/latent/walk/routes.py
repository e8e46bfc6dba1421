"""Where walks lead: loops through seeds, from class to class, between projected scans."""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dnnlib.errors import ConfigError
from stylegan_oct.latent.codes import Codes, check_codes, load_codes
from stylegan_oct.latent.walk.curves import Curve, Times, eased, spline
from stylegan_oct.model import OctGenerator

SEEDS = 4   # that a walk passes where none are given


@dataclass(frozen=True, kw_only=True)
class Route:
    """One or several walks in step."""

    ws: Curve                               # times [N] -> [N, cells, layers, w_dim]
    grid: tuple[int, int]                   # columns, rows
    keys: int                               # places that the walks pass
    closed: bool
    words: Callable[[float], tuple[str, ...]]   # time -> captions side by side
    name: str                               # for the file, such as "NORMAL-to-DRUSEN-seed0"
    facts: dict[str, str | float]           # for the metadata
    derived_from_patient: bool = False

    @property
    def cells(self) -> int:
        """How many walks there are."""
        return self.grid[0] * self.grid[1]

    @property
    def segments(self) -> int:
        """How many stretches lie between the keys."""
        return self.keys if self.closed else self.keys - 1


def plan(G: OctGenerator, *, seeds: Sequence[int] = (), classes: Sequence[str] = (), morph: Sequence[str] = (),
         codes: Sequence[Path] = (), grid: tuple[int, int] | None = None, psi: float = 1.0,
         closed: bool = True) -> Route:
    """Return the route that the options ask for: `codes` before `morph`, the classes to pass, before seeds.

    Raises:
        ConfigError: options exclude each other, or as the functions below.
        DataError: as `through_codes`.
    """
    if codes:
        if seeds or classes or morph or grid or psi != 1:
            raise ConfigError("A walk between codes takes neither seeds, classes, grid nor psi: the codes say it all.")
        return through_codes(G, codes, closed=closed)
    if morph:
        if classes:
            raise ConfigError("--class stays in a class, --classes walks from one to the next; give one of them.")
        return through_classes(G, morph, seeds, grid=grid, psi=psi, closed=closed)
    return through_seeds(G, seeds, classes, grid=grid, psi=psi, closed=closed)


def through_seeds(G: OctGenerator, seeds: Sequence[int] = (), classes: Sequence[str] = (), *,
                  grid: tuple[int, int] | None = None, psi: float = 1.0, closed: bool = True) -> Route:
    """Return a route through the w of seeds, in one class or in several side by side.

    Each walk passes as many seeds as fall to it: cells that differ in their class alone share theirs.

    Args:
        seeds: default `SEEDS` for each walk.
        classes: default all; they take turns along the grid.
        grid: columns, rows; default one column a class.
        psi: truncation towards the mean of the class.
        closed: go back to the first seed.
    Raises:
        ConfigError: a class does not exist, or seeds and classes do not divide evenly.
    """
    names = list(dict.fromkeys(_class_names(G, classes))) or [""]
    columns, rows = grid or (len(names), 1)
    if columns * rows % len(names):
        raise ConfigError(f"A grid of {columns}x{rows} does not hold {len(names)} classes equally often. "
                          f"Try --grid {len(names)}x{rows}, or give --class.")
    groups = columns * rows // len(names)
    numbers = list(seeds) or list(range(SEEDS * groups))
    if len(numbers) % groups or len(numbers) < 2 * groups:
        raise ConfigError(f"{len(numbers)} seeds do not divide among {groups} walks of at least 2 each. "
                          f"Try --seeds 0-{groups * max(2, round(len(numbers) / groups)) - 1}.")
    count = len(numbers) // groups
    keys = torch.stack([
        G.ws(G.z(numbers[group * count:(group + 1) * count]), name or None, psi=psi)
        for group, name in itertools.product(range(groups), names)], dim=1)         # [K, cells, layers, w_dim]
    beside = tuple(f"synthetic {name}".rstrip() for name in names) if len(names) in (1, columns) else ("synthetic",)
    span = f"{numbers[0]}-{numbers[-1]}"
    return Route(ws=spline(keys, closed=closed), grid=(columns, rows), keys=count, closed=closed,
                 words=lambda _: beside, name="-".join(filter(None, [*names, f"seeds{span}"])),
                 facts={"seeds": span, "class": " ".join(names), "psi": psi})


def through_classes(G: OctGenerator, classes: Sequence[str], seeds: Sequence[int] = (), *,
                    grid: tuple[int, int] | None = None, psi: float = 1.0, closed: bool = True) -> Route:
    """Return a route from class to class along the embedding of the label, with z fixed: the same eye, so to say.

    Args:
        classes: two or more, in order.
        seeds: one for each walk; default 0 and up.
        grid: columns, rows; default one row.
        psi: truncation towards the mean of the classes, mixed like the labels.
        closed: go back to the first class.
    Raises:
        ConfigError: a class does not exist, or there are too few classes or seeds.
    """
    names = _class_names(G, classes)
    if len(names) < 2:
        raise ConfigError(f"A walk between classes needs two or more; got {len(names)}. Try --classes NORMAL,DRUSEN.")
    columns, rows = grid or (max(len(seeds), 1), 1)
    numbers = list(seeds) or list(range(columns * rows))
    if len(numbers) != columns * rows:
        raise ConfigError(f"A grid of {columns}x{rows} needs {columns * rows} seeds; got {len(numbers)}.")
    z = G.z(numbers)                                                                # [cells, z_dim]
    labels = eased(one_hot(torch.tensor([G.class_index(name) for name in names]), len(G.info.classes)).float(),
                   closed=closed)

    def ws(times: Times) -> Tensor:
        mixed = labels(times).repeat_interleave(len(z), dim=0)                      # [N * cells, classes]
        each = G.ws(z.repeat(len(times), 1), mixed, psi=psi)
        return each.reshape(len(times), len(z), *each.shape[1:])

    def words(time: float) -> tuple[str, ...]:
        shares = labels(np.array([time]))[0].tolist()
        parts = [f"{name} {share:.0%}" for name, share in zip(G.info.classes, shares, strict=True) if share >= 0.005]
        return (f"synthetic  {'  '.join(parts)}",)

    return Route(ws=ws, grid=(columns, rows), keys=len(names), closed=closed, words=words,
                 name=f"{'-to-'.join(names)}-seed{'-'.join(str(n) for n in sorted({numbers[0], numbers[-1]}))}",
                 facts={"seeds": " ".join(map(str, numbers)), "class": " to ".join(names), "psi": psi})


def through_codes(G: OctGenerator, files: Sequence[Path], *, closed: bool = True) -> Route:
    """Return a route from one projected scan to the next.

    Its name holds a hash of the latents, since names of files may be those of patients.

    Raises:
        ConfigError: there are fewer than two, or one brings changed weights along.
        DataError: a file holds no codes, or those of another generator.
    """
    if len(files) < 2:
        raise ConfigError("A walk between scans needs two or more: --codes A.safetensors --codes B.safetensors.")
    codes = [_plain_codes(G, file) for file in files]
    keys = torch.stack([one.w for one in codes])[:, None].to(G.device)              # [K, 1, layers, w_dim]
    name = "-".join(hashlib.sha256(one.w.numpy().tobytes()).hexdigest()[:8] for one in codes)
    patient = any(one.derived_from_patient for one in codes)
    segments = len(codes) if closed else len(codes) - 1

    def words(time: float) -> tuple[str, ...]:
        begin = min(int(time * segments), segments - 1)
        return (f"synthetic  scan {begin + 1} > {(begin + 1) % len(codes) + 1}",)

    return Route(ws=spline(keys, closed=closed), grid=(1, 1), keys=len(codes), closed=closed, words=words,
                 name=f"codes-{name}{'-derived-from-patient' if patient else ''}",
                 facts={"codes": name}, derived_from_patient=patient)


def _class_names(G: OctGenerator, classes: Sequence[str]) -> list[str]:
    """Return the classes as the generator writes them, default all."""
    if classes and not G.info.classes:
        raise ConfigError("This generator was trained without classes; leave them out.")
    return [G.info.classes[G.class_index(name)] for name in classes or G.info.classes]


def _plain_codes(G: OctGenerator, file: Path) -> Codes:
    codes = load_codes(file)
    check_codes(codes, G, file)
    if codes.delta:
        raise ConfigError(f"{file} brings weights tuned to one scan, which cannot be walked between. "
                          "Project the scan with --space w+ for walks.")
    return codes
