"""Boundaries of the retina: inner limiting membrane, outer border of the RPE, Bruch's membrane.

Every picture is measured on a grid of about the pitch at which Spectralis scans are shown at 256 to 512 px: finer
pictures are averaged, coarser ones interpolated, and all constants are lengths in um. Depths count from the upper edge
of the picture, so that row r spans the depths r to r + 1.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpbsv
from scipy.ndimage import gaussian_filter1d
from scipy.special import expit

from stylegan_oct.latent.biomarkers.paths import FAR, Curve, Plane, refined, shortest_paths

Mask = NDArray[np.bool_]

PITCH_Z_UM = (3.7, 7.8)      # finest and coarsest grid: coarser, the RPE (16 um) is lost between its neighbours
PITCH_X_UM = (15.0, 25.0)    # the optics resolve about 15 um across
TISSUE = 0.22                # normalised grey that parts vitreous and fluid (0) from the darkest layer, the ONL
ABOVE_RPE_UM = 150.0         # tissue above the RPE; the foveola has so much of it, the nerve fibres have none
LEAST_RETINA_UM = 60.0       # between ILM and RPE
LEAST_RISE, LEAST_FALL = 0.12, 0.08    # of normalised grey at the ILM and below the RPE where they are seen
LOCAL_UM = 150.0
STIFF_MM = 3.5               # the lower envelope of the RPE bridges elevations up to about this wide
ABOVE_UM = 8.0               # an RPE this far above its envelope is raised
ENVELOPE_ROUNDS = 12


@dataclass(frozen=True)
class Grid:
    """The pictures on the grid of measurement, depth along the last axis."""

    grey: Plane       # [N, W, Z], 0 at the level of the background, 1 at that of the brightest layer
    valid: Mask       # [N, W, Z], false in padding
    z_um: float       # pitch
    x_um: float
    pixel_um: float   # axial size of a pixel of the pictures
    contrast: NDArray[np.float64]   # [N], brightest layer minus background, in grey values of 0 to 255

    def rows(self, um: float) -> int:
        """Return a depth in um as a number of rows, at least 1."""
        return max(1, round(um / self.z_um))

    def cols(self, um: float) -> int:
        """Return a width in um as a number of columns, at least 1."""
        return max(1, round(um / self.x_um))


@dataclass(frozen=True)
class Boundaries:
    """Depths of the boundaries in rows of the grid, [N, W]."""

    ilm: Curve
    rpe: Curve      # outer border
    bruch: Curve
    rise: Curve     # of the normalised grey at the ILM, averaged over LOCAL_UM
    fall: Curve     # of the normalised grey at the RPE's outer border, likewise


def to_grid(pictures: NDArray[np.uint8], valid: Mask | None, um_per_px: tuple[float, float]) -> Grid:
    """Return pictures [N, H, W] on the grid of measurement; padding becomes background."""
    _, height, width = pictures.shape
    rows, cols = (max(8, round(size * um / float(np.clip(um, *limits))))
                  for size, um, limits in ((height, um_per_px[0], PITCH_Z_UM), (width, um_per_px[1], PITCH_X_UM)))
    down, across = resampling(height, rows), resampling(width, cols)

    def resample(values: NDArray[np.generic]) -> Plane:
        planes = values.astype(np.float32).transpose(0, 2, 1)    # [N, W, H]
        planes = planes if rows == height else planes @ down.T
        planes = planes if cols == width else np.swapaxes(np.swapaxes(planes, 1, 2) @ across.T, 1, 2)
        return cast(Plane, np.ascontiguousarray(planes))

    grey = resample(pictures)
    good = np.ones(grey.shape, bool) if valid is None or valid.all() else resample(valid) > 0.99
    z_um, x_um = height * um_per_px[0] / rows, width * um_per_px[1] / cols
    smooth = blur(grey, 12 / z_um, 40 / x_um)
    low, high = _levels(smooth, good)
    grey = (grey - low[:, None, None]) / np.maximum(high - low, 1)[:, None, None].astype(np.float32)
    grey[~good] = 0
    return Grid(grey.astype(np.float32), good, z_um, x_um, um_per_px[0], (high - low).astype(np.float64))


@functools.lru_cache(maxsize=32)
def resampling(size: int, wanted: int) -> Plane:
    """Return the matrix [wanted, size] that averages by area where it shrinks, else interpolates linearly."""
    if wanted <= size:
        edges = np.arange(wanted + 1) * (size / wanted)
        pixel = np.arange(size)
        part = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
        return cast(Plane, (np.clip(part, 0, None) * (wanted / size)).astype(np.float32))
    at = np.clip((np.arange(wanted) + 0.5) * (size / wanted) - 0.5, 0, size - 1)
    return cast(Plane, np.clip(1 - np.abs(at[:, None] - np.arange(size)), 0, 1).astype(np.float32))


def blur(planes: Plane, sigma_z: float, sigma_x: float) -> Plane:
    """Return [N, W, Z] planes smoothed by a Gaussian, in rows and columns of the grid."""
    for axis, sigma in ((2, sigma_z), (1, sigma_x)):
        if sigma > 0.2:
            planes = gaussian_filter1d(planes, sigma, axis=axis, mode="nearest", truncate=3.0)
    return planes


def _levels(smooth: Plane, good: Mask) -> tuple[Plane, Plane]:
    """Return the grey of the background and of the brightest layer, [N]: percentiles of what is no padding."""
    some, counts = (planes.reshape(len(planes), -1)[:, ::3] for planes in (smooth, good))
    levels = [np.percentile(grey[where], (15, 98.5)) if where.any() else (0, 0)
              for grey, where in zip(some, counts, strict=True)]
    low, high = np.array(levels, np.float32).T
    return low, high


def find_boundaries(grids: Sequence[Grid]) -> list[Boundaries]:
    """Return the three boundaries in pictures of one size, found from the RPE (the surest) to the ILM and Bruch's."""
    greys = [blur(grid.grey, 4 / grid.z_um, 16 / grid.x_um) for grid in grids]
    rpes, falls = _paths(grids, [_rpe_costs(grid, grey) for grid, grey in zip(grids, greys, strict=True)],
                         steepest=2.5, linear=0.02, quadratic=0.04)
    ilms, rises = _paths(grids, [_ilm_costs(*each) for each in zip(grids, greys, rpes, strict=True)],
                         steepest=2.0, linear=0.02, quadratic=0.1)
    found = []
    for grid, ilm, rpe, rise, fall in zip(grids, ilms, rpes, rises, falls, strict=True):
        seen = local_mean(fall, grid.x_um)
        found.append(Boundaries(ilm, rpe, _find_bruch(grid, rpe, seen), local_mean(rise, grid.x_um), seen))
    return found


