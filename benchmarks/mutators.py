"""Ways to damage a file that we wrote: bits, lengths, fields, headers, names, and what a header claims.

`damage(data, suffix, rng)` gives the name of what was done and the new bytes. The same generator of random numbers
gives the same damage.
"""

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]

NEST, TWICE = "@nest@", "@twice@"
NASTY: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**32, 2**53, 2**63, 2**64 + 1, 10**60, 0.5, -0.0, 1e300, 1e-300, float("nan"),
    float("inf"), -float("inf"), "", "x", "x" * 100_000, "../../../etc/passwd", "/etc/passwd", "C:\\x", "a\0b", "a\nb",
    "\x1b[31m", "\u2028", "\ud800", "=cmd|' /C calc'!A0", "<script>", [], [[]], {}, {"a": {"b": 1}}, [1, "a", None],
    ["a"] * 10_000, list(range(2000)), NEST, TWICE, [NEST])


def damage(data: bytes, suffix: str, rng: random.Random) -> tuple[str, bytes]:
    """Return the name of a damage that fits the kind of file, and the damaged bytes."""
    own = {".safetensors": TENSORS, ".json": TEXTS, ".jsonl": LINES, ".zip": ZIPS, ".npz": ZIPS, ".npy": ARRAYS,
           ".pixels": ARRAYS, ".csv": TABLES}.get(suffix, {})
    name, mutator = rng.choice([*(list(own.items()) * 2), *ANY.items()] if own else list(ANY.items()))
    return name, mutator(data, rng)


def _bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _first_bits(data: bytes, rng: random.Random) -> bytes:
    begin = data[:2000]
    return _bits(begin, rng) + data[2000:]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[:rng.randrange(len(data))]


def _longer(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.choice((1, 8, 1000)))


def _zeros(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    end = min(len(data), begin + rng.choice((4, 64, 4096)))
    return data[:begin] + bytes(end - begin) + data[end:]


def _moved(data: bytes, rng: random.Random) -> bytes:
    begin, length = rng.randrange(len(data)), rng.randrange(1, 64)
    return data[:begin] + data[begin + length:] + data[begin:begin + length]


def _nothing(_: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"", b"\0" * 100, b"PK\x03\x04", b"\x80\x04\x95", b"[]", b"{}", b"null", b"[" * 10_000,
                       b'{"a":' * 10_000, b"\xff\xfe\x00", b"9" * 10_000, b"NaN"))


ANY: dict[str, Mutator] = {"bits": _bits, "bits of the beginning": _first_bits, "cut": _cut, "longer": _longer,
                           "zeros": _zeros, "bytes moved": _moved, "another file": _nothing}


def mutated(value: Any, rng: random.Random) -> Any:
    """Return JSON types with one place changed: exchanged, removed, renamed, doubled, or put deeper."""
    value = json.loads(json.dumps(value))
    places = list(_places(value))
    if not places:
        return rng.choice(NASTY)
    parent, key = rng.choice(places)
    text = parent[key]
    if isinstance(text, str) and text[:1] in "[{\"0123456789n" and rng.random() < 0.8:
        try:  # JSON within a text, as in the header of a safetensors file
            parent[key] = dumps(mutated(json.loads(text), rng))
            return value
        except ValueError:
            pass
    action = rng.randrange(6)
    if action <= 2:
        parent[key] = rng.choice(NASTY)
    elif action == 3:
        del parent[key]
    elif isinstance(parent, dict):
        parent[rng.choice(("unknown", "", "../x", "a\0", f"{key} "))] = parent.pop(key) if action == 4 else parent[key]
    else:
        parent.insert(rng.randrange(len(parent) + 1), parent[key])
    return value


def dumps(value: Any) -> str:
    """Return JSON, with lists 10,000 deep and fields that stand there twice where they are asked for."""
    text = json.dumps(value)
    return text.replace(f'"{NEST}"', "[" * 10_000 + "]" * 10_000).replace(f'"{TWICE}"', '{"name": 1, "name": 2}')


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items)[:200]:
        yield value, key
        yield from _places(item)


def _json(data: bytes, rng: random.Random) -> bytes:
    return dumps(mutated(json.loads(data), rng)).encode("utf-8", "surrogatepass")


def _line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines()
    at = rng.randrange(len(lines))
    action = rng.randrange(5)
    lines[at] = _json(lines[at], rng)
    if action == 0:
        lines.append(lines[rng.randrange(len(lines))])
    elif action == 1:
        del lines[at]
    return b"\n".join(lines) + b"\n"


TEXTS: dict[str, Mutator] = {"a field": _json}
LINES: dict[str, Mutator] = {"a row": _line}


def _unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def _pack(header: Any, tensors: bytes) -> bytes:
    text = dumps(header).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + tensors


def _header(data: bytes, rng: random.Random) -> bytes:
    header, tensors = _unpack(data)
    return _pack(mutated(header, rng), tensors)


def _texts(data: bytes, rng: random.Random) -> bytes:
    header, tensors = _unpack(data)
    return _pack({**header, "__metadata__": mutated(header.get("__metadata__", {"a": "1"}), rng)}, tensors)


def _claim(data: bytes, rng: random.Random) -> bytes:
    """Let the header, its length, or a tensor be as large as 64 bits allow."""
    if rng.random() < 0.4:
        return rng.choice((2**40, 2**63, 2**64 - 1, 10**8, len(data))).to_bytes(8, "little") + data[8:]
    header, tensors = _unpack(data)
    name = rng.choice([name for name in header if name != "__metadata__"])
    huge = rng.choice(([2**40], [2**31, 2**31], [2**63], [0, 2**62], [1] * 2000, [-1, 4]))
    header[name] = {**header[name], "shape": huge} if rng.random() < 0.5 else {
        **header[name], "shape": [2**38], "data_offsets": [0, 2**40]}
    return _pack(header, tensors)


