"""What we write and read back: bounds of JSON, headers of tensors and arrays, zips; and damaged files of every kind."""

import dataclasses
import io
import json
import random
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from generator_file import write_generator
from safetensors.torch import save, save_file
from torch import nn

from benchmarks.mutations import limited, try_kind
from benchmarks.mutators import ANY, damage
from benchmarks.victims import Victim, make_victims
from dnnlib.arrays import map_array
from dnnlib.config import FilePath, Measured, Name, OneOf, Within, from_dict, from_texts, to_dict
from dnnlib.errors import CheckpointError, ConfigError, DataError
from dnnlib.stored import brief, is_inside, is_line, parse_json, read_member, reading
from stylegan_oct.model import load_generator, read_info
from torch_utils.checkpoint import load_network, read_header
from torch_utils.tensor_file import decode_tensors, load_header, take

SAMPLE, ALL = 4, 90  # damages of a kind in every run of the tests, and in a slow one


@pytest.mark.parametrize("text, words", [
    ("[" * 10_000 + "]" * 10_000, "deeper than 32"), ('{"a":' * 40 + "1" + "}" * 40, "deeper than 32"),
    ("{", "not JSON"), ("", "not JSON"), ("9" * 5000, "5000 digits"), ("1e999", "too large"), ("NaN", "NaN"),
    ('{"a": -Infinity}', "Infinity"), ('{"a": 1, "a": 2}', "'a' stands there twice"), ("[1," * 100, "not JSON")])
