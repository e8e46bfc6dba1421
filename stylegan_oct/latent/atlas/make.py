"""From a generator to the files of an atlas."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylegan_oct import limits
from stylegan_oct.features.detector import load_detector
from stylegan_oct.latent.atlas.atlas import Atlas, Progress, build_atlas, load_atlas, place_codes, save_atlas
from stylegan_oct.latent.atlas.colours import CLASS, check_colour
from stylegan_oct.latent.atlas.page import save_page
from stylegan_oct.latent.atlas.picture import save_picture
from stylegan_oct.latent.atlas.reducers import Method, check_method
from stylegan_oct.latent.biomarkers.measure import NAMES
from stylegan_oct.latent.library import Library, default_count, default_path, write_library
from stylegan_oct.limits import check_fields
from stylegan_oct.model import OctGenerator

FILE = "atlas.safetensors"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What goes into an atlas."""

    samples: int | None = None   # None: as many as a library holds when nobody says
    psi: float = 1.0
    method: Method = "umap"
    biomarkers: bool = True
    seed: int = 0           # of UMAP

    def __post_init__(self) -> None:
        check_fields(self, {"samples": limits.SAMPLES.at_least(32), "psi": limits.PSI, "seed": limits.SEED})


@dataclass(frozen=True)
class Made:
    """The files and their figures."""

    page: Path
    picture: Path
    atlas: Path
    figures: dict[str, Any]


def make_atlas(G: OctGenerator, settings: Settings, out: Path, *, codes: Sequence[Path] = (),
               source: Path | None = None, library: Path | None = None, colour: str = CLASS,
               progress: Progress = lambda *_: None) -> Made:
    """Write an atlas as `synthetic-atlas.html`, `synthetic-atlas.png` and `atlas.safetensors`.

    The pictures come from the generator's library, which is drawn first where it is not there. Ctrl-C keeps what it
    holds by then, and the same call goes on from there.

    Args:
        G: generator.
        settings: of a new atlas.
        out: folder.
        codes: files of projected scans to place; where one is of a patient, the names of the files say so.
        source: file of an atlas made before, in which to place them; the settings are left aside.
        library: where the library is kept; default as for the neighbours.
        colour: of the dots in the PNG: "class" or a biomarker.
        progress: called with (number done, of how many, what).
    Raises:
        ConfigError: a setting cannot work, or the atlas is of another generator.
        DataError: a file is missing, something else, or cannot be written.
        KeyboardInterrupt: stopped before the library was long enough.
    """
    if source is None:
        check_method(settings.method)
        check_colour(colour, NAMES if settings.biomarkers else ())
        atlas = _new_atlas(G, settings, library, progress)
    else:
        atlas = load_atlas(source)
        check_colour(colour, atlas.values)
    scans = place_codes(atlas, G, codes)
    private = "-derived-from-patient" if any(scan.derived_from_patient for scan in scans) else ""
    made = Made(page=out / f"synthetic-atlas{private}.html", picture=out / f"synthetic-atlas{private}.png",
                atlas=source or out / FILE, figures=_figures(atlas))
    if source is None:
        save_atlas(made.atlas, atlas)
    save_page(made.page, atlas, scans)
    save_picture(made.picture, atlas, scans, colour=colour)
    made.figures["scans"] = [{space: place.tolist() for space, place in scan.places.items()} for scan in scans]
    return made


def _new_atlas(G: OctGenerator, settings: Settings, path: Path | None, progress: Progress) -> Atlas:
    path, samples = path or default_path(G, psi=settings.psi), settings.samples or default_count(G)
    drawn = write_library(path, G, count=samples, psi=settings.psi,
                          progress=lambda done, total: progress(done, total, "drawing"))
    if drawn < samples:
        raise KeyboardInterrupt
    return build_atlas(Library(path), load_detector(device=G.device), samples=samples,
                       method=settings.method, biomarkers=settings.biomarkers, seed=settings.seed, progress=progress)


def _figures(atlas: Atlas) -> dict[str, Any]:
    return {"samples": len(atlas), "psi": atlas.psi, "detector": atlas.detector,
            "checkpoint_sha256": atlas.checkpoint_sha256,
            "maps": {space: {**map_.reducer.facts, "trustworthiness": map_.trustworthiness}
                     for space, map_ in atlas.maps.items()}}
