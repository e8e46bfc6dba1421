"""The healthy eye: thickness of every layer by eccentricity, and the shape of the whole.

Thickness nodes reproduce the means of PMC6042244 (Table 6, Spectralis) within 5 um. The sublayers of the
photoreceptors share out that table's "PRL + RPE".
"""

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.interpolate import PchipInterpolator

from stylegan_oct.phantom.frame import DEPTH_UM, Curve, Frame

# From the vitreous down. A mask holds the place of its layer in this list.
LAYERS: Final = ("vitreous", "RNFL", "GCL", "IPL", "INL", "OPL", "ONL", "myoid", "EZ", "OS", "SRF", "SHRM", "RPE",
                 "sub-RPE", "choroid", "sclera")
BORDER: Final = 255   # in a layer mask: outside the scan

_R_MM = (0, 0.15, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5)
# (nasal, temporal) um; the last node carries the trend on to the edge of a 30 degree scan.
_INNER = {
    "RNFL": ((4, 5, 7, 12, 16, 19, 26, 38, 58, 105), (4, 5, 7, 12, 16, 17, 18, 19, 19.5, 21)),
    "GCL": ((0, 1, 6, 24, 46, 54, 54, 45, 32, 22), (0, 1, 6, 24, 44, 51, 49, 41, 29, 20)),
    "IPL": ((2, 5, 12, 27, 40, 45, 42, 34, 27, 22), (2, 5, 12, 27, 39, 44, 41, 36, 28, 23)),
    "INL": ((2, 4, 10, 23, 35, 40, 40, 36, 33, 28), (2, 4, 10, 23, 33, 38, 38, 35, 32, 28)),
    "OPL": ((8, 14, 20, 28, 31, 33, 32, 29, 27, 25), (8, 14, 20, 28, 31, 32, 30, 27, 26, 24)),
    "ONL": ((118, 106, 96, 82, 76, 72, 66, 58, 53, 48), (118, 106, 96, 82, 74, 70, 65, 58, 54, 49)),
}
_OUTER = {  # the foveola has the longest outer segments
    "myoid": (29, 28, 27, 26, 26, 26, 25, 25, 24, 24),
    "EZ": (13, 13, 13, 13, 13, 13, 12.5, 12, 12, 12),
    "OS": (31, 30, 28, 26, 26, 26, 26, 26, 26, 26),
    "RPE": (17.5, 17, 17, 17, 17, 16.5, 16, 15, 14.5, 14),
}
_SPREAD = {"RNFL": 0.12, "GCL": 0.09, "IPL": 0.07, "INL": 0.09, "OPL": 0.12, "ONL": 0.11,
           "myoid": 0.08, "EZ": 0.08, "OS": 0.1, "RPE": 0.1}


@dataclass(frozen=True)
class Eye:
    """One eye as one scan cuts it."""

    laterality: str          # OD: nasal side to the right; OS: to the left
    fovea_x_mm: float        # from the middle of the scan
    scan_offset_mm: float    # the scan passes above or below the fovea by this much
    tilt_deg: float          # positive: deeper to the right
    curvature_um_per_mm2: float   # positive: the edges bend up, towards the vitreous
    retinal_pos: float       # depth of Bruch's membrane in the middle, as a share of the scan
    pit_scale: float         # width of the pit, 1 on average
    thickness_scale: float
    layer_scales: dict[str, float]
    choroid_um: float
    disc_mm: float           # from the fovea to the temporal edge of the optic disc
    wander: Curve            # [cols] um, slow unevenness of Bruch's membrane
    choroid_wander: Curve    # [cols], unevenness of the lower border of the choroid

    def eccentricity(self, frame: Frame) -> tuple[Curve, Curve]:
        """Return the distance from the fovea in mm, and whether a column lies on the nasal side (0 to 1)."""
        along = frame.x_mm - self.fovea_x_mm
        nasal = along if self.laterality == "OD" else -along
        return np.sqrt(along**2 + self.scan_offset_mm**2), np.clip(0.5 + nasal / 0.6, 0, 1)

    def disc(self, frame: Frame) -> Curve:
        """Return 1 where the retina is whole, falling to 0 inside the optic disc."""
        r, nasal = self.eccentricity(frame)
        inside = np.clip((r * nasal - self.disc_mm) / 0.55, 0, 1)
        return 1 - inside * inside * (3 - 2 * inside)


