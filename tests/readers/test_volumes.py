"""MetaImage, NIfTI and NumPy: the same B-scans whatever the form, whose axes are said, and broken ones in one line."""

import gzip
import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from canaries import canaries_in, draw
from PIL import Image
from volumes import make_metaimage, make_nifti, scans

from dnnlib.errors import DataError
from stylegan_oct.data.readers.scan import read_scans

WANT = scans()
AS_OTHERS = {"nhw": (0, 1, 2), "nwh": (0, 2, 1), "hnw": (1, 0, 2), "hwn": (1, 2, 0), "wnh": (2, 0, 1), "whn": (2, 1, 0)}


def refusal(path, **options):
    with pytest.raises(DataError) as caught:
        list(read_scans(path, **options))
    line = str(caught.value)
    assert "\n" not in line and str(path) in line and not canaries_in(line)
    return line


def check(path, um=(3.872, 11.5), **options):
    found = list(read_scans(path, **options))
    assert [scan.number for scan in found] == [1, 2, 3]
    for scan, pixels in zip(found, WANT, strict=True):
        assert np.array_equal(scan.pixels, pixels) and scan.pixels.dtype == np.uint8
        size = (scan.um_per_px_z, scan.um_per_px_x)
        assert size == (pytest.approx(um) if um else (None, None))
        assert scan.laterality is None and scan.missing is None and not canaries_in("".join(scan.notes))
    return found