def _paths(grids: Sequence[Grid], costs: Sequence[tuple[Plane, Plane]], *, steepest: float, linear: float,
           quadratic: float) -> tuple[list[Curve], list[Curve]]:
    """Return the shortest paths and the step of the grey on them; limits are slopes, in um per um.

    Args:
        grids: of one pitch.
        costs: of the path, and the step of the grey that it looks for, [N, W, Z + 1] each.
        steepest, linear, quadratic: as `shortest_paths` takes them.
    """
    unit = grids[0].z_um / grids[0].x_um
    found = shortest_paths([cost for cost, _ in costs], steepest=max(1, round(steepest / unit)), linear=linear * unit,
                           quadratic=quadratic * unit**2)
    depths = [refined(path, -step) for path, (_, step) in zip(found, costs, strict=True)]
    return depths, [_at(step, depth) for depth, (_, step) in zip(depths, costs, strict=True)]


def between(depth: int, above: Curve, below: Curve) -> Mask:
    """Return which of so many rows have their middle between two depths in rows, [N, W, depth]."""
    row = np.arange(depth, dtype=np.int16)    # short numbers are compared several times as fast
    first, last = (np.clip(edge, -1, depth + 1) for edge in (np.floor(above - 0.5) + 1, np.ceil(below - 0.5)))
    return cast(Mask, (row >= first.astype(np.int16)[..., None]) & (row < last.astype(np.int16)[..., None]))


