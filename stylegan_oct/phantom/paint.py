"""Noiseless display grey of a scan: layers by their borders, then texture, vessels, lesions and what floats above.

Greys (0 to 1) are those of the real scans of OCT2017, read by eye and by histogram.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from stylegan_oct.phantom.anatomy import LAYERS, Eye
from stylegan_oct.phantom.frame import DEPTH_UM, Curve, Frame, Image, Labels
from stylegan_oct.phantom.lesions import LESIONS, Blob, Lesions

GREYS = {"vitreous": 0.05, "RNFL": 0.56, "GCL": 0.35, "IPL": 0.375, "INL": 0.28, "OPL": 0.35, "ONL": 0.215,
         "myoid": 0.285, "EZ": 0.68, "OS": 0.42, "SRF": 0.06, "SHRM": 0.6, "RPE": 0.80, "sub-RPE": 0.42,
         "choroid": 0.375, "sclera": 0.32}
_JITTER = 0.05
# um over which a border above the named layer passes from one grey to the next; the axial resolution is about 7 um.
_EDGE_UM = {"RNFL": 8.0, "GCL": 16.0, "IPL": 24.0, "INL": 18.0, "OPL": 18.0, "ONL": 20.0, "myoid": 9.0, "EZ": 9.0,
            "OS": 10.0, "SRF": 9.0, "SHRM": 18.0, "RPE": 9.0, "sub-RPE": 10.0, "choroid": 16.0, "sclera": 60.0}


@dataclass(frozen=True)
class Vessel:
    """A retinal vessel cut across."""

    x_mm: float
    width_um: float
    shadow: float     # factor on the intensity below it


@dataclass(frozen=True)
class Surroundings:
    """What is neither layer nor lesion."""

    vessels: tuple[Vessel, ...]
    vitreous_line: bool
    ghost: bool              # reflection of the optics near the upper edge


def draw_surroundings(rng: np.random.Generator, eye: Eye, frame: Frame) -> Surroundings:
    """Draw 3 to 8 vessels outside the foveal avascular zone, and whether a vitreous line and a ghost are seen."""
    vessels = []
    for _ in range(int(rng.integers(3, 9))):
        x = float(rng.uniform(-0.5, 0.5)) * frame.width_mm
        far = np.sqrt((x - eye.fovea_x_mm) ** 2 + eye.scan_offset_mm**2)
        if far > 0.35:
            width = float(rng.uniform(30, 60 + 45 * min(far / 2, 1)))
            vessels.append(Vessel(x, width, float(rng.uniform(0.3, 0.75))))
    return Surroundings(tuple(vessels), bool(rng.random() < 0.2), bool(rng.random() < 0.45))


def stack(frame: Frame, thick: dict[str, Curve], bruch: Curve, choroid: Curve) -> dict[str, Curve]:
    """Return the depth of the top of each layer, [cols] um, given the thickness of those between RNFL and sub-RPE."""
    tops = {"choroid": bruch, "sclera": bruch + choroid}
    depth = bruch
    for name in LAYERS[LAYERS.index("sub-RPE"):0:-1]:
        depth = depth - thick[name]
        tops[name] = depth
    return tops


def paint(rng: np.random.Generator, frame: Frame, eye: Eye, lesions: Lesions, around: Surroundings,
          tops: dict[str, Curve], disc: Curve) -> tuple[Image, Labels]:
    """Return the noiseless grey in [0, 1] and the lesion mask, both [rows, cols].

    Args:
        rng: draws texture, choroidal vessels and small variations of brightness.
        frame: the grid.
        eye: the healthy eye.
        lesions: what disease adds; sets the greys of the fluid and tissue it brings.
        around: vessels and what floats in the vitreous.
        tops: depth of the top of each layer, [cols] um.
        disc: 1 where the retina is whole, 0 within the optic disc, [cols].
    """
    grey = _layers(rng, frame, lesions, tops, disc)
    _choroid(rng, grey, frame, eye, lesions, tops, disc)
    _sink(grey, frame, tops, disc)
    _texture(rng, grey, frame)
    mask = _lesion_layers(frame, lesions, tops)
    for blob in lesions.blobs:
        _lesion_blob(grey, mask, frame, blob, tops)
    _vessels(grey, frame, around.vessels, tops)
    _vitreous(rng, grey, frame, around, tops)
    return grey, mask


def layer_mask(frame: Frame, tops: dict[str, Curve]) -> Labels:
    """Return the place in LAYERS of every pixel, [rows, cols]."""
    mask = np.zeros((frame.rows, frame.cols), np.uint8)
    for name in LAYERS[1:]:
        mask += frame.z_um[:, None] >= tops[name][None]
    return mask


def _ramp(frame: Frame, top: Curve, width_um: float) -> Image:
    """Return 0 above the border, 1 below, rising over `width_um` around it."""
    width = max(width_um, frame.um_per_row)
    z = (frame.z_um / width + 0.5).astype(np.float32)
    ramp = z[:, None] - (top / width).astype(np.float32)[None]
    return np.clip(ramp, 0, 1, out=ramp)


def _layers(rng: np.random.Generator, frame: Frame, lesions: Lesions, tops: dict[str, Curve], disc: Curve) -> Image:
    one = np.ones(frame.cols)
    level = {name: one * (grey * (1 + _JITTER * rng.standard_normal())) for name, grey in GREYS.items()}
    level["sub-RPE"] = lesions.sub_rpe_grey * (1 + 0.12 * frame.wander(rng, 0.12))
    level["SHRM"] = lesions.shrm_grey * (1 + 0.14 * frame.wander(rng, 0.08))
    level["RNFL"] = level["RNFL"] * (1 + 0.11 * frame.wander(rng, 0.5) + 0.09 * frame.wander(rng, 0.08))
    for name in ("EZ", "RPE"):
        level[name] = level[name] * (1 + 0.08 * frame.wander(rng, 0.035) + 0.05 * frame.wander(rng, 0.4))
    level["EZ"] = level["EZ"] * (1 - 0.5 * lesions.ez_loss)
    level["OS"] = level["OS"] * (1 - 0.12 * lesions.ez_loss)
    level["RPE"] = level["RPE"] * disc + 0.35 * (1 - disc)
    inner = 1 + 0.06 * frame.wander(rng, 1.2)
    for name in ("GCL", "IPL", "INL", "OPL", "ONL"):
        level[name] = level[name] * inner
    grey = np.empty((frame.rows, frame.cols), np.float32)
    grey[:] = level["vitreous"]
    for above, name in zip(LAYERS, LAYERS[1:], strict=False):
        step = _ramp(frame, tops[name], _EDGE_UM[name])
        step *= (level[name] - level[above]).astype(np.float32)[None]
        grey += step
    # Thin bright lines: the ILM's reflex, the ELM, and Bruch's membrane where the RPE has left it.
    shine = np.clip(0.03 + 0.06 * frame.wander(rng, 0.5), 0, 0.18) + 0.3 * np.clip(frame.wander(rng, 0.2) - 1.2, 0, 1)
    _line(grey, frame, tops["RNFL"] + 4, 10, shine)
    _line(grey, frame, tops["RPE"] - 3, 13, 0.2 * (1 - lesions.ez_loss) * disc)
    _line(grey, frame, tops["myoid"], 8, 0.09 * (1 - lesions.ez_loss) * disc)
    _line(grey, frame, tops["choroid"], 8, 0.18 * np.clip(lesions.sub_rpe / 25 - 0.5, 0, 1))
    return grey


def _line(grey: Image, frame: Frame, depth: Curve, width_um: float, strength: Curve) -> None:
    lo, hi = _rows(frame, float(depth.min()) - 2 * width_um, float(depth.max()) + 2 * width_um)
    far = np.abs((frame.z_um[lo:hi, None] - depth[None]).astype(np.float32)) * np.float32(1 / width_um)
    grey[lo:hi] += np.clip(1 - far, 0, 1) * strength.astype(np.float32)[None]


def _rows(frame: Frame, top_um: float, bottom_um: float) -> tuple[int, int]:
    lo = int(np.clip(top_um / frame.um_per_row, 0, frame.rows))
    return lo, int(np.clip(bottom_um / frame.um_per_row + 1, lo, frame.rows))


def _choroid(rng: np.random.Generator, grey: Image, frame: Frame, eye: Eye, lesions: Lesions, tops: dict[str, Curve],
             disc: Curve) -> None:
    """Draw vessels, larger with depth, then let the light fade below Bruch's membrane, unevenly by column."""
    bruch, thickness = tops["choroid"], tops["sclera"] - tops["choroid"]
    for _ in range(int(18 * frame.width_mm)):
        across = float(rng.uniform(0, 1))
        column = int(across * frame.cols)
        depth = float(rng.uniform(0.05, 0.95))
        size = (16 + 62 * depth * min(eye.choroid_um / 280, 1.4)) * float(rng.uniform(0.6, 1.3))
        lumen = rng.random() < 0.65
        _blob(grey, frame, (across - 0.5) * frame.width_mm, float(bruch[column] + thickness[column] * depth + 8),
              size * float(rng.uniform(1.0, 2.6)), size * float(rng.uniform(0.65, 1.0)),
              float(rng.uniform(0.2, 0.31)) if lumen else float(rng.uniform(0.44, 0.56)),
              opacity=0.75 if lumen else 0.5, soft=0.85, wobble=(float(rng.normal(0, 0.2)), float(rng.normal(0, 0.15))))
    reach = float(rng.uniform(115, 290)) * (0.7 + 0.3 * eye.choroid_um / 285)
    lo, _ = _rows(frame, float(bruch.min()), DEPTH_UM)
    deep = np.clip((frame.z_um[lo:, None] - bruch[None]).astype(np.float32) * np.float32(1 / reach), 0, None)
    columns = 0.03 * frame.wander(rng, 0.03) + 0.025 * frame.wander(rng, 0.1) + 0.06 * frame.wander(rng, 0.5)
    below = (lesions.below * (1 + columns) * (0.6 + 0.4 * disc)).astype(np.float32)[None]
    near = np.minimum(deep * np.float32(reach / 30), 1)
    grey[lo:] *= 1 + near * (np.float32(0.06) * _mottle(rng, frame, 22, 95)[lo:] + below - 1)
    grey[lo:] /= 1 + deep * (np.float32(0.15) + deep * np.float32(0.55))


