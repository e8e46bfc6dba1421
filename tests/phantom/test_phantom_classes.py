import numpy as np
import pytest

from stylegan_oct.phantom import render
from stylegan_oct.phantom.anatomy import draw_eye
from stylegan_oct.phantom.frame import Frame
from stylegan_oct.phantom.lesions import SUBTLE_SHARE, dome, draw_lesions
from stylegan_oct.phantom.optics import Border, Camera, draw_border, expose, outside, resample

FRAME = Frame(496, 512, 5.9)


def draw(label, index):
    rng = np.random.default_rng(index)
    return draw_lesions(rng, label, draw_eye(rng, FRAME), FRAME)


def test_a_normal_eye_has_no_lesion():
    for index in range(30):
        lesions = draw("NORMAL", index)
        assert lesions.severity == 0
        assert not any(curve.any() for curve in (lesions.sub_rpe, lesions.srf, lesions.shrm))
        assert not lesions.blobs
        assert not lesions.swelling


def test_drusen_lift_the_rpe_and_hold_no_fluid():
    for index in range(60):
        lesions = draw("DRUSEN", index)
        assert len(lesions.drusen_sizes) >= 2
        assert 10 < lesions.drusen.max() <= 151
        assert not lesions.srf.any() and not lesions.ped.any() and not lesions.shrm.any()
        assert all(blob.kind == "HRF" for blob in lesions.blobs)


def test_neovascularisation_has_a_detachment_or_material_below_the_retina():
    for index in range(60):
        lesions = draw("CNV", index)
        assert max(lesions.ped.max(), lesions.shrm.max()) > 35


def test_oedema_thickens_the_retina_and_spares_the_rpe():
    for index in range(60):
        lesions = draw("DME", index)
        assert not lesions.sub_rpe.any() and not lesions.shrm.any()
        cysts = [blob for blob in lesions.blobs if blob.kind == "cyst"]
        assert cysts or sum(lesions.swelling.values()).max() > 80
        assert sum(lesions.swelling.values()).max() > 5


def test_oedema_raises_the_central_subfield_thickness():
    normal = [render(6, i, label="NORMAL", resolution=(16, 16)).factors.cst_um for i in range(10)]
    dme = [render(6, i, label="DME", resolution=(16, 16)).factors.cst_um for i in range(10)]
    assert np.mean(normal) == pytest.approx(275, abs=40)
    assert np.mean(dme) > np.mean(normal) + 50


@pytest.mark.parametrize("label", ["CNV", "DME", "DRUSEN"])
def test_severity_makes_lesions_larger_and_subtle_cases_are_a_minority(label):
    drawn = [draw(label, index) for index in range(150)]

    def size(lesions):
        fluid = sum(blob.half_height_um * blob.half_width_um for blob in lesions.blobs if blob.kind == "cyst")
        solid = (lesions.sub_rpe + lesions.srf + lesions.shrm).sum()
        return solid + fluid + sum(map(np.sum, lesions.swelling.values()))

    subtle = [size(lesions) for lesions in drawn if lesions.severity < 0.28]
    severe = [size(lesions) for lesions in drawn if lesions.severity > 0.7]
    assert 0.3 * SUBTLE_SHARE < len(subtle) / len(drawn) < 2 * SUBTLE_SHARE
    assert np.mean(severe) > 2 * np.mean(subtle)


def test_cysts_of_a_layer_do_not_overlap():
    for index in range(40):
        cysts = [blob for blob in draw("DME", index).blobs if blob.kind == "cyst"]
        for name in ("INL", "OPL", "ONL"):
            places = sorted((blob.x_mm, blob.half_width_um) for blob in cysts if blob.layer == name)
            for (left, half), (right, other) in zip(places, places[1:], strict=False):
                assert (right - left) * 1000 >= half + other


def test_a_dome_is_as_high_and_as_wide_as_asked():
    for index in range(20):
        mound = dome(np.random.default_rng(index), FRAME, 0.3, 800, 120)
        assert mound.max() == pytest.approx(120)
        assert (mound >= 0).all()
        assert not mound[abs(FRAME.x_mm - 0.3) > 0.42].any()


def test_speckle_of_a_flat_grey_has_the_variance_of_its_looks():
    camera = Camera(looks=25, floor_grey=0.08, floor_rest=0, gain=1, grain_um=3.5, grain_lateral_um=8)
    grey = np.full((496, 512), 0.5, np.float32)
    shown = expose(grey, FRAME, camera, np.random.default_rng(0)).astype(np.float64) ** 4
    assert shown.mean() == pytest.approx(0.5**4, rel=0.01)
    assert shown.std() / shown.mean() == pytest.approx(1 / 5, rel=0.05)


def test_noise_of_an_empty_scan_is_black_half_of_the_time_when_the_whole_floor_is_subtracted():
    camera = Camera(looks=60, floor_grey=0.12, floor_rest=0, gain=1, grain_um=3.5, grain_lateral_um=8)
    shown = expose(np.zeros((496, 512), np.float32), FRAME, camera, np.random.default_rng(0))
    assert (shown == 0).mean() == pytest.approx(0.53, abs=0.04)
    assert shown[:100].mean() > 1.3 * shown[-100:].mean()


def test_area_resampling_keeps_the_mean_and_equals_block_means():
    picture = np.random.default_rng(0).integers(0, 256, (96, 64), dtype=np.uint8)
    blocks = picture.reshape(24, 4, 16, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(resample(picture, (24, 16)), blocks, atol=0.5001)
    assert resample(picture, (37, 23)).mean() == pytest.approx(picture.mean(), abs=0.6)
    assert (resample(np.full((96, 64), 77, np.uint8), (41, 29)) == 77).all()
    assert resample(picture, (96, 64)) is picture


def test_a_turned_border_hides_wedges_at_opposite_corners():
    hidden = outside(FRAME, Border("white", 4.0))
    np.testing.assert_array_equal(hidden, hidden[::-1, ::-1])
    assert 0.01 < hidden.mean() < 0.1
    assert not hidden[200:300, 200:300].any()


def test_about_half_of_the_borders_are_white():
    kinds = [draw_border(np.random.default_rng(index)).kind for index in range(300)]
    assert kinds.count("white") / 300 == pytest.approx(0.55, abs=0.1)


@pytest.mark.parametrize("resolution", [(496, 512), (64, 64), (33, 97), (256, 256)])
def test_a_picture_has_the_size_and_range_asked_for(resolution):
    scan = render(0, 1, resolution=resolution, masks=True)
    for picture in (scan.image, scan.layers, scan.lesions):
        assert picture.shape == resolution
        assert picture.dtype == np.uint8
    assert scan.image.min() < 30
    assert scan.image.max() > 100
    assert 15 < scan.image.mean() < 90
