"""Files that cannot be used are named in the audit, and the others are converted."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylegan_oct.data import files
from stylegan_oct.data.archive import Archive
from stylegan_oct.data.convert import convert
from stylegan_oct.data.readers.image import decode
from stylegan_oct.data.sources import Refusal


def encoded(pixels, kind, **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(width=20_000, height=20_000):
    """Return a small PNG that unpacks to width x height pixels."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.fixture(scope="module")
def bomb_png():
    return bomb()


def odd_files(draw_scan, bomb_png):
    """Return file name -> (bytes, what the audit says, or None where the file is good)."""
    scan = draw_scan(90)
    deep = (scan.astype(np.uint16) << 8) + 17
    padded = scan.copy()
    padded[:34] = 255
    return {
        "CNV-1-1.jpeg": (encoded(scan, "jpeg")[:-900], "cannot be decoded"),
        "CNV-2-1.png": (b"", "is empty (0 bytes)"),
        "CNV-3-1.png": (b"this is a text\n" * 50, "is not a PNG, JPEG, TIFF, BMP or WebP image"),
        "CNV-4-1.tif": (encoded(deep, "tiff"), None),
        "CNV-5-1.jpg": (encoded(Image.fromarray(draw_scan(91)).convert("CMYK"), "jpeg"), None),
        "CNV-6-1.png": (encoded(scan[:1, :1], "png"), "is 1 x 1 pixels"),
        "CNV-7-1.png": (bomb_png, "is a decompression bomb"),
        "CNV-8-1.png": (encoded(np.full((64, 96), 30, np.uint8), "png"), "shows nothing"),
        "CNV-9-1.png": (encoded(padded, "png"), "padding, more than 40%"),
        "CNV-10-1.gif.png": (encoded(draw_scan(92), "gif"), "is not a PNG, JPEG, TIFF, BMP or WebP image"),
        "CNV-11-1.png": (encoded(draw_scan(93), "png")[:600], "cannot be decoded"),
        "CNV-12-1.TIFF": (encoded(draw_scan(94), "tiff", compression="tiff_lzw"), None),
    }


def check(report, files, prefix=""):
    text = report.audit.read_text(encoding="utf-8")
    for name, (_, said) in files.items():
        lines = [line for line in text.splitlines() if line.startswith(f"- {prefix}CNV/{name}:")]
        assert len(lines) == (said is not None), (name, lines)
        assert said is None or said in lines[0], (name, lines)
    good = sum(said is None for _, said in files.values())
    assert report.outcomes["refused"] >= len(files) - good
    return good


def test_bad_files_in_a_folder_are_named_and_the_rest_is_converted(make_folder, draw_scan, bomb_png, tmp_path):
    folder = make_folder()
    files = odd_files(draw_scan, bomb_png)
    for name, (data, _) in files.items():
        (folder / "CNV" / name).write_bytes(data)
    report = convert(folder, tmp_path / "a.zip", resolution=32, workers=2)
    assert report.outcomes["kept"] == 24 + check(report, files)


