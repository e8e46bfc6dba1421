"""What the factors and masks say is what the picture shows."""

import functools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stylegan_oct.phantom import BORDER, LAYERS, LESIONS, Scan, render
from stylegan_oct.phantom.anatomy import Eye, thicknesses
from stylegan_oct.phantom.frame import DEPTH_UM, Frame

AXIAL_UM = DEPTH_UM / 496
COUNT = 14  # scans of a class


@functools.cache
def scans(label: str) -> tuple[Scan, ...]:
    """Scans at their native size, 496 x 512; 30 degree scans are narrowed to it."""
    return tuple(render(1, index, label=label, masks=True) for index in range(COUNT))


def layer(scan, name):
    return scan.layers == LAYERS.index(name)


def lesion(scan, name):
    return scan.lesions == LESIONS.index(name)


def column_of(scan, x_mm):
    return int((x_mm / scan.factors.width_mm + 0.5) * 512)


def centred(label):
    """Scans that cross the pit well within the picture, with no border over it."""
    return [scan for scan in scans(label) if scan.factors.scan_offset_mm < 0.3
            and abs(scan.factors.fovea_x_mm) < 1.5 and scan.factors.border_type != "black"]


def test_layers_lie_in_order_down_every_column():
    for scan in scans("CNV"):
        for column in scan.layers.T:
            inside = column[column != BORDER].astype(int)
            assert (np.diff(inside) >= 0).all()


def test_mean_layer_thickness_is_that_of_the_published_table():
    frame = Frame(496, 2048, 6.6)
    bands = ("RNFL", "GCL", "IPL", "INL", "OPL", "ONL", "myoid", "EZ", "OS", "RPE")
    eye = Eye(laterality="OD", fovea_x_mm=0, scan_offset_mm=0, tilt_deg=0, curvature_um_per_mm2=0, retinal_pos=0.5,
              pit_scale=1, thickness_scale=1, layer_scales=dict.fromkeys(bands, 1.0), choroid_um=280, disc_mm=9,
              wander=np.zeros(2048), choroid_wander=np.zeros(2048))
    thick = thicknesses(eye, frame)
    # PMC6042244 Table 6: fovea (1 mm), nasal pericentral (0.5 to 1.5 mm) and nasal peripheral (1.5 to 3 mm), um.
    table = {"RNFL": (10.8, 20.1, 46.1), "GCL": (12.3, 50.1, 40.5), "IPL": (18.3, 42.3, 31.2),
             "INL": (15.3, 38.5, 35.1), "OPL": (23.5, 31.9, 28.2), "ONL": (88.4, 72.5, 55.9)}
    x = frame.x_mm
    for name, means in table.items():
        for inside, mean in zip((abs(x) < 0.5, (x > 0.5) & (x < 1.5), (x > 1.5) & (x < 3)), means, strict=True):
            weight = abs(x[inside])  # the table averages over rings
            assert np.average(thick[name][inside], weights=weight) == pytest.approx(mean, abs=6.5), name
    outer = sum(thick[name] for name in ("myoid", "EZ", "OS", "RPE"))
    assert outer[abs(x) < 0.5].mean() == pytest.approx(90.2, abs=6)


def test_foveal_thickness_is_that_of_the_mask():
    for scan in centred("NORMAL") + centred("DME"):
        column = scan.layers[:, column_of(scan, scan.factors.fovea_x_mm)]
        retina = ((column > 0) & (column < LAYERS.index("choroid"))).sum() * AXIAL_UM
        hidden = (column == BORDER).any()
        assert hidden or retina == pytest.approx(scan.factors.foveal_thickness_um, abs=2 * AXIAL_UM)


def test_foveal_thickness_can_be_measured_in_the_picture():
    errors = []
    for scan in centred("NORMAL"):
        at = column_of(scan, scan.factors.fovea_x_mm)
        profile = gaussian_filter(np.where(scan.layers == BORDER, 0, scan.image).astype(float), (1, 3))[:, at]
        rpe = int(profile.argmax())
        floor = np.median(profile[rpe - 150:rpe - 90])
        above = np.flatnonzero(profile[:rpe] < floor + 0.45 * (profile[rpe - 40:rpe - 20].mean() - floor))
        ilm = above.max()
        errors.append((rpe - ilm) * AXIAL_UM + 8 - scan.factors.foveal_thickness_um)  # 8 um: half of the RPE
    assert len(errors) >= 6
    assert abs(np.median(errors)) < 12
    assert np.mean(np.abs(errors) < 30) > 0.8


