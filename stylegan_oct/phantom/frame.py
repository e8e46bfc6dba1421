"""The grid a scan is rendered on, and smooth curves over its columns. Lengths are um in depth and mm across."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Curve = NDArray[np.float64]   # one value a column
Image = NDArray[np.float32]   # [rows, cols]
Labels = NDArray[np.uint8]    # [rows, cols]

DEPTH_UM = 496 * 3.872         # a Spectralis B-scan: 496 rows of 3.872 um
NATIVE_ROWS = 496


@dataclass(frozen=True)
class Frame:
    """Rows and columns, what they measure, and the coordinates of their centres."""

    rows: int
    cols: int
    width_mm: float
    x_mm: Curve = field(init=False)      # [cols], 0 in the middle
    z_um: Curve = field(init=False)      # [rows], 0 at the upper edge

    def __post_init__(self) -> None:
        columns = (np.arange(self.cols) + 0.5) / self.cols - 0.5
        object.__setattr__(self, "x_mm", columns * self.width_mm)
        object.__setattr__(self, "z_um", (np.arange(self.rows) + 0.5) * self.um_per_row)

    @property
    def um_per_row(self) -> float:
        """Axial size of a pixel."""
        return DEPTH_UM / self.rows

    @property
    def um_per_col(self) -> float:
        """Lateral size of a pixel."""
        return 1000 * self.width_mm / self.cols

    @property
    def mm2_per_pixel(self) -> float:
        """Area of a pixel."""
        return self.um_per_row * self.um_per_col * 1e-6

    def blur(self, curve: Curve, sigma_um: float) -> Curve:
        """Return the curve smoothed over the columns, as if it went on level beyond the edges."""
        smooth: Curve = gaussian_filter1d(curve, sigma_um / self.um_per_col, mode="nearest", truncate=3)
        return smooth

    def wander(self, rng: np.random.Generator, length_mm: float) -> Curve:
        """Return a smooth random curve of mean 0 and SD 1 that changes over `length_mm`.

        Its nodes are drawn at places in mm, so the same eye has the same curve at every resolution.
        """
        nodes = rng.standard_normal(int(self.width_mm / length_mm) + 4)
        at = (self.x_mm / self.width_mm + 0.5) * (len(nodes) - 4) + 1.5
        first = np.floor(at).astype(int)
        t = at - first
        weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)  # cubic B-spline
        total = np.zeros_like(at)
        for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
            total += weight / 6 * nodes[first + offset]
        return total * 1.6  # a cubic B-spline of unit nodes has SD between 0.58 and 0.69