def _mottle(rng: np.random.Generator, frame: Frame, height_um: float, width_um: float) -> Image:
    """Return noise of mean 0 and SD about 1 in soft patches of the given size, [rows, cols]."""
    count = int(DEPTH_UM / height_um), int(1000 * frame.width_mm / width_um)
    rows, cols = ((np.arange(full) * (n / full)).astype(int)
                  for n, full in zip(count, (frame.rows, frame.cols), strict=True))
    field: Image = rng.standard_normal(count, dtype=np.float32)[rows[:, None], cols[None]]
    for axis, patch in ((0, frame.rows / count[0]), (1, frame.cols / count[1])):
        uniform_filter1d(field, max(1, round(patch)), axis=axis, output=field, mode="nearest")
    return field * np.float32(1.5)


def _texture(rng: np.random.Generator, grey: Image, frame: Frame) -> None:
    """Multiply by unevenness that is coarser than the speckle."""
    field = _mottle(rng, frame, 11, 38)
    field *= np.float32(0.055)
    field += 1
    grey *= field


def _sink(grey: Image, frame: Frame, tops: dict[str, Curve], disc: Curve) -> None:
    """Let the light fade with depth within the optic disc, where no layer bounds the tissue."""
    columns = np.flatnonzero(disc < 1)
    if columns.size:
        window = slice(columns[0], columns[-1] + 1)
        deep = np.clip((frame.z_um[:, None] - tops["RNFL"][None, window] - 90).astype(np.float32) / 260, 0, None)
        grey[:, window] *= 1 - (1 - 1 / (1 + deep * deep)) * (1 - disc[None, window]).astype(np.float32)