def _windows(grey: Plane, above: int, below: int) -> tuple[Plane, Plane]:
    """Return the mean grey of so many rows above and below each border between rows, [N, W, Z + 1]."""
    padded = _edged(grey, above, below)
    size = grey.shape[2] + 1
    upper, lower = _running_sum(padded, above)[..., :size], _running_sum(padded, below)[..., above:above + size]
    return upper / np.float32(above), lower / np.float32(below)


def _edged(grey: Plane, above: int, below: int) -> Plane:
    """Return the planes with so many copies of their first and last row."""
    count, width, depth = grey.shape
    padded = np.empty((count, width, above + depth + below), np.float32)
    padded[..., above:above + depth] = grey
    padded[..., :above], padded[..., above + depth:] = grey[..., :1], grey[..., -1:]
    return padded


def _running_sum(planes: Plane, rows: int) -> Plane:
    """Return the sum of each `rows` neighbouring rows, [N, W, Z - rows + 1], from those of 1, 2, 4, ... rows."""
    size = planes.shape[2] - rows + 1
    total, taken, power, sums = None, 0, 1, planes
    while True:
        if rows & power:
            piece = sums[..., taken:taken + size]
            total = piece if total is None else total + piece
            taken += power
        if taken == rows:
            break
        sums = sums[..., :-power] + sums[..., power:]
        power *= 2
    assert total is not None
    return total


def _sum_above(values: Plane) -> Plane:
    """Return the sum over the rows above each border between rows, [N, W, Z + 1]."""
    sums = np.zeros((*values.shape[:2], values.shape[2] + 1), np.float32)
    np.cumsum(values, axis=2, out=sums[..., 1:])
    return sums


def _mean_between(grey: Plane, near: int, far: int) -> Plane:
    """Return the mean grey of the rows from `far` to `near` above each border; those above the picture count as 0."""
    count, width, depth = grey.shape
    padded = np.zeros((count, width, far + depth - near), np.float32)
    padded[..., far:] = grey[..., :depth - near]
    return _running_sum(padded, far - near) / np.float32(far - near)


def _at(planes: Plane, depth: Curve) -> Curve:
    rows = np.clip(np.rint(depth).astype(np.intp), 0, planes.shape[2] - 1)
    return cast(Curve, np.take_along_axis(planes, rows[..., None], axis=2)[..., 0].astype(np.float64))


def _rpe_costs(grid: Grid, grey: Plane) -> tuple[Plane, Plane]:
    """Return what leads to the RPE's outer border: from bright to less bright, below enough tissue; and the fall."""
    bright, below = _windows(grey, grid.rows(16), grid.rows(30))
    fall = np.clip(bright - below, 0, None)
    above = _sum_above(np.clip((grey - TISSUE) / 0.1, 0, 1))
    enough = np.clip(above * (grid.z_um / ABOVE_RPE_UM), 0, 1)
    # Higher up the bottom of a bright druse has the RPE and the druse, where the RPE has the dark ONL.
    druse = np.clip((_mean_between(grey, grid.rows(55), grid.rows(125)) - 0.4) / 0.4, 0, 0.8)
    return -fall * bright**2 * enough**2 * (1 - druse), fall


