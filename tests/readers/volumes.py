"""Research formats as other software writes them, with a canary in every field that could name a patient."""

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from canaries import BORN, NAME, NUMBER, draw
from PIL import Image

KINDS = {"u1": ("MET_UCHAR", 2), "u2": ("MET_USHORT", 512), "i2": ("MET_SHORT", 4), "f4": ("MET_FLOAT", 16),
         "f8": ("MET_DOUBLE", 64)}


def scans(count=3, height=64, width=96):
    """Return B-scans, [N, H, W]."""
    return np.stack([draw(i, height, width) for i in range(count)])


def make_metaimage(path: Path, stack, *, um=(3.872, 11.5), packed=False, big=False, **changes):
    """Write [N, H, W] as .mha, or as .mhd with a .raw beside it; `changes` replaces lines of the header."""
    order = ">" if big else "<"
    data = stack.astype(order + stack.dtype.str[1:]).tobytes()
    data = zlib.compress(data) if packed else data
    raw = path.with_suffix(".zraw" if packed else ".raw").name
    n, h, w = stack.shape
    facts = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": str(big),
             "CompressedData": str(packed), "Comment": f"{NAME} {NUMBER}", "PatientBirth": BORN,
             "ElementSpacing": f"{um[1] / 1000} {um[0] / 1000} 0.12", "DimSize": f"{w} {h} {n}",
             "ElementType": KINDS[stack.dtype.str[1:]][0]} | changes
    facts["ElementDataFile"] = changes.get("ElementDataFile", "LOCAL" if path.suffix == ".mha" else raw)
    header = "".join(f"{key} = {value}\n" for key, value in facts.items() if value is not None).encode()
    path.write_bytes(header + (data if facts["ElementDataFile"] == "LOCAL" else b""))
    if facts["ElementDataFile"] != "LOCAL":
        (path.parent / raw).write_bytes(data)


def make_nifti(path: Path, stack, *, um=(3.872, 11.5), unit=2, order="<", offset=352.0, slope=1.0, kind=None,
               sizes=None):
    """Write [N, H, W] as .nii or .nii.gz."""
    n, h, w = stack.shape
    shape = sizes or (3, w, h, n, 1, 1, 1, 1)
    per_mm = {1: 1e-3, 2: 1, 3: 1e3}[unit]
    header = bytearray(348)
    struct.pack_into(f"{order}i10s18s", header, 0, 348, NUMBER.encode(), NAME.encode())
    struct.pack_into(f"{order}8h", header, 40, *shape)
    struct.pack_into(f"{order}2h", header, 70, kind or KINDS[stack.dtype.str[1:]][1], 8 * stack.dtype.itemsize)
    steps = (1, um[1] / 1000 * per_mm, um[0] / 1000 * per_mm, 0.12 * per_mm, 0, 0, 0, 0)
    struct.pack_into(f"{order}8f", header, 76, *steps)
    struct.pack_into(f"{order}3f", header, 108, offset, slope, 0.0)
    header[123] = unit
    struct.pack_into("80s24s", header, 148, f"{NAME} {BORN}".encode(), NAME.encode())
    header[344:348] = b"n+1\0"
    data = bytes(header) + b"\1\0\0\0" + stack.astype(order + stack.dtype.str[1:]).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def make_topcon(path: Path, stack, *, packed=False, um=(3.872, 11.5), eye=1, bits=16, sizes=None, kind=None):
    """Write [N, H, W] as .fda or .fds, 16 bits, or packed as JPEG 2000 without loss."""
    n, h, w = sizes or stack.shape
    if packed:
        name, body = b"@IMG_JPEG", struct.pack("<B6I", 0, 0, 0, w, h, n, 0)
        for scan in stack:
            buffer = io.BytesIO()
            Image.fromarray(scan).save(buffer, "jpeg2000", irreversible=False)
            body += struct.pack("<I", len(buffer.getvalue())) + buffer.getvalue()
    else:
        name = kind or (b"@IMG_SCAN_03" if path.suffix == ".fds" else b"@IMG_MOT_COMP_03")
        body = struct.pack("<B4IBI", 0, w, h, bits, n, 0, 0) + stack.astype("<u2").tobytes()
    parts = [(b"@PATIENT_INFO_02", f"{NUMBER} {NAME} {BORN}".encode().ljust(200)),
             (b"@CAPTURE_INFO_02", bytes([eye, 0]) + NUMBER.encode() * 9), (name, body),
             (b"@PARAM_SCAN_04", struct.pack("<3I5d2B", 0, 0, 0, um[1] * w / 1000, 6.0, um[0], 0, 0, 0, 0))]
    data = b"FOCTFDA" + struct.pack("<2I", 1, 0)
    for name, body in parts:
        data += bytes([len(name)]) + name + struct.pack("<I", len(body)) + body
    path.write_bytes(data + b"\0")