@pytest.mark.parametrize("suffix", [".mhd", ".mha"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("big", [False, True])
def test_a_metaimage_gives_its_slices(tmp_path, suffix, packed, big):
    make_metaimage(tmp_path / f"a{suffix}", WANT, packed=packed, big=big)
    assert not any(scan.notes for scan in check(tmp_path / f"a{suffix}"))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("unit", [1, 2, 3])
def test_a_nifti_gives_its_slices_with_the_size_of_a_pixel_in_any_unit(tmp_path, name, order, unit):
    make_nifti(tmp_path / name, WANT, order=order, unit=unit)
    assert not any(scan.notes for scan in check(tmp_path / name))


@pytest.mark.parametrize("axes, order", AS_OTHERS.items())
def test_whatever_the_order_of_the_axes_the_b_scans_are_the_same(tmp_path, axes, order):
    np.save(tmp_path / "a.npy", WANT.transpose(order))
    np.savez_compressed(tmp_path / "a.npz", volume=WANT.transpose(order), mask=np.zeros(7))
    make_nifti(tmp_path / "a.nii", WANT.transpose(order).transpose(2, 1, 0), um=(1000, 1000))
    make_metaimage(tmp_path / "a.mha", WANT.transpose(order).transpose(2, 1, 0), ElementSpacing=None)
    for name in ("a.npy", "a.npz", "a.mha"):
        check(tmp_path / name, None, axes=axes)
    for scan, want in zip(read_scans(tmp_path / "a.nii", axes=axes), WANT, strict=True):
        assert np.array_equal(scan.pixels, want)


def test_arrays_in_fortran_order_and_single_b_scans_are_read(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(WANT))
    check(tmp_path / "f.npy", None)
    np.save(tmp_path / "one.npy", WANT[0])
    np.save(tmp_path / "channel.npy", WANT[:1, :, :, np.newaxis])
    for name in ("one", "channel"):
        (scan,) = read_scans(tmp_path / f"{name}.npy")
        assert np.array_equal(scan.pixels, WANT[0])


@pytest.mark.parametrize("kind, factor, note", [
    ("u2", 1, "8 bits"), ("u2", 16, "12 bits"), ("u2", 257, None), ("i2", 4, "10 bits"), ("f4", 1, "8 bits"),
    ("f8", 257, "16 bits"), ("f4", 1 / 255, None)])
def test_values_are_scaled_by_the_depth_of_the_whole_volume(tmp_path, kind, factor, note):
    values = (WANT.astype(float) * factor).astype(kind)
    values[0] = values[0] / 2 if kind[0] == "f" and factor < 1 else values[0] // 2
    np.save(tmp_path / "a.npy", values)
    first, *others = read_scans(tmp_path / "a.npy")
    white = {16: 4095, 4: 1023}.get(factor, 255 * factor)
    for scan, stored in zip((first, *others), values, strict=True):
        assert np.abs(scan.pixels - stored.astype(float) * 255 / white).max() <= 0.51
    assert note is None or note in first.notes[0]


def test_what_speaks_for_another_order_of_axes_is_said(tmp_path):
    make_metaimage(tmp_path / "a.mha", scans(20, 40, 40), um=(120, 5), ElementSpacing="0.12 0.02 0.004")
    assert "cut the wrong way" in " ".join(next(read_scans(tmp_path / "a.mha")).notes)
    np.save(tmp_path / "a.npy", scans(17, 64, 96).transpose(1, 2, 0))
    assert "cut the wrong way" in " ".join(next(read_scans(tmp_path / "a.npy")).notes)
    assert "cut the wrong way" not in " ".join(next(read_scans(tmp_path / "a.npy", axes="hwn")).notes)


@pytest.mark.parametrize("changes, said", [
    ({"DimSize": "96 64 4"}, "cut short"),
    ({"DimSize": "90000 90000 90000"}, "are the most"), ({"DimSize": "0 64 3"}, "below 1"),
    ({"DimSize": "a b c"}, "number"),
    ({"DimSize": None}, "no MetaImage"), ({"ElementType": "MET_STRING"}, "kind"),
    ({"ElementNumberOfChannels": "3"}, "one channel"), ({"ElementDataFile": "../../a.raw"}, "another folder"),
    ({"ElementDataFile": "C:\\x\\a.raw"}, "another folder"), ({"ElementDataFile": "b.raw"}, "not beside"),
    ({"ElementDataFile": "LIST"}, "several files"), ({"BinaryData": "False"}, "binary")])
def test_a_metaimage_whose_header_is_wrong_is_refused(tmp_path, changes, said):
    make_metaimage(tmp_path / "a.mhd", WANT, **changes)
    (tmp_path / "a.raw").exists() or (tmp_path / "a.raw").write_bytes(WANT.tobytes())
    assert said in refusal(tmp_path / "a.mhd")


@pytest.mark.parametrize("changes, said", [
    ({"sizes": (3, 96, 64, 4, 1, 1, 1, 1)}, "cut short"),
    ({"sizes": (3, 30000, 30000, 30000, 1, 1, 1, 1)}, "are the most"),
    ({"sizes": (3, -96, 64, 3, 1, 1, 1, 1)}, "below 1"), ({"sizes": (9, 96, 64, 3, 1, 1, 1, 1)}, "axes"),
    ({"sizes": (4, 96, 64, 3, 3, 1, 1, 1)}, "axes"), ({"kind": 128}, "kind"), ({"slope": 2.0}, "slope"),
    ({"offset": float("nan")}, "do not begin"), ({"offset": 4.0}, "do not begin"), ({"offset": 1e30}, "do not begin")])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_nifti_whose_header_is_wrong_is_refused(tmp_path, name, changes, said):
    make_nifti(tmp_path / name, WANT, **changes)
    assert said in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mha", "packed.mha", "a.nii", "a.nii.gz"])
def test_a_file_cut_anywhere_or_with_bytes_changed_is_read_or_refused(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, WANT)
    elif path.suffix == ".npz":
        np.savez_compressed(path, volume=WANT)
    elif path.suffix == ".mha":
        make_metaimage(path, WANT, packed=name == "packed.mha")
    else:
        make_nifti(path, WANT)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for length in (1, 20, 100, 200, 347, 353, len(data) // 2, len(data) - 30):
        path.write_bytes(data[:length])
        refusal(path)
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.integers(0, min(len(data), 400), 3):
            broken[at] = rng.integers(256)
        path.write_bytes(broken)
        try:
            list(read_scans(path))
        except DataError as error:
            assert "\n" not in str(error)


def test_arrays_that_are_none_of_brightness_are_refused(tmp_path):
    cases = {"object": np.array([{"a": 1}] * 3, object), "text": np.array([["ab"] * 64] * 64), "complex": WANT * 1j,
             "negative": WANT.astype("i2") - 300, "large": WANT.astype("i4") * 1000,
             "flat": np.full((3, 64, 64), 7, "u1"),
             "float": WANT.astype("f4") * 0.5, "nan": np.full((3, 64, 64), np.nan), "one": np.zeros(5),
             "none": np.zeros((0, 64, 64)),
             "colour": np.stack([WANT] * 3, axis=3), "record": np.zeros((64, 64), [("a", "u1"), ("b", "u1")]),
             "small": WANT[:, :4, :4]}
    for name, values in cases.items():
        np.save(tmp_path / f"{name}.npy", values, allow_pickle=True)
        refusal(tmp_path / f"{name}.npy")


def test_bombs_cost_no_memory(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (4000, 512, 512)})
    (tmp_path / "claim.npy").write_bytes(header.getvalue())
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", header.getvalue()[:-1] + b"\n" + bytes(200 * 2**20))
    small = scans(1, 16, 16)
    make_nifti(tmp_path / "bomb.nii.gz", small, sizes=(3, 4096, 4096, 30, 1, 1, 1, 1))
    plain = gzip.decompress((tmp_path / "bomb.nii.gz").read_bytes())
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(plain + bytes(300 * 2**20), 1))
    make_metaimage(tmp_path / "claim.mha", small, packed=True, DimSize="4096 4096 30")
    tracemalloc.start()
    for name, said in (("claim.npy", "cut short"), ("bomb.npz", "most"), ("claim.mha", "fewer values"),
                       ("bomb.nii.gz", "fewer values")):
        assert said in refusal(tmp_path / name)
        if name != "bomb.nii.gz":  # there what is said is there in part, and is read as far
            assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    tracemalloc.stop()


def test_bmp_and_lossless_webp_are_read_and_lossy_webp_is_refused(tmp_path):
    picture = Image.fromarray(draw(0))
    for name, options in (("a.bmp", {}), ("a.webp", {"lossless": True})):
        picture.save(tmp_path / name, **options)
        (scan,) = read_scans(tmp_path / name)
        assert np.array_equal(scan.pixels, draw(0))
        (tmp_path / name).rename(tmp_path / "a.bin")
        assert np.array_equal(next(read_scans(tmp_path / "a.bin")).pixels, draw(0))
    picture.save(tmp_path / "lossy.webp")
    assert "lossy" in refusal(tmp_path / "lossy.webp")
    picture.save(tmp_path / "moving.webp", lossless=True, save_all=True, append_images=[Image.fromarray(draw(1))])
    assert "lossy or moving" in refusal(tmp_path / "moving.webp")
