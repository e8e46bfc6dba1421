"""Lesions between the boundaries: elevations of the RPE, dark fluid, hyperreflective foci. Sizes are in um and mm2."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import find_peaks

from stylegan_oct.latent.paths import Curve, Plane
from stylegan_oct.latent.segment import Boundaries, Grid, Mask, blur

Numbers = NDArray[np.float64]     # [N]

RPE_UM = 16.0                     # its thickness
DRUSE_FOOT_UM = 13.0              # an elevation ends where it falls below this
DRUSE_UM = 20.0                   # and counts from this height on
DRUSE_LEAST_WIDTH_UM = 60.0
DETACHMENT_UM = (180.0, 1000.0)   # an elevation higher than the first, or wider than the second, is no druse
NEIGHBOUR_UM = 12.0               # two drusen are parted by a dip of at least this
FLUID_SEED, FLUID_EDGE = 0.34, 0.47    # grey between vitreous (0) and the middle of the retina (1)
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


def find_drusen(grid: Grid, lines: Boundaries, known: Mask) -> Drusen:
    """Return the elevations of the RPE and which of them are drusen rather than detachments."""
    elevation = (lines.bruch - lines.rpe) * grid.z_um
    raised = (elevation > DRUSE_FOOT_UM) & known
    count, height, area = (np.zeros(len(elevation)) for _ in range(3))
    for number, curve in enumerate(np.where(raised, elevation, 0)):
        runs, total = ndimage.label(curve > 0)
        for begin, end in ((run[0].start, run[0].stop) for run in ndimage.find_objects(runs, total)):
            top, width_um = curve[begin:end].max(), (end - begin) * grid.x_um
            if not (DRUSE_UM <= top <= DETACHMENT_UM[0] and DRUSE_LEAST_WIDTH_UM <= width_um <= DETACHMENT_UM[1]):
                continue
            peaks, _ = find_peaks(np.pad(curve[begin:end], 1), height=DRUSE_UM, prominence=NEIGHBOUR_UM)
            count[number] += max(1, len(peaks))
            height[number] = max(height[number], top)
            area[number] += curve[begin:end].sum() * grid.x_um * 1e-6
    return Drusen(elevation, count, height, area)


def find_fluid(grid: Grid, lines: Boundaries, known: Mask) -> Fluid:
    """Return what is as dark as the vitreous within the retina (cysts) and between it and the RPE.

    Fluid is seeded where it is dark beyond doubt and grows to where the grey is half-way to that of the retina.
    """
    grey = blur(grid.grey, 8 / grid.z_um, 18 / grid.x_um) / _shadow(grid, lines)[..., None]
    z_um = (np.arange(grey.shape[2]) + 0.5) * grid.z_um
    ilm, rpe = lines.ilm[..., None] * grid.z_um, lines.rpe[..., None] * grid.z_um - RPE_UM
    inner = (z_um > ilm + 20) & (z_um < rpe - 4) & known[..., None] & grid.valid
    vitreous = (z_um < ilm - 40) & (z_um > ilm - 400) & grid.valid
    dark, middle = _percentile(grey, vitreous, 50), _percentile(grey, inner & (z_um < rpe - 70), 55)
    level = (grey - dark[:, None, None]) / np.maximum(middle - dark, 0.05)[:, None, None]
    regions, count = ndimage.label(inner & (level < FLUID_EDGE), IN_PLANE)
    sizes = np.bincount(regions.ravel(), minlength=count + 1) * (grid.z_um * grid.x_um * 1e-6)
    seeded = np.bincount(regions[level < FLUID_SEED], minlength=count + 1) * (grid.z_um * grid.x_um * 1e-6)
    fluid = (sizes >= FLUID_LEAST_MM2) & (seeded >= 0.4 * FLUID_LEAST_MM2)
    fluid[0] = False
    under = fluid & _lies_on_rpe(regions, count, np.broadcast_to(rpe - z_um, grey.shape))
    return Fluid((fluid & ~under)[regions], under[regions])


def _lies_on_rpe(regions: NDArray[np.int32], count: int, gap_um: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell of each region whether its lower edge lies mostly on the RPE: photoreceptors part cysts from it."""
    last = regions != np.pad(regions[..., 1:], ((0, 0), (0, 0), (0, 1)))
    edge = regions[last]
    near = np.bincount(edge, gap_um[last] < 40, minlength=count + 1)
    resting: NDArray[np.bool_] = near > 0.5 * np.maximum(np.bincount(edge, minlength=count + 1), 1)
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


def _shifted(planes: Plane, by: int, axis: int) -> Plane:
    """Return the planes moved along an axis, the edge repeated."""
    size = planes.shape[axis]
    return np.take(planes, np.clip(np.arange(size) - by, 0, size - 1), axis=axis)
