import numpy as np
import pytest

from stylegan_oct.phantom.scan import render


def test_other_speckle_lies_over_the_same_eye_and_lesions():
    scan, again = (render(11, 3, label="DME", masks=True, speckle_seed=seed) for seed in (None, 1))
    assert again.factors == scan.factors
    np.testing.assert_array_equal(again.layers, scan.layers)
    np.testing.assert_array_equal(again.lesions, scan.lesions)
    assert (again.image != scan.image).mean() > 0.5


def test_a_speckle_seed_gives_one_speckle():
    first, second, other = (render(11, 3, resolution=(64, 64), speckle_seed=seed).image for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (other != first).any()


def test_without_speckle_it_is_the_mean_of_endlessly_many_scans():
    still = render(11, 3, label="DRUSEN", speckle=False, border=False)
    scans = [render(11, 3, label="DRUSEN", speckle_seed=seed, border=False) for seed in range(24)]
    assert still.factors == scans[0].factors
    light = np.mean([(scan.image / 255) ** 4 for scan in scans], axis=0)
    bright = (still.image > 100) & (still.image < 230)  # far from black and white, where the display cuts
    mean = 255 * light[bright] ** 0.25
    assert bright.mean() > 0.05 and np.abs(mean - still.image[bright]).mean() < 3
    assert abs((mean - still.image[bright]).mean()) < 0.3


@pytest.mark.parametrize(("label", "size"), [("CNV", "ped_height_um"), ("CNV", "shrm_height_um"),
                                             ("DME", "cysts_area_mm2"), ("DRUSEN", "drusen_max_height_um")])
def test_scaled_lesions_are_larger_in_proportion(label, size):
    sizes = [getattr(render(11, 3, label=label, border=False, lesion_scale=scale).factors, size)
             for scale in (0, 0.5, 1, 1.5)]
    assert sizes[0] == 0
    assert all(low < high for low, high in zip(sizes, sizes[1:], strict=False))


def test_scaling_lesions_leaves_the_speckle_far_from_them_alone():
    small, large = (render(11, 3, label="DRUSEN", border=False, lesion_scale=scale).image for scale in (0.5, 1))
    below_the_retina = round(0.9 * small.shape[0])
    np.testing.assert_allclose(small[below_the_retina:].astype(int), large[below_the_retina:], atol=12)
    assert np.corrcoef(small[below_the_retina:].ravel(), large[below_the_retina:].ravel())[0, 1] > 0.99


def test_lesions_scaled_to_nothing_leave_a_healthy_retina():
    factors = render(11, 3, label="CNV", masks=True, border=False, lesion_scale=0)
    assert not factors.lesions.any()
    assert factors.factors.hrf_n == factors.factors.cysts_n == factors.factors.drusen_n == 0