def _ilm_costs(grid: Grid, grey: Plane, rpe: Curve) -> tuple[Plane, Plane]:
    """Return what leads to the ILM: from dark to bright, little tissue above, little darkness below; and the rise."""
    above, below = _windows(grey, grid.rows(25), grid.rows(25))
    rise = np.clip(below - above, 0, None)
    # A dark row counts for less than a bright one: a cyst below a thin roof must not draw the ILM under it.
    tissue = np.clip((grey - TISSUE) / 0.2, -0.4, 1)
    end = (rpe * grid.z_um - LEAST_RETINA_UM) / grid.z_um
    inside = np.arange(grey.shape[2]) < end[..., None]
    region = _sum_above(np.where(inside, tissue, 0).astype(np.float32)) * np.float32(grid.z_um / 100)
    cost = region - rise
    cost[np.arange(grey.shape[2] + 1) > np.maximum(end, 1)[..., None]] = FAR
    return cost, rise


def _find_bruch(grid: Grid, rpe: Curve, seen: Curve) -> Curve:
    """Return Bruch's membrane: the smooth lower envelope of the RPE, on which the RPE lies where nothing lifts it."""
    trust = np.where(grid.valid.mean(axis=2) > 0.5, np.clip(seen / LEAST_FALL, 0.01, 1) ** 2, 1e-3)
    bruch = np.maximum(lower_envelope(rpe * grid.z_um, grid.x_um, trust) / grid.z_um, rpe)
    # What rises at the edge of the scan and does not come down again cannot be told from a bend of the eye.
    raised = (bruch - rpe) * grid.z_um > 0.5 * ABOVE_UM
    cut = np.logical_and.accumulate(raised, axis=1) | np.logical_and.accumulate(raised[:, ::-1], axis=1)[:, ::-1]
    return np.where(cut, rpe, bruch)


def local_mean(curve: Curve, x_um: float) -> Curve:
    """Return the mean over LOCAL_UM around each column, [N, W]."""
    return cast(Curve, gaussian_filter1d(curve, LOCAL_UM / x_um, axis=1, mode="nearest"))


def lower_envelope(depth_um: Curve, x_um: float, trust: Curve) -> Curve:
    """Return the smooth curve that runs along the deep parts of each curve, [N, W] um.

    Asymmetric least squares (Eilers and Boelens 2005): minimises sum w (y - b)^2 + lambda sum (third difference of
    b)^2 with w small where the curve lies above (shallower than) b, in the end 0. The third difference leaves the
    curvature of the eye free.

    Args:
        depth_um: [N, W].
        x_um: distance of the columns.
        trust: [N, W] weight of each point, 0 to 1.
    """
    width = depth_um.shape[1]
    bands = _third_differences(width) * (1000 * STIFF_MM / x_um / (2 * np.pi)) ** 6

    def smooth(curve: Curve, weight: Curve) -> Curve:
        system = bands.copy(order="F")    # as LAPACK wants it
        system[0] += weight
        _, solution, failed = dpbsv(system, weight * curve, lower=True, overwrite_ab=True, overwrite_b=True)
        assert not failed, failed    # the weights are positive, so the system is positive definite
        return cast(Curve, solution)

    result = np.empty_like(depth_um)
    for place, (curve, weight) in enumerate(zip(depth_um, trust, strict=True)):
        base = smooth(curve, weight)
        for _ in range(ENVELOPE_ROUNDS):
            above = (base - curve) / ABOVE_UM
            base = smooth(curve, weight * (0.01 + 0.99 * expit(2.4 - 4 * above)))
        for _ in range(3):
            near = 1.0 * (base - curve < 10)
            if near.sum() < width / 5:
                break
            base = smooth(curve, weight * near + 1e-4)
        result[place] = base
    return result


def _third_differences(width: int) -> NDArray[np.float64]:
    """Return the diagonal and the three below it, [4, width], of D^T D, where D takes third differences."""
    bands = np.zeros((4, width))
    factors = (-1, 3, -3, 1)
    for place, factor in enumerate(factors):
        for below, other in enumerate(factors[place:]):
            bands[below, place:place + width - 3] += factor * other
    return bands
