"""From files to answers: scans or codes are read, and a library is asked for what lies near them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.classes import CLASSES
from stylegan_oct.features.detector import Detector
from stylegan_oct.latent.codes import check_codes, load_codes
from stylegan_oct.latent.intake import Refused, load_targets
from stylegan_oct.latent.library import Library
from stylegan_oct.latent.looks import Pixels, Progress
from stylegan_oct.latent.neighbours.answers import Answer, FeatureSpace, LatentSpace, Neighbours, with_copies
from stylegan_oct.latent.neighbours.copies import TrainingScans
from stylegan_oct.model import OctGenerator
from stylegan_oct.phantom import render
from torch_utils.images import to_pictures

CODES = ".safetensors"       # suffix
SIMULATED_SEED = 20_260_000  # of the scans that are asked about when there are none; no training set has it


@dataclass(frozen=True)
class Query:
    """What is asked about."""

    picture: Pixels           # [R, R] or [R, R, 3], uint8, as the generator was trained on
    private: bool = True      # of a patient; else it was drawn or simulated
    coloured: float = 0.0     # share of clearly coloured pixels; an OCT scan has next to none
    what: str = "scan"
    w: Tensor | None = None   # [layers, w_dim], of codes


@dataclass(frozen=True)
class Search:
    """What was found for each query."""

    answers: list[Answer]
    space: str                       # in which distances were taken
    training: TrainingScans | None


def load_queries(paths: Sequence[Path], G: OctGenerator, *, space: Literal["features", "w"] = "features",
                 selection: str = "all", say: Callable[[str], object] = lambda _: None) -> list[Query]:
    """Return what the files hold, in their order; without files one simulated scan of each class.

    A scan that cannot be used is left out and reported, as long as another can.

    Args:
        paths: scans of any format that is read, or folders of them; codes of projected scans where `space` is "w".
        G: whose preprocessing the scans get.
        space: "features" or "w".
        selection: of the B-scans of a volume, as `load_targets` takes it.
        say: called with a line for each scan that is left out.
    Raises:
        ConfigError: scans are given where codes are needed, or the other way round.
        DataError: no file can be used; the first is named with its reason.
    """
    if space == "w":
        files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.glob(f"*{CODES}")))]
        if not files:
            raise ConfigError("In w the search starts from codes. Project a scan first: python -m tools project SCAN")
        return [_codes(file, G) for file in files]
    wrong = next((path for path in paths if path.suffix == CODES), None)
    if wrong is not None:
        raise ConfigError(f"{wrong} holds codes, not a scan. Add --space w, or give the scan itself.")
    return _scans(paths, G, selection, say) if paths else _simulated(G)


def search(queries: Sequence[Query], library: Library, detector: Detector, *, k: int = 10,
           training: Path | None = None, progress: Progress = lambda *_: None) -> Search:
    """Return the nearest pictures of the library for each query.

    Args:
        queries: all with codes, or none.
        library: what is searched.
        detector: whose features are compared; for codes only those of pictures with training scans are.
        k: neighbours of a query.
        training: the archive that the generator was trained on, to see whether the neighbours are copies.
        progress: of the features, which are computed once and kept.
    Raises:
        ConfigError: k is more than the library holds, or the library is too small.
        DataError: the training archive does not fit.
    """
    codes = [query.w for query in queries if query.w is not None]
    scans = None
    if training is not None:
        scans = TrainingScans(training, detector, resolution=library.archive.resolution, progress=progress)
    space: FeatureSpace | LatentSpace
    if codes:
        space = LatentSpace(library)
        # Over the layers of w+ the mean squared distance to one w is that of their mean plus a constant.
        vectors = torch.stack([w.mean(dim=0) for w in codes])
    else:
        space = FeatureSpace(library, detector, progress=progress)
        vectors = space.queries([query.picture for query in queries])
    answers = Neighbours(library, space, progress=progress).ask(vectors, k)
    return Search(with_copies(answers, library, detector, scans) if scans else answers, space.name, scans)


def _scans(paths: Sequence[Path], G: OctGenerator, selection: str, say: Callable[[str], object]) -> list[Query]:
    queries, refused = [], []
    for item in load_targets(paths, selection, G.info.preprocess):
        if isinstance(item, Refused):
            refused.append(f"{item}.")
        else:
            queries.append(Query(item.pixels, coloured=item.coloured))
    if not queries:
        raise DataError(refused[0] if refused else "No scan is left to search for.")
    for line in refused:
        say(f"left out: {line}")
    return queries


def _codes(path: Path, G: OctGenerator) -> Query:
    codes = load_codes(path)
    check_codes(codes, G, path)
    with torch.inference_mode():
        picture = to_pictures(G.synthesize(codes.w[None]))[0]
    return Query(picture, private=codes.derived_from_patient, what="projection", w=codes.w)


def _simulated(G: OctGenerator) -> list[Query]:
    size = (G.info.resolution, G.info.resolution)
    names = [name for name in G.info.classes or CLASSES if name in CLASSES]
    if not names:
        raise ConfigError(f"Simulated scans show {', '.join(CLASSES)}, and this generator draws none of these. Name a "
                          "scan.")
    pictures = [render(SIMULATED_SEED, number, label=name, resolution=size, border=False).image
                for number, name in enumerate(names)]
    return [Query(picture, private=False, what=f"simulated {name}") for picture, name in
            zip(pictures, names, strict=True)]
