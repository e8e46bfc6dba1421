from pathlib import Path

import numpy as np
import pytest

from stylegan_oct.data.preprocess import Preprocess, process
from stylegan_oct.features.align import align, retina_row
from stylegan_oct.phantom import render

SCANS = sorted(Path("../shared/data/oct2017").rglob("*.jpeg"))


@pytest.mark.parametrize("size", [64, 96, 256])
def test_the_retina_of_simulated_scans_comes_to_the_middle(size):
    for index in range(4):
        aligned = align(render(5, index, resolution=(size, size), border=False).image)
        assert retina_row(aligned) == pytest.approx((size - 1) / 2, abs=0.03 * size)


def test_a_scan_that_was_moved_is_brought_back():
    picture = render(5, 1, resolution=(128, 128), border=False).image
    for rows in (-25, -8, 17):
        moved = align(np.roll(picture, rows, axis=0))
        assert max(np.abs(np.roll(moved, k, axis=0).astype(int) - align(picture)).mean() == 0
                   for k in range(-3, 4)), rows


def test_alignment_moves_rows_and_changes_none():
    picture = render(5, 2, resolution=(64, 64), border=False).image
    assert sorted(map(bytes, align(picture))) == sorted(map(bytes, picture))


def test_speckle_hardly_moves_the_centroid():
    rows = [retina_row(render(5, 3, resolution=(128, 128), border=False, speckle_seed=seed).image) for seed in range(4)]
    assert np.ptp(rows) < 0.5


@pytest.mark.parametrize("grey", [0, 200])
def test_an_empty_picture_stays_as_it_is(grey):
    picture = np.full((40, 50), grey, np.uint8)
    np.testing.assert_array_equal(align(picture), picture)


@pytest.mark.parametrize("row", [0, 5, 31])
def test_the_row_of_a_single_line_is_found(row):
    picture = np.zeros((32, 32), np.uint8)
    picture[row] = 200
    assert retina_row(picture) == row


@pytest.mark.skipif(not SCANS, reason="the real scans are not here")
def test_the_retina_of_real_scans_comes_to_the_middle():
    for path in SCANS[::6]:
        picture = process(path.read_bytes(), Preprocess(resolution=256, max_border=1)).pixels
        assert retina_row(align(picture)) == pytest.approx(127.5, abs=8), "a scan"