def _lesion_layers(frame: Frame, lesions: Lesions, tops: dict[str, Curve]) -> Labels:
    mask = np.zeros((frame.rows, frame.cols), np.uint8)
    z = frame.z_um[:, None]
    sub_rpe = np.where(lesions.ped >= lesions.drusen, LESIONS.index("PED"), LESIONS.index("drusen"))
    sub_rpe = np.where(np.maximum(lesions.ped, lesions.drusen) > 5, sub_rpe, LESIONS.index("none"))
    for top, bottom, label, present in (("sub-RPE", "choroid", sub_rpe, lesions.sub_rpe),
                                        ("SHRM", "RPE", LESIONS.index("SHRM"), lesions.shrm),
                                        ("SRF", "SHRM", LESIONS.index("SRF"), lesions.srf)):
        if present.any():
            np.copyto(mask, label, where=(z >= tops[top]) & (z < tops[bottom]), casting="unsafe")
    return mask


def _lesion_blob(grey: Image, mask: Labels, frame: Frame, blob: Blob, tops: dict[str, Curve]) -> None:
    column = int(np.clip((blob.x_mm / frame.width_mm + 0.5) * frame.cols, 0, frame.cols - 1))
    names = list(LAYERS)
    top, bottom = tops[blob.layer][column], tops[names[names.index(blob.layer) + 1]][column]
    z = float(top + blob.fraction * (bottom - top))
    if blob.kind == "cyst":  # the cyst keeps within the retina: below the nerve fibres, above the myoid
        half = blob.half_height_um
        z = float(np.clip(z, tops["GCL"][column] + half + 12, max(tops["myoid"][column] - half - 8, top)))
    cover, window = _blob(grey, frame, blob.x_mm, z, blob.half_width_um, blob.half_height_um, blob.grey,
                          opacity=1.0, soft=0.22 if blob.kind == "cyst" else 1.0, wobble=blob.wobble)
    if cover.size:
        mask[window][cover > 0.5] = LESIONS.index(blob.kind)


