"""What disease adds: drusen, neovascular complexes and oedema, as curves over the columns and as blobs.

Sizes follow IOVS 2148979 and PMC3510676 (drusen), the CATT year-5 means (neovascular AMD) and Yalcin 2019 (diabetic
macular oedema); docs/phantom.md lists which numbers are read and which are chosen.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from stylegan_oct.phantom.anatomy import Eye
from stylegan_oct.phantom.frame import Curve, Frame

# A lesion mask holds the place of the lesion in this list.
LESIONS = ("none", "drusen", "PED", "SHRM", "SRF", "cyst", "HRF")
SUBTLE_SHARE = 0.12    # of the diseased scans; a minority, so that small pictures stay tellable


@dataclass(frozen=True)
class Blob:
    """A roundish body within a layer."""

    kind: str            # cyst or HRF
    x_mm: float
    layer: str
    fraction: float      # 0 at the top of the layer, 1 at its bottom
    half_width_um: float
    half_height_um: float
    grey: float
    wobble: tuple[float, float]   # how far the outline leaves the ellipse: 2 and 3 lobes


@dataclass
class Lesions:
    """All lesions of one scan; curves are [cols] um unless said otherwise."""

    drusen: Curve
    ped: Curve
    srf: Curve
    shrm: Curve
    unevenness: Curve        # of the RPE beside drusen, too low to count as one
    swelling: dict[str, Curve] = field(default_factory=dict)   # added to the layer
    ez_loss: Curve = field(default_factory=lambda: np.zeros(0))     # 0 to 1
    below: Curve = field(default_factory=lambda: np.ones(0))        # factor on the grey under Bruch's membrane
    blobs: list[Blob] = field(default_factory=list)
    drusen_sizes: list[tuple[float, float]] = field(default_factory=list)   # (height, width) um, as drawn
    sub_rpe_grey: float = 0.42
    shrm_grey: float = 0.6
    severity: float = 0.0

    @property
    def sub_rpe(self) -> Curve:
        """Distance between the RPE and Bruch's membrane."""
        return np.maximum(np.maximum(self.drusen, self.ped), self.unevenness)

    def swell(self, layer: str, by_um: Curve) -> None:
        """Make a layer thicker."""
        self.swelling[layer] = self.swelling.get(layer, np.zeros_like(by_um)) + by_um

    def scaled(self, factor: float) -> "Lesions":
        """Return the same lesions, each higher by the factor, and what they do to their surroundings in proportion."""
        blobs = [replace(blob, half_width_um=blob.half_width_um * factor, half_height_um=blob.half_height_um * factor)
                 for blob in self.blobs] if factor else []
        return replace(self, drusen=self.drusen * factor, ped=self.ped * factor, srf=self.srf * factor,
                       shrm=self.shrm * factor, unevenness=self.unevenness * factor,
                       swelling={layer: by_um * factor for layer, by_um in self.swelling.items()},
                       ez_loss=np.clip(self.ez_loss * factor, 0, 1),
                       below=np.clip(1 + (self.below - 1) * factor, 0.4, 1.4),
                       blobs=blobs, severity=self.severity * factor,
                       drusen_sizes=[(height * factor, width) for height, width in self.drusen_sizes] if factor else [])


def draw_lesions(rng: np.random.Generator, label: str, eye: Eye, frame: Frame) -> Lesions:
    """Draw the lesions of a class; NORMAL has none."""
    zero = np.zeros(frame.cols)
    lesions = Lesions(zero, zero, zero, zero, zero, ez_loss=zero, below=np.ones(frame.cols))
    subtle = rng.random() < SUBTLE_SHARE
    severity = float(rng.uniform(0.05, 0.25) if subtle else rng.uniform(0.3, 1))
    add: dict[str, Callable[..., None]] = {"CNV": _add_cnv, "DME": _add_dme, "DRUSEN": _add_drusen}
    if label in add:
        lesions.severity = severity
        add[label](rng, lesions, severity, eye, frame)
    return lesions


