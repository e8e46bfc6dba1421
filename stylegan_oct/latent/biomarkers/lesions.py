"""Lesions between the boundaries: elevations of the RPE, dark fluid, hyperreflective foci. Sizes are in um and mm2."""

import itertools
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import find_peaks

from stylegan_oct.latent.biomarkers.paths import Curve, Plane
from stylegan_oct.latent.biomarkers.segment import Boundaries, Grid, Mask, between, blur

Number = TypeVar("Number", bound=np.generic)
Numbers = NDArray[np.float64]     # [N]

RPE_UM = 16.0                     # its thickness
DRUSE_FOOT_UM = 13.0              # an elevation ends where it falls below this
DRUSE_UM = 20.0                   # and counts from this height on
DRUSE_LEAST_WIDTH_UM = 60.0
DETACHMENT_UM = 180.0             # an elevation higher than this is a detachment
# Neovascular detachments are darker than drusen: one wider than this (um) needs this share of the RPE's grey within.
CONTENT: Final = ((300.0, 0.4), (700.0, 0.6))
NEIGHBOUR_UM = 12.0               # two drusen are parted by a dip of at least this,
PARTED = 0.6                      # two elevations by one to this share of the lower top
VITREOUS_UM = (40.0, 400.0)       # above the ILM: what fluid is as dark as
FLUID_EDGE = 0.68                 # grey between the vitreous (0) and the darkest layer, the ONL (1)
# Fluid is darker than this on average; coarser pixels mix it with its surroundings: (um, grey) to (um, grey).
FLUID_MEAN = ((3.9, 11.0), (0.42, 0.5))
BRIGHT = 0.6                      # normalised grey of the RPE, and of the material that CNV leaves upon it
ONL_UM = (75.0, 130.0)            # above the RPE's outer border lies the ONL, but over fluid and elevations
FLUID_LEAST_MM2 = 0.0025
FOCUS_UM = 32.0                   # foci measure 20 to 40 um
FOCUS_CONTRAST = 0.16             # above its surroundings, in normalised grey


@dataclass(frozen=True)
class Drusen:
    """Elevations of the RPE above Bruch's membrane."""

    elevation_um: Curve     # [N, W]
    count: Numbers
    height_um: Numbers      # of the highest, 0 without drusen
    area_mm2: Numbers


@dataclass(frozen=True)
class Fluid:
    """Dark regions of the retina, [N, W, Z]."""

    inside: Mask
    under: Mask
    noise: Numbers    # typical difference within the ONL as a share of its distance from the grey of the vitreous


def find_drusen(grid: Grid, lines: Boundaries, known: Mask) -> Drusen:
    """Return the elevations of the RPE and which of them are drusen rather than detachments."""
    elevation = (lines.bruch - lines.rpe) * grid.z_um
    content = _content(grid, lines)
    count, height, area = (np.zeros(len(elevation)) for _ in range(3))
    for number, curve in enumerate(np.where((elevation > DRUSE_FOOT_UM) & known, elevation, 0)):
        for begin, end in _mounds(curve):
            top, width_um = curve[begin:end].max(), (end - begin) * grid.x_um
            least = max((grey for width, grey in CONTENT if width_um > width), default=0.0)
            inside = content[number, begin:end][curve[begin:end] >= DRUSE_UM]
            if DRUSE_UM <= top <= DETACHMENT_UM and width_um >= DRUSE_LEAST_WIDTH_UM and inside.mean() >= least:
                peaks, _ = find_peaks(np.pad(curve[begin:end], 1), height=DRUSE_UM, prominence=NEIGHBOUR_UM)
                count[number] += max(1, len(peaks))
                height[number] = max(height[number], top)
                area[number] += curve[begin:end].sum() * grid.x_um * 1e-6
    return Drusen(elevation, count, height, area)


def _content(grid: Grid, lines: Boundaries) -> Curve:
    """Return the grey between the RPE and Bruch's membrane as a share of the RPE's, [N, W]; 1 where they touch."""
    depth = grid.grey.shape[2]

    def mean(where: Mask) -> Curve:
        grey: Curve = np.where(where, grid.grey, 0).sum(axis=2) / np.maximum(where.sum(axis=2), 1)
        return grey

    margin = 8 / grid.z_um    # the RPE's blur and Bruch's membrane itself
    within = between(depth, lines.rpe + 0.5 * margin, lines.bruch - margin)
    shell = mean(between(depth, lines.rpe - RPE_UM / grid.z_um, lines.rpe))
    return np.where(within.any(axis=2), mean(within) / np.maximum(shell, 0.1), 1)


