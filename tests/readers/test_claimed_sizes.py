"""What a file claims of its sizes costs no memory and little time: it is read, or refused in one line."""

import io
import resource
import struct
import subprocess
import sys
import textwrap
import zlib

import pytest
from canaries import draw, make_dicom, make_e2e, make_vol, make_xml
from PIL import Image

from dnnlib.errors import DataError
from stylegan_oct.data.readers.bscan import MAX_COUNT, MAX_SIDE, Volume, check_size
from stylegan_oct.data.readers.scan import read_scans
from stylegan_oct.data.sources import Refusal


def test_sizes_of_scans_pass_and_others_do_not():
    for size in ((384, 277), (1536, 496), (496, 512), (4096, 1024), (16, 16), (64, 1024)):
        check_size(*size)
    for size, said in (((MAX_SIDE + 1, 500), "bomb"), ((2**31, 2**31), "bomb"), ((15, 90), "shorter side"),
                       ((16, 257), "no B-scan has one side 16 times"), ((0, 0), "shorter"), ((-5, 90), "shorter")):
        with pytest.raises(Refusal, match=said):
            check_size(*size)
    with pytest.raises(Refusal, match=f"{MAX_COUNT} are the most"):
        Volume(MAX_COUNT + 1, lambda _: pytest.fail("read"))


def png(width, height, rows=2):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    body = zlib.compress(bytes(rows * (min(width, 10**6) + 1)))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", body) + chunk(b"IEND", b""))


def tiff(**changes):
    """Return a TIFF with tags set otherwise."""
    buffer = io.BytesIO()
    Image.fromarray(draw(0)).save(buffer, "tiff", compression="tiff_lzw")
    data = bytearray(buffer.getvalue())
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    fields = dict(struct.unpack_from("<H10s", data, at + 2 + 12 * i) for i in range(count))
    for name, value in changes.items():
        fields[int(name[1:])] = struct.pack("<HII", 4, *value) if isinstance(value, tuple) else struct.pack(
            "<HII", 4, 1, value)
    body = struct.pack("<H", len(fields)) + b"".join(struct.pack("<H", tag) + fields[tag] for tag in sorted(fields))
    return bytes(data[:4]) + struct.pack("<I", len(data)) + bytes(data[8:]) + body + bytes(4)


def endless_tiff():
    """Return a TIFF whose second page is followed by itself."""
    data = bytearray(tiff())
    (at,) = struct.unpack_from("<I", data, 4)
    data[-4:] = struct.pack("<I", at)
    return bytes(data)


def dicom(path, **changes):
    make_dicom(path, **changes)
    return path.read_bytes()


def deflated_bomb(path):
    """Return a DICOM of a few hundred kilobytes that unpacks to a gigabyte."""
    pydicom = pytest.importorskip("pydicom")
    make_dicom(path)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(path)
    header = path.read_bytes()
    at = header.index(b"\x02\0\0\0UL\4\0") + 8
    begin = at + 4 + int.from_bytes(header[at:at + 4], "little")
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(2**22)) + packer.flush(zlib.Z_FULL_FLUSH)   # begins and ends on a byte: repeats
    return header[:begin] + 250 * block + packer.flush()


def rle_bomb(path):
    """Return a DICOM whose one small frame comes with 8 MB of runs of 128 bytes."""
    pydicom = pytest.importorskip("pydicom")
    make_dicom(path, count=1, syntax=pydicom.uid.RLELossless)
    data = pydicom.dcmread(path)
    runs = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x07" * 4_000_000
    data.PixelData = pydicom.encaps.encapsulate([runs])
    data.save_as(path)
    return path.read_bytes()


def vol(path, at, value):
    make_vol(path)
    data = bytearray(path.read_bytes())
    data[at:at + 4] = struct.pack("<i", value)
    return bytes(data)


