import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylegan_oct.data.border import find_border, repair


def noise(seed, height=200, width=220, level=25.0):
    return np.clip(np.random.default_rng(seed).gamma(2, level / 2, (height, width)), 0, 160).astype(np.uint8)


def wedge(height, width, depth, *, bottom=False):
    """Return a triangle along the upper or lower side, `depth` pixels high at the left."""
    mask = np.arange(height)[:, np.newaxis] < depth * (1 - np.arange(width) / width)
    return mask[::-1] if bottom else mask


def test_a_scan_without_padding_is_left_as_it_is(draw_scan):
    scan = draw_scan(1, width=256, height=248)
    border = find_border(scan)
    assert border.share == 0 and repair(scan, border.mask) is scan


@settings(max_examples=25, deadline=None)
@given(depth=st.integers(6, 70), bottom=st.booleans(), turned=st.booleans(), seed=st.integers(0, 99))
def test_white_wedges_on_any_side_are_found_whole_and_with_nothing_else(depth, bottom, turned, seed):
    scan = noise(seed)
    mask = wedge(*scan.shape, depth, bottom=bottom)
    scan[mask] = 255
    if turned:
        scan, mask = np.ascontiguousarray(scan.T), mask.T
    border = find_border(scan)
    assert border.mask[mask].all() and (border.mask & ~mask).sum() < 10  # single bright grains that touch it
    assert border.white == pytest.approx(mask.mean(), abs=0.001) and border.black == 0


def test_black_margins_are_found_beside_a_brighter_background():
    scan = noise(0)
    scan[:, :30] = 0
    border = find_border(scan)
    assert border.black == pytest.approx(30 / 220, abs=0.005) and border.white == 0


def test_black_is_no_margin_where_the_background_is_black_anyway(draw_scan):
    scan = draw_scan(3, width=200, height=200)
    scan[scan < 60] = 0
    assert find_border(scan).share == 0


def test_bright_layers_that_end_at_the_frame_are_no_padding():
    scan = noise(0)
    scan[90:104] = np.random.default_rng(1).integers(200, 256, (14, 220), dtype=np.uint8)
    assert find_border(scan).share == 0


def test_a_white_patch_inside_is_no_padding():
    scan = noise(0)
    scan[50:100, 50:100] = 255
    assert find_border(scan).share == 0


def test_repaired_padding_has_the_level_and_spread_of_the_noise_beside_it():
    scan = noise(5)
    mask = wedge(*scan.shape, 60)
    padded = np.where(mask, 255, scan).astype(np.uint8)
    result = repair(padded, mask)
    assert result[mask].mean() == pytest.approx(scan.mean(), rel=0.1)
    assert result[mask].std() == pytest.approx(scan.std(), rel=0.15)
    assert result.max() <= scan.max()


def test_pixels_of_the_scan_stay_except_next_to_padding():
    scan = noise(5)
    mask = wedge(*scan.shape, 60)
    result = repair(np.where(mask, 255, scan).astype(np.uint8), mask)
    assert np.array_equal(result[70:], scan[70:])


def test_tissue_is_not_copied_into_padding(draw_scan):
    scan = draw_scan(2, width=256, height=248)
    mask = wedge(*scan.shape, 50)
    result = repair(np.where(mask, 255, scan).astype(np.uint8), mask)
    assert result[mask].mean() < 45 < scan[scan.shape[0] // 2 - 20:scan.shape[0] // 2 + 20].mean()


def test_layers_go_on_through_a_narrow_strip_at_the_side():
    scan = noise(5)
    scan[95:105] = 150
    padded = scan.copy()
    padded[:, -4:] = 255
    border = find_border(padded)
    result = repair(padded, border.mask)
    assert border.mask[:, -4:].all() and (result[97:103, -4:] == 150).all()


def test_repair_is_the_same_each_time_and_works_in_colour():
    scan = noise(5)
    mask = wedge(*scan.shape, 60)
    padded = np.where(mask, 255, scan).astype(np.uint8)
    colour = np.repeat(padded[:, :, np.newaxis], 3, axis=2)
    assert np.array_equal(repair(padded, mask), repair(padded.copy(), mask))
    result = repair(colour, mask)
    assert result.shape == colour.shape and np.ptp(result.astype(int), axis=2).max() == 0


@pytest.mark.parametrize("shape", [(16, 16), (16, 300), (300, 17)])
def test_small_and_narrow_pictures_are_repaired_too(shape):
    scan = noise(1, *shape)
    mask = np.zeros(shape, bool)
    mask[:4] = True
    result = repair(np.where(mask, 255, scan).astype(np.uint8), mask)
    assert result.shape == shape and result[:4].max() < 200
    assert (repair(scan, np.ones(shape, bool)) == scan).all()