def test_the_pit_lies_where_the_factors_say():
    for scan in centred("NORMAL"):
        retina = ((scan.layers > 0) & (scan.layers < LAYERS.index("choroid"))).sum(axis=0).astype(float)
        retina[~((scan.layers == 0).any(axis=0) & layer(scan, "choroid").any(axis=0))] = 1e3
        at = column_of(scan, scan.factors.fovea_x_mm)
        reach = int(1.0 / scan.factors.width_mm * 512)
        near = gaussian_filter(retina, 4)[at - reach:at + reach]
        assert abs(int(near.argmin()) - reach) * scan.factors.width_mm / 512 < 0.12


def test_drusen_height_is_that_of_the_mask_and_lifts_the_bright_band():
    for scan in scans("DRUSEN"):
        heights = lesion(scan, "drusen").sum(axis=0) * AXIAL_UM
        if scan.factors.border_fraction < 0.02:
            assert heights.max() == pytest.approx(scan.factors.drusen_max_height_um, abs=2.5 * AXIAL_UM + 5)
        top = int(heights.argmax())
        bruch = int(np.argmax(layer(scan, "choroid")[:, top]))
        profile = gaussian_filter(scan.image.astype(float), (1.5, 1))[bruch - 60:bruch + 6, top]
        raised = (60 - int(profile.argmax())) * AXIAL_UM
        if heights[top] > 60:
            assert raised > 0.6 * heights[top]


def test_areas_of_fluid_are_those_of_the_mask():
    for label, name, factor in (("DME", "cyst", "cysts_area_mm2"), ("CNV", "SRF", "srf_area_mm2"),
                                ("DRUSEN", "drusen", "drusen_area_mm2")):
        for scan in scans(label):
            pixel = AXIAL_UM * scan.factors.width_mm * 1000 / 512 * 1e-6
            assert lesion(scan, name).sum() * pixel == pytest.approx(getattr(scan.factors, factor), rel=0.06, abs=0.004)


@pytest.mark.parametrize(("label", "fluid"), [("DME", "cyst"), ("CNV", "SRF")])
def test_fluid_is_darker_than_the_retina(label, fluid):
    seen = 0
    for scan in scans(label):
        inside = lesion(scan, fluid)
        if inside.sum() > 100:
            seen += 1
            assert scan.image[inside].mean() < 0.7 * scan.image[layer(scan, "IPL")].mean()
    assert seen >= 3


def test_subretinal_hyperreflective_material_is_bright():
    means = [(scan.image[lesion(scan, "SHRM")].mean(), scan.image[layer(scan, "ONL")].mean())
             for scan in scans("CNV") if lesion(scan, "SHRM").sum() > 100]
    assert means
    assert all(bright > 1.5 * dark for bright, dark in means)


@pytest.mark.parametrize("label", ["CNV", "DME", "DRUSEN", "NORMAL"])
def test_brightness_follows_the_layers(label):
    for scan in scans(label):
        names = ("vitreous", "GCL", "INL", "ONL", "RPE", "sclera")
        mean = {name: scan.image[layer(scan, name)].mean() for name in names}
        assert mean["vitreous"] < 0.75 * mean["GCL"]
        assert mean["ONL"] < mean["GCL"]
        assert mean["INL"] < mean["GCL"]
        assert mean["RPE"] > 1.3 * max(mean["GCL"], mean["sclera"])


def test_borders_cover_the_share_that_the_factors_say():
    kinds = set()
    for label in ("CNV", "DME", "DRUSEN", "NORMAL"):
        for scan in scans(label):
            hidden = scan.layers == BORDER
            kinds.add(scan.factors.border_type)
            assert hidden.mean() == pytest.approx(scan.factors.border_fraction, abs=0.003)
            assert scan.factors.border_fraction < 0.25
            if scan.factors.border_type == "white" and scan.factors.width_mm < 6:
                assert (scan.image[hidden] == 255).all()
            if scan.factors.border_type == "none":
                assert not hidden.any()
    assert {"white", "none"} <= kinds


def test_the_retina_stays_in_view():
    for label in ("CNV", "DME", "DRUSEN", "NORMAL"):
        for scan in scans(label):
            middle = scan.layers[:, 96:416]
            assert (middle == LAYERS.index("RPE")).any(axis=0).mean() > 0.97
            assert (middle[0] != LAYERS.index("RNFL")).all()
