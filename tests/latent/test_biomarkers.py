import numpy as np
import pytest

from stylegan_oct.latent.biomarkers import segment
from stylegan_oct.latent.biomarkers.lines import draw_lines
from stylegan_oct.latent.biomarkers.measure import DEPTH_UM, NAMES, UNITS, Measurements, errors_at, measure
from stylegan_oct.latent.biomarkers.paths import FAR, shortest_paths
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


@pytest.mark.parametrize(("size", "count"), [((64, 64), 35), ((96, 200), 6), ((256, 256), 6), ((640, 512), 2)])
def test_a_picture_measures_exactly_the_same_alone_and_among_others(size, count):
    pictures = np.stack([render(73, index, resolution=size, border=False).image for index in range(count - 1)]
                        + [np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)])
    valid = np.ones(pictures.shape, bool)
    valid[1, :, :size[1] // 8] = False
    together = measure(pictures, None, valid)
    for number in {0, 1, count - 2, count - 1}:
        alone = measure(pictures[number:number + 1], None, valid[number:number + 1])
        for name in NAMES:
            np.testing.assert_array_equal(alone.values[name], together.values[name][number:number + 1], name)
            assert alone.reasons[name] == together.reasons[name][number:number + 1]
        for name in ("ilm", "rpe", "bruch", "fovea", "fluid", "foci"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[number], name)


def cheapest(cost: np.ndarray, steepest: int, linear: float, quadratic: float) -> float:
    """The cost of the cheapest path by trying each step to each place, column after column."""
    total = cost[0]
    for column in cost[1:]:
        total = np.array([min(total[z - s] + linear * abs(s) + quadratic * s * s for s in range(-steepest, steepest + 1)
                              if 0 <= z - s < len(total)) for z in range(len(total))]) + column
    return float(total.min())


@pytest.mark.parametrize(("steepest", "linear", "quadratic"), [(1, 0.0, 0.0), (2, 0.1, 0.05), (5, 0.3, 0.0)])
def test_paths_are_the_cheapest_and_never_go_where_they_may_not(steepest, linear, quadratic):
    rng = np.random.default_rng(1)
    costs = [rng.random((n, 20, 17), dtype=np.float32) for n in (1, 2)]
    costs[1][0, :, 9:], costs[1][1, 5:8, :4] = FAR, FAR
    found = shortest_paths(costs, steepest=steepest, linear=linear, quadratic=quadratic)
    for cost, path in zip(np.concatenate(costs), np.concatenate(found), strict=True):
        steps = np.diff(path)
        paid = cost[np.arange(20), path].sum() + (linear * abs(steps) + quadratic * steps**2).sum()
        assert abs(steps).max() <= steepest and paid < FAR
        assert paid == pytest.approx(cheapest(cost, steepest, linear, quadratic), rel=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 13])
def test_running_sums_and_windows_are_those_of_a_loop(rows):
    planes = np.random.default_rng(2).random((2, 3, 20), dtype=np.float32)
    expected = np.stack([planes[..., z:z + rows].sum(axis=2) for z in range(21 - rows)], axis=2)
    np.testing.assert_allclose(segment._running_sum(planes, rows), expected, rtol=1e-5)
    edged = np.pad(planes, ((0, 0), (0, 0), (rows, rows)), mode="edge")
    above, below = segment._windows(planes, rows, rows)
    for z in range(21):
        np.testing.assert_allclose(above[..., z], edged[..., z:z + rows].mean(axis=2), rtol=1e-5)
        np.testing.assert_allclose(below[..., z], edged[..., z + rows:z + 2 * rows].mean(axis=2), rtol=1e-5)


def test_rows_between_two_depths_have_their_middle_there():
    above, below = np.array([[-3.0, 2.0, 4.5, 9.0]]), np.array([[2.5, 3.0, 40.0, 8.0]])
    middle = np.arange(10) + 0.5
    expected = (middle > above[..., None]) & (middle < below[..., None])
    np.testing.assert_array_equal(segment.between(10, above, below), expected)


def test_third_differences_are_those_of_the_matrix():
    third = np.diff(np.eye(9), n=3, axis=0)
    square = third.T @ third
    for below, band in enumerate(segment._third_differences(9)):
        np.testing.assert_allclose(band[:9 - below], np.diagonal(square, -below))


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
