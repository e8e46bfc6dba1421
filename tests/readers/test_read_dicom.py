"""DICOM ophthalmic tomography: where the scale and the side stand, and what is refused."""

import numpy as np
import pytest
from canaries import make_dicom

from dnnlib.errors import DataError
from stylegan_oct.data.readers.scan import read_scans

pydicom = pytest.importorskip("pydicom")


def refusal(path, **changes):
    make_dicom(path, **changes)
    with pytest.raises(DataError) as caught:
        list(read_scans(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("spacing", ["shared", "frame", "top"])
@pytest.mark.parametrize("side", ["top", "frame"])
def test_frames_scale_and_side_are_found_wherever_they_stand(tmp_path, bits, spacing, side):
    want = make_dicom(tmp_path / "a", bits=bits, spacing=spacing, side=side)
    scans = list(read_scans(tmp_path / "a"))
    assert len(scans) == len(want) == 3
    for scan, pixels in zip(scans, want, strict=True):
        assert np.array_equal(scan.pixels, pixels) and scan.laterality == "OS"
        assert (scan.um_per_px_z, scan.um_per_px_x) == pytest.approx((3.872, 11.5))


@pytest.mark.parametrize("image, series, eye", [("R", "R", "OD"), ("R", "L", None), ("L", "B", "OS"), ("U", "R", "OD"),
                                                ("B", "B", None), ("", "L", "OS")])
def test_a_file_that_tells_of_both_eyes_does_not_tell_which(tmp_path, image, series, eye):
    make_dicom(tmp_path / "a.dcm", side="none", count=1, ImageLaterality=image, Laterality=series)
    (scan,) = read_scans(tmp_path / "a.dcm")
    assert scan.laterality == eye


def test_what_the_file_does_not_tell_is_unknown(tmp_path):
    make_dicom(tmp_path / "a.dcm", spacing="none", side="none", count=1, NumberOfFrames=None,
               PerFrameFunctionalGroupsSequence=None, SharedFunctionalGroupsSequence=None)
    (scan,) = read_scans(tmp_path / "a.dcm")
    assert (scan.um_per_px_z, scan.um_per_px_x, scan.laterality) == (None, None, None)


def test_depths_between_8_and_16_bits_count_by_the_bits_that_are_stored(tmp_path):
    make_dicom(tmp_path / "a.dcm", bits=16)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    values = (data.pixel_array >> 4).astype("<u2")
    data.BitsStored, data.HighBit, data.PixelData = 12, 11, values.tobytes()
    data.save_as(tmp_path / "a.dcm")
    for scan, frame in zip(read_scans(tmp_path / "a.dcm"), values, strict=True):
        assert np.array_equal(scan.pixels, np.rint(frame * (255 / 4095)).astype(np.uint8))


def test_frames_compressed_without_loss_are_the_same(tmp_path):
    want = make_dicom(tmp_path / "a.dcm", syntax=pydicom.uid.RLELossless)
    assert all(np.array_equal(scan.pixels, pixels) for scan, pixels in
               zip(read_scans(tmp_path / "a.dcm"), want, strict=True))


def test_a_compression_without_decoder_is_named(tmp_path, monkeypatch):
    class Absent:
        is_available = False

    monkeypatch.setattr("pydicom.pixels.get_decoder", lambda _: Absent())
    line = refusal(tmp_path / "a.dcm", syntax=pydicom.uid.RLELossless)
    assert "compressed as RLE Lossless, for which no decoder is installed; try: pip install" in line


@pytest.mark.parametrize("changes, said", [
    ({"Modality": "OP", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.5.1"}, "of the modality OP; only OPT"),
    ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "of the modality CT; only OPT"),
    ({"Modality": "KANARIENVOGEL", "SOPClassUID": "1.2"}, "of the modality unknown; only OPT"),
    ({"NumberOfFrames": 0}, "holds no frames"),
    ({"count": 0, "NumberOfFrames": 0}, "holds no frames"),
    ({"PixelData": None}, "holds no frames"),
    ({"BurnedInAnnotation": "YES"}, "has text burned into its pixels"),
    ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "otherwise than as MONOCHROME2"),
    ({"PhotometricInterpretation": "MONOCHROME1"}, "otherwise than as MONOCHROME2"),
    ({"PixelRepresentation": 1}, "otherwise than as MONOCHROME2"),
    ({"NumberOfFrames": 10**9}, "fewer pixels than its header says"),
    ({"Rows": 4}, "has frames of 96 x 4 pixels"),
    ({"Rows": None}, "is no DICOM, or damaged"),
])
def test_what_is_no_oct_scan_is_refused_in_one_line(tmp_path, changes, said):
    assert said in refusal(tmp_path / "a.dcm", **changes)


def test_pixels_that_are_cut_short_are_refused(tmp_path):
    make_dicom(tmp_path / "a.dcm")
    data = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(data[:-7000])
    with pytest.raises(DataError, match="damaged or cut short"):
        list(read_scans(tmp_path / "a.dcm"))


def test_more_frames_than_there_are_pixels_are_refused_when_compressed_too(tmp_path):
    make_dicom(tmp_path / "a.dcm", syntax=pydicom.uid.RLELossless)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data.NumberOfFrames = 10**9
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(DataError, match="fewer pixels than its header says"):
        list(read_scans(tmp_path / "a.dcm"))


def test_a_blank_frame_shows_nothing(tmp_path):
    assert "shows nothing" in refusal(tmp_path / "a.dcm", PixelData=bytes(3 * 64 * 96))


def test_dicom_without_its_preamble_is_known_by_its_suffix(tmp_path):
    want = make_dicom(tmp_path / "a.dcm")
    (tmp_path / "a.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[132:])
    assert [np.array_equal(scan.pixels, pixels) for scan, pixels in
            zip(read_scans(tmp_path / "a.dcm"), want, strict=True)] == [True] * 3