def test_json_is_bounded(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_json(text.encode(), "it")
    assert is_line(str(caught.value)) and len(str(caught.value)) < 400


def test_json_longer_than_allowed_or_no_utf8_is_refused_and_the_rest_is_as_it_was() -> None:
    with pytest.raises(ConfigError, match="at most 10 bytes"):
        parse_json(b" " * 11, "it", most=10)
    with pytest.raises(ConfigError, match="not JSON"):
        parse_json(b'"\xff"', "it")
    data = {"a": [1, -2.5, None, True, "\u00e4"], "b": {"c": 2**63 - 1}}
    assert parse_json(json.dumps(data), "it") == data
    assert np.isnan(parse_json("NaN", "it", nan=True))
    deepest: Any = 1
    for _ in range(31):
        deepest = [deepest]
    assert parse_json(json.dumps(deepest), "it") == deepest


@dataclass(frozen=True, kw_only=True)
class Part:
    kind: Literal["a", "b"]
    count: Annotated[int, Within(1, 9)] = 1


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: Name
    size: int = 0
    share: Annotated[float, Within(0, 1)] = 0.0
    pair: tuple[int, str] = (0, "")
    many: Annotated[tuple[float, ...], Within(0, 3)] = ()
    parts: dict[str, Part] = dataclasses.field(default_factory=dict)
    either: int | str | None = None
    word: Annotated[str, OneOf(("x", "y"))] = "x"
    path: FilePath = ""
    text: str = ""
    measured: Measured = 0.0


@pytest.mark.parametrize("change, words", [
    ({"size": 2**63}, "size must be a whole number of 64 bits"), ({"size": 1.5}, "size must be of type int"),
    ({"size": True}, "size must be of type int"), ({"share": 1.01}, "share must lie between 0 and 1; got 1.01"),
    ({"share": float("nan")}, "share must be a finite"), ({"share": 10**400}, "share must be a finite"),
    ({"pair": [1]}, "pair must hold 2 values; got 1"), ({"pair": [1, 2]}, r"pair\[1\] must be of type str"),
    ({"many": [0.0] * 4}, "length of many must lie between 0 and 3"), ({"many": 3}, "many"),
    ({"parts": {"p": {"kind": "c"}}}, r"parts\.p\.kind must be one of a, b; got 'c'"),
    ({"parts": {"p": {"kind": []}}}, r"parts\.p\.kind must be one of a, b; got \[\]"),
    ({"parts": {"p": {"kind": "a", "count": 10}}}, r"parts\.p\.count must lie between 1 and 9"),
    ({"parts": {"p": 3}}, r"parts\.p must be an object; got 3"), ({"parts": {"a\nb": {"kind": "a"}}}, "a key of parts"),
    ({"either": []}, "either"), ({"text": "a\0b"}, "without control characters"), ({"name": "a\x1b[31m"}, "control"),
    ({"name": "x" * 256}, "length of name"), ({"name": "x" * 10**6}, "at most 4096"), ({"text": "\ud800"}, "control"),
    ({"share": float("inf")}, "finite"), ({"measured": float("inf")}, "finite"),
    ({"word": "z"}, "word must be one of x, y"), ({"path": "a\nb"}, "control"), ({"more": 1}, "no field 'more'")])
def test_fields_are_held_to_their_types_and_bounds(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        from_dict(Whole, {"name": "n", **change})
    assert is_line(str(caught.value)) and len(str(caught.value)) < 400


def test_what_is_within_bounds_comes_back() -> None:
    whole = Whole(name="Drusen \u00fc", size=-2**63, share=1.0, pair=(1, "a"), many=(0.5, 1.0), either="x",
                  parts={"p": Part(kind="b", count=9)}, word="y", path="/scans/\udcfc.zip")
    assert np.isnan(from_dict(Whole, {"name": "n", "measured": float("nan")}).measured)
    assert from_dict(Whole, to_dict(whole)) == whole
    assert from_dict(Whole, {"name": "n", "more": 1}, strict=False) == Whole(name="n")
    texts = {"name": "n", "size": "7", "pair": '[1, "a"]', "word": "y", "unknown": "{", "either": "null"}
    assert from_texts(Whole, texts) == Whole(name="n", size=7, pair=(1, "a"), word="y")
    with pytest.raises(ConfigError, match="size is not JSON"):
        from_texts(Whole, {**texts, "size": "{"})


def test_names_stay_inside_and_values_in_messages_are_short() -> None:
    assert all(map(is_inside, ("a", "a/b.png", "train\\a.png", "..a", "a..b")))
    assert not any(map(is_inside, ("", "..", "../a", "a/../b", "/a", "\\a", "C:/a", "a\\..\\b", "a\nb", "a\0",
                                   "x" * 2000)))
    for value in ("x" * 10**6, "a\nb\x1b", [[[[[[[1]]]]]]] * 1000, 10**4000, {"a" * 1000: "b" * 1000}):
        assert len(brief(value)) < 400 and is_line(brief(value))


def test_one_line_says_file_field_and_remedy() -> None:
    with pytest.raises(DataError, match="^f.json is damaged or of another version: size must .*; got 'x'. Mend it.$"), \
            reading("f.json", DataError, "Mend it."):
        from_dict(Whole, {"name": "n", "size": "x"})
    with pytest.raises(DataError, match="^none.json cannot be read: No such file or directory. Mend it.$"), \
            reading("none.json", DataError, "Mend it."), open("none.json"):
        pass


def tensors_with(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("raw, words", [
    (b"", "header"), (b"\0" * 7, "header"), ((2**40).to_bytes(8, "little") + b"{}", "got 1099511627776"),
    (tensors_with(b"[]"), "must be an object"), (tensors_with(b"[" * 10_000), "deeper|JSON"),
    (tensors_with({"__metadata__": {"a": 1}}), "object of texts"),
    (tensors_with({"w": entry([2**40], 0, 2**42)}), "the file holds 0"),
    (tensors_with({"w": entry([4], 0, 8)}, bytes(8)), r"data_offsets of w must be \[0, 16\]"),
    (tensors_with({"w": entry([2], 4, 12)}, bytes(12)), r"must be \[0, 8\]"),
    (tensors_with({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, bytes(8)), r"of b must be \[8, 16\]"),
    (tensors_with({"w": entry([-1], 0, 4)}, bytes(4)), "between 0 and"), (tensors_with({"w": 3}), "must be an object"),
    (tensors_with({"w": entry([2**31, 2**31, 2**31], 0, 8)}, bytes(8)), "data_offsets"),
    (tensors_with({"w": entry([1] * 9, 0, 4)}, bytes(4)), "length"),
    (tensors_with({"w": entry([1], 0, 8, "C64")}, bytes(8)), "dtype of w must be one of"),
    (tensors_with({"a\nb": entry([1], 0, 4)}, bytes(4)), "name of a tensor"),
    (tensors_with({"w": entry([1], 0, 4)}, bytes(5)), "must take 4 bytes")])
def test_a_header_of_tensors_must_fit_the_file(raw: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(raw)
    with pytest.raises(ConfigError, match=words) as caught:
        load_header(tmp_path / "a.safetensors")
    with pytest.raises(ConfigError):
        decode_tensors(raw)
    with pytest.raises(CheckpointError, match=r"a\.safetensors is damaged.*Give"):
        read_header(tmp_path / "a.safetensors")
    assert is_line(str(caught.value))


def test_tensors_are_taken_by_shape_kind_and_finite_numbers() -> None:
    tensors = decode_tensors(save({"w": torch.tensor([[1.0, float("nan")]]), "n": torch.tensor([1, 2]),
                                   "empty": torch.zeros(0, 3)}))
    assert take(tensors, "n", 2, whole=True).tolist() == [1, 2] and take(tensors, "empty", None, 3).shape == (0, 3)
    assert take(tensors, "w", None, 2, finite=False).shape == (1, 2)
    for name, shape, words in (("w", (None, 2), "not finite"), ("w", (2,), r"shape \[2\]; got \[1, 2\]"),
                               ("x", (), "lacks the tensor x"), ("n", (2,), "floating numbers; got torch.int64")):
        with pytest.raises(ConfigError, match=words):
            take(tensors, name, *shape)


def test_a_network_larger_than_its_file_is_never_allocated(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(4, 4), "bias": torch.zeros(4)}, tmp_path / "w.safetensors")
    assert load_network(lambda: nn.Linear(4, 4), tmp_path / "w.safetensors").weight.shape == (4, 4)
    with pytest.raises(CheckpointError, match="larger network than the 20 numbers"):
        load_network(lambda: nn.Linear(2**20, 2**20), tmp_path / "w.safetensors")  # 4 TB
    with pytest.raises(CheckpointError, match="other shapes"):
        load_network(lambda: nn.Linear(4, 5), tmp_path / "w.safetensors")


def test_no_more_of_a_zip_is_unpacked_than_it_says(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", bytes(200 * 2**20))
    raw = bytearray(buffer.getvalue())
    for at, offset in ((raw.find(b"PK\x03\x04"), 22), (raw.rfind(b"PK\x01\x02"), 24)):
        raw[at + offset:at + offset + 4] = (100).to_bytes(4, "little")  # it says that it is short
    tracemalloc.start()
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as lies, pytest.raises(zipfile.BadZipFile):
            read_member(lies, lies.getinfo("bomb"), 1000)
        with zipfile.ZipFile(buffer) as honest, pytest.raises(ConfigError, match="1000 bytes; the zip says 209715200"):
            read_member(honest, honest.getinfo("bomb"), 1000)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_arrays_are_mapped_only_as_what_they_should_be(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    for shape in ((3,), (3, 4), (0, 4), (2, 1, 5, 5)):
        for kind in (np.uint8, np.float32):
            np.save(file, np.ones(shape, kind))
            np.testing.assert_array_equal(map_array(file, shape, kind), np.ones(shape))
            np.testing.assert_array_equal(map_array(file, (None, *shape[1:]), kind), np.ones(shape))
    np.save(file, np.ones((3, 4), np.float32))
    whole = file.read_bytes()
    for raw in (whole[:-1], whole + b"\0", b"", b"PK\x03\x04" + whole, whole.replace(b"(3, 4)", b"(3, 9)"),
                whole.replace(b"<f4", b"|O "), whole.replace(b"False", b"True "), whole.replace(b"{", b"(", 1),
                whole.replace(b"(3, 4)", b"(-3,4)")):
        file.write_bytes(raw)
        with pytest.raises(ConfigError):
            map_array(file, (3, 4), np.float32)
    file.write_bytes(whole)
    with pytest.raises(ConfigError, match=r"must be float32 \[4, 3\]; got float32 \[3, 4\]"):
        map_array(file, (4, 3), np.float32)


def test_a_generator_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    G = write_generator(tmp_path)
    file = G.info.path
    texts = read_header(file)
    options = json.loads(texts["generator"])
    for later in ("speckle", "channel_min"):
        del options[later]
    texts = {name: text for name, text in texts.items() if name not in ("archive", "preprocess")}
    save_file(G.network.state_dict(), file, metadata={**texts, "generator": json.dumps(options)})
    found = load_generator(file)
    assert (found.info.options, found.info.archive) == (G.info.options, "")
    z = G.z([0])
    torch.testing.assert_close(found(z, "CNV"), G(z, "CNV"))


@pytest.mark.parametrize("change, words", [
    ({"classes": '["CNV"]'}, "classes must be 2 different names; got 1"), ({"classes": '"CNV"'}, "classes"),
    ({"classes": '["CNV", "CNV"]'}, "different names"), ({"nimg": "-1"}, "nimg must lie between 0"),
    ({"nimg": "x"}, "nimg is not JSON"), ({"preset": "x" * 300}, "length of header.preset"),
    ({"kind": "x"}, "not a generator"), ({"preprocess": '{"resolution": 64}'}, "preprocess is for 64 px"),
    ({"generator": "[]"}, "generator must be an object"), ({"generator": "[" * 10_000}, "deeper|JSON")])
def test_the_header_of_a_generator_is_held_to_its_form(tmp_path: Path, change: dict[str, str], words: str) -> None:
    G = write_generator(tmp_path)
    save_file(G.network.state_dict(), G.info.path, metadata={**read_header(G.info.path), **change})
    with pytest.raises(CheckpointError, match=words) as caught:
        read_info(G.info.path)
    assert is_line(str(caught.value)) and "Give a" in str(caught.value)


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> list[Victim]:
    return make_victims(tmp_path_factory.mktemp("victims"))


def test_whole_files_of_every_kind_are_read_and_damaged_ones_read_or_refused_in_one_line(
        victims: list[Victim]) -> None:
    for victim in victims:
        victim.read()
    with limited():
        tallies = [try_kind(victim, SAMPLE, seed=1) for victim in victims]
    assert [line for tally in tallies for line in tally.wrong] == []
    assert len(tallies) > 25 and sum(tally.refused for tally in tallies) > 30


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_damaged_files(victims: list[Victim]) -> None:
    for victim in victims:
        victim.read()
    with limited():
        tallies = [try_kind(victim, ALL, seed=2) for victim in victims]
    assert [line for tally in tallies for line in tally.wrong] == []
    assert sum(tally.total for tally in tallies) >= 2000


def test_the_same_seed_damages_alike() -> None:
    data = tensors_with({"__metadata__": {"a": "[1]"}, "w": entry([1], 0, 4)}, bytes(4))

    def all_of(make: Callable[[], random.Random]) -> list[tuple[str, bytes]]:
        rng = make()
        return [damage(data, ".safetensors", rng) for _ in range(60)]
    first, second = (all_of(lambda: random.Random(3)) for _ in range(2))
    assert first == second and len({name for name, _ in first}) > len(ANY)
