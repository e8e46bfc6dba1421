import numpy as np
import pytest

from stylegan_oct.latent.biomarkers.lines import draw_lines
from stylegan_oct.latent.biomarkers.measure import DEPTH_UM, NAMES, UNITS, Measurements, errors_at, measure
from stylegan_oct.phantom import LAYERS, Scan, render


def scale_of(scan: Scan) -> tuple[float, float]:
    height, width = scan.image.shape
    return DEPTH_UM / height, 1000 * scan.factors.width_mm / width


def measured(scan: Scan) -> Measurements:
    return measure(scan.image[None], scale_of(scan))


def top_of(scan: Scan, layer: str) -> np.ndarray:
    assert scan.layers is not None
    return (scan.layers < LAYERS.index(layer)).sum(axis=0)


def value(found: Measurements, name: str) -> float:
    return float(found.values[name][0])


@pytest.mark.parametrize("label", ["CNV", "DME", "DRUSEN", "NORMAL"])
def test_boundaries_lie_within_two_pixels_of_the_truth(label):
    for index in range(2):
        scan = render(71, index, label=label, resolution=(256, 256), masks=True, border=False)
        found = measured(scan)
        for curve, layer in ((found.ilm, "RNFL"), (found.rpe, "sub-RPE"), (found.bruch, "choroid")):
            assert np.nanmean(np.abs(curve[0] - top_of(scan, layer))) < 2, (index, layer)


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (496, 384)])
def test_thickness_of_a_normal_scan_is_right_at_every_size(size):
    scan = render(72, 1, label="NORMAL", resolution=size, masks=True, border=False)
    found = measured(scan)
    true = (top_of(scan, "choroid") - top_of(scan, "RNFL")).mean() * scale_of(scan)[0]
    assert value(found, "mean_thickness_um") == pytest.approx(true, abs=20 if size[0] == 64 else 8)


def test_every_name_has_a_unit_values_and_reasons():
    pictures = np.stack([render(71, index, resolution=(64, 64), border=False).image for index in range(2)])
    found = measure(pictures)
    assert set(found.values) == set(found.reasons) == set(UNITS) == set(NAMES)
    for name in NAMES:
        assert found.values[name].shape == (2,)
        assert [reason is not None for reason in found.reasons[name]] == np.isnan(found.values[name]).tolist()


def test_a_picture_measures_the_same_alone_and_among_others():
    pictures = np.stack([render(73, index, resolution=(64, 64), border=False).image for index in range(17)])
    together = measure(pictures)
    for number in (0, 16):
        alone = measure(pictures[number:number + 1])
        np.testing.assert_allclose(alone.ilm[0], together.ilm[number], atol=1e-3)
        thickness = together.values["mean_thickness_um"][number]
        assert value(alone, "mean_thickness_um") == pytest.approx(thickness, abs=0.01)


def test_moving_a_picture_down_moves_its_lines_and_keeps_its_biomarkers():
    scan = render(74, 0, label="DRUSEN", resolution=(256, 256), border=False)
    moved = np.roll(scan.image, 16, axis=0)
    found, lower = measured(scan), measure(moved[None], scale_of(scan))
    assert np.nanmean(np.abs(lower.ilm - found.ilm - 16)) < 0.3
    assert value(lower, "drusen_area_mm2") == pytest.approx(value(found, "drusen_area_mm2"), rel=0.1)


def test_mirroring_a_picture_keeps_its_biomarkers():
    scan = render(74, 1, label="DME", resolution=(256, 256), border=False)
    found, mirrored = measured(scan), measure(scan.image[None, :, ::-1].copy(), scale_of(scan))
    for name in ("central_thickness_um", "mean_thickness_um", "intraretinal_fluid_mm2"):
        assert value(mirrored, name) == pytest.approx(value(found, name), rel=0.1, abs=0.005)


def test_areas_follow_the_lesions():
    drusen = [render(75, index, label="DRUSEN", resolution=(256, 256), border=False) for index in range(6)]
    cysts = [render(76, index, label="DME", resolution=(256, 256), border=False) for index in range(6)]
    for scans, name, factor in ((drusen, "drusen_area_mm2", "drusen_area_mm2"),
                                (cysts, "intraretinal_fluid_mm2", "cysts_area_mm2")):
        pairs = [(value(measured(scan), name), getattr(scan.factors, factor)) for scan in scans]
        assert np.corrcoef(np.array(pairs).T)[0, 1] > 0.9, (name, pairs)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_even_picture_has_no_retina_and_says_so(level):
    found = measure(np.full((1, 64, 64), level, np.uint8))
    assert all(np.isnan(found.values[name][0]) for name in NAMES)
    assert "no retina is seen" in (found.reasons["mean_thickness_um"][0] or "")
    assert np.isnan(found.ilm).all()


@pytest.mark.parametrize("side", [128, 256])
def test_noise_has_no_retina(side):
    noise = np.random.default_rng(0).integers(0, 255, (3, side, side), dtype=np.uint8)
    found = measure(noise)
    assert np.isnan(found.values["central_thickness_um"]).all()


def test_a_retina_cut_off_by_the_frame_is_not_measured():
    scan = render(77, 0, label="NORMAL", resolution=(256, 256), masks=True, border=False)
    cut = scan.image[int(top_of(scan, "RNFL").max()) + 8:]
    found = measure(cut[None], scale_of(scan))
    assert np.isnan(value(found, "mean_thickness_um"))
    assert found.reasons["mean_thickness_um"][0] is not None


def test_padding_over_the_retina_hides_its_columns_and_no_others():
    scan = render(77, 1, label="NORMAL", resolution=(256, 256), border=False)
    picture, valid = scan.image.copy(), np.ones((256, 256), bool)
    picture[:, :40], valid[:, :40] = 255, False
    found = measure(picture[None], scale_of(scan), valid[None])
    assert np.isnan(found.ilm[0, :38]).all() and not np.isnan(found.ilm[0, 50:]).any()
    assert value(found, "mean_thickness_um") == pytest.approx(value(measured(scan), "mean_thickness_um"), abs=12)
    hidden = measure(picture[None], scale_of(scan), np.zeros((256, 256), bool))
    assert "padding" in (hidden.reasons["mean_thickness_um"][0] or "")


def test_coarse_pixels_do_not_show_foci():
    scan = render(78, 0, label="DME", resolution=(64, 64), border=False)
    assert "too coarse" in (measured(scan).reasons["foci_count"][0] or "")


def test_errors_are_known_where_a_biomarker_is_and_shrink_with_the_pixels():
    coarse, fine = errors_at(30.0), errors_at(7.5)
    assert set(fine) == set(NAMES)
    assert set(coarse) == set(NAMES) - {"foci_count", "drusen_count"}
    assert fine["central_thickness_um"] < coarse["central_thickness_um"]


def test_lines_are_drawn_where_they_were_found_and_nowhere_in_an_empty_picture():
    scan = render(71, 0, label="DRUSEN", resolution=(128, 128), border=False)
    drawn = draw_lines(scan.image, measured(scan), width=256)
    assert drawn.shape == (256, 256, 3)
    assert (np.ptp(drawn.astype(int), axis=2) > 60).any(axis=0).mean() > 0.95
    blank = np.zeros((64, 64), np.uint8)
    assert not draw_lines(blank, measure(blank[None])).any()
