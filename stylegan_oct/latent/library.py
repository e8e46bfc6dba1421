"""A library: pictures that a generator drew once, with their seeds and latents, in the project's archive format.

Picture number i is drawn from seed `first + i` as class i modulo the number of classes, so that a library is
reproducible, balanced, and a longer one begins with the shorter. Beside the usual members the zip holds
latents.safetensors with `w` [N, w_dim] (float16), `seed` and `label` [N].
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.config import Finite, Hash, Seed, from_dict
from dnnlib.errors import ConfigError, DataError
from dnnlib.interrupt import Interrupt
from dnnlib.pictures import Picture, encode_png, synthetic_text
from dnnlib.stored import reading
from stylegan_oct import limits
from stylegan_oct.batches import at_once, usual_count
from stylegan_oct.data.archive import INDEX, SYNTHETIC, Archive, ArchiveWriter
from stylegan_oct.model import OctGenerator
from stylegan_oct.sampling import Manner
from torch_utils.images import to_pictures
from torch_utils.tensor_file import decode_tensors, take

LATENTS = "latents.safetensors"
AGAIN = "Make the library again with: python -m tools library --overwrite"
USUAL_COUNT = 2000      # pictures, where each takes little time

Progress = Callable[[int, int], object]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a library was drawn from; equal ones hold the same pictures."""

    checkpoint_sha256: Hash
    psi: Finite
    seed: Seed  # of the first picture


class Library:
    """A library for reading.

    Raises:
        DataError: the file is missing, damaged, or an archive of something else.
    """

    def __init__(self, path: Path) -> None:
        self.archive = Archive(path)
        if self.archive.source != SYNTHETIC:
            raise DataError(f"{path} holds {self.archive.source}, not a library of synthetic pictures. "
                            "Make one with: python -m tools library")
        with reading(f"{INDEX} in {path}", DataError, f"It does not say what drew it. {AGAIN}"):
            self.origin = from_dict(Origin, self.archive.index.get("library", {}), where="library")
        self.names = self.archive.names(SYNTHETIC)
        self.labels = self.archive.labels(SYNTHETIC)
        self.classes = self.archive.classes

    def __len__(self) -> int:
        return len(self.names)

    def seed(self, position: int) -> int:
        """Return the seed of a picture."""
        return self.origin.seed + position

    def class_name(self, position: int) -> str:
        """Return the class of a picture; "" for a generator without classes."""
        return self.classes[self.labels[position]] if self.classes else ""

    def picture(self, position: int) -> NDArray[np.uint8]:
        """Return a picture, uint8 [H, W] or [H, W, 3]."""
        return self.archive.read_pixels(self.names[position])

    @cached_property
    def w(self) -> Tensor:
        """The latents [N, w_dim], float16.

        Raises:
            DataError: they are damaged.
        """
        with reading(f"{LATENTS} in {self.archive.path}", DataError, AGAIN):
            return take(decode_tensors(self.archive.read(LATENTS)), "w", len(self.names), None)

    def check_origin(self, G: OctGenerator) -> None:
        """Refuse the library of another generator.

        Raises:
            ConfigError: it is of another one.
        """
        if self.origin.checkpoint_sha256 != G.info.sha256:
            raise ConfigError(f"{self.archive.path} was drawn by another generator (checkpoint "
                              f"{self.origin.checkpoint_sha256[:12]}, not {G.info.sha256[:12]}). Give that one with "
                              "--checkpoint, or leave --library out to have a library made.")


def write_library(dest: Path, G: OctGenerator, *, count: int | None = None, psi: float = 1.0, seed: int = 0,
                  batch: int | None = None, overwrite: bool = False, progress: Progress = lambda *_: None) -> int:
    """Draw a library, or go on with a shorter one of the same origin; return how many pictures it holds.

    Ctrl-C ends it early with the pictures drawn so far; the same call goes on from there.

    Args:
        dest: the zip.
        G: generator.
        count: pictures in all, spread evenly over the classes; None: `default_count`.
        psi: truncation towards the mean of the class.
        seed: of the first picture; the next has the next.
        batch: pictures at once; None: as many as serve.
        overwrite: replace a library of another origin.
        progress: called with (pictures done, all pictures).
    Raises:
        ConfigError: the options do not fit, or `dest` is something else.
        DataError: the file cannot be written.
        KeyboardInterrupt: stopped before the first batch was done.
    """
    limits.PSI.check("psi", psi)
    limits.SEED.check("seed", seed)
    count, batch = count or default_count(G), at_once(G.layers, G.device, asked=batch)
    origin = Origin(checkpoint_sha256=G.info.sha256, psi=psi, seed=seed)
    _check(dest, G, count)
    before = _earlier(dest, origin, overwrite)
    if before is not None and len(before) >= count:
        return len(before)
    with Interrupt() as interrupt, ArchiveWriter(dest, resolution=G.info.resolution, channels=G.info.channels,
                                                 classes=G.info.classes, source=SYNTHETIC,
                                                 extra=_facts(G, origin)) as writer:
        w = [_copy(before, writer, G.info.classes)] if before is not None else []
        done = len(before) if before is not None else 0
        progress(done, count)
        while done < count and not interrupt.requested:
            drawn = None
            with interrupt.abandonable():
                drawn = _draw(G, origin, range(done, min(done + batch, count)))
            if drawn is None:
                break
            w.append(_add(drawn, origin, done, G.info.classes, writer))
            done += len(w[-1])
            progress(done, count)
        if not done:
            raise KeyboardInterrupt
        positions = torch.arange(done)
        latents = {"w": torch.cat(w), "seed": positions + seed, "label": positions % max(len(G.info.classes), 1)}
        writer.add_file(LATENTS, safetensors.torch.save(latents, metadata={"kind": "stylegan_oct library latents"}))
    return done


