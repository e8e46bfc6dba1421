"""An atlas: a library of synthetic pictures laid out on maps of w and of what a detector sees."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from dnnlib.config import Finite, Hash, Name, Names, from_texts
from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_write
from dnnlib.stored import brief, reading
from stylegan_oct.data.archive import SYNTHETIC
from stylegan_oct.data.preprocess import resample, to_grey
from stylegan_oct.features.detector import Detector, load_detector
from stylegan_oct.latent.atlas import reducers
from stylegan_oct.latent.biomarkers.measure import NAMES, measure
from stylegan_oct.latent.codes import check_codes, load_codes
from stylegan_oct.latent.library import Library
from stylegan_oct.latent.looks import archive_looks, look
from stylegan_oct.latent.neighbours.index import ExactIndex
from stylegan_oct.model import OctGenerator
from torch_utils.images import to_pictures
from torch_utils.tensor_file import check_numbers, load_header, load_tensors, take

KIND = "stylegan_oct atlas"
SPACES = ("w", "features")
THUMBNAIL = 96      # side at most
NEAREST = 6         # shown with each picture
MEASURED = 32       # pictures at once

Values = dict[str, NDArray[np.float64]]     # biomarker -> [N], NaN where it could not be measured
Progress = Callable[[int, int, str], object]       # number done, of how many, what


@dataclass(frozen=True)
class Map:
    """The library in one space."""

    reducer: reducers.Reducer
    vectors: Tensor         # [N, D], float16
    places: Tensor          # [N, 2], float32
    nearest: Tensor         # [N, NEAREST], the nearest others among the vectors
    trustworthiness: float  # of the places, see `reducers.trustworthiness`


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """Pictures, what is known of them, and where they lie."""

    checkpoint_sha256: str
    psi: float
    detector: str               # identity of the network whose features are mapped
    classes: tuple[str, ...]
    labels: Tensor              # [N], all 0 without classes
    seeds: Tensor               # [N]
    thumbnails: NDArray[np.uint8]   # [N, T, T]
    values: Values              # biomarker -> [N]; empty where none was measured
    centre: Tensor              # [dim], mean of the features
    maps: dict[str, Map]        # space -> map

    def __len__(self) -> int:
        return len(self.labels)

    def class_name(self, position: int) -> str:
        """Return the class of a picture; "" for a generator without classes."""
        return self.classes[int(self.labels[position])] if self.classes else ""


@dataclass(frozen=True)
class PlacedCodes:
    """A projected scan among the pictures."""

    class_name: str
    picture: NDArray[np.uint8]      # what the generator draws from the latents: synthetic too
    values: Values                  # biomarker -> [1]
    places: dict[str, Tensor]       # space -> [2]
    nearest: dict[str, Tensor]      # space -> [NEAREST]
    derived_from_patient: bool


def build_atlas(library: Library, detector: Detector, *, samples: int, method: reducers.Method = "umap",
                biomarkers: bool = True, seed: int = 0, progress: Progress = lambda *_: None) -> Atlas:
    """Return the atlas of the first pictures of a library.

    Args:
        library: of at least `samples` pictures.
        detector: looks at the pictures, aligned on the retina.
        samples: how many, at least 32.
        method: of both maps.
        biomarkers: measure them on every picture.
        seed: of UMAP.
        progress: called with (number done, of how many, what).
    Raises:
        ConfigError: there are too few pictures, or umap-learn is not installed.
    """
    if samples < 32:
        raise ConfigError(f"An atlas needs 32 pictures or more; got {samples}.")
    if samples > len(library):
        raise ConfigError(f"{library.archive.path} holds {len(library)} pictures, fewer than {samples}. "
                          "Lower --samples, or make it longer with: python -m tools library")
    looks = archive_looks(library.archive, detector, progress=lambda done, total: progress(done, total, "looking"))
    seen = looks[SYNTHETIC][:samples]
    centre = seen.features.float().mean(dim=0)
    spaces = {"w": library.w[:samples].float(), "features": seen.directions(centre)}
    labels = torch.tensor([label or 0 for label in library.labels[:samples]])
    maps = {}
    thumbnails, values = _read(library, samples, biomarkers, progress)
    for number, (space, vectors) in enumerate(spaces.items()):
        progress(number, len(spaces), f"mapping {space}")
        maps[space] = _map(vectors, labels, method, seed)
    return Atlas(
        checkpoint_sha256=library.origin.checkpoint_sha256, psi=library.origin.psi, detector=detector.identity,
        classes=tuple(library.classes), labels=labels,
        seeds=torch.arange(samples) + library.origin.seed, thumbnails=thumbnails, values=values, centre=centre,
        maps=maps)


def place_codes(atlas: Atlas, G: OctGenerator, files: Sequence[Path]) -> list[PlacedCodes]:
    """Return where projected scans lie; the maps stay as they are.

    W+ codes are placed by the mean of their layers.

    Raises:
        ConfigError: the atlas is of another generator, or was made with other weights of the detector.
        DataError: a file holds no codes, or those of another generator.
    """
    if atlas.checkpoint_sha256 != G.info.sha256:
        raise ConfigError(f"The atlas is of another generator (checkpoint {atlas.checkpoint_sha256[:12]}, not "
                          f"{G.info.sha256[:12]}). Give that one with --checkpoint, or make the atlas again.")
    if not files:
        return []
    detector = load_detector(atlas.detector.rpartition("-")[0], device=G.device)
    if atlas.detector != detector.identity:
        raise ConfigError(f"The atlas was made with the detector {atlas.detector}, not {detector.identity}. "
                          "Make the atlas again.")
    placed = []
    for file in files:
        codes = load_codes(file)
        check_codes(codes, G, file)
        with torch.inference_mode():
            picture = to_grey(to_pictures(G.synthesize(codes.w[None].to(G.device)))[0])
        spaces = {"w": codes.w.mean(dim=0, keepdim=True),
                  "features": look([picture], detector).directions(atlas.centre)}
        placed.append(PlacedCodes(
            class_name=codes.class_name, picture=picture,
            values=measure(picture[None]).values if atlas.values else {},
            places={space: atlas.maps[space].reducer.place(vectors)[0] for space, vectors in spaces.items()},
            nearest={space: ExactIndex(atlas.maps[space].vectors).search(vectors, NEAREST).positions[0]
                     for space, vectors in spaces.items()}, derived_from_patient=codes.derived_from_patient))
    return placed


def save_atlas(path: Path, atlas: Atlas) -> None:
    """Write an atlas as safetensors: maps, vectors, thumbnails and values, but no projected scan.

    Raises:
        DataError: the file cannot be written.
    """
    tensors = {"labels": atlas.labels, "seeds": atlas.seeds, "thumbnails": torch.from_numpy(atlas.thumbnails),
               "centre": atlas.centre}
    tensors.update({f"values/{name}": torch.from_numpy(row) for name, row in atlas.values.items()})
    for space, map_ in atlas.maps.items():
        held = {"vectors": map_.vectors, "places": map_.places, "nearest": map_.nearest, **map_.reducer.tensors()}
        tensors.update({f"{space}/{name}": tensor for name, tensor in held.items()})
    header = {"kind": KIND, "format": "1", "checkpoint_sha256": atlas.checkpoint_sha256, "psi": json.dumps(atlas.psi),
              "detector": atlas.detector, "classes": json.dumps(atlas.classes),
              "maps": json.dumps({space: {**map_.reducer.facts, "trustworthiness": map_.trustworthiness}
                                  for space, map_ in atlas.maps.items()}),
              "note": "Synthetic pictures; not scans of patients, not for diagnosis."}
    try:
        with atomic_write(path, "wb") as file:
            file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=header))
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error.strerror}. Choose another place with --out.") from error


@dataclass(frozen=True, kw_only=True)
class _Header:
    kind: Literal["stylegan_oct atlas"]
    format: Literal["1"]
    checkpoint_sha256: Hash
    psi: Finite
    detector: Name
    classes: Names
    maps: dict[Name, reducers.Facts]

    def __post_init__(self) -> None:
        if set(self.maps) != set(SPACES):
            raise ConfigError(f"maps must tell of {' and '.join(SPACES)}; got {brief(list(self.maps))}.")


def load_atlas(path: Path) -> Atlas:
    """Return an atlas from its file.

    Raises:
        DataError: it is missing or something else.
    """
    with reading(path, DataError, "It holds no atlas; give an atlas.safetensors written by: python -m tools atlas"):
        header, tensors = from_texts(_Header, load_header(path).texts), load_tensors(path)
        labels = take(tensors, "labels", None, whole=True)
        n = len(labels)
        seeds = take(tensors, "seeds", n, whole=True)
        thumbnails = take(tensors, "thumbnails", n, None, None, whole=True)
        if thumbnails.dtype != torch.uint8 or thumbnails.shape[1] != thumbnails.shape[2]:
            raise ConfigError(f"thumbnails must be uint8 [{n}, T, T]; got {thumbnails.dtype} {list(thumbnails.shape)}.")
        check_numbers(labels, max(len(header.classes), 1), "labels")
        check_numbers(seeds, 2**32, "seeds")
        values = {name: take(tensors, f"values/{name}", n, finite=False) for name in NAMES
                  if f"values/{name}" in tensors}
        maps = {space: _load_map(_below(tensors, f"{space}/"), header.maps[space], n) for space in SPACES}
        centre = take(tensors, "centre", maps["features"].vectors.shape[1])
    return Atlas(checkpoint_sha256=header.checkpoint_sha256, psi=header.psi, detector=header.detector,
                 classes=header.classes, labels=labels, seeds=seeds, thumbnails=thumbnails.numpy(),
                 values={name: value.numpy() for name, value in values.items()}, centre=centre, maps=maps)


def _load_map(own: Mapping[str, Tensor], facts: reducers.Facts, n: int) -> Map:
    vectors, places = take(own, "vectors", n, None), take(own, "places", n, 2)
    nearest = take(own, "nearest", n, NEAREST, whole=True)
    check_numbers(nearest, n, "nearest")
    return Map(reducers.from_tensors(facts, own), vectors, places, nearest, facts.trustworthiness)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _map(vectors: Tensor, labels: Tensor, method: reducers.Method, seed: int) -> Map:
    kept = vectors.to(torch.float16)
    reducer = reducers.fit(method, kept, seed=seed)
    if isinstance(reducer, reducers.Umap):
        reducer = replace(reducer, places=reducers.close_gaps(reducer.places, labels))
        places = reducer.places
    else:
        places = reducer.place(kept)
    return Map(reducer, kept, places, _others(kept), reducers.trustworthiness(kept, places))


def _others(vectors: Tensor) -> Tensor:
    """Return the NEAREST other vectors of each, [N, NEAREST]."""
    found = ExactIndex(vectors).search(vectors, NEAREST + 1).positions
    itself = found == torch.arange(len(vectors))[:, None]
    itself[~itself.any(dim=1), -1] = True       # equal vectors may come before it
    return found[~itself].reshape(len(vectors), NEAREST)


def _read(library: Library, samples: int, biomarkers: bool, progress: Progress) -> tuple[NDArray[np.uint8], Values]:
    """Return thumbnails and biomarkers of the first pictures."""
    thumbnails: list[NDArray[np.uint8]] = []
    parts: list[Values] = []
    for begin in range(0, samples, MEASURED):
        pictures = [to_grey(library.picture(i)) for i in range(begin, min(begin + MEASURED, samples))]
        thumbnails += [resample(picture, min(len(picture), THUMBNAIL)) for picture in pictures]
        if biomarkers:
            parts.append(measure(np.stack(pictures)).values)
        progress(len(thumbnails), samples, "measuring")
    names = parts[0] if parts else ()
    return np.stack(thumbnails), {name: np.concatenate([part[name] for part in parts]) for name in names}
