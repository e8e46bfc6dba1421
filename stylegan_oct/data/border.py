"""Padding around a scan, white wedges and black margins, found and replaced by the scan's own noise floor.

Exporters that rotate or register a scan leave saturated wedges and black bands at its border. Their shape goes with
site and class, so a generator would learn them as a sign of disease. Nothing that looks like anatomy is put in their
place, only noise of the level found beside them; layers are continued sideways over a few pixels at most.
"""

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Plane = NDArray[np.float32]

WHITE = 245        # JPEG rings down to about here within a saturated wedge
FADED = 128        # a pixel beside a wedge that is at least half wedge
BLACK = 8          # and up to about here within a black band
CORE = 9           # pixels: a square this wide must fit into padding; no line of a retina is as thick and as even
HALO = 3           # pixels around padding that interpolation and JPEG have blended with it
MIN_CONTACT = 0.1  # share of a side that padding touches; a saturated nerve fibre layer touches less
AT_CORNER = 0.02   # the same for a region in a corner of the frame, where wedges end
STRAIGHT = 0.003   # share of the height by which the edge of a black margin may leave a line, in the median
SIDEWAYS = 0.03    # share of the width up to which layers are continued sideways
TILE = 24          # pixels, side of the pieces of noise; the grain of speckle is 1 to 2


class Border(NamedTuple):
    """Padding of a scan."""

    mask: Mask      # [H, W], true where there is no scan, without the halo
    white: float    # share of the picture, 0 to 1
    black: float

    @property
    def share(self) -> float:
        """Share of the picture that is padding, 0 to 1."""
        return self.white + self.black


def find_border(grey: Grey) -> Border:
    """Return the padding of a grey picture [H, W]: saturated or black regions that run along its frame.

    Black counts only with a straight edge and in a scan whose own background is brighter: some devices clip the
    background to black, and then a margin cannot be told from it and needs no repair.
    """
    white = _along_frame(grey >= WHITE)
    if white.any():
        white = _grow(white, grey)
    black = _straight(_along_frame((grey <= BLACK) & ~white))
    if black.any() and not _has_noise(grey, ~(white | black)):
        black[:] = False
    return Border(white | black, float(white.mean()), float(black.mean()))


def repair(picture: Grey, missing: Mask) -> Grey:
    """Return the picture with the missing part, and the halo around it, replaced by noise of the scan's background.

    Args:
        picture: [H, W] or [H, W, 3].
        missing: [H, W]; what `find_border` found, or padding that was added.
    The result depends on the picture alone: its noise is drawn with the picture's checksum as the seed.
    """
    if not missing.any() or missing.all():
        return picture
    hole = repaired(missing)
    if hole.all():
        return picture
    rng = np.random.default_rng(zlib.crc32(picture.tobytes()))
    planes = picture[:, :, np.newaxis] if picture.ndim == 2 else picture
    floor = _Floor.of(planes.mean(axis=2, dtype=np.float32), ~hole)
    result = planes.copy()
    floor.fill(result, hole, rng)
    _continue_sideways(result, planes, hole)
    return result.reshape(picture.shape)


def repaired(missing: Mask) -> Mask:
    """Return the pixels that `repair` replaces: the missing part and a halo around it."""
    return _widen(missing, HALO)


def _widen(mask: Mask, pixels: int) -> Mask:
    """Return the mask grown by so many pixels in every direction."""
    grown: Mask = ndimage.maximum_filter(mask, 2 * pixels + 1, mode="constant", cval=0)
    return grown


