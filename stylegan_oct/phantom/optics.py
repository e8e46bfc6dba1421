"""From reflectivity to the picture on the screen: speckle, the noise floor, the display, borders, resampling.

Single-look speckle intensity is exponential; averaging N looks gives Gamma(N, 1/N). Light and detector noise add as
complex amplitudes, so the averaged intensity at a pixel is (S + n) g with g ~ Gamma(N, 1/N); the device subtracts
about the floor n and shows the fourth root. Where S is far below n / sqrt(N) the difference often falls below zero:
those are the black dots in the vitreous of real scans.

Only +, -, *, / and sqrt touch pixels: IEEE arithmetic rounds these alike on every processor.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from stylegan_oct.phantom.frame import Frame, Image, Labels


@dataclass(frozen=True)
class Camera:
    """How a scan was taken and shown."""

    looks: float            # effective number of averaged, independent looks
    floor_grey: float       # display grey (0 to 1) of one SD of the averaged noise
    floor_rest: float       # how many SD of that noise the subtraction leaves
    gain: float             # factor on the grey
    grain_um: float         # axial SD of the speckle's correlation
    grain_lateral_um: float


@dataclass(frozen=True)
class Border:
    """What lies outside the scan: the white corners that a rotation leaves, or a black margin."""

    kind: str = "none"          # none, white or black
    angle_deg: float = 0.0
    shift_x: float = 0.0        # share of the width
    shift_y: float = 0.0        # share of the height


def draw_camera(rng: np.random.Generator) -> Camera:
    """Draw the settings of a scan; the number of looks is log-uniform between 12 and 100."""
    return Camera(looks=float(12 * (100 / 12) ** rng.uniform(0, 1)),
                  floor_grey=float(np.clip(rng.normal(0.125, 0.028), 0.07, 0.21)),
                  floor_rest=float(rng.uniform(0, 1.3)), gain=float(np.clip(rng.normal(1.0, 0.075), 0.82, 1.2)),
                  grain_um=float(rng.uniform(2.9, 4.4)), grain_lateral_um=float(rng.uniform(6.5, 9.5)))


def draw_border(rng: np.random.Generator) -> Border:
    """Draw a border: white in about 55 of 100 scans, black in 4."""
    kind = rng.random()
    if kind < 0.55:
        return Border("white", float(np.clip(rng.normal(0, 2.2), -7, 7)), float(rng.normal(0, 0.004)),
                      float(np.clip(rng.normal(0, 0.045), -0.1, 0.1)))
    if kind < 0.59:
        return Border("black", 0.0, float(rng.choice((-1, 1)) * rng.uniform(0.008, 0.03)), 0.0)
    return Border()


def expose(grey: Image, frame: Frame, camera: Camera, rng: np.random.Generator | None) -> Image:
    """Return the picture in display grey, [rows, cols] in [0, 1].

    Args:
        grey: noiseless display grey, in [0, 1]; the fourth power is the reflectivity.
        frame: the grid.
        camera: looks, noise floor and gain.
        rng: draws the speckle; None: what remains when endlessly many scans of the eye are averaged.
    """
    speckle = np.float32(1) if rng is None else _speckle(frame, camera, rng)
    # Fall-off of sensitivity with depth: the lower edge of real scans shows 0.6 of the upper edge's noise.
    depth = (np.arange(frame.rows, dtype=np.float32) + np.float32(0.5)) / np.float32(frame.rows)
    level = np.float32(camera.floor_grey) * (np.float32(1.12) - np.float32(0.5) * depth)
    floor = (level * level * level * level * np.float32(np.sqrt(camera.looks)))[:, None]
    signal: Image = np.clip(grey * np.float32(camera.gain), 0, 1.1)
    signal *= signal
    signal *= signal
    signal += floor
    signal *= speckle
    signal -= floor * np.float32(1 - camera.floor_rest / np.sqrt(camera.looks))
    np.maximum(signal, 0, out=signal)
    np.sqrt(signal, out=signal)
    np.sqrt(signal, out=signal)
    np.minimum(signal, 1, out=signal)
    return signal


def _speckle(frame: Frame, camera: Camera, rng: np.random.Generator) -> Image:
    """Return correlated Gamma(N, 1/N) factors, by the Wilson-Hilferty cube of a normal variable."""
    field: Image = rng.standard_normal((frame.rows, frame.cols), dtype=np.float32)
    for axis, sigma in ((0, camera.grain_um / frame.um_per_row), (1, camera.grain_lateral_um / frame.um_per_col)):
        taps = _gauss(sigma)
        correlate1d(field, taps / np.sqrt((taps * taps).sum()), axis=axis, output=field, mode="mirror")
    n = camera.looks
    field *= np.float32(1 / (3 * np.sqrt(n)))
    field += np.float32(1 - 1 / (9 * n))
    cube: Image = field * field
    cube *= field
    return cube


def _gauss(sigma: float) -> NDArray[np.float64]:
    radius = max(1, int(np.ceil(2.5 * sigma)))
    return np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-3)) ** 2)


def outside(frame: Frame, border: Border) -> NDArray[np.bool_] | None:
    """Return where the border hides the scan, or None where there is none.

    The scan is a rectangle of the picture's size, turned by the angle around the middle and shifted.
    """
    if border.kind == "none":
        return None
    angle = np.deg2rad(border.angle_deg)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x = np.arange(frame.cols, dtype=np.float32) - np.float32(frame.cols * (0.5 + border.shift_x) - 0.5)
    y = np.arange(frame.rows, dtype=np.float32) - np.float32(frame.rows * (0.5 + border.shift_y) - 0.5)
    across = np.abs(x[None] * cosine + y[:, None] * sine) > np.float32(frame.cols / 2)
    down = np.abs(y[:, None] * cosine - x[None] * sine) > np.float32(frame.rows / 2)
    hidden: NDArray[np.bool_] = across | down
    return hidden


def resample(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the picture averaged by area to (rows, columns), rounded; the same picture where the size agrees."""
    if picture.shape == size:
        return picture
    area = picture.astype(np.float64)
    for axis in (0, 1):
        area = _average(area, size[axis], axis)
    rounded: NDArray[np.uint8] = (area + 0.5).astype(np.uint8)
    return rounded


def nearest(labels: Labels, size: tuple[int, int]) -> Labels:
    """Return the labels at the centres of (rows, columns) coarser pixels."""
    rows, cols = (((np.arange(n) + 0.5) * (full / n)).astype(int) for n, full in zip(size, labels.shape, strict=True))
    picked: Labels = labels[rows[:, None], cols[None]]
    return picked


def _average(values: NDArray[np.float64], count: int, axis: int) -> NDArray[np.float64]:
    # The integral of the piecewise constant signal, read at the edges of the new pixels.
    length = values.shape[axis]
    edges = np.arange(count + 1) * (length / count)
    whole = np.minimum(edges.astype(int), length - 1)
    share = (edges - whole)[:, None] if axis == 0 else edges - whole
    sums = np.cumsum(values, axis=axis) - values
    at = np.take(sums, whole, axis=axis) + share * np.take(values, whole, axis=axis)
    means: NDArray[np.float64] = np.diff(at, axis=axis) * (count / length)
    return means
