"""The same picture in every legal form gives the same pixels; every other form is refused in one line, or said."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from canaries import draw, make_dicom
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from dnnlib.errors import DataError
from stylegan_oct.data.preprocess import Preprocess, process
from stylegan_oct.data.readers.brightness import remarks, to_8_bits
from stylegan_oct.data.readers.bscan import count_notes
from stylegan_oct.data.readers.image import decode
from stylegan_oct.data.readers.scan import read_scans

SCAN = draw(5)
TWELVE = ((SCAN.astype(np.int64) * 4095 + 127) // 255).astype(np.uint16)   # in 12 bits; back in 8 it is the same
REAL = Path(__file__).parents[2].parent / "shared" / "data" / "oct2017"


def refusal(path):
    with pytest.raises(DataError) as caught:
        list(read_scans(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- DICOM -----------------------------------------------------------------------------------------------------------

def stored(values, bits=16, **elements):
    """Return what `make_dicom` is to write for these values of 8 or 16 bits."""
    data = np.ascontiguousarray(values).astype(f"<u{bits // 8}").tobytes()
    return {"count": 1, "bits": bits, "PixelData": data, **elements}


def twelve(values, **elements):
    return stored(values, **{"BitsStored": 12, "HighBit": 11, **elements})


DEEP = SCAN.astype(np.int64) * 257
LEGAL = {
    "8 bits": stored(SCAN, 8),
    "16 bits": stored(DEEP),
    "12 bits": twelve(TWELVE),
    "12 bits, left-justified": stored(TWELVE << 4, BitsStored=12, HighBit=15),
    "12 bits in the middle": stored(TWELVE << 2, BitsStored=12, HighBit=13),
    "12 bits, left-justified, the unused bits set": stored(TWELVE << 4 | 15, BitsStored=12, HighBit=15),
    "signed, 8 bits": stored(SCAN.astype(np.int64) - 128, 8, PixelRepresentation=1),
    "signed, 16 bits": stored(DEEP - 32768, PixelRepresentation=1),
    "signed, 12 bits": twelve(TWELVE.astype(np.int64) - 2048, PixelRepresentation=1),
    "signed, 12 bits, unused bits 0": twelve((TWELVE.astype(np.int64) - 2048) & 4095, PixelRepresentation=1),
    "MONOCHROME1": stored(255 - SCAN, 8, PhotometricInterpretation="MONOCHROME1"),
    "MONOCHROME1, inverse": stored(255 - SCAN, 8, PhotometricInterpretation="MONOCHROME1",
                                   PresentationLUTShape="INVERSE"),
    "MONOCHROME1, 12 bits": twelve(4095 - TWELVE, PhotometricInterpretation="MONOCHROME1"),
    "identity": stored(SCAN, 8, PresentationLUTShape="IDENTITY"),
    "rescaled to its own range": stored(DEEP, RescaleSlope="1", RescaleIntercept="0"),
    "rescaled": stored(DEEP, RescaleSlope="0.5", RescaleIntercept="-100"),
    "rescaled by a negative slope": stored(65535 - DEEP, RescaleSlope="-1", RescaleIntercept="65535"),
    "window of the whole range": stored(SCAN, 8, WindowCenter="128", WindowWidth="256"),
    "12 of 16 bits by a window": stored(TWELVE, WindowCenter="2048", WindowWidth="4096"),
    "12 of 16 bits by an exact window": stored(TWELVE, WindowCenter="2047.5", WindowWidth="4095",
                                               VOILUTFunction="LINEAR_EXACT"),
    "the first of two windows": stored(TWELVE, WindowCenter=["2048", "100"], WindowWidth=["4096", "20"]),
    "a window of rescaled values": stored(TWELVE, RescaleSlope="2", RescaleIntercept="10", WindowCenter="4105",
                                          WindowWidth="8190", VOILUTFunction="LINEAR_EXACT"),
    "MONOCHROME1 by a window": stored(4095 - TWELVE, PhotometricInterpretation="MONOCHROME1", WindowCenter="2048",
                                      WindowWidth="4096"),
}


@pytest.mark.parametrize("form", LEGAL)
def test_every_legal_form_of_a_frame_gives_the_same_pixels(tmp_path, form):
    make_dicom(tmp_path / "a.dcm", **LEGAL[form])
    (scan,) = read_scans(tmp_path / "a.dcm")
    assert np.array_equal(scan.pixels, SCAN) and scan.notes == () and scan.missing is None


@pytest.mark.parametrize("syntax", ["ExplicitVRBigEndian", "ImplicitVRLittleEndian", "DeflatedExplicitVRLittleEndian",
                                    "RLELossless"])
def test_every_syntax_gives_the_same_pixels(tmp_path, syntax):
    pydicom = pytest.importorskip("pydicom")
    make_dicom(tmp_path / "a.dcm", **stored(DEEP))
    data = pydicom.dcmread(tmp_path / "a.dcm")
    if syntax == "RLELossless":
        data.compress(pydicom.uid.RLELossless)
        data.save_as(tmp_path / "a.dcm")
    else:
        data.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        if syntax == "ExplicitVRBigEndian":
            assert str(data)  # reads all elements, which are then written anew
            data.PixelData = DEEP.astype(">u2").tobytes()
            data.set_original_encoding(False, False)
        pydicom.dcmwrite(tmp_path / "a.dcm", data)
    (scan,) = read_scans(tmp_path / "a.dcm")
    assert np.array_equal(scan.pixels, SCAN)


def test_a_window_and_a_rescaling_stand_in_the_groups_of_a_frame_too(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    make_dicom(tmp_path / "a.dcm", **stored(TWELVE))
    data = pydicom.dcmread(tmp_path / "a.dcm")
    window, values = pydicom.Dataset(), pydicom.Dataset()
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = "4105", "8190", "LINEAR_EXACT"
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = "2", "10", "US"
    data.PerFrameFunctionalGroupsSequence[0].FrameVOILUTSequence = [window]
    data.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [values]
    data.save_as(tmp_path / "a.dcm")
    (scan,) = read_scans(tmp_path / "a.dcm")
    assert np.array_equal(scan.pixels, SCAN)


@pytest.mark.parametrize("padding, signed", [((999,), False), ((999, 1001), False), ((1001, 999), False),
                                             ((-2048,), True), ((63488,), True), ((2048,), True)])
def test_padding_is_missing_and_never_white(tmp_path, padding, signed):
    values = TWELVE.astype(np.int64)
    values[np.isin(values, range(990, 1010))] = 1010
    values[:, :7] = 999
    if signed:
        values -= 2048
        values[:, :7] = -2048
    make_dicom(tmp_path / "a.dcm", **twelve(values, PixelRepresentation=int(signed),
                                            PhotometricInterpretation="MONOCHROME1"))
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dcmread(tmp_path / "a.dcm")
    kind = "SS" if signed and padding[0] < 0 else "US"
    for tag, value in zip((0x00280120, 0x00280121), padding, strict=False):
        data.add_new(tag, kind, value)
    data.save_as(tmp_path / "a.dcm")
    (scan,) = read_scans(tmp_path / "a.dcm")
    assert scan.missing[:, :7].all() and not scan.missing[:, 7:].any()
    assert not scan.pixels[:, :7].any()


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize("elements, said", [
    (twelve(TWELVE << 4), "values above the 12 bits"),
    (stored(SCAN, 8, BitsStored=7, HighBit=6), "values above the 7 bits"),
    (stored(DEEP, BitsStored=12, HighBit=8), "which cannot be"),
    (stored(DEEP, BitsStored=17, HighBit=16), "which cannot be"),
    (stored(SCAN, 8, BitsStored=12, HighBit=11), "which cannot be"),
    (stored(SCAN, 8, PresentationLUTShape="INVERSE"), "contradicts itself on what is white"),
    (stored(SCAN, 8, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="IDENTITY"), "contradicts itself"),
    (stored(SCAN, 8, PresentationLUTShape="LIN OD"), "contradicts itself"),
    (stored(DEEP, RescaleSlope="0"), "rescales its values"),
    (stored(DEEP, RescaleSlope="nan"), "rescales its values"),
    (stored(DEEP, RescaleSlope="1e-320", RescaleIntercept="5", WindowCenter="5", WindowWidth="9"), "cannot be"),
    (stored(DEEP, WindowCenter="5", WindowWidth="9", VOILUTFunction="SIGMOID"), "not linear"),
    (stored(DEEP, WindowCenter="-9000", WindowWidth="50"), "shows nothing"),
    (stored(SCAN, 8, BitsAllocated=32, BitsStored=32, HighBit=31), "in 32 bits"),
    (stored(SCAN, 8, BitsAllocated=1, BitsStored=1, HighBit=0), "in 1 bits"),
    *((stored(SCAN, 8, PhotometricInterpretation=kind, SamplesPerPixel=samples), f"MONOCHROME2: {kind}")
      for kind, samples in (("RGB", 3), ("YBR_FULL", 3), ("YBR_FULL_422", 3), ("PALETTE COLOR", 1))),
    (stored(SCAN, 8, PhotometricInterpretation="KANARIENVOGEL"), "MONOCHROME2: unknown"),
    (stored(SCAN, 8, SamplesPerPixel=3), "MONOCHROME2: MONOCHROME2, 3 samples"),
])
def test_what_cannot_be_shown_rightly_is_refused_by_name(tmp_path, elements, said):
    make_dicom(tmp_path / "a.dcm", **elements)
    assert said in refusal(tmp_path / "a.dcm")


@pytest.mark.parametrize("name, said", [("VOILUTSequence", "through a table"), ("ModalityLUTSequence", "by a table")])
def test_tables_are_refused_by_name(tmp_path, name, said):
    pydicom = pytest.importorskip("pydicom")
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 8], bytes(range(256))
    make_dicom(tmp_path / "a.dcm", **stored(SCAN, 8), **{name: [table]})
    assert said in refusal(tmp_path / "a.dcm")


def test_left_justified_bits_that_are_compressed_are_refused(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    make_dicom(tmp_path / "a.dcm", **stored(TWELVE << 4), syntax=pydicom.uid.RLELossless)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data.BitsStored = 12
    data.save_as(tmp_path / "a.dcm")
    assert "is compressed, and the highest of its 12 bits is bit 15" in refusal(tmp_path / "a.dcm")


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize("elements, said", [
    (stored(TWELVE), "fills a small part of its range of values"),
    (stored(DEEP, WindowCenter="300", WindowWidth="0"), "has a window that cannot be and is not applied"),
    (stored(DEEP, WindowCenter="nan", WindowWidth="50"), "has a window that cannot be and is not applied"),
    (stored(DEEP, WindowCenter="5000", WindowWidth="9000"), "is shown saturated by the window in the file"),
    (stored(255 - SCAN, 8), "is dark on bright"),
    (stored(SCAN.astype(np.int64) * 128, PixelRepresentation=1), "has nothing dark"),
])
def test_what_is_odd_is_said(tmp_path, elements, said):
    make_dicom(tmp_path / "a.dcm", **elements)
    (scan,) = read_scans(tmp_path / "a.dcm")
    assert any(said in note for note in scan.notes) and not any("\n" in note for note in scan.notes)


# --- PNG, JPEG, TIFF -------------------------------------------------------------------------------------------------

def encoded(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def tags(**values):
    directory = ImageFileDirectory_v2()
    for tag, value in values.items():
        directory[int(tag[1:])] = value
    return directory


def raw_tiff(pixels, *, order="<", bits=16, photometric=1, layout=1, more=()):
    """Return a TIFF of one uncompressed strip, written by hand: what Pillow does not write."""
    height, width = pixels.shape[:2]
    data = pixels if isinstance(pixels, bytes) else pixels.tobytes()
    fields = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8),
              (277, 3, 1), (278, 4, height), (279, 4, len(data)), (339, 3, layout), *more]
    body = struct.pack(order + "H", len(fields))
    for tag, kind, value in sorted(fields):
        body += struct.pack(order + "HHI" + ("H2x" if kind == 3 else "I"), tag, kind, 1, value)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8 + len(data))
    return start + data + body + bytes(4)


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(pixels, colour, *, bits, chunks=b""):
    """Return a PNG of rows as they lie in memory: what Pillow does not write."""
    header = struct.pack(">IIBBBBB", SCAN.shape[1], len(pixels), bits, colour, 0, 0, 0)
    rows = b"".join(b"\0" + np.ascontiguousarray(row).tobytes() for row in pixels)
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + chunks + png_chunk(b"IDAT", zlib.compress(rows)) +
            png_chunk(b"IEND", b""))


FULL = SCAN.astype(np.uint16) * 257
BIG = FULL.astype(">u2")
DOWNWARDS = np.repeat(np.arange(255, -1, -1, dtype=np.uint8), 3).tobytes()
FLOATS = (SCAN / 255).astype("<f4")
RGB = np.repeat(SCAN[:, :, None], 3, axis=2)
CLEAR = np.dstack([RGB, np.full_like(SCAN, 255)])
FORMS = {
    "png": encoded(SCAN, "png"),
    "png, 16 bits": encoded(FULL, "png"),
    "png, RGB": encoded(RGB, "png"),
    "png, alpha": encoded(CLEAR, "png"),
    "png, grey and alpha": encoded(Image.fromarray(SCAN).convert("LA"), "png"),
    "png, palette": encoded(Image.fromarray(SCAN).convert("P", palette=Image.Palette.ADAPTIVE), "png"),
    "png, RGB, 16 bits": raw_png(np.dstack([BIG] * 3), 2, bits=16),
    "png, alpha, 16 bits": raw_png(np.dstack([BIG] * 3 + [np.full_like(BIG, 65535)]), 6, bits=16),
    "png, grey and alpha, 16 bits": raw_png(np.dstack([BIG, np.full_like(BIG, 65535)]), 4, bits=16),
    "png, palette from white to black": raw_png(255 - SCAN, 3, bits=8, chunks=png_chunk(b"PLTE", DOWNWARDS)),
    "tiff": encoded(SCAN, "tiff"),
    "tiff, white is 0": raw_tiff(255 - SCAN, bits=8, photometric=0),
    "tiff, lzw": encoded(SCAN, "tiff", compression="tiff_lzw"),
    "tiff, 16 bits": raw_tiff(FULL),
    "tiff, 16 bits, big-endian": raw_tiff(FULL.astype(">u2"), order=">"),
    "tiff, 16 bits, deflated": encoded(FULL, "tiff", compression="tiff_deflate"),
    "tiff, 16 bits, white is 0": raw_tiff(65535 - FULL, photometric=0),
    "tiff, floats": raw_tiff(FLOATS, bits=32, layout=3),
    "tiff, floats, white is 0": raw_tiff((1 - SCAN / 255).astype("<f4"), bits=32, layout=3, photometric=0),
    "tiff, RGB": encoded(RGB, "tiff"),
    "tiff, alpha": encoded(CLEAR, "tiff"),
    "tiff, palette": encoded(Image.fromarray(SCAN).convert("P", palette=Image.Palette.ADAPTIVE), "tiff"),
    "tiff, CMYK": encoded(Image.merge("CMYK", [*[Image.new("L", SCAN.shape[::-1])] * 3,
                                               Image.fromarray(255 - SCAN)]), "tiff"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_legal_form_of_a_picture_gives_the_same_pixels(form, channels):
    picture = decode(FORMS[form], channels)
    grey = picture.pixels if channels == 1 else picture.pixels[..., 1]
    assert np.array_equal(grey, SCAN) and picture.notes == () and not picture.facts.get("coloured")


def test_a_jpeg_is_grey_and_cmyk_jpegs_are_not_inverted():
    for image in (Image.fromarray(SCAN), Image.fromarray(RGB), Image.fromarray(RGB).convert("CMYK")):
        pixels = decode(encoded(image, "jpeg", quality=100, subsampling=0)).pixels
        assert np.abs(pixels.astype(int) - SCAN).max() <= 4


def twelve_packed(values):
    """Return 12-bit values, two in three bytes."""
    first, second = values.reshape(-1, 2).T.astype(np.uint16)
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8).tobytes()


def test_twelve_bits_that_a_tiff_declares_are_known_and_those_in_16_are_guessed_and_said():
    class Packed(bytes):
        shape = SCAN.shape

    picture = decode(raw_tiff(Packed(twelve_packed(TWELVE)), bits=12))
    assert np.array_equal(picture.pixels, SCAN) and picture.facts["bits"] == 12 and picture.notes == ()
    dark = decode(raw_tiff(Packed(twelve_packed(TWELVE // 8)), bits=12))
    assert dark.pixels.max() <= 32 and "small part of its range" in dark.notes[0]
    for data in (encoded(TWELVE, "png"), raw_tiff(TWELVE), raw_tiff(TWELVE.astype("<i4"), bits=32, layout=2),
                 raw_tiff(TWELVE.astype("<i2"), layout=2), raw_tiff(4095 - TWELVE, photometric=0)):
        picture = decode(data)
        assert picture.facts["bits"] == 12 and len(picture.notes) == 1
        assert picture.notes[0].startswith("is scaled by 12 bits, the least that hold its values (they end at")
        assert np.array_equal(picture.pixels, SCAN)


def test_the_pages_of_a_deep_tiff_keep_their_relative_brightness(tmp_path):
    pages = [Image.fromarray(TWELVE // 8), Image.fromarray(TWELVE), Image.fromarray(TWELVE // 16)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    dark, bright, darker = read_scans(tmp_path / "a.tif")
    assert np.array_equal(bright.pixels, SCAN)
    assert np.abs(dark.pixels - SCAN / 8).max() <= 1 and np.abs(darker.pixels - SCAN / 16).max() <= 1
    assert all("is scaled by 12 bits" in scan.notes[0] for scan in (dark, bright, darker))


@pytest.mark.parametrize("kind, pixels", [("png", SCAN), ("png", FULL), ("tiff", SCAN), ("tiff", FULL), ("jpeg", SCAN)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_followed_once(kind, pixels, orientation):
    turns = {1: lambda p: p, 2: np.fliplr, 3: lambda p: np.rot90(p, 2), 4: np.flipud, 5: np.transpose,
             6: lambda p: np.rot90(p), 7: lambda p: np.rot90(p, 2).T, 8: lambda p: np.rot90(p, -1)}
    exif = Image.Exif()
    exif[274] = orientation
    extra = {"tiffinfo": tags(t274=orientation)} if kind == "tiff" else {"exif": exif}
    found = decode(encoded(np.ascontiguousarray(turns[orientation](pixels)), kind, **extra)).pixels
    assert found.shape == SCAN.shape and np.abs(found.astype(int) - SCAN).mean() <= (8 if kind == "jpeg" else 0)


def png_chunks(data, *chunks):
    """Return a PNG with chunks put behind its header."""
    return data[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[33:]


@pytest.mark.parametrize("data, said", [
    (png_chunks(encoded(FULL, "png"), (b"tRNS", struct.pack(">H", 999))), "transparent pixels in 16 bits"),
    (encoded(SCAN, "png", save_all=True, append_images=[Image.fromarray(draw(6))]), "is an animation"),
    (encoded(SCAN, "tiff", tiffinfo=tags(t254=1)), "reduced copy or a mask"),
    (raw_tiff((FLOATS * 255).astype("<f4"), bits=32, layout=3), "floating-point values outside 0 to 1"),
    (raw_tiff(np.where(SCAN > 99, np.nan, FLOATS).astype("<f4"), bits=32, layout=3), "floating-point values outside"),
    (raw_tiff((SCAN.astype("<i2") - 128), layout=2), "integer values outside"),
    (raw_tiff(FULL.astype("<i4") * 9, bits=32, layout=2), "integer values outside"),
    (raw_tiff((65535 - FULL).astype(">u2"), order=">", photometric=0), "damaged, or a PNG, JPEG, TIFF, BMP or WebP of"),
    (raw_tiff(SCAN.astype("<f8"), bits=64, layout=3), "damaged, or a PNG, JPEG, TIFF, BMP or WebP of"),
    (raw_tiff((SCAN.astype(int) - 128).astype("i1"), bits=8, layout=2), "signed values of 8 bits"),
    (encoded(np.dstack([RGB, 0 * SCAN]), "png"), "shows nothing"),
])
def test_pictures_that_cannot_be_shown_rightly_are_refused_by_name(tmp_path, data, said):
    (tmp_path / "a.png").write_bytes(data)
    assert said in refusal(tmp_path / "a.png")


@pytest.mark.parametrize("data, said", [
    (encoded(Image.fromarray(SCAN > 60), "png"), "has only 2 grey values"),
    (encoded(SCAN // 8, "png"), "fills a small part of its range of values (1 to 2"),
    (encoded((SCAN.astype(int) * 4).clip(0, 255).astype(np.uint8), "png"), "is saturated"),
    (encoded(255 - SCAN, "png"), "is dark on bright: black and white exchanged?"),
    (png_chunks(encoded(SCAN, "png"), (b"gAMA", struct.pack(">I", 100_000))), "has a gamma that is not applied (1)"),
    (encoded(RGB, "png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()),
     "has a colour profile that is not applied"),
])
def test_odd_pictures_are_read_and_said(data, said):
    assert any(note.startswith(said) for note in decode(data).notes)


def test_profiles_and_gammas_of_screens_are_not_worth_a_line():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decode(encoded(RGB, "png", icc_profile=profile)).notes == ()
    assert decode(png_chunks(encoded(SCAN, "png"), (b"gAMA", struct.pack(">I", 45_455)))).notes == ()


def test_transparent_pixels_are_black():
    layer = CLEAR.copy()
    layer[:20, :, 3] = 0
    assert not decode(encoded(layer, "png")).pixels[:20].any()


# --- The parts, and who is told --------------------------------------------------------------------------------------

def test_the_ends_of_a_range_are_black_and_white_and_it_can_run_backwards():
    values = np.array([[-5, 0, 20, 100, 200]])
    assert to_8_bits(values, 0, 100).tolist() == [[0, 0, 51, 255, 255]]
    assert np.array_equal(to_8_bits(values, 100, 0), 255 - to_8_bits(values, 0, 100))


def test_notes_are_counted_by_kind_with_the_first_in_full():
    notes = [("is scaled by 12 bits (to 9)", "a"), ("is scaled by 14 bits (to 7)",), (), ("a",)]
    assert count_notes(notes) == ["2 scans: is scaled by 12 bits (to 9)", "2 scans: a"]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real scans are not here")
def test_real_scans_are_not_odd_and_inverted_or_darkened_ones_are():
    for path in sorted(REAL.glob("*/*.jpeg")):
        picture = decode(path.read_bytes())
        assert picture.notes == (), path
        odd = picture.pixels.astype(int)
        for other in (255 - odd, odd // 6, (odd * 3).clip(0, 255), 128 + odd // 2):
            assert remarks(other.astype(np.uint8)), path


def test_the_preprocessing_passes_the_notes_on():
    assert "small part" in process(encoded(SCAN // 8, "png"), Preprocess(resolution=32)).facts["notes"][0]