def _along_frame(extreme: Mask) -> Mask:
    """Return the regions of an extreme grey value that touch the frame over a good part of a side.

    Opening with a square drops speckle and thin layers; beyond the frame everything counts as extreme, so that the
    tips of wedges stay.
    """
    if not (extreme[0].any() or extreme[-1].any() or extreme[:, 0].any() or extreme[:, -1].any()):
        return np.zeros_like(extreme)
    padded = np.pad(extreme, CORE, constant_values=True)
    opened = ndimage.maximum_filter(ndimage.minimum_filter(padded, CORE, mode="constant", cval=1), CORE)
    inner = (opened & padded)[CORE:-CORE, CORE:-CORE]
    regions, count = ndimage.label(inner)
    keep = np.zeros(count + 1, bool)
    for side in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        contact = np.bincount(side, minlength=count + 1) / len(side)
        keep |= contact >= MIN_CONTACT
        for corner in (side[0], side[-1]):
            keep[corner] |= contact[corner] >= AT_CORNER
    keep[0] = False
    found: Mask = ndimage.binary_fill_holes(keep[regions])
    return found


def _grow(core: Mask, grey: Grey) -> Mask:
    """Return the core of a wedge with its frayed edge: pixels that hang together with it, close by or along the frame.

    The tips of a wedge are thinner than a pixel, and JPEG frays its edge.
    """
    square = np.ones((3, 3), bool)
    core = core.copy()
    for edge in (np.s_[:2], np.s_[-2:], np.s_[:, :2], np.s_[:, -2:]):
        if core[edge].any():
            core[edge] |= grey[edge] >= FADED
    for level, reach in ((WHITE, CORE), (FADED, HALO)):
        near = _widen(core, reach) & (grey >= level)
        core = ndimage.binary_propagation(core, square, mask=core | near)
    return core


def _straight(regions: Mask) -> Mask:
    """Return those of the regions along the frame whose inner edge is straight, as that of padding is."""
    labels, count = ndimage.label(regions)
    keep = np.zeros(count + 1, bool)
    for number in range(1, count + 1):
        for turns in range(4):
            region = np.rot90(labels == number, turns)
            depth = np.where(region.all(axis=0), len(region), region.argmin(axis=0))  # from the upper side
            lines = np.flatnonzero((depth > 0) & (depth < 0.9 * len(region)))
            if len(lines) < max(MIN_CONTACT * region.shape[1], 3):
                continue
            slope, offset = np.polyfit(lines, depth[lines], 1)
            error = np.median(np.abs(depth[lines] - slope * lines - offset))
            keep[number] |= bool(error <= max(0.5, STRAIGHT * len(region)))
    straight: Mask = keep[labels]
    return straight


def _has_noise(grey: Grey, scan: Mask) -> bool:
    """Tell whether the darkest tenth of the scan, averaged locally, is brighter than black."""
    if not scan.any():
        return False
    level = _local_mean(grey.astype(np.float32), scan, 8.0)
    return bool(np.percentile(level[scan], 10) > BLACK / 4)


def _local_mean(values: Plane, where: Mask, sigma: float) -> Plane:
    """Return the Gaussian mean of the values within a region; 0 where none is near."""
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma, truncate=3.0)
    total = ndimage.gaussian_filter(np.where(where, values, np.float32(0)), sigma, truncate=3.0)
    mean: Plane = np.divide(total, weight, out=np.zeros_like(total), where=weight > 1e-3)
    return mean


