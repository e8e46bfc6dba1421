"""Lesions between the boundaries: elevations of the RPE, dark fluid, hyperreflective foci. Sizes are in um and mm2."""

import itertools
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import find_peaks

from stylegan_oct.latent.biomarkers.paths import Curve, Plane
from stylegan_oct.latent.biomarkers.segment import Boundaries, Grid, Mask, blur

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
FLUID_EDGE = 0.68                 # grey between the vitreous (0) and the darkest layer, the ONL (1)
# Fluid is darker than this on average; coarser pixels mix it with its surroundings: (um, grey) to (um, grey).
FLUID_MEAN = ((3.9, 11.0), (0.42, 0.5))
BRIGHT = 0.6                      # normalised grey of the RPE, and of the material that CNV leaves upon it
ONL_UM = (75.0, 130.0)            # above the RPE's outer border lies the ONL, but over fluid and elevations
FLUID_LEAST_MM2 = 0.0025
FOCUS_UM = 32.0                   # foci measure 20 to 40 um
FOCUS_CONTRAST = 0.16             # above its surroundings, in normalised grey
IN_PLANE = np.array([[[0, 0, 0]] * 3, [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0, 0, 0]] * 3], bool)


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
    row = np.arange(grid.grey.shape[2]) + 0.5
    rpe, bruch = lines.rpe[..., None], lines.bruch[..., None]

    def mean(where: Mask) -> Curve:
        grey: Curve = np.where(where, grid.grey, 0).sum(axis=2) / np.maximum(where.sum(axis=2), 1)
        return grey

    margin = 8 / grid.z_um    # the RPE's blur and Bruch's membrane itself
    between = (row > rpe + 0.5 * margin) & (row < bruch - margin)
    shell = mean((row > rpe - RPE_UM / grid.z_um) & (row < rpe))
    return np.where(between.any(axis=2), mean(between) / np.maximum(shell, 0.1), 1)


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
    grey = blur(grid.grey, 8 / grid.z_um, 18 / grid.x_um) / _shadow(grid, lines)[..., None]
    z_um = (np.arange(grey.shape[2]) + 0.5) * grid.z_um
    ilm, rpe = lines.ilm[..., None] * grid.z_um, lines.rpe[..., None] * grid.z_um - RPE_UM
    inner = (z_um > ilm + 20) & (z_um < rpe - 4) & known[..., None] & grid.valid
    vitreous = (z_um < ilm - 40) & (z_um > ilm - 400) & grid.valid
    nuclear = inner & (z_um > rpe - ONL_UM[1] + RPE_UM) & (z_um < rpe - ONL_UM[0] + RPE_UM)
    dark, layer = _percentile(grey, vitreous, 50), _percentile(grey, nuclear, 50)
    level = (grey - dark[:, None, None]) / np.maximum(layer - dark, 0.04)[:, None, None]
    noise = _percentile(np.abs(level - _shifted(level, grid.cols(70), 1)), nuclear, 50)
    regions, count = ndimage.label(inner & (level < FLUID_EDGE), IN_PLANE)
    sizes = np.bincount(regions.ravel(), minlength=count + 1) * (grid.z_um * grid.x_um * 1e-6)
    depth = np.bincount(regions.ravel(), level.ravel(), minlength=count + 1) / np.bincount(regions.ravel())
    fluid = (sizes >= FLUID_LEAST_MM2) & (depth < np.interp(grid.pixel_um, *FLUID_MEAN))
    fluid[0] = False
    under = fluid & _lies_on_rpe(grid, grey, regions, count, rpe - z_um)
    return Fluid((fluid & ~under)[regions], under[regions], noise.astype(np.float64))


def _lies_on_rpe(grid: Grid, grey: Plane, regions: NDArray[np.int32], count: int,
                 above_rpe_um: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell of each region whether its lower edge lies mostly on the RPE, or on something as bright that covers it.

    Photoreceptors part cysts from the RPE; of fluid under the retina they are the roof.
    """
    def share(edge: Mask, fits: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(regions[edge], fits[edge], minlength=count + 1) / np.maximum(
            np.bincount(regions[edge], minlength=count + 1), 1)

    bright = ndimage.uniform_filter1d(grey, grid.rows(12), axis=2) > BRIGHT
    last = (regions != _shifted(regions, -1, 2)) & (regions > 0)
    first = (regions != _shifted(regions, 1, 2)) & (regions > 0)
    floor = share(last, (above_rpe_um < 40) | _shifted(bright, -grid.rows(22), 2))
    roof = share(first, ndimage.maximum_filter1d(_shifted(bright, grid.rows(25), 2), grid.rows(30), axis=2))
    resting: NDArray[np.bool_] = (floor > 0.5) | ((roof > 0.6) & (floor > 0.2))
    return resting


def _shadow(grid: Grid, lines: Boundaries) -> NDArray[np.float32]:
    """Return how much vessels dim what lies below them, [N, W], 0.6 to 1: the RPE is about even where none does."""
    smooth = blur(grid.grey, 10 / grid.z_um, 0)
    rows = np.clip(np.rint(lines.rpe - 0.5 * RPE_UM / grid.z_um - 0.5).astype(np.intp), 0, grid.grey.shape[2] - 1)
    rpe = np.take_along_axis(smooth, rows[..., None], axis=2)[..., 0]
    usual = ndimage.percentile_filter(rpe, 65, size=(1, max(3, round(500 / grid.x_um))))
    shade: NDArray[np.float32] = np.clip(rpe / np.maximum(usual, 0.05), 0.6, 1).astype(np.float32)
    return shade


def _percentile(grey: Plane, where: Mask, share: float) -> NDArray[np.float32]:
    """Return the percentile of the grey within a region of each picture, 0 where the region is empty."""
    return np.array([np.percentile(values[mask], share) if mask.any() else 0
                     for values, mask in zip(grey, where, strict=True)], np.float32)


def find_foci(grid: Grid, lines: Boundaries, known: Mask) -> Mask:
    """Return the middles of bright spots in the nuclear and plexiform layers, [N, W, Z].

    A spot is brighter than what lies beside it on either side and than what lies above and below: a layer is not.
    """
    grey = blur(grid.grey, 6 / grid.z_um, 8 / grid.x_um)
    around = grey
    beside = []
    for axis, size_um, pitch in ((1, FOCUS_UM, grid.x_um), (2, FOCUS_UM, grid.z_um)):
        far = max(2, round(1.3 * size_um / pitch))
        smooth = ndimage.uniform_filter1d(around, 2 * (far // 2) + 1, axis=axis, mode="nearest")
        beside += [_shifted(smooth, far, axis), _shifted(smooth, -far, axis)]
    contrast = grey - np.maximum.reduce(beside)
    z_um = (np.arange(grey.shape[2]) + 0.5) * grid.z_um
    inner = (z_um > lines.ilm[..., None] * grid.z_um + 80) & (z_um < lines.rpe[..., None] * grid.z_um - 80)
    reach = (1, 2 * round(FOCUS_UM / grid.x_um) + 1, 2 * round(FOCUS_UM / grid.z_um) + 1)
    peak = contrast == ndimage.maximum_filter(contrast, reach)
    spots: Mask = peak & (contrast > FOCUS_CONTRAST) & inner & known[..., None] & grid.valid
    return spots


def _shifted(planes: NDArray[Number], by: int, axis: int) -> NDArray[Number]:
    """Return the planes moved along an axis, the edge repeated."""
    size = planes.shape[axis]
    moved: NDArray[Number] = np.take(planes, np.clip(np.arange(size) - by, 0, size - 1), axis=axis)
    return moved