def _tensor(data: bytes, rng: random.Random) -> bytes:
    """Change a tensor so that the file stays a good one: its shape, its kind, its name, or its numbers."""
    header, tensors = _unpack(data)
    name = rng.choice([name for name in header if name != "__metadata__"])
    entry, action = header[name], rng.randrange(4)
    begin, end = entry["data_offsets"]
    if action == 0:
        entry["shape"] = rng.choice((entry["shape"][::-1], [*entry["shape"], 1], [1, *entry["shape"]]))
    elif action == 1:
        entry["dtype"] = {"F32": "I32", "F16": "BF16", "I64": "F64", "U8": "I8"}.get(entry["dtype"], "C64")
    elif action == 2:
        header[rng.choice(("unknown", "../x", "a\nb", "x" * 2000))] = header.pop(name)
    else:
        fill = rng.choice((b"\xff", b"\x7f\x80"[::-1] * 2, b"\x00\x7c"))
        tensors = tensors[:begin] + (fill * (end - begin))[:end - begin] + tensors[end:]
    return _pack(header, tensors)


TENSORS: dict[str, Mutator] = {"header of tensors": _header, "texts of the header": _texts,
                               "what a header claims": _claim, "a tensor": _tensor}


def _members(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return [(info.filename, file.read(info)) for info in file.infolist()]


def _zipped(members: list[tuple[str, bytes]], *, packed: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        for name, data in members:
            file._didModify = True  # type: ignore[attr-defined]
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
            file.NameToInfo.pop(name, None)  # so that a name may stand there twice without a warning
            file.writestr(info, data)
    return buffer.getvalue()


def _member(data: bytes, rng: random.Random) -> bytes:
    """Damage one file of a zip; those of JSON by their fields."""
    members = _members(data)
    texts = [at for at, (name, _) in enumerate(members) if name.endswith((".json", ".jsonl"))]
    at = rng.choice(texts if texts and rng.random() < 0.7 else range(len(members)))
    name, old = members[at]
    suffix = "." + name.rpartition(".")[2]
    members[at] = (name, damage(old, suffix, rng)[1] if old else b"x")
    return _zipped(members)


def _named(data: bytes, rng: random.Random) -> bytes:
    members = _members(data)
    at = rng.randrange(len(members))
    name, old = members[at]
    new = rng.choice((f"../{name}", f"/{name}", name.replace("/", "\\"), f"a\nb{name}", "x" * 5000 + name, name.upper(),
                      members[0][0], f"extra/{name}", "nothing"))
    if rng.random() < 0.3:
        members.append((new, old))
    elif rng.random() < 0.2:
        del members[at]
    else:
        members[at] = (new, old)
    return _zipped(members)


def _bomb(data: bytes, rng: random.Random) -> bytes:
    """Let a file of a zip be, or say that it is, far larger than it is packed."""
    members = _members(data)
    at = rng.randrange(len(members))
    members[at] = (members[at][0], rng.choice((bytes(80 * 2**20), b"[" * 10**7, _huge_png(), b"1" * 10**7)))
    packed = bytearray(_zipped(members, packed=True))
    if rng.random() < 0.5:  # the sizes in the directory lie
        place = packed.rfind(b"PK\x01\x02")
        packed[place + 24:place + 28] = struct.pack("<I", rng.choice((100, 2**31, 2**32 - 2)))
    return bytes(packed)


def _huge_png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)) + chunk(
        b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


def _directory(data: bytes, rng: random.Random) -> bytes:
    place = data.rfind(b"PK\x01\x02", 0, rng.randrange(len(data) // 2, len(data)))
    begin = max(place, 0)
    return data[:begin] + _bits(data[begin:], rng)


ZIPS: dict[str, Mutator] = {"a file of a zip": _member, "names in a zip": _named, "zip bombs": _bomb,
                            "the directory of a zip": _directory}


def _array_header(data: bytes, rng: random.Random) -> bytes:
    end = 10 + int.from_bytes(data[8:10], "little")
    text = data[10:end].decode("latin-1")
    old, new = rng.choice((("'shape': (", f"'shape': ({2**40}, "), ("'shape': (", "'shape': (-1, "), ("|u1", "|O"), (
        "<f4", "<f8"), ("<f4", "O"), ("False", "True"), ("descr", "x"), ("{", "(" * 500), ("|u1", "<U99999999")))
    text = text.replace(old, new)
    return data[:8] + len(text).to_bytes(2, "little") + text.encode() + data[end:]


ARRAYS: dict[str, Mutator] = {"header of an array": _array_header}


def _cell(data: bytes, rng: random.Random) -> bytes:
    lines = data.decode().splitlines()
    at = rng.randrange(len(lines))
    cells = lines[at].split(",")
    nasty = [str(value) for value in NASTY if not isinstance(value, list | dict) and value not in (NEST, TWICE)]
    cells[rng.randrange(len(cells))] = rng.choice([*nasty, '"', "x" * 200_000, "9" * 5000])
    lines[at] = ",".join(cells) if rng.random() < 0.8 else ""
    return "\n".join(lines).encode("utf-8", "surrogatepass")


TABLES: dict[str, Mutator] = {"a cell": _cell}