def _mounds(curve: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return where elevations begin and end: at their foot, or at a dip to PARTED of the lower of two tops."""
    runs, count = ndimage.label(curve > 0)
    mounds = []
    for begin, end in ((run[0].start, run[0].stop) for run in ndimage.find_objects(runs, count)):
        padded = np.pad(curve[begin:end], 1)
        peaks, _ = find_peaks(padded, prominence=NEIGHBOUR_UM)
        cuts = [begin]
        for left, right in itertools.pairwise(peaks - 1 + begin):
            low = left + int(np.argmin(curve[left:right + 1]))
            if curve[low] < PARTED * min(curve[left], curve[right]):
                cuts.append(low)
        mounds += list(itertools.pairwise([*cuts, end]))
    return mounds


def find_fluid(grid: Grid, lines: Boundaries, known: Mask) -> Fluid:
    """Return what is as dark as the vitreous within the retina (cysts) and between it and the RPE.

    Fluid ends where the grey is half-way to that of its surroundings; unevenness of the ONL is not as dark on average.
    """
    inside, under = np.zeros(grid.grey.shape, bool), np.zeros(grid.grey.shape, bool)
    noise = np.zeros(len(known))
    shade = _shadow(grid, lines)
    for number, (ilm, rpe) in enumerate(zip(lines.ilm, lines.rpe, strict=True)):
        rows = _rows(grid, ilm, rpe, above_um=VITREOUS_UM[1])
        part = replace(grid, grey=grid.grey[number:number + 1, :, rows], valid=grid.valid[number:number + 1, :, rows])
        grey = (blur(part.grey, 8 / grid.z_um, 18 / grid.x_um) / shade[number, :, None])[0]    # [W, Z']
        inside[number, :, rows], under[number, :, rows], noise[number] = _fluid(
            grid, grey, (ilm - rows.start) * grid.z_um, (rpe - rows.start) * grid.z_um,
            part.valid[0] & known[number, :, None])
    return Fluid(inside, under, noise)


def _fluid(grid: Grid, grey: Plane, ilm_um: Curve, rpe_um: Curve, seen: Mask) -> tuple[Mask, Mask, float]:
    """Return fluid within and under the retina of one picture, [W, Z], and its noise.

    Args:
        grid: for its pitch.
        grey: [W, Z], smoothed, without shadows.
        ilm_um, rpe_um: [W], from the upper edge of `grey`.
        seen: [W, Z], where there is something to be seen.
    """
    def band(above_um: Curve, below_um: Curve) -> Mask:
        return between(grey.shape[1], above_um / grid.z_um, below_um / grid.z_um)

    top_um = rpe_um - RPE_UM
    inner = band(ilm_um + 20, top_um - 4) & seen
    vitreous = band(ilm_um - VITREOUS_UM[1], ilm_um - VITREOUS_UM[0]) & seen
    nuclear = np.flatnonzero(inner & band(rpe_um - ONL_UM[1], rpe_um - ONL_UM[0]))
    dark, layer = _median(grey[vitreous]), _median(grey.ravel()[nuclear])
    level = (grey - dark) / max(layer - dark, np.float32(0.04))
    column, row = np.divmod(nuclear, grey.shape[1])
    noise = _median(np.abs(level[column, row] - level[np.maximum(column - grid.cols(70), 0), row]))
    regions, count = ndimage.label(inner & (level < FLUID_EDGE))
    where = np.flatnonzero(regions)
    names = regions.ravel()[where]
    sizes = np.bincount(names, minlength=count + 1)
    depth = np.bincount(names, level.ravel()[where], minlength=count + 1) / np.maximum(sizes, 1)
    fluid = (sizes * (grid.z_um * grid.x_um * 1e-6) >= FLUID_LEAST_MM2) & (
        depth < np.interp(grid.pixel_um, *FLUID_MEAN))
    if not fluid.any():
        nothing = np.zeros(grey.shape, bool)
        return nothing, nothing, float(noise)
    under = fluid & _lies_on_rpe(grid, grey, regions, count, top_um)
    return (fluid & ~under)[regions], under[regions], float(noise)


def _lies_on_rpe(grid: Grid, grey: Plane, regions: NDArray[np.int32], count: int, top_um: Curve) -> NDArray[np.bool_]:
    """Tell of each region whether its lower edge lies mostly on the RPE, or on something as bright that covers it.

    Photoreceptors part cysts from the RPE; of fluid under the retina they are the roof.
    """
    def share(edge: Mask, fits: Mask) -> NDArray[np.float64]:
        names = regions[edge]
        return np.bincount(names, fits[edge], minlength=count + 1) / np.maximum(
            np.bincount(names, minlength=count + 1), 1)

    bright = ndimage.uniform_filter1d(grey, grid.rows(12), axis=1) > BRIGHT
    last = (regions != _shifted(regions, -1, 1)) & (regions > 0)
    first = (regions != _shifted(regions, 1, 1)) & (regions > 0)
    near = between(grey.shape[1], (top_um - 40) / grid.z_um, np.full_like(top_um, grey.shape[1] + 1))
    floor = share(last, near | _shifted(bright, -grid.rows(22), 1))
    roof = share(first, ndimage.maximum_filter1d(_shifted(bright, grid.rows(25), 1), grid.rows(30), axis=1))
    resting: NDArray[np.bool_] = (floor > 0.5) | ((roof > 0.6) & (floor > 0.2))
    return resting


def _rows(grid: Grid, ilm: Curve, rpe: Curve, *, above_um: float = 0) -> slice:
    """Return the rows of a picture that its retina reaches, and so much above it; wider than all filters."""
    return slice(max(0, int(ilm.min() - (above_um + 60) / grid.z_um)), int(rpe.max() + 60 / grid.z_um) + 1)


def _shadow(grid: Grid, lines: Boundaries) -> NDArray[np.float32]:
    """Return how much vessels dim what lies below them, [N, W], 0.6 to 1: the RPE is about even where none does."""
    middle = np.rint(lines.rpe - 0.5 * RPE_UM / grid.z_um - 0.5).astype(np.intp)
    reach = np.arange(-grid.rows(30), grid.rows(30) + 1)
    weight = np.exp(-0.5 * (reach * grid.z_um / 10) ** 2)
    rows = np.clip(np.clip(middle, 0, grid.grey.shape[2] - 1)[..., None] + reach, 0, grid.grey.shape[2] - 1)
    rpe = (np.take_along_axis(grid.grey, rows, axis=2) * (weight / weight.sum())).sum(axis=2)
    usual = ndimage.percentile_filter(rpe, 65, size=(1, max(3, round(500 / grid.x_um))))
    shade: NDArray[np.float32] = np.clip(rpe / np.maximum(usual, 0.05), 0.6, 1).astype(np.float32)
    return shade


def _median(values: NDArray[np.float32]) -> np.float32:
    """Return the median, 0 of nothing."""
    half = len(values) // 2
    if not half:
        return values[0] if len(values) else np.float32(0)
    ordered = np.partition(values, half)
    upper: np.float32 = ordered[half]
    return upper if len(values) % 2 else (ordered[:half].max() + upper) / np.float32(2)


def find_foci(grid: Grid, lines: Boundaries, known: Mask) -> Mask:
    """Return the middles of bright spots in the nuclear and plexiform layers, [N, W, Z].

    A spot is brighter than what lies beside it on either side and than what lies above and below: a layer is not.
    """
    spots = np.zeros(grid.grey.shape, bool)
    seen = between(grid.grey.shape[2], lines.ilm + 80 / grid.z_um, lines.rpe - 80 / grid.z_um)
    seen &= known[..., None] & grid.valid
    for number, (ilm, rpe) in enumerate(zip(lines.ilm, lines.rpe, strict=True)):
        rows = _rows(grid, ilm, rpe)
        grey = blur(grid.grey[number:number + 1, :, rows], 6 / grid.z_um, 8 / grid.x_um)[0]
        spots[number, :, rows] = _peaks(grid, grey) & seen[number, :, rows]
    return spots


def _peaks(grid: Grid, grey: Plane) -> Mask:
    """Return the local maxima of what a spot is brighter by than its four sides, [W, Z]."""
    beside = []
    for axis, pitch in enumerate((grid.x_um, grid.z_um)):
        far = max(2, round(1.3 * FOCUS_UM / pitch))
        smooth = ndimage.uniform_filter1d(grey, 2 * (far // 2) + 1, axis=axis, mode="nearest")
        beside += [_shifted(smooth, far, axis), _shifted(smooth, -far, axis)]
    contrast = grey - np.maximum.reduce(beside)
    reach = [2 * round(FOCUS_UM / pitch) + 1 for pitch in (grid.x_um, grid.z_um)]
    peaks: Mask = (contrast == ndimage.maximum_filter(contrast, reach)) & (contrast > FOCUS_CONTRAST)
    return peaks


def _shifted(planes: NDArray[Number], by: int, axis: int) -> NDArray[Number]:
    """Return the planes moved along an axis, the edge repeated."""
    size = planes.shape[axis]
    moved: NDArray[Number] = np.take(planes, np.clip(np.arange(size) - by, 0, size - 1), axis=axis)
    return moved
