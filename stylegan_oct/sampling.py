"""Pictures from seeds, written with what they are and where they come from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from dnnlib.errors import ConfigError
from dnnlib.escape import file_name
from dnnlib.pictures import Picture, save_png, sheet, synthetic_text
from stylegan_oct import limits
from stylegan_oct.batches import at_once
from stylegan_oct.limits import check_fields
from stylegan_oct.model import OctGenerator
from torch_utils.images import to_pictures

GRID_COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a latent becomes a picture; see `OctGenerator.forward`."""

    psi: float = 1.0
    cutoff: int | None = None
    center: Literal["class", "global"] = "class"
    noise_mode: Literal["const", "random", "none"] = "const"

    def __post_init__(self) -> None:
        check_fields(self, {"psi": limits.PSI, "cutoff": limits.CUTOFF})

    def facts(self) -> dict[str, str | float]:
        """Return what is said of it in the pictures."""
        cut = {} if self.cutoff is None else {"cutoff": self.cutoff}
        return {"psi": self.psi, "center": self.center, "noise": self.noise_mode, **cut}


@dataclass(frozen=True)
class Sample:
    """A drawn picture."""

    class_name: str  # empty for a generator without classes
    seed: int
    picture: Picture


def tasks_of(G: OctGenerator, seeds: Sequence[int], classes: Sequence[str]) -> list[tuple[str, int]]:
    """Return class and seed of the pictures to draw, class by class, each once; no classes are all.

    Raises:
        ConfigError: a class does not exist.
    """
    known = G.info.classes
    if classes and not known:
        raise ConfigError("This generator was trained without classes; leave --class out.")
    names = [known[G.class_index(name)] for name in classes or known] or [""]
    return list(dict.fromkeys((name, seed) for name in names for seed in seeds))


def draw(G: OctGenerator, seeds: Sequence[int], classes: Sequence[str], manner: Manner, *,
         batch: int | None = None) -> Iterator[Sample]:
    """Yield every seed for every class, class by class and each once, drawn `batch` at once, or as many as serve.

    Raises:
        ConfigError: a class does not exist.
    """
    tasks = tasks_of(G, seeds, classes)
    known = G.info.classes
    batch = at_once(G.layers, G.device, asked=batch)
    for begin in range(0, len(tasks), batch):
        part = tasks[begin:begin + batch]
        with torch.inference_mode():
            images = G(G.z([seed for _, seed in part]), [name for name, _ in part] if known else None, psi=manner.psi,
                       cutoff=manner.cutoff, center=manner.center, noise_mode=manner.noise_mode)
        for (name, seed), picture in zip(part, to_pictures(images), strict=True):
            yield Sample(name, seed, picture)


def save_each(G: OctGenerator, samples: Iterator[Sample], out: Path, manner: Manner,
              progress: Callable[[int], object] = lambda _: None) -> list[Path]:
    """Write each sample as `synthetic-DRUSEN-seed00007.png` with seed, class, psi and checkpoint in its text chunks.

    Raises:
        ConfigError: the directory cannot be made.
    """
    _make(out)
    paths = []
    for sample in samples:
        path = out / f"{picture_name(sample)}.png"
        save_png(path, sample.picture, picture_text(G, manner, seed=sample.seed, class_name=sample.class_name))
        paths.append(path)
        progress(len(paths))
    return paths


def picture_name(sample: Sample) -> str:
    """Return the name of a sample's file without suffix, such as `synthetic-DRUSEN-seed00007`."""
    name = f"{file_name(sample.class_name)}-" if sample.class_name else ""
    return f"synthetic-{name}seed{sample.seed:05d}"


def save_grid(G: OctGenerator, samples: Iterator[Sample], out: Path, manner: Manner,
              progress: Callable[[int], object] = lambda _: None) -> Path:
    """Write all samples as one labelled sheet, `synthetic-grid.png`, a class below the other; return its path.

    Raises:
        ConfigError: the directory cannot be made.
    """
    _make(out)
    rows: list[list[Picture]] = []
    labels: list[str] = []
    seeds: list[int] = []
    for sample in samples:
        if not rows or sample.class_name != labels[-1] or len(rows[-1]) == GRID_COLUMNS:
            rows.append([])
            labels.append(sample.class_name)
        rows[-1].append(sample.picture)
        seeds.append(sample.seed)
        progress(len(seeds))
    path = out / "synthetic-grid.png"
    picture = sheet(rows, row_labels=labels, title=f"synthetic, psi {manner.psi:g}")
    class_names = " ".join(dict.fromkeys(labels))
    save_png(path, picture, picture_text(G, manner, seed=f"{min(seeds)}-{max(seeds)}", class_name=class_names))
    return path


def picture_text(G: OctGenerator, manner: Manner, *, seed: int | str, class_name: str) -> dict[str, str]:
    """Return the text chunks of a picture drawn from a seed."""
    return synthetic_text("generator", seed=seed, **({"class": class_name} if class_name else {}), **manner.facts(),
                          checkpoint_sha256=G.info.sha256)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot write to {out}: {error.strerror}. Choose another place with --out.") from error