def test_bad_members_of_a_zip_are_named_and_the_rest_is_converted(make_folder, draw_scan, bomb_png, tmp_path):
    folder = make_folder()
    files = odd_files(draw_scan, bomb_png)
    with zipfile.ZipFile(tmp_path / "scans.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, f"deep/scans/{path.relative_to(folder)}")
        for name, (data, _) in files.items():
            file.writestr(f"deep/scans/CNV/{name}", data)
        good = encoded(draw_scan(95), "png")
        for name in ("../../evil-1-1.png", "/etc/evil-2-1.png", "deep\\..\\..\\evil-3-1.png", "C:/evil-4-1.png"):
            file.writestr(name, good)
        link = zipfile.ZipInfo("deep/scans/CNV/link.png")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("__MACOSX/deep/scans/CNV/._CNV-1-1.png", b"x")
        file.writestr("deep/scans/.DS_Store", b"x")
    report = convert(tmp_path / "scans.zip", tmp_path / "out" / "a.zip", resolution=32, workers=1)
    assert report.outcomes["kept"] == 24 + check(report, files, "deep/scans/")
    text = report.audit.read_text(encoding="utf-8")
    assert text.count("its path leaves the zip") == 4 and "link.png: is a link" in text and "MACOSX" not in text
    assert not list(tmp_path.rglob("evil*")) and Archive(report.archive).classes == ("CNV", "NORMAL")


def test_damaged_encrypted_and_oversized_members_are_refused(make_folder, draw_scan, tmp_path, monkeypatch):
    folder = make_folder(8)
    path = tmp_path / "scans.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for png in sorted(folder.rglob("*.png")):
            file.write(png, png.relative_to(folder).as_posix())
        file.writestr("CNV/CNV-1-1.png", encoded(draw_scan(90), "png"))
        file.writestr("CNV/CNV-2-1.png", bytes(300_000))
        file.writestr("CNV/CNV-3-1.png", encoded(draw_scan(91), "png"))
    data = bytearray(path.read_bytes())
    data[data.index(b"CNV/CNV-1-1.png") + 500] ^= 255  # within the compressed data
    entry = data.rindex(b"CNV/CNV-3-1.png")            # its entry in the directory: flags at 38 before the name
    data[entry - 38] |= 1
    path.write_bytes(data)
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 200_000)
    report = convert(path, tmp_path / "a.zip", resolution=32, workers=1)
    text = report.audit.read_text(encoding="utf-8")
    assert report.outcomes == {"kept": 8, "refused": 3}
    for said in ("1-1.png: cannot be read from the zip", "2-1.png: is larger than", "3-1.png: is encrypted"):
        assert f"CNV/CNV-{said}" in text


def test_a_bomb_is_refused_by_its_header_alone(bomb_png, monkeypatch):
    def load(*_):
        raise AssertionError("the pixels were unpacked")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(Refusal, match="decompression bomb"):
        decode(bomb_png)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_tiffs_keep_their_relative_brightness(bits):
    values = np.linspace(0, 2**bits - 1, 64 * 32).reshape(32, 64).astype(np.uint16)
    picture = decode(encoded(values, "tiff"))
    assert picture.facts["bits"] == bits and picture.pixels.dtype == np.uint8
    assert np.abs(picture.pixels - values * (255 / (2**bits - 1))).max() <= 0.5


def test_a_dark_deep_image_is_not_stretched_to_full_contrast():
    values = np.linspace(0, 5000, 64 * 32).reshape(32, 64).astype(np.uint16)  # of 13 bits: 14 is the next depth
    assert decode(encoded(values, "tiff")).pixels.max() == round(5000 * 255 / 16383)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_grey_pictures_in_any_mode_decode_to_the_same_pixels(draw_scan, mode):
    scan = draw_scan(3) if mode != "1" else (draw_scan(3) > 100).astype(np.uint8) * 255
    picture = decode(encoded(Image.fromarray(scan).convert(mode), "png"))
    tolerance = 3 if mode == "P" else 1
    assert np.abs(picture.pixels.astype(int) - scan).max() <= tolerance and picture.facts.get("coloured", 0) == 0


def test_only_the_first_page_of_several_is_taken(draw_scan):
    pages = [Image.fromarray(draw_scan(i)) for i in range(3)]
    picture = decode(encoded(pages[0], "tiff", save_all=True, append_images=pages[1:]))
    assert picture.facts["pages"] == 3 and np.array_equal(picture.pixels, draw_scan(0))


def test_any_cut_or_flipped_byte_is_a_picture_or_a_refusal(draw_scan):
    rng = np.random.default_rng(0)
    for kind in ("png", "jpeg", "tiff"):
        data = encoded(draw_scan(1, width=32, height=32), kind)
        for _ in range(150):
            broken = bytearray(data[:rng.integers(1, len(data) + 1)])
            broken[rng.integers(min(len(broken), 200))] ^= int(rng.integers(1, 256))
            try:
                assert decode(bytes(broken)).pixels.ndim == 2
            except Refusal as refusal:
                assert "\n" not in str(refusal)


def test_when_nothing_can_be_used_the_first_reason_is_given(tmp_path):
    folder = tmp_path / "scans" / "CNV"
    folder.mkdir(parents=True)
    (folder / "CNV-1-1.png").write_bytes(b"x")
    with pytest.raises(Exception, match="None of the 1 scans can be used; the first is not a PNG"):
        convert(Path(tmp_path / "scans"), tmp_path / "a.zip", resolution=32, workers=1)
