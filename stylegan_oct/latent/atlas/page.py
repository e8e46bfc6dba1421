"""An atlas as one HTML file that needs nothing else: pointing at a dot shows its picture."""

import base64
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dnnlib.errors import DataError
from dnnlib.files import atomic_write
from dnnlib.pictures import SYNTHETIC_NOTE, Picture
from stylegan_oct.data.preprocess import resample
from stylegan_oct.data.privacy import write_private
from stylegan_oct.latent.atlas.atlas import Atlas, Map, PlacedCodes
from stylegan_oct.latent.atlas.colours import PALETTE, RAMP, value_range
from stylegan_oct.latent.biomarkers.measure import MEANINGS, UNITS

TEMPLATE = Path(__file__).with_name("page.html")
SPACE_TITLES = {"w": "w, the generator's latents", "features": "what the detector sees"}
QUALITY = 80        # of the JPEG of all thumbnails


def save_page(path: Path, atlas: Atlas, scans: Sequence[PlacedCodes] = ()) -> None:
    """Write the page; one that shows projections of a patient's scan for the owner alone.

    Raises:
        DataError: the file cannot be written.
    """
    page = (TEMPLATE.read_text(encoding="utf-8").replace("@NOTE@", SYNTHETIC_NOTE)
            .replace("@SPRITE@", _data_url(sprite([*atlas.thumbnails, *(scan.picture for scan in scans)])))
            .replace("@DATA@", embed(page_data(atlas, scans)))).encode()
    try:
        if any(scan.derived_from_patient for scan in scans):
            write_private(path, page)
            return
        with atomic_write(path, "wb") as file:
            file.write(page)
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error.strerror}. Choose another place with --out.") from error


def page_data(atlas: Atlas, scans: Sequence[PlacedCodes] = ()) -> dict[str, Any]:
    """Return what the page's script reads: as JSON takes it, NaN as null."""
    side = atlas.thumbnails.shape[1]
    patient = "; with projections of patients' scans, keep it as you keep them" if any(
        scan.derived_from_patient for scan in scans) else ""
    return {
        "about": f"{len(atlas)} pictures drawn by a generator (checkpoint {atlas.checkpoint_sha256[:12]}, psi "
                 f"{atlas.psi:g}); none is a scan of a patient, none is for diagnosis{patient}.",
        "psi": atlas.psi, "classes": atlas.classes, "palette": PALETTE, "ramp": RAMP, "tile": side,
        "columns": columns_of(len(atlas) + len(scans)), "labels": atlas.labels.tolist(), "seeds": atlas.seeds.tolist(),
        "values": {name: _numbers(row) for name, row in atlas.values.items()},
        "ranges": {name: value_range(row) for name, row in atlas.values.items()},
        "units": {name: unit_of(name) for name in atlas.values},
        "meanings": {name: MEANINGS.get(name, "") for name in atlas.values},
        "maps": {space: _map_data(space, map_) for space, map_ in atlas.maps.items()},
        "scans": [_scan_data(atlas, scan) for scan in scans]}


def sprite(pictures: Sequence[Picture]) -> Picture:
    """Return all pictures side by side in rows of `columns_of`, each as large as the first."""
    side, columns = len(pictures[0]), columns_of(len(pictures))
    whole = np.zeros((math.ceil(len(pictures) / columns) * side, columns * side), np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        whole[row * side:(row + 1) * side, column * side:(column + 1) * side] = resample(picture, side)
    return whole


def columns_of(count: int) -> int:
    """Return how many pictures stand in a row of the sprite: about as many as there are rows."""
    return math.ceil(math.sqrt(count))


def embed(data: dict[str, Any]) -> str:
    """Return JSON that stays inside its script element, whatever the names in it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def unit_of(name: str) -> str:
    """Return the unit of a biomarker as people write it."""
    return {"um": "µm", "mm2": "mm²"}.get(UNITS.get(name, ""), UNITS.get(name, ""))


def quality_of(map_: Map) -> str:
    """Return a sentence on how far the map can be trusted."""
    facts = map_.reducer.facts
    how = ("UMAP" if facts["method"] == "umap" else
           f"Principal components, {float(facts['explained_x']) + float(facts['explained_y']):.0%} of the variance")
    return (f"{how}. Trustworthiness {map_.trustworthiness:.2f}: 1 if dots that lie together are neighbours indeed, "
            "about 0.5 by chance. Distances between groups mean little.")


def _map_data(space: str, map_: Map) -> dict[str, Any]:
    return {"title": SPACE_TITLES[space], "quality": quality_of(map_), "places": _rounded(map_.places),
            "nearest": map_.nearest.tolist()}


def _scan_data(atlas: Atlas, scan: PlacedCodes) -> dict[str, Any]:
    return {"label": atlas.classes.index(scan.class_name) if scan.class_name in atlas.classes else 0,
            "values": {name: _numbers(row)[0] for name, row in scan.values.items()},
            "places": {space: _rounded(place) for space, place in scan.places.items()},
            "nearest": {space: near.tolist() for space, near in scan.nearest.items()}}


def _rounded(places: Tensor) -> Any:
    return places.double().numpy().round(3).tolist()


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values.tolist()]


def _data_url(picture: Picture) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="jpeg", quality=QUALITY, comment=SYNTHETIC_NOTE)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