def dome(rng: np.random.Generator, frame: Frame, centre_mm: float, width_um: float, height_um: float,
         *, roughness: float = 0.12, power: float = 1.1) -> Curve:
    """Return an uneven, lopsided mound, zero beyond its width and `height_um` at its top."""
    u = np.clip((frame.x_mm - centre_mm) * 2000 / width_um, -1, 1)
    u = u + rng.uniform(-0.25, 0.25) * (1 - u * u)
    mound: Curve = np.clip(1 - u * u, 0, 1) ** power
    waves = sum(rng.normal() / k * np.sin(np.pi * k * u + rng.uniform(0, 2 * np.pi)) for k in (1.5, 2.5, 4.0))
    mound = mound * (1 + roughness * waves)
    top = mound.max()
    # A mound narrower than a column or beyond the edge has no top within the scan.
    return np.clip(mound, 0, None) * (height_um / top) if top > 0.05 else np.zeros_like(mound)


def _add_drusen(rng: np.random.Generator, lesions: Lesions, severity: float, eye: Eye, frame: Frame) -> None:
    count = int(rng.integers(2, 5)) if severity < 0.28 else int(rng.integers(5, 8 + round(9 * severity)))
    reach = min(2.3, 0.45 * frame.width_mm)
    around = np.clip(eye.fovea_x_mm + rng.normal(0, 0.35), -0.5 * reach, 0.5 * reach)
    for index in range(count):
        height = float(np.clip(rng.lognormal(np.log(24 + 40 * severity), 0.4), 18, 150))
        if index < 3 and severity >= 0.28:
            height = max(height, float(rng.uniform(52, 85)))
        width = float(np.clip(height / rng.uniform(0.17, 0.38), 110, 480))
        centre = float(np.clip(around + rng.normal(0, 0.75), -reach, reach))
        _add_druse(rng, lesions, frame, centre, width, height)
    if severity > 0.5 and rng.random() < 0.2:  # confluent: a drusenoid detachment
        _add_druse(rng, lesions, frame, float(around + rng.normal(0, 0.3)), float(rng.uniform(400, 800)),
                   float(rng.uniform(70, 150)))
    lesions.drusen = frame.blur(lesions.drusen, 13)
    lesions.unevenness = np.clip(3 + 5 * frame.wander(rng, 0.12), 0, 12)
    lesions.sub_rpe_grey = float(rng.uniform(0.42, 0.58))
    lesions.ez_loss = 0.55 * np.clip(frame.blur(lesions.drusen, 25) / 70, 0, 1)
    for _ in range(rng.poisson(1.5 * severity)):  # pigment that has left the RPE over a druse
        druse = float(frame.x_mm[int(np.argmax(lesions.drusen))])
        lesions.blobs.append(_spot(rng, druse + rng.normal(0, 0.25), "ONL"))
    lesions.below = 1 + 0.1 * (frame.wander(rng, 0.15) * np.clip(lesions.drusen / 60, 0, 1))


def _add_druse(rng: np.random.Generator, lesions: Lesions, frame: Frame, centre: float, width: float,
               height: float) -> None:
    lesions.drusen = np.maximum(lesions.drusen, dome(rng, frame, centre, width, height, power=rng.uniform(0.65, 1.15)))
    lesions.drusen_sizes.append((height, width))