def default_path(G: OctGenerator, *, psi: float = 1.0, seed: int = 0) -> Path:
    """Return where the library of a generator is kept when nobody names a place."""
    more = (f"-psi{psi:g}" if psi != 1 else "") + (f"-seed{seed}" if seed else "")
    return Path("data") / f"library-{G.info.sha256[:12]}{more}.zip"


def default_count(G: OctGenerator) -> int:
    """Return how many pictures a library holds when nobody says."""
    return usual_count(G.layers, G.device, USUAL_COUNT, least=250)


def open_library(path: Path | None, G: OctGenerator, *, batch: int | None = None, progress: Progress = lambda *_: None,
                 say: Callable[[str], object] = lambda _: None) -> Library:
    """Return the library at `path`, or the generator's own, drawn on the first use.

    Raises:
        ConfigError: it was drawn by another generator.
        DataError: it cannot be read or written.
    """
    own = path or default_path(G)
    if path is None and not own.exists():
        say(f"drawing {default_count(G)} pictures once, in {own}; for fewer: python -m tools library --count N")
        write_library(own, G, batch=batch, progress=progress)
    library = Library(own)
    library.check_origin(G)
    return library


def _check(dest: Path, G: OctGenerator, count: int) -> None:
    if dest.suffix != ".zip":
        raise ConfigError(f"A library is a zip: name it {dest.stem or 'library'}.zip; got {dest}.")
    limits.PICTURES.check("count", count)
    least = max(len(G.info.classes), 1) * 2
    if count < least:
        raise ConfigError(f"A library must hold at least {least} pictures, two of each class; got {count}.")


def _earlier(dest: Path, origin: Origin, overwrite: bool) -> Library | None:
    """Return the library that lies at `dest`, to go on with.

    Raises:
        ConfigError: it is of another origin, or something else, and must not be overwritten.
    """
    if not dest.exists():
        return None
    try:
        library = Library(dest)
    except DataError as error:
        if overwrite:
            return None
        raise ConfigError(f"{dest} is there already and is no library. Give another name, or --overwrite.") from error
    if library.origin == origin:
        return library
    if overwrite:
        return None
    differing = [name for name, value in asdict(origin).items() if asdict(library.origin)[name] != value]
    raise ConfigError(f"{dest} is a library of another {' and '.join(differing)}. Give another name, or --overwrite.")


def _facts(G: OctGenerator, origin: Origin) -> dict[str, Any]:
    """Return what dataset.json says of the library."""
    return {"library": asdict(origin), "data_source": G.info.data_source, "preprocess": asdict(G.info.preprocess),
            "note": "Synthetic pictures, drawn by a generator; not scans of patients, not for diagnosis."}


def _row(position: int, origin: Origin, classes: Sequence[str]) -> tuple[int | None, dict[str, Any]]:
    """Return label and row of the manifest of a picture."""
    label = position % len(classes) if classes else None
    named = {} if label is None else {"class": classes[label]}
    return label, {"seed": origin.seed + position, **named, "psi": origin.psi}


def _copy(before: Library, writer: ArchiveWriter, classes: Sequence[str]) -> Tensor:
    """Take over the pictures of an earlier library and return its w."""
    for position, name in enumerate(before.names):
        writer.add_image(SYNTHETIC, before.archive.read(name), *_row(position, before.origin, classes))
    return before.w


def _draw(G: OctGenerator, origin: Origin, positions: range) -> tuple[list[Picture], Tensor]:
    """Return pictures and their w [n, w_dim], float16."""
    rows = [_row(position, origin, G.info.classes) for position in positions]
    labels = [label for label, _ in rows if label is not None] or None
    with torch.inference_mode():
        z = G.z([row["seed"] for _, row in rows])
        ws = G.ws(z, labels, psi=origin.psi)
        pictures = to_pictures(G.synthesize(ws, speckle=G.speckle_of(z)))
    return pictures, ws[:, 0].to("cpu", torch.float16)


def _add(drawn: tuple[list[Picture], Tensor], origin: Origin, begin: int, classes: Sequence[str],
         writer: ArchiveWriter) -> Tensor:
    """Write pictures, of which the first is number `begin`, and return their w."""
    pictures, w = drawn
    for position, picture in enumerate(pictures, begin):
        label, row = _row(position, origin, classes)
        facts = {**Manner(psi=origin.psi).facts(), **row, "checkpoint_sha256": origin.checkpoint_sha256}
        png = encode_png(picture, synthetic_text("generator", **facts), compress_level=3)
        writer.add_image(SYNTHETIC, png, label, row)
    return w
