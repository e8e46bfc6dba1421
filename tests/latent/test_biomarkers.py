import numpy as np
import pytest

from stylegan_oct.latent.biomarkers import DEPTH_UM, NAMES, UNITS, Measurements, measure
from stylegan_oct.phantom import LAYERS, Scan, render


def scale_of(scan: Scan) -> tuple[float, float]:
    height, width = scan.image.shape
    return DEPTH_UM / height, 1000 * scan.factors.width_mm / width


def measured(scan: Scan) -> Measurements:
    return measure(scan.image[None], scale_of(scan))


def top_of(scan: Scan, layer: str) -> np.ndarray:
    assert scan.layers is not None
    return (scan.layers < LAYERS.index(layer)).sum(axis=0)


@pytest.mark.parametrize("label", ["CNV", "DME", "DRUSEN", "NORMAL"])
def test_boundaries_lie_within_two_pixels_of_the_truth(label):
    for index in range(3):
        scan = render(71, index, label=label, resolution=(256, 256), masks=True, border=False)
        found = measured(scan)
        for curve, layer in ((found.ilm, "RNFL"), (found.rpe, "sub-RPE"), (found.bruch, "choroid")):
            assert np.nanmean(np.abs(curve[0] - top_of(scan, layer))) < 2, (index, layer)


def test_every_name_has_a_unit_values_and_reasons():
    pictures = np.stack([render(71, index, resolution=(64, 64), border=False).image for index in range(2)])
    found = measure(pictures)
    assert set(found.values) == set(found.reasons) == set(UNITS) == set(NAMES)
    for name in NAMES:
        assert found.values[name].shape == (2,)
        assert [reason is not None for reason in found.reasons[name]] == np.isnan(found.values[name]).tolist()
