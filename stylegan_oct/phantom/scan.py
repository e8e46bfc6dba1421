"""`render`: one simulated scan with its ground truth."""

from dataclasses import dataclass

import numpy as np

from stylegan_oct.classes import CLASSES
from stylegan_oct.phantom.anatomy import BORDER, Eye, bruchs_membrane, draw_eye, roughen, thicknesses
from stylegan_oct.phantom.factors import Factors
from stylegan_oct.phantom.frame import DEPTH_UM, NATIVE_ROWS, Curve, Frame, Labels
from stylegan_oct.phantom.lesions import LESIONS, Lesions, draw_lesions
from stylegan_oct.phantom.optics import Border, Camera, draw_border, draw_camera, expose, nearest, outside, resample
from stylegan_oct.phantom.paint import Surroundings, draw_surroundings, layer_mask, paint, stack

# Width in mm and native columns of a high-speed scan of 20 and of 30 degrees.
_FIELDS = ((5.9, 512), (8.8, 768))
_WIDE_SHARE = 0.3
_OUTER = ("myoid", "EZ", "OS", "RPE")
_PIXEL_LIMIT = 4096


@dataclass(frozen=True)
class Scan:
    """A simulated B-scan."""

    image: Labels                 # [H, W] uint8 display grey
    factors: Factors
    layers: Labels | None         # [H, W] place in LAYERS; BORDER outside the scan
    lesions: Labels | None        # [H, W] place in LESIONS