@dataclass(frozen=True)
class _Floor:
    """The background of a scan: which pixels belong to it, and its level everywhere."""

    level: Plane  # [H, W], extended into the hole
    area: Mask    # [H, W], background pixels
    tile: int     # side of the largest square of background that exists
    corners: NDArray[np.intp]  # [N, 2], upper left corners of such squares
    means: Plane  # [N], their mean grey value

    @classmethod
    def of(cls, grey: Plane, scan: Mask) -> "_Floor":
        local = _local_mean(grey, scan, 6.0)
        darkest, middle = np.percentile(local[scan], (10, 50))
        # Half of a scan and more is background, whose level varies with depth; tissue is far brighter than its middle.
        area = scan & (local <= min(1.4 * middle + 4.0, 4.0 * darkest + 8.0))
        # Fine structures in it, such as the line of the vitreous, must not be copied.
        line = ndimage.gaussian_filter(np.where(scan, grey, local), 2.0) > 1.6 * local + 4.0
        area &= ~_widen(line, HALO)
        level = _extended_level(grey, area)
        for tile in (TILE, TILE // 2, TILE // 4, 1):
            corners = _squares(area, tile)
            if len(corners):
                break
        sums = np.pad(grey.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        y, x = corners.T
        means = (sums[y + tile, x + tile] - sums[y, x + tile] - sums[y + tile, x] + sums[y, x]) / tile**2
        return cls(level, area, tile, corners, means.astype(np.float32))

    def fill(self, planes: Grey, hole: Mask, rng: np.random.Generator) -> None:
        """Put squares of background into the hole, each of about the level that is wanted there."""
        height, width = hole.shape
        order = np.argsort(self.means, kind="stable")
        ranked = self.means[order]
        source = planes.copy()
        for top in range(0, height, self.tile):
            for left in range(0, width, self.tile):
                at = (slice(top, min(top + self.tile, height)), slice(left, min(left + self.tile, width)))
                here = hole[at]
                if not here.any():
                    continue
                want = self.level[at]
                middle = int(np.searchsorted(ranked, want[here].mean()))
                reach = max(8, len(order) // 20)
                first = max(min(middle - reach // 2, len(order) - reach), 0)
                pick = order[first + int(rng.integers(min(reach, len(order))))]
                y, x = self.corners[pick]
                piece = source[y:y + here.shape[0], x:x + here.shape[1]].astype(np.float32)
                gain = np.clip(want / max(float(self.means[pick]), 1.0), 0.5, 2.0)[:, :, np.newaxis]
                planes[at][here] = np.clip(np.rint(piece * gain), 0, 255).astype(np.uint8)[here]


def _extended_level(grey: Plane, area: Mask) -> Plane:
    """Return the local level of the background everywhere: fine where background is near, else coarse."""
    step = 8  # the level varies slowly: an eighth of the resolution is enough, and fast
    height, width = grey.shape
    pad = ((0, -height % step), (0, -width % step))
    blocks = (-(-height // step), step, -(-width // step), step)
    weight = np.pad(area.astype(np.float32), pad).reshape(blocks).mean(axis=(1, 3))
    total = np.pad(np.where(area, grey, np.float32(0)), pad).reshape(blocks).mean(axis=(1, 3))
    level = np.full(weight.shape, total.sum() / weight.sum(), np.float32)
    for sigma in (8.0, 2.0):
        near = ndimage.gaussian_filter(weight, sigma, truncate=3.0)
        mean = ndimage.gaussian_filter(total, sigma, truncate=3.0) / np.maximum(near, 1e-6)
        level += np.clip(near / 0.1, 0, 1) * (mean - level)
    rows, columns = ((np.arange(size) + 0.5) / step - 0.5 for size in (height, width))
    fine: Plane = ndimage.map_coordinates(level, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
    return fine


def _squares(area: Mask, side: int) -> NDArray[np.intp]:
    """Return the upper left corners, on a grid, of squares that lie within the area."""
    sums = np.pad(area.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    full = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side] == side * side
    step = 3 if side > 1 else 1
    corners: NDArray[np.intp] = np.argwhere(full[::step, ::step]) * step
    return corners


def _continue_sideways(result: Grey, planes: Grey, hole: Mask) -> None:
    """Reflect the scan into the part of the hole that is narrow in the direction of the layers."""
    height, width = hole.shape
    reach = max(int(SIDEWAYS * width), 4) + 2 * HALO
    columns = np.broadcast_to(np.arange(width), hole.shape)
    before = np.maximum.accumulate(np.where(hole, -1, columns), axis=1)  # nearest scan to the left, or -1
    after = np.minimum.accumulate(np.where(hole, width, columns)[:, ::-1], axis=1)[:, ::-1]
    narrow = hole & (after - before - 1 <= reach)
    for edge, step in ((before, 1), (after, -1)):
        mirrored = 2 * edge - columns + step
        y, x = np.nonzero(narrow & (edge >= 0) & (edge < width) & (mirrored >= 0) & (mirrored < width))
        from_x = mirrored[y, x]
        usable = ~hole[y, from_x]
        result[y[usable], x[usable]] = planes[y[usable], from_x[usable]]
