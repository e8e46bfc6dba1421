"""Topcon files as uocte describes them, written by the tests: pixels, scale and eye, and nothing of the patient."""

import numpy as np
import pytest
from canaries import canaries_in
from volumes import make_topcon, scans

from dnnlib.errors import DataError
from stylegan_oct.data.readers import topcon
from stylegan_oct.data.readers.scan import read_scans

WANT = scans()


def refusal(path):
    with pytest.raises(DataError) as caught:
        list(read_scans(path))
    line = str(caught.value)
    assert "\n" not in line and not canaries_in(line)
    return line


@pytest.mark.parametrize("name", ["a.fda", "a.fds", "a.bin"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("eye, side", [(0, "OD"), (1, "OS"), (7, None)])
def test_the_b_scans_come_with_scale_and_eye(tmp_path, name, packed, eye, side):
    make_topcon(tmp_path / name, WANT if packed else WANT.astype("u2") * 257, packed=packed, eye=eye)
    found = list(read_scans(tmp_path / name))
    assert len(found) == 3
    for scan, want in zip(found, WANT, strict=True):
        assert np.array_equal(scan.pixels, want) and scan.laterality == side and not scan.notes
        assert (scan.um_per_px_z, scan.um_per_px_x) == pytest.approx((3.872, 11.5))


def test_the_bytes_of_the_patient_are_not_read(tmp_path, monkeypatch):
    make_topcon(tmp_path / "a.fda", WANT)
    data, reads = (tmp_path / "a.fda").read_bytes(), []
    read = topcon._read

    def spy(file, start, length, count):
        reads.append((start, start + count))
        return read(file, start, length, count)

    monkeypatch.setattr(topcon, "_read", spy)
    list(read_scans(tmp_path / "a.fda"))
    assert reads and not canaries_in(b"|".join(data[first:last] for first, last in reads))


@pytest.mark.parametrize("changes, said", [
    ({"sizes": (4, 64, 96)}, "damaged"), ({"sizes": (3, 60_000, 60_000)}, "sizes make no sense"),
    ({"sizes": (0, 64, 96)}, "no B-scans"), ({"bits": 12}, "damaged"), ({"kind": b"@IMG_OTHER"}, "without B-scans")])
def test_what_does_not_fit_is_refused(tmp_path, changes, said):
    make_topcon(tmp_path / "a.fda", WANT, **changes)
    assert said in refusal(tmp_path / "a.fda")


def test_a_scale_that_cannot_be_is_unknown_and_said(tmp_path):
    make_topcon(tmp_path / "a.fda", WANT.astype("u2") * 257, um=(3872.0, 11.5))
    scan = next(read_scans(tmp_path / "a.fda"))
    assert scan.um_per_px_z is None and "not used" in scan.notes[0]


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_cut_anywhere_or_damaged_is_read_or_refused(tmp_path, packed):
    path = tmp_path / "a.fda"
    make_topcon(path, WANT, packed=packed)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for length in (4, 15, 16, 40, 300, len(data) // 2, len(data) - 90):
        path.write_bytes(data[:length])
        refusal(path)
    for _ in range(80):
        broken = bytearray(data)
        for at in rng.integers(4, 600, 3):
            broken[at] = rng.integers(256)
        path.write_bytes(broken)
        try:
            list(read_scans(path))
        except DataError as error:
            assert "\n" not in str(error)