def hostile(path):
    """Yield (name, bytes, what is said) of files that claim what they do not hold."""
    yield "a.png", png(2**31 - 1, 2**31 - 1), "bomb"
    yield "b.png", png(MAX_SIDE, MAX_SIDE), ""
    yield "c.png", png(16, 2**20), "bomb"
    yield "a.tif", tiff(t256=2**31 - 1, t257=2**31 - 1), ""
    yield "b.tif", tiff(t322=60_000, t323=60_000, t324=8, t325=100), "tiles of 60000 pixels"
    yield "c.tif", tiff(t279=2**32 - 1), ""
    yield "d.tif", tiff(t273=(2**31, 8)), ""
    yield "e.tif", endless_tiff(), None
    yield "f.tif", tiff(t278=2**32 - 1), None
    yield "a.dcm", dicom(path, NumberOfFrames=2**31 - 1), "fewer pixels than its header says"
    yield "b.dcm", dicom(path, Rows=65535, Columns=65535), "bomb"
    yield "c.dcm", dicom(path, um=(1e9, 1e9)), None
    yield "d.dcm", dicom(path).replace(struct.pack("<I", 3 * 64 * 96), struct.pack("<I", 0xFFFFFFF0)), ""
    yield "e.dcm", deflated_bomb(path), "decompression bomb"
    yield "f.dcm", rle_bomb(path), "far more compressed bytes"
    yield "a.vol", vol(path, 12, 2**31 - 1), "no sense"
    yield "b.vol", vol(path, 16, 2**31 - 1), "cut short"
    yield "c.vol", vol(path, 100, 2**31 - 1), "cut short"
    yield "d.vol", vol(path, 48, 2**31 - 1), "cut short"
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "{"x" * 99}">{entities}]><HEDX>&e11;</HEDX>'
    yield "a.xml", bomb.encode(), "no well-formed XML"


SCRIPT = """
import resource, sys
from pathlib import Path
from dnnlib.errors import UserError
from stylegan_oct.data.readers.scan import read_scans
import pydicom.pixels, PIL.TiffImagePlugin, PIL.PngImagePlugin, xml.etree.ElementTree
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        said = f"read {len(list(read_scans(path)))}"
    except UserError as error:
        said = str(error)
    print(path.name, "|", said)
print("grown |", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_what_files_claim_costs_neither_memory_nor_time(tmp_path):
    pytest.importorskip("pydicom")
    wanted = {}
    (tmp_path / "in").mkdir()
    for name, data, said in hostile(tmp_path / "made"):
        (tmp_path / "in" / name).write_bytes(data)
        wanted[name] = said
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "in")], capture_output=True,
                          text=True, timeout=120)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" | ", 1) for line in done.stdout.splitlines())
    for name, said in wanted.items():
        if said is None:
            assert lines[name].startswith("read "), lines[name]
        else:
            assert lines[name].startswith(str(tmp_path / "in" / name)) and said in lines[name], lines[name]
    assert int(lines["grown"]) < 300 and spent < 20, (lines["grown"], spent)


def test_a_picture_of_an_xml_that_is_no_file_is_not_waited_for(tmp_path):
    import os
    make_xml(tmp_path / "a.xml", count=1)
    (picture,) = tmp_path.glob("*.tif")
    picture.unlink()
    os.mkfifo(picture)
    with pytest.raises(DataError, match="not beside the .xml"):
        list(read_scans(tmp_path / "a.xml"))


@pytest.mark.parametrize("field, value, said", [(8, 2**32 - 1, "cut short"), (12, 2**31, "bomb"), (16, 2**31, "bomb"),
                                                (12, 32, "others are there"), (16, 17, "others are there")])
def test_sizes_in_an_e2e_that_cannot_be_are_refused(tmp_path, field, value, said):
    pytest.importorskip("eyepy")
    make_e2e(tmp_path / "a.e2e", count=1)
    data = bytearray((tmp_path / "a.e2e").read_bytes())
    at = data.index(struct.pack("<I", 35652097)) - 4
    data[at + field:at + field + 4] = struct.pack("<I", value)
    (tmp_path / "a.e2e").write_bytes(data)
    with pytest.raises(DataError, match=said):
        list(read_scans(tmp_path / "a.e2e"))


@pytest.mark.parametrize("entries", [2**32 - 1, 5000])
def test_an_index_of_an_e2e_that_cannot_be_is_refused(tmp_path, entries):
    pytest.importorskip("eyepy")
    make_e2e(tmp_path / "a.e2e", count=1)
    data = bytearray((tmp_path / "a.e2e").read_bytes())
    at = data.index(b"MDbDir") + 36
    data[at:at + 4] = struct.pack("<I", entries)
    (tmp_path / "a.e2e").write_bytes(data)
    with pytest.raises(DataError, match="no .e2e, or damaged"):
        list(read_scans(tmp_path / "a.e2e"))


def test_an_index_of_an_e2e_that_points_back_at_itself_ends(tmp_path):
    pytest.importorskip("eyepy")
    make_e2e(tmp_path / "a.e2e", count=1)
    data = bytearray((tmp_path / "a.e2e").read_bytes())
    at = data.index(b"MDbDir")
    (count,) = struct.unpack_from("<I", data, at + 36)
    last = at + 52 + 44 * (count - 1)
    data[last + 4:last + 12] = struct.pack("<II", 28, 0)      # where its last part begins, and its length
    (tmp_path / "a.e2e").write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        list(read_scans(tmp_path / "a.e2e"))