def _blob(grey: Image, frame: Frame, x_mm: float, z_um: float, half_width_um: float, half_height_um: float,
          level: float, *, opacity: float, soft: float, wobble: tuple[float, float]
          ) -> tuple[Image, tuple[slice, slice]]:
    """Blend a roundish patch into the grey; return its cover in [0, 1] and where that lies.

    The outline is an ellipse whose radius varies as 1 + a cos 2t + b cos 3t; `soft` is the share of the radius over
    which it fades.
    """
    reach = 1.35
    lo, hi = _rows(frame, z_um - reach * half_height_um, z_um + reach * half_height_um)
    centre = (x_mm / frame.width_mm + 0.5) * frame.cols
    across = reach * half_width_um / frame.um_per_col
    left, right = (int(np.clip(edge, 0, frame.cols)) for edge in (centre - across, centre + across + 1))
    window = (slice(lo, hi), slice(left, right))
    u = ((frame.x_mm[left:right] - x_mm) * (1000 / half_width_um)).astype(np.float32)[None]
    v = ((frame.z_um[lo:hi] - z_um) * (1 / half_height_um)).astype(np.float32)[:, None]
    square = u * u + v * v
    radius = np.sqrt(square) + np.float32(1e-6)
    cos2 = (u * u - v * v) / (square + np.float32(1e-6))
    cos3 = u * (u * u - 3 * v * v) / (radius * square + np.float32(1e-6))
    outline = 1 + np.float32(wobble[0]) * cos2 + np.float32(wobble[1]) * cos3
    cover: Image = np.clip((outline - radius) * np.float32(1 / soft) + np.float32(0.5), 0, 1)
    patch = grey[window]
    patch += cover * np.float32(opacity) * (np.float32(level) - patch)
    return cover, window


def _vessels(grey: Image, frame: Frame, vessels: tuple[Vessel, ...], tops: dict[str, Curve]) -> None:
    """Draw each vessel in the nerve fibres or ganglion cells, and the shadow on everything below it."""
    shade = np.ones(frame.cols)
    for vessel in vessels:
        column = int(np.clip((vessel.x_mm / frame.width_mm + 0.5) * frame.cols, 0, frame.cols - 1))
        size = vessel.width_um / 2
        z = float(tops["RNFL"][column]) + max(size * 0.9, 16)
        _blob(grey, frame, vessel.x_mm, z, size * 0.8, size * 0.75, 0.62, opacity=0.5, soft=0.8, wobble=(0, 0))
        across = np.abs(frame.x_mm - vessel.x_mm) * 1000 / size
        # Intensity falls to `shadow`; the display shows its fourth root.
        shade *= 1 - (1 - vessel.shadow**0.25) * np.clip(1.6 - across, 0, 1)
    shade = frame.blur(shade, 13)
    grey *= 1 + _ramp(frame, tops["IPL"], 40) * (shade - 1).astype(np.float32)[None]


def _vitreous(rng: np.random.Generator, grey: Image, frame: Frame, around: Surroundings,
              tops: dict[str, Curve]) -> None:
    """Draw the posterior vitreous face, parted from the retina except where it is still attached, and the ghost."""
    if around.vitreous_line:
        gap = np.clip(70 + 130 * rng.random() + 60 * frame.wander(rng, 2.0) + 35 * rng.normal() * frame.x_mm, 10, None)
        line = frame.blur(tops["RNFL"], 500) - gap
        strength = float(rng.uniform(0.07, 0.2))
        _line(grey, frame, line, 16, strength * np.clip(1 + 0.4 * frame.wander(rng, 0.5), 0.1, 1.6))
    if around.ghost:
        x, z = float(rng.normal(0, 0.25)), float(rng.uniform(80, 190))
        for row in range(3):
            _blob(grey, frame, x, z + 22 * row, float(rng.uniform(50, 150)), 12, float(rng.uniform(0.18, 0.26)),
                  opacity=0.8, soft=1.0, wobble=(0, 0))
