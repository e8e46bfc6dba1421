"""Latents and the pictures that a generator draws of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dnnlib.errors import ConfigError
from dnnlib.pictures import sheet, synthetic_text
from stylegan_oct import limits
from stylegan_oct.api.scans import Drawn
from stylegan_oct.api.shown import Shown
from stylegan_oct.model import OctGenerator
from stylegan_oct.sampling import GRID_COLUMNS, Manner, picture_text, tasks_of
from stylegan_oct.sampling import draw as draw_seeds
from torch_utils.images import to_pictures


@dataclass(frozen=True, eq=False, repr=False)
class Latents:
    """What a generator draws pictures of."""

    w: Tensor                # [N, layers, w_dim], float32
    class_name: str = ""     # "" where they are of several classes, or it is not known
    private: bool = False    # derived from a patient's scan

    def __len__(self) -> int:
        return len(self.w)

    def __repr__(self) -> str:
        of = " of one patient's scan or more" if self.private else ""
        return f"<Latents: {' x '.join(map(str, self.w.shape))}{of}>"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Pictures(Shown):
    """Drawn pictures, shown as one sheet; each of them by its index."""

    drawn: tuple[Drawn, ...]
    latents: Latents

    @property
    def w(self) -> Tensor:
        """The latents [N, layers, w_dim]."""
        return self.latents.w

    def __len__(self) -> int:
        return len(self.drawn)

    def __getitem__(self, index: int) -> Drawn:
        return self.drawn[index]

    def __iter__(self) -> Iterator[Drawn]:
        return iter(self.drawn)


def generate(G: OctGenerator, class_name: str | Sequence[str] | None = None, *, seeds: Sequence[int] = (0,),
             psi: float = 1.0, batch: int = 8) -> Pictures:
    """Return a picture of every seed, the same as those of the command `generate`.

    Args:
        G: the generator.
        class_name: a class or several; default all.
        seeds: each gives a picture of each class.
        psi: truncation; below 1 nearer to the mean of the class.
        batch: pictures drawn at once.
    Raises:
        ConfigError: a class does not exist, or a number is out of range.
    """
    limits.BATCH.check("batch", batch)
    names = [class_name] if isinstance(class_name, str) else list(class_name or ())
    manner, known = Manner(psi=psi), G.info.classes
    tasks = tasks_of(G, seeds, names)
    if not tasks:
        raise ConfigError("Give one seed or more, such as seeds=range(8).")
    drawn = tuple(Drawn(picture=sample.picture, title=Drawn.caption(sample.class_name, sample.seed),
                        text=picture_text(G, manner, seed=sample.seed, class_name=sample.class_name),
                        class_name=sample.class_name, seed=sample.seed, preprocess=G.info.preprocess)
                  for sample in draw_seeds(G, seeds, names, manner, batch=batch))
    with torch.inference_mode():
        w = G.ws(G.z([seed for _, seed in tasks]), [name for name, _ in tasks] if known else None, psi=psi)
    classes = {name for name, _ in tasks}
    return _as_sheet(drawn, Latents(w.clone(), classes.pop() if len(classes) == 1 else ""), columns=len(set(seeds)))


def draw(G: OctGenerator, latents: Any, *, batch: int = 8) -> Pictures:
    """Return the pictures of latents, all with the same speckle, so that they differ by their latents alone.

    Args:
        G: the generator.
        latents: `Latents`, whatever has them (`Pictures`, a projection), or a tensor [N, layers, w_dim],
            [layers, w_dim] or, one w for all layers, [w_dim].
        batch: pictures drawn at once.
    Raises:
        ConfigError: they do not fit the generator.
    """
    limits.BATCH.check("batch", batch)
    found = to_latents(G, latents)
    with torch.inference_mode():
        pictures = [picture for part in torch.split(found.w, batch) for picture in to_pictures(G.synthesize(part))]
    named = {"class": found.class_name} if found.class_name else {}
    text = {**synthetic_text("generator", **named, checkpoint_sha256=G.info.sha256),
            "derived_from_patient": str(found.private).lower()}
    return _as_sheet(tuple(Drawn(picture=picture, title=Drawn.caption(found.class_name, None), text=text,
                                 private=found.private, class_name=found.class_name, seed=None,
                                 preprocess=G.info.preprocess) for picture in pictures), found)


def to_latents(G: OctGenerator, latents: Any) -> Latents:
    """Return latents that fit a generator; arguments and errors as `draw`."""
    found = latents if isinstance(latents, Latents | Tensor) else getattr(latents, "latents", None)
    if found is None:
        raise ConfigError(f"Latents are a tensor, or what generate, draw and project return; got "
                          f"{type(latents).__name__}.")
    found = found if isinstance(found, Latents) else Latents(found)
    layers, width = G.network.num_ws, G.network.w_dim
    w = found.w.expand(layers, -1) if found.w.ndim == 1 else found.w
    w = w[None] if w.ndim == 2 else w
    if not w.is_floating_point() or len(w) == 0 or w.shape[1:] != (layers, width):
        raise ConfigError(f"Latents of this generator are [N, {layers}, {width}]; got {list(found.w.shape)}. One w for "
                          f"all layers is [{width}].")
    return Latents(w.detach().to(G.device, torch.float32), found.class_name, found.private)


def _as_sheet(drawn: tuple[Drawn, ...], latents: Latents, *, columns: int = GRID_COLUMNS) -> Pictures:
    columns = min(columns, GRID_COLUMNS)
    rows = [drawn[i:i + columns] for i in range(0, len(drawn), columns)]
    labels = [row[0].class_name if row[0].seed is not None else "" for row in rows]
    first = drawn[0]
    titles = list(dict.fromkeys(one.title for one in drawn))
    title = titles[0] if len(titles) == 1 else f"synthetic, {len(drawn)} pictures"
    if len(drawn) == 1:
        return Pictures(picture=first.picture, title=title, text=first.text, private=first.private, drawn=drawn,
                        latents=latents)
    text = {**first.text, **({"seed": " ".join(str(one.seed) for one in drawn)} if first.seed is not None else {}),
            "class": " ".join(dict.fromkeys(one.class_name for one in drawn))}
    shown = sheet([[one.picture for one in row] for row in rows], row_labels=labels if any(labels) else ())
    return Pictures(picture=shown, title=title, text=text, private=first.private, drawn=drawn, latents=latents)
