"""MetaImage, .mhd with its .raw and .mha: of the header only the keys listed here are read.

Written from the description of the format by Kitware. The order of axes is that of the file: x runs fastest.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnlib.files import Finder
from stylegan_oct.data.files import Refusal
from stylegan_oct.data.readers.bscan import Volume
from stylegan_oct.data.readers.stack import MAX_BYTES, MAX_UNPACKED, check_bytes, to_volume

HEADER = 16_384   # bytes; those of real files have some hundred
TYPES = {"MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_UINT": "u4", "MET_INT": "i4",
         "MET_FLOAT": "f4", "MET_DOUBLE": "f8"}
KEYS = ("ObjectType", "NDims", "DimSize", "ElementType", "ElementSpacing", "ElementSize", "ElementNumberOfChannels",
        "BinaryData", "CompressedData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "HeaderSize",
        "ElementDataFile")


@dataclass(frozen=True)
class _Header:
    facts: dict[str, str]
    shape: tuple[int, ...]        # in the order of the file, x first
    dtype: np.dtype[Any]
    spacing: tuple[float, ...]    # mm; () where it is not known
    end: int                      # of the header, in bytes


def open_metaimage(path: Path, axes: str = "auto") -> Volume:
    """Return the B-scans of a MetaImage; by default x goes along them, y down, and z from one to the next.

    Raises:
        Refusal: the header or the values are damaged, or of a kind that is not read.
    """
    with open(path, "rb") as file:
        header = _parse(file.read(HEADER))
    place, start = _place(path, header)
    size = check_bytes(header.shape, header.dtype.itemsize, MAX_BYTES)
    values: NDArray[Any]
    if _is(header, "CompressedData"):
        check_bytes(header.shape, header.dtype.itemsize, MAX_UNPACKED)
        values = np.frombuffer(_inflate(place, start, size), header.dtype).reshape(header.shape, order="F")
    else:
        there = place.stat().st_size
        start = there - size if header.facts.get("HeaderSize") == "-1" else start
        if start < 0 or there < start + size:
            raise Refusal(f"is cut short: its header says {' x '.join(map(str, header.shape))} values")
        values = np.memmap(place, header.dtype, "r", start, header.shape, "F")
    return to_volume(values, "whn" if axes == "auto" else axes, header.spacing or (None, None, None))


def _parse(data: bytes) -> _Header:
    facts, end = {}, 0
    for line in data.splitlines(keepends=True):
        end += len(line)
        key, sign, value = line.decode("latin-1").partition("=")
        if key.strip() in KEYS and sign:
            facts[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            break
    if "ElementDataFile" not in facts or "DimSize" not in facts:
        raise Refusal("is no MetaImage, or damaged: sizes or the place of the values are not in its header")
    kind = TYPES.get(facts.get("ElementType", ""))
    if kind is None or facts.get("ElementNumberOfChannels", "1") != "1" or facts.get("BinaryData", "True") != "True":
        raise Refusal(f"holds values of a kind that is not read; {', '.join(TYPES)} with one channel are, in binary")
    big = "True" in (facts.get("BinaryDataByteOrderMSB"), facts.get("ElementByteOrderMSB"))
    try:
        shape = tuple(int(size) for size in facts["DimSize"].split())
        spacing = tuple(float(size) for size in facts.get("ElementSpacing", facts.get("ElementSize", "")).split())
    except ValueError:
        raise Refusal("is damaged: a size in its header is no number") from None
    shape = shape[:3] if shape[3:] == (1,) else shape
    if len(shape) not in (2, 3):
        raise Refusal(f"has {len(shape)} axes; B-scans have 2, stacks of them 3")
    if len(spacing) < len(shape) or set(spacing) == {1.0}:  # 1 mm each is what libraries write where it is not known
        spacing = ()
    return _Header(facts, shape, np.dtype((">" if big else "<") + kind), spacing[:len(shape)], end)


def _place(path: Path, header: _Header) -> tuple[Path, int]:
    """Return the file with the values, and where in it they begin; it lies in the same folder."""
    name = header.facts["ElementDataFile"]
    if name.upper() == "LOCAL":
        return path, header.end
    if name.upper().startswith("LIST") or "%" in name:
        raise Refusal("has its values in several files, which is not read; store it in one")
    if Path(name.replace("\\", "/")).name != name:
        raise Refusal("has its values in another folder; both files must lie in one")
    found = Finder().find(path.parent, name)
    if found is None or not found.is_file():
        raise Refusal("has its values in a file that is not beside it")
    skip = header.facts.get("HeaderSize", "0")
    return found, max(int(skip), 0) if skip.lstrip("-").isdecimal() else 0


def _is(header: _Header, key: str) -> bool:
    return header.facts.get(key) == "True"


def _inflate(path: Path, start: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        packer, parts, total = zlib.decompressobj(zlib.MAX_WBITS | 32), [], 0
        try:
            while total < size and not packer.eof and (block := packer.unconsumed_tail or file.read(2**20)):
                parts.append(packer.decompress(block, min(size - total, 2**22)))
                total += len(parts[-1])
        except zlib.error:
            raise Refusal("is damaged: its values cannot be unpacked") from None
    if total < size:
        raise Refusal("is cut short: there are fewer values than its header says")
    return b"".join(parts)