def draw_eye(rng: np.random.Generator, frame: Frame) -> Eye:
    """Draw an eye and the way the scan meets it: one scan in ten misses the pit, one in six is well off centre."""
    offset = abs(rng.normal(0, 0.12))
    if rng.random() < 0.1:
        offset = rng.uniform(0.6, 1.6)
    spread = rng.normal(0, 0.2)
    fovea = rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 0.3 * frame.width_mm) if rng.random() < 0.16 else spread
    return Eye(
        laterality=str(rng.choice(("OD", "OS"))),
        fovea_x_mm=float(fovea),
        scan_offset_mm=float(offset),
        tilt_deg=float(np.clip(rng.normal(0, 2.2), -5.5, 5.5)),
        curvature_um_per_mm2=float(np.clip(rng.normal(11, 10), -11, 34)) * (5.9 / frame.width_mm),
        retinal_pos=float(np.clip(rng.normal(0.49, 0.055), 0.37, 0.62)),
        pit_scale=float(np.clip(rng.normal(1, 0.1), 0.75, 1.3)),
        thickness_scale=float(np.clip(rng.normal(1, 0.05), 0.87, 1.13)),
        layer_scales={name: float(np.clip(rng.normal(1, 0.5 * _SPREAD[name]), 0.8, 1.2)) for name in _SPREAD},
        choroid_um=float(np.clip(rng.normal(285, 85), 110, 480)),
        disc_mm=float(rng.uniform(3.7, 5.0)),
        wander=frame.wander(rng, 1.6) * rng.uniform(2, 9),
        choroid_wander=frame.wander(rng, 0.9),
    )


def thicknesses(eye: Eye, frame: Frame) -> dict[str, Curve]:
    """Return the healthy thickness of each layer from RNFL to RPE, [cols] um."""
    r, nasal = eye.eccentricity(frame)
    disc = eye.disc(frame)
    r = np.minimum(r / eye.pit_scale, _R_MM[-1])
    result = {}
    for name, (on_nasal, on_temporal) in _INNER.items():
        curves = [PchipInterpolator(_R_MM, nodes)(r) for nodes in (on_nasal, on_temporal)]
        result[name] = frame.blur(curves[0] * nasal + curves[1] * (1 - nasal), 70)
    for name, nodes in _OUTER.items():
        result[name] = PchipInterpolator(_R_MM, nodes)(r)
    for name in result:
        result[name] = result[name] * (eye.thickness_scale * eye.layer_scales[name])
        # At the disc every layer but the nerve fibres ends.
        result[name] = result[name] + (1 - disc) * 260 if name == "RNFL" else result[name] * disc
    return result


def roughen(rng: np.random.Generator, frame: Frame, thick: dict[str, Curve]) -> None:
    """Make the borders between the inner layers uneven: what one layer wins the next one loses."""
    for upper, lower in itertools.pairwise(("RNFL", "GCL", "IPL", "INL", "OPL", "ONL")):
        least = np.minimum(thick[upper], thick[lower])
        shift = least * np.clip(0.055 * frame.wander(rng, 0.05) + 0.06 * frame.wander(rng, 0.3), -0.4, 0.4)
        thick[upper] = thick[upper] + shift
        thick[lower] = thick[lower] - shift


def bruchs_membrane(eye: Eye, frame: Frame) -> Curve:
    """Return the depth of Bruch's membrane, [cols] um."""
    x = frame.x_mm
    slope = 1000 * np.tan(np.deg2rad(eye.tilt_deg))
    bend = 0.06 * frame.width_mm**2  # the middle stays near retinal_pos, the bend goes to both sides
    depth: Curve = eye.retinal_pos * DEPTH_UM + slope * x - eye.curvature_um_per_mm2 * (x * x - bend) + eye.wander
    return depth