def _add_cnv(rng: np.random.Generator, lesions: Lesions, severity: float, eye: Eye, frame: Frame) -> None:
    centre = float(np.clip(eye.fovea_x_mm + rng.normal(0, 0.45), -1.3, 1.3))
    kind = rng.choice(("fibrovascular", "serous", "SHRM"), p=(0.52, 0.12, 0.36))
    width = float(rng.uniform(700 + 300 * severity, 1100 + 1800 * severity))
    share = {"fibrovascular": 1.0, "serous": 1.4, "SHRM": 0.4}[kind]
    height = share * float(rng.uniform(55 + 50 * severity, 95 + 220 * severity))
    lesions.ped = _detachment(rng, frame, centre, width, height, smooth=kind == "serous")
    lesions.sub_rpe_grey = float(rng.uniform(0.16, 0.22) if kind == "serous" else rng.uniform(0.3, 0.46))
    if kind == "SHRM" or rng.random() < 0.4:
        tall = float(rng.uniform(55 + 40 * severity, 90 + 150 * severity)) * (1.0 if kind == "SHRM" else 0.6)
        mound = dome(rng, frame, centre + rng.normal(0, 0.15), float(rng.uniform(0.6, 1.1)) * width, tall,
                     roughness=0.25, power=1.2)
        lesions.shrm = frame.blur(mound, 22)
        lesions.shrm_grey = float(rng.uniform(0.48, 0.66))
    for _ in range(int(rng.integers(0, 3))):  # small drusen beside the complex, as in most eyes with AMD
        tall = float(rng.uniform(18, 55))
        _add_druse(rng, lesions, frame, float(rng.uniform(-2.3, 2.3)), tall / rng.uniform(0.17, 0.38), tall)
    if rng.random() < 0.45 or (severity < 0.28 and kind != "SHRM"):
        # Fluid fills the space below a smooth cap, so it lies on the shoulders of what it surrounds.
        cap = dome(rng, frame, centre + rng.normal(0, 0.3), width * rng.uniform(1.0, 1.7),
                   float(rng.uniform(0.5, 1.15)) * (lesions.ped + lesions.shrm).max() + rng.uniform(25, 90),
                   roughness=0.05, power=1.0)
        lesions.srf = np.clip(cap - lesions.sub_rpe - lesions.shrm, 0, None)
    raised = frame.blur(lesions.ped + lesions.shrm, 60)
    lesions.ez_loss = np.clip(raised / 60, 0, 1) * rng.uniform(0.7, 1)
    lesions.swell("ONL", dome(rng, frame, centre, 2200, float(rng.uniform(10, 20 + 70 * severity))))
    lesions.swell("INL", dome(rng, frame, centre, 2600, float(rng.uniform(5, 15 + 45 * severity))))
    if rng.random() < 0.45:
        count = int(rng.integers(1, 3 + round(6 * severity)))
        _add_cysts(rng, lesions, frame, centre, count, 40 + 110 * severity, 0.45)
    for _ in range(rng.poisson(5 * severity)):
        lesions.blobs.append(_spot(rng, centre + rng.normal(0, 0.5), str(rng.choice(("ONL", "OPL")))))
    streaks = frame.wander(rng, 0.12) * 0.16 - rng.uniform(-0.1, 0.25)
    lesions.below = np.clip(1 + streaks * np.clip(raised / 50, 0, 1), 0.4, 1.4)


def _detachment(rng: np.random.Generator, frame: Frame, centre: float, width: float, height: float,
                *, smooth: bool) -> Curve:
    if smooth:
        return dome(rng, frame, centre, width * 0.8, height, roughness=0.03, power=0.75)
    whole = dome(rng, frame, centre, width, height * 0.75, roughness=0.3)
    for _ in range(int(rng.integers(2, 6))):
        at = centre + rng.uniform(-0.4, 0.4) * width / 1000
        humps = dome(rng, frame, float(at), width * float(rng.uniform(0.2, 0.5)), height * float(rng.uniform(0.5, 1)))
        whole = np.maximum(whole, humps)
    return frame.blur(whole, 14)