def render(seed: int, index: int = 0, *, label: str | None = None, resolution: tuple[int, int] = (496, 512),
           masks: bool = False, border: bool = True, speckle: bool = True, speckle_seed: int | None = None,
           lesion_scale: float = 1.0) -> Scan:
    """Return scan number `index` of the series `seed`.

    The scan depends on nothing but its arguments; eye and lesions are the same at every resolution.

    Args:
        seed: of the series, 0 to 2**64 - 1.
        index: of the scan in the series.
        label: class; default: drawn.
        resolution: rows and columns. Rendered at 496 rows or more, then averaged by area.
        masks: also return the layer and lesion masks.
        border: False leaves out white wedges and black margins, as `convert` does with those of real scans.
        speckle: False leaves it out, as if endlessly many scans of the eye were averaged.
        speckle_seed: of other speckle over the same eye, as if it were scanned again; default: the scan's own.
        lesion_scale: factor on the size of all lesions, the rest of the picture and its speckle unchanged; 0 heals.
    """
    assert label is None or label in CLASSES, label
    assert all(1 <= size <= _PIXEL_LIMIT for size in resolution), resolution
    assert lesion_scale >= 0, lesion_scale
    rng = np.random.Generator(np.random.Philox(key=[seed, index]))
    drawn = CLASSES[int(rng.integers(len(CLASSES)))]
    label = label or drawn
    width_mm, columns = _FIELDS[int(rng.random() < _WIDE_SHARE)]
    frame = Frame(max(NATIVE_ROWS, resolution[0]), max(columns, resolution[1]), width_mm)
    eye = draw_eye(rng, frame)
    camera, edge = draw_camera(rng), draw_border(rng)
    edge = edge if border else Border()
    around = draw_surroundings(rng, eye, frame)
    lesions = draw_lesions(rng, label, eye, frame)
    if lesion_scale != 1:
        lesions = lesions.scaled(lesion_scale)
    tops = _tops(rng, eye, frame, lesions)
    grey, lesion_mask = paint(rng, frame, eye, lesions, around, tops, eye.disc(frame))
    if speckle_seed is not None:
        rng = np.random.Generator(np.random.Philox(key=[speckle_seed, index]))
    shown = expose(grey, frame, camera, rng if speckle else None)
    picture = (shown * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    hidden = outside(frame, edge)
    if hidden is not None:
        picture[hidden] = 255 if edge.kind == "white" else 0
        lesion_mask[hidden] = 0
    factors = _factors(label, frame, eye, camera, edge, around, lesions, tops, lesion_mask,
                       0.0 if hidden is None else float(hidden.mean()))
    layers = None
    if masks:
        layers = layer_mask(frame, tops)
        if hidden is not None:
            layers[hidden] = BORDER
        layers = nearest(layers, resolution)
    return Scan(resample(picture, resolution), factors, layers, nearest(lesion_mask, resolution) if masks else None)


def _tops(rng: np.random.Generator, eye: Eye, frame: Frame, lesions: Lesions) -> dict[str, Curve]:
    """Return where each layer begins, lesions in place, the whole moved so that the retina is in view."""
    thick = thicknesses(eye, frame)
    for name, extra in lesions.swelling.items():
        thick[name] = thick[name] + extra
    outer = sum(thick[name] for name in _OUTER)
    for name in ("myoid", "EZ", "OS"):
        thick[name] = thick[name] * (1 - 0.4 * lesions.ez_loss)
    # A band that climbs is cut aslant by the A-scan and so looks thicker.
    climb = np.gradient(frame.blur(lesions.sub_rpe + lesions.shrm, 15), frame.um_per_col)
    for name in ("EZ", "OS", "RPE"):
        thick[name] = thick[name] * np.minimum(np.sqrt(1 + climb * climb), 2)
    roughen(rng, frame, thick)
    thick |= {"SRF": lesions.srf, "SHRM": lesions.shrm, "sub-RPE": lesions.sub_rpe}
    thicker = sum(thick[name] for name in _OUTER) - outer
    _yield_to(lesions.srf + lesions.shrm + lesions.sub_rpe + thicker, thick, frame)
    bruch = bruchs_membrane(eye, frame)
    choroid = np.clip(eye.choroid_um * (1 + 0.1 * eye.choroid_wander) - 5 * frame.x_mm**2, 60, None)
    tops = stack(frame, thick, bruch, choroid)
    middle = slice(frame.cols // 8, frame.cols - frame.cols // 8)
    down = max(0.0, 60 - float(tops["RNFL"][middle].min()))
    up = max(0.0, float(bruch[middle].max()) - (DEPTH_UM - 150))
    return {name: top + (down - up) for name, top in tops.items()}


def _yield_to(raised: Curve, thick: dict[str, Curve], frame: Frame) -> None:
    """Let the retina above a bump give way: first the outer nuclear layer, then the inner layers, the ILM least."""
    outer = np.maximum(frame.blur(raised, 120), raised - np.maximum(thick["ONL"] - 18, 0))
    outer = frame.blur(outer, 40)
    thick["ONL"] = np.maximum(thick["ONL"] + outer - raised, 10)
    inner = frame.blur(outer, 330)
    names = ("INL", "IPL", "GCL")
    room = sum(thick[name] for name in names) + 1e-6
    squeeze = np.clip((outer - inner) / room, -0.15, 0.4)
    for name in names:
        thick[name] = thick[name] * (1 - squeeze)


def _factors(label: str, frame: Frame, eye: Eye, camera: Camera, border: Border, around: Surroundings,
             lesions: Lesions, tops: dict[str, Curve], mask: Labels, hidden: float) -> Factors:
    retina = tops["choroid"] - tops["RNFL"]
    fovea = int(np.clip((eye.fovea_x_mm / frame.width_mm + 0.5) * frame.cols, 0, frame.cols - 1))
    near = np.abs(frame.x_mm - eye.fovea_x_mm) <= 0.5
    areas = np.bincount(mask.ravel(), minlength=len(LESIONS)) * frame.mm2_per_pixel
    area = {name: float(areas[place]) for place, name in enumerate(LESIONS)}
    heights, widths = [h for h, _ in lesions.drusen_sizes], [w for _, w in lesions.drusen_sizes]
    cysts = [blob for blob in lesions.blobs if blob.kind == "cyst"]

    def width_um(curve: Curve) -> float:
        return float((curve > 5).sum() * frame.um_per_col)

    return Factors(
        label=label, severity=lesions.severity, laterality=eye.laterality, width_mm=frame.width_mm,
        fovea_x_mm=eye.fovea_x_mm, scan_offset_mm=eye.scan_offset_mm, tilt_deg=eye.tilt_deg,
        curvature_um_per_mm2=eye.curvature_um_per_mm2, thickness_scale=eye.thickness_scale,
        retinal_pos=float(tops["choroid"][frame.cols // 2] / DEPTH_UM),
        choroid_um=float((tops["sclera"] - tops["choroid"]).mean()), looks=camera.looks,
        floor_grey=camera.floor_grey, gain=camera.gain, vessels_n=len(around.vessels),
        vitreous_line=int(around.vitreous_line), cst_um=float(retina[near].mean()),
        foveal_thickness_um=float(retina[fovea]), drusen_n=len(heights),
        drusen_mean_height_um=float(np.mean(heights or [0])), drusen_mean_width_um=float(np.mean(widths or [0])),
        drusen_max_height_um=float(lesions.drusen.max()), drusen_area_mm2=area["drusen"],
        ped_height_um=float(lesions.ped.max()), ped_width_um=width_um(lesions.ped),
        srf_height_um=float(lesions.srf.max()), srf_width_um=width_um(lesions.srf), srf_area_mm2=area["SRF"],
        shrm_height_um=float(lesions.shrm.max()), shrm_width_um=width_um(lesions.shrm),
        shrm_grey=lesions.shrm_grey if lesions.shrm.any() else 0.0, cysts_n=len(cysts),
        cysts_area_mm2=area["cyst"], cyst_max_um=2 * max((max(b.half_width_um, b.half_height_um) for b in cysts),
                                                         default=0.0),
        hrf_n=len(lesions.blobs) - len(cysts), border_type=border.kind, border_angle_deg=border.angle_deg,
        border_fraction=hidden)
