"""What a clinician measures in a scan, from the picture alone: thickness, drusen, fluid, foci.

    found = measure(pictures)                        # uint8 [N, H, W]
    found.values["central_thickness_um"]             # float64 [N], NaN where it cannot be told
    found.reasons["central_thickness_um"]            # why, or None

The boundaries are shortest paths (Chiu et al. 2010); docs/biomarkers.md tells how far each number can be trusted at
which resolution.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from stylegan_oct.data.readers.scale import can_be
from stylegan_oct.latent.biomarkers.errors import ERRORS
from stylegan_oct.latent.biomarkers.lesions import find_drusen, find_fluid, find_foci
from stylegan_oct.latent.biomarkers.paths import Curve
from stylegan_oct.latent.biomarkers.segment import (
    LEAST_FALL,
    LEAST_RISE,
    Boundaries,
    Grid,
    Mask,
    between,
    find_boundaries,
    resampling,
    to_grid,
)

# name -> (unit, meaning)
BIOMARKERS: Final = {
    "central_thickness_um": ("um", "mean thickness, ILM to Bruch's membrane, within 0.5 mm of the fovea"),
    "mean_thickness_um": ("um", "the same over the whole scan"),
    "rpe_elevation_max_um": ("um", "greatest distance from the RPE's outer border to Bruch's membrane"),
    "rpe_elevation_area_mm2": ("mm2", "area between the RPE and Bruch's membrane: drusen and detachments"),
    "drusen_count": ("", "elevations of 20 to 180 um that are at most 1 mm wide; touching ones by their tops"),
    "drusen_height_um": ("um", "height of the highest druse"),
    "drusen_area_mm2": ("mm2", "area under the drusen"),
    "intraretinal_fluid_mm2": ("mm2", "dark area within the retina: cysts"),
    "subretinal_fluid_mm2": ("mm2", "dark area between the retina and the RPE"),
    "foci_count": ("", "bright spots of 20 to 40 um between the ganglion cells and the photoreceptors"),
}
NAMES: Final = tuple(BIOMARKERS)
UNITS: Final = {name: unit for name, (unit, _) in BIOMARKERS.items()}
MEANINGS: Final = {name: meaning for name, (_, meaning) in BIOMARKERS.items()}

DEPTH_UM: Final = 496 * 3.872    # what the rows of a Spectralis scan span
WIDTH_UM: Final = 5900.0         # and the columns of one of 20 degrees
CENTRE_MM: Final = 0.5
BATCH: Final = 32                # pictures whose paths are searched together
USUAL_UM2: Final = DEPTH_UM * 8800.0    # area of a scan of 30 degrees; of larger ones fewer at once
FEW: Final = 4                   # pictures in the other steps: so many stay in the processor's cache

LEAST_CONTRAST = 12.0            # grey values between background and brightest layer
LEAST_STEP = 0.3                 # of normalised grey, from the vitreous to the retina as a whole
PLAUSIBLE_UM = (60.0, 900.0)     # thickness of a retina, atrophic to swollen
MOST_NOISE = 0.35                # within the ONL, as a share of its distance from the grey of the vitreous
TOO_NOISY = "too noisy to tell fluid from the outer nuclear layer"
LEAST_KNOWN = 0.6                # share of the columns that a measurement needs
FOCI_PITCH_UM = (12.0, 30.0)     # a focus of 30 um must fill more than a pixel
COUNT_PITCH_UM = (16.0, 50.0)    # drusen of 100 um must be parted from their neighbours
INNER_UM = (10.0, 110.0)         # below the ILM lie the inner layers, but at the fovea
INNER_LOSS = 0.75                # of their usual grey, which the fovea falls below
THICKNESS_UM = 500.0             # a retina thinner by this counts as much as inner layers of no grey
FOVEA_REACH_MM = 2.0             # from the middle of the scan


@dataclass(frozen=True)
class Measurements:
    """Biomarkers of N pictures and the lines they were read from."""

    values: dict[str, NDArray[np.float64]]    # [N] by name
    reasons: dict[str, list[str | None]]      # why a value is NaN
    ilm: Curve                  # [N, W] depth in pixels from the upper edge: row r spans r to r + 1; NaN where unknown
    rpe: Curve                  # outer border of the RPE
    bruch: Curve
    fovea: NDArray[np.float64]  # [N], column of the fovea in pixels; NaN where there is none to be seen
    fluid: NDArray[np.uint8]    # [N, H, W], 1 within the retina, 2 under it
    foci: Mask                  # [N, H, W], the middles of the foci
    um_per_px: tuple[float, float]    # (z, x)

    def __len__(self) -> int:
        return len(self.fovea)


def default_um_per_px(height: int, width: int) -> tuple[float, float]:
    """Return (z, x) um per pixel of a picture that shows a whole Spectralis scan of 20 degrees."""
    return DEPTH_UM / height, WIDTH_UM / width


def measure(pictures: NDArray[np.uint8], um_per_px: tuple[float, float] | None = None, valid: Mask | None = None,
            progress: Callable[[int], object] = lambda _: None) -> Measurements:
    """Return the biomarkers of grey pictures.

    Args:
        pictures: uint8 [N, H, W], at least one of at least 16 x 16.
        um_per_px: (z, x) size of a pixel; default: 1920 um over the rows, 5.9 mm over the columns.
        valid: bool [N, H, W] or [H, W], false in padding; default: all is scan.
        progress: called with the number of pictures done.
    """
    assert pictures.ndim == 3 and pictures.dtype == np.uint8, (pictures.shape, pictures.dtype)
    count, height, width = pictures.shape
    assert count >= 1 and height >= 16 and width >= 16, pictures.shape
    scale = um_per_px or default_um_per_px(height, width)
    if valid is not None:
        valid = np.broadcast_to(valid, pictures.shape)
    spans = height * scale[0], width * scale[1]
    if not can_be(*spans):  # before the grid of measurement is made, whose size goes with it
        return _unknown(pictures.shape, scale, f"{spans[0] / 1000:.3g} x {spans[1] / 1000:.3g} mm is no size of a scan")
    parts = []
    batch = max(1, int(BATCH * min(1.0, USUAL_UM2 / (spans[0] * spans[1]))))
    for begin in range(0, count, batch):
        part = slice(begin, begin + batch)
        parts += _measure(pictures[part], scale, None if valid is None else valid[part])
        progress(min(begin + batch, count))
    return _joined(parts, scale)


def _unknown(shape: tuple[int, int, int], scale: tuple[float, float], why: str) -> Measurements:
    """Return that nothing can be told of so many pictures [N, H, W]."""
    count, height, width = shape
    line = np.full((count, width), np.nan)
    return Measurements({name: np.full(count, np.nan) for name in NAMES}, {name: [why] * count for name in NAMES},
                        line, line, line, np.full(count, np.nan), np.zeros(shape, np.uint8), np.zeros(shape, bool),
                        scale)


def _measure(pictures: NDArray[np.uint8], scale: tuple[float, float], valid: Mask | None) -> list[Measurements]:
    parts = [slice(begin, begin + FEW) for begin in range(0, len(pictures), FEW)]
    grids = [to_grid(pictures[part], None if valid is None else valid[part], scale) for part in parts]
    return [_read(pictures[part].shape, scale, grid, lines)
            for part, grid, lines in zip(parts, grids, find_boundaries(grids), strict=True)]


def _read(shape: tuple[int, int, int], scale: tuple[float, float], grid: Grid, lines: Boundaries) -> Measurements:
    known, why = _known(grid, lines)
    thickness = np.where(known, (lines.bruch - lines.ilm) * grid.z_um, np.nan)
    fovea = _find_fovea(grid, lines, known)
    drusen, fluid = find_drusen(grid, lines, known), find_fluid(grid, lines, known)
    foci = np.zeros_like(grid.valid) if _too_coarse(scale, FOCI_PITCH_UM) else find_foci(grid, lines, known)
    mm2 = grid.z_um * grid.x_um * 1e-6
    raised = np.where(known, drusen.elevation_um, 0)
    middle = np.where(np.isnan(fovea), (known.shape[1] - 1) / 2, fovea)
    near = np.abs(np.arange(known.shape[1]) - middle[:, None]) * grid.x_um <= 1000 * CENTRE_MM
    values = {
        "central_thickness_um": _mean(thickness, near & known),
        "mean_thickness_um": _mean(thickness, known),
        "rpe_elevation_max_um": raised.max(axis=1),
        "rpe_elevation_area_mm2": raised.sum(axis=1) * grid.x_um * 1e-6,
        "drusen_count": drusen.count, "drusen_height_um": drusen.height_um, "drusen_area_mm2": drusen.area_mm2,
        "intraretinal_fluid_mm2": fluid.inside.sum(axis=(1, 2)) * mm2,
        "subretinal_fluid_mm2": fluid.under.sum(axis=(1, 2)) * mm2,
        "foci_count": foci.sum(axis=(1, 2)).astype(float),
    }
    reasons = _reasons(known, near, why, scale)
    for name in ("intraretinal_fluid_mm2", "subretinal_fluid_mm2"):
        reasons[name] = [reason or (TOO_NOISY if noise > MOST_NOISE else None)
                         for reason, noise in zip(reasons[name], fluid.noise, strict=True)]
    for name, lacks in reasons.items():
        values[name] = np.where([reason is None for reason in lacks], values[name], np.nan)
    return _in_pixels(shape, scale, grid, lines, known, fovea, (fluid.inside, fluid.under, foci),
                      (values, reasons))


def _mean(values: Curve, where: Mask) -> NDArray[np.float64]:
    total = np.where(where, values, 0).sum(axis=1)
    mean: NDArray[np.float64] = total / np.maximum(where.sum(axis=1), 1)
    return mean


def _known(grid: Grid, lines: Boundaries) -> tuple[Mask, list[str]]:
    """Return which columns show all boundaries, [N, W], and what most others lack."""
    depth = grid.grey.shape[2]

    seen = (lines.rise >= LEAST_RISE) & (lines.fall >= LEAST_FALL)
    seen &= (grid.contrast >= LEAST_CONTRAST)[:, None]
    thickness = (lines.bruch - lines.ilm) * grid.z_um
    seen &= (thickness >= PLAUSIBLE_UM[0]) & (thickness <= PLAUSIBLE_UM[1])
    seen &= (_retina_above_vitreous(grid, lines) >= LEAST_STEP)[:, None]
    cut = ((lines.ilm < 1.5) | (lines.bruch > depth - 1.5)) & (grid.contrast >= LEAST_CONTRAST)[:, None]
    rows = (np.arange(depth) > lines.ilm[..., None] - 3) & (np.arange(depth) < lines.bruch[..., None] + 3)
    hidden = cast(Mask, (rows & ~grid.valid).any(axis=2))
    causes = {"padding hides the retina": hidden, "the frame cuts the retina off": cut & ~hidden,
              "no retina is seen": ~seen & ~cut & ~hidden}
    names = list(causes)
    most = np.argmax([where.sum(axis=1) for where in causes.values()], axis=0)
    return seen & ~cut & ~hidden, [names[place] for place in most]


def _retina_above_vitreous(grid: Grid, lines: Boundaries) -> NDArray[np.float64]:
    """Return how much brighter it is between ILM and RPE than above the ILM, [N], in normalised grey; noise has 0."""
    depth = grid.grey.shape[2]
    retina = between(depth, lines.ilm, lines.rpe) & grid.valid
    vitreous = between(depth, np.zeros_like(lines.ilm), lines.ilm - 1) & grid.valid

    def mean(where: Mask) -> NDArray[np.float64]:
        total = np.where(where, grid.grey, 0).sum(axis=(1, 2), dtype=np.float64)
        return cast(NDArray[np.float64], total / np.maximum(where.sum(axis=(1, 2)), 1))

    return mean(retina) - mean(vitreous)


def _reasons(known: Mask, near: Mask, why: Sequence[str], scale: tuple[float, float]) -> dict[str, list[str | None]]:
    """Return for each biomarker and picture why it cannot be told, or None."""
    whole = known.mean(axis=1)
    centre = (known & near).sum(axis=1) / np.maximum(near.sum(axis=1), 1)
    reasons: dict[str, list[str | None]] = {}
    for name in NAMES:
        share = centre if name == "central_thickness_um" else whole
        where = "of the centre" if name == "central_thickness_um" else "of the columns"
        reasons[name] = [None if part >= LEAST_KNOWN else f"{lack} in {1 - part:.0%} {where}"
                         for part, lack in zip(share, why, strict=True)]
    for name, limits in (("foci_count", FOCI_PITCH_UM), ("drusen_count", COUNT_PITCH_UM)):
        coarse = _too_coarse(scale, limits)
        reasons[name] = [reason or coarse for reason in reasons[name]]
    return reasons


def _too_coarse(scale: tuple[float, float], limits: tuple[float, float]) -> str | None:
    """Return why pixels of this size cannot show something, or None where they can."""
    if all(um <= limit for um, limit in zip(scale, limits, strict=True)):
        return None
    return f"pixels of {scale[0]:.0f} x {scale[1]:.0f} um are too coarse: {limits[0]:.0f} x {limits[1]:.0f} is the most"


def _find_fovea(grid: Grid, lines: Boundaries, known: Mask) -> NDArray[np.float64]:
    """Return the column of the fovea, [N]: where the bright inner layers end and the retina is thin.

    Oedema fills the pit, but the nerve fibres, ganglion cells and inner plexiform layer still leave the foveola, so
    the grey below the ILM counts most. NaN where the middle of the scan has no such place.
    """
    inner = between(grid.grey.shape[2], *(lines.ilm + um / grid.z_um for um in INNER_UM))
    grey = np.where(inner, grid.grey, 0).sum(axis=2) / np.maximum(inner.sum(axis=2), 1)
    usual = np.array([np.median(values[good]) if good.any() else 1 for values, good in zip(grey, known, strict=True)])
    thickness = (lines.bruch - lines.ilm) * grid.z_um
    sigma = 70 / grid.x_um
    relative = gaussian_filter1d(grey / np.maximum(usual, 0.05)[:, None], sigma, axis=1, mode="nearest")
    score = relative + gaussian_filter1d(thickness, sigma, axis=1, mode="nearest") / THICKNESS_UM
    x_mm = (np.arange(grey.shape[1]) + 0.5 - grey.shape[1] / 2) * grid.x_um / 1000
    score[~known | (np.abs(x_mm) > FOVEA_REACH_MM)] = np.inf
    place = score.argmin(axis=1)
    each = np.arange(len(place))
    return np.where(np.isfinite(score[each, place]) & (relative[each, place] < INNER_LOSS), place, np.nan)


def _in_pixels(shape: tuple[int, int, int], scale: tuple[float, float], grid: Grid, lines: Boundaries, known: Mask,
               fovea: NDArray[np.float64], found: tuple[Mask, Mask, Mask],
               numbers: tuple[dict[str, NDArray[np.float64]], dict[str, list[str | None]]]) -> Measurements:
    """Return what was found on the grid in the pixels of the pictures."""
    _, height, width = shape
    _, cols, rows = grid.grey.shape
    across = resampling(cols, width).astype(np.float64)
    seen = (known[:, None] @ across.T)[:, 0] > 0.5    # one by one: a product of all rounds by their number
    curves = [np.where(seen, (line[:, None] @ across.T)[:, 0] * (height / rows), np.nan)
              for line in (lines.ilm, lines.rpe, lines.bruch)]
    pick_row, pick_col = (((np.arange(n) + 0.5) * (full / n)).astype(int)
                          for n, full in ((height, rows), (width, cols)))
    inside, under = (mask[:, pick_col][:, :, pick_row].transpose(0, 2, 1) for mask in found[:2])
    foci = np.zeros(shape, bool)
    number, x, z = np.nonzero(found[2])
    foci[number, (z * height) // rows, (x * width) // cols] = True
    fluid = inside.astype(np.uint8) + 2 * under.astype(np.uint8)
    return Measurements(*numbers, curves[0], curves[1], curves[2], (fovea + 0.5) * (width / cols) - 0.5, fluid, foci,
                        scale)


def _joined(parts: Sequence[Measurements], scale: tuple[float, float]) -> Measurements:
    values = {name: np.concatenate([part.values[name] for part in parts]) for name in NAMES}
    reasons = {name: [reason for part in parts for reason in part.reasons[name]] for name in NAMES}
    ilm, rpe, bruch, fovea = (np.concatenate([getattr(part, name) for part in parts])
                              for name in ("ilm", "rpe", "bruch", "fovea"))
    return Measurements(values, reasons, ilm, rpe, bruch, fovea, np.concatenate([part.fluid for part in parts]),
                        np.concatenate([part.foci for part in parts]), scale)


def errors_at(um_per_row: float) -> dict[str, float]:
    """Return the error of each biomarker at a pixel height: 90 of 100 measurements on the phantom are closer than this.

    Those of the coarser of the resolutions between which it lies; biomarkers that cannot be measured are absent.
    """
    coarser = (rows for rows in ERRORS if DEPTH_UM / rows >= 0.99 * um_per_row)
    return ERRORS[max(coarser, default=min(ERRORS))]