def _add_dme(rng: np.random.Generator, lesions: Lesions, severity: float, eye: Eye, frame: Frame) -> None:
    central = rng.random() < 0.6
    aside = rng.normal(0, 0.15) if central else rng.choice((-1, 1)) * rng.uniform(0.6, 1.3)
    centre = float(np.clip(eye.fovea_x_mm + aside, -0.42 * frame.width_mm, 0.42 * frame.width_mm))
    cystoid = severity < 0.28 or rng.random() < 0.85
    swell = float(rng.uniform(10, 40)) if severity < 0.28 else float(rng.uniform(40, 60 + 220 * severity))
    if not cystoid:
        swell = max(swell, 150.0)
    width = float(rng.uniform(1.6, 3.6)) * 1000
    for layer, share in {"GCL": 0.08, "IPL": 0.07, "INL": 0.25, "OPL": 0.15, "ONL": 0.45}.items():
        lesions.swell(layer, dome(rng, frame, centre + rng.normal(0, 0.1), width * rng.uniform(0.85, 1.15),
                                  swell * share * float(rng.uniform(0.6, 1.3)), roughness=0.06, power=1.4))
    if cystoid:
        count = int(rng.integers(1, 3)) if severity < 0.28 else int(rng.integers(3, 6 + round(14 * severity)))
        _add_cysts(rng, lesions, frame, centre, count, 65 + 130 * severity, 0.62)
    if severity > 0.4 and rng.random() < 0.22:
        lesions.srf = dome(rng, frame, eye.fovea_x_mm, float(rng.uniform(600, 1800)), float(rng.uniform(40, 160)),
                           roughness=0.05)
    for _ in range(rng.poisson(6 * severity)):
        lesions.blobs.append(_spot(rng, centre + rng.normal(0, 0.7), str(rng.choice(("INL", "OPL", "ONL")))))


def _add_cysts(rng: np.random.Generator, lesions: Lesions, frame: Frame, centre: float, count: int, typical_um: float,
               reach_mm: float) -> None:
    """Add fluid-filled cysts in clusters and the room they take; those in the ONL stand upright between Mueller cells.

    Septa part the neighbours of a cluster: a cyst that finds no place beside the others of its layer is left out.
    """
    room = {layer: np.zeros(frame.cols) for layer in ("INL", "OPL", "ONL")}
    taken: list[tuple[str, float, float]] = []
    at, last = centre, 0.0
    for index in range(count):
        layer = str(rng.choice(("INL", "OPL", "ONL"), p=(0.45, 0.1, 0.45)))
        height = float(np.clip(rng.lognormal(np.log(typical_um * (1.25 if index == 0 else 0.8)), 0.4), 40, 330))
        width = min(height * float(rng.uniform(0.4, 0.85) if layer == "ONL" else rng.uniform(0.6, 1.4)), 480.0)
        at, free = _place(rng, frame, centre if index == 0 or rng.random() < 0.35 else None, (at, last), width,
                          [(x, w) for other, x, w in taken if other == layer], reach_mm)
        if not free:
            continue
        last = width
        taken.append((layer, at, width))
        room[layer] += dome(rng, frame, at, max(2.2 * width, 1.6 * height, 170.0), height, roughness=0, power=0.8) ** 2
        wobble = (float(rng.normal(0, 0.09)), float(rng.normal(0, 0.1)))
        lesions.blobs.append(Blob("cyst", at, layer, float(rng.uniform(0.44, 0.56)), width / 2, height / 2,
                                  float(rng.uniform(0.05, 0.14)), wobble))
    for layer, square in room.items():
        lesions.swell(layer, 0.8 * frame.blur(np.sqrt(square), 180))


def _place(rng: np.random.Generator, frame: Frame, centre: float | None, beside: tuple[float, float], width: float,
           taken: list[tuple[float, float]], reach_mm: float) -> tuple[float, bool]:
    """Return a place (mm) around the centre, else next to a cyst (place, width), and whether it is free."""
    at, edge = beside[0], 0.46 * frame.width_mm
    for _ in range(5):
        if centre is None:
            at = beside[0] + rng.choice((-1, 1)) * ((width + beside[1]) / 2 + rng.uniform(8, 40)) / 1000
        else:
            at = centre + rng.normal(0, reach_mm)
        at = float(np.clip(at, -edge, edge))
        if all(abs(at - x) * 1000 >= 0.5 * (width + w) + 5 for x, w in taken):
            return at, True
        beside = (at, width)
    return at, False


def _spot(rng: np.random.Generator, x_mm: float, layer: str) -> Blob:
    size = float(rng.uniform(12, 21))  # HRF measure 20 to 40 um across
    return Blob("HRF", float(x_mm), layer, float(rng.uniform(0.1, 0.9)), size, size * float(rng.uniform(0.7, 1.1)),
                float(rng.uniform(0.5, 0.75)), (0.0, 0.0))
