"""How kernels are compiled and kept."""

import contextlib
import threading
from pathlib import Path

import pytest
import torch

from torch_utils.ops import _build, _driver, _source
from torch_utils.ops._driver import CudaError
from torch_utils.ops.launches import Variant, upfirdn2d_launch


@pytest.fixture
def compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count what is compiled, with NVRTC's place taken."""
    done: list[int] = []

    def compile_source(source: str, architecture: int) -> tuple[bytes, str]:
        done.append(architecture)
        return f"{architecture} {source}".encode(), "cubin"

    monkeypatch.setattr(_driver, "compile_source", compile_source)
    monkeypatch.setenv(_build.CACHE_VARIABLE, str(tmp_path / "kernels"))
    _build._say_once.cache_clear()
    return done


def variant(pack: int = 4) -> Variant:
    return Variant("bias_act", (("SCALAR_float32", ""), ("PACK", str(pack))))


def test_a_kernel_is_compiled_once_and_then_read_from_its_file(compiles: list[int]) -> None:
    first = _build.compiled(variant(), 90)
    assert _build.compiled(variant(), 90) == first and compiles == [90]


def test_another_architecture_variant_or_source_is_another_kernel(compiles: list[int],
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    images = {_build.compiled(variant(), 90), _build.compiled(variant(), 80), _build.compiled(variant(1), 90)}
    monkeypatch.setattr(_source, "_read", lambda name: "// changed")
    images.add(_build.compiled(variant(), 90))
    assert len(images) == 4 and len(compiles) == 4


def test_what_comes_with_the_installation_is_taken_first(compiles: list[int], tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_build, "PREBUILT", tmp_path)
    (tmp_path / f"bias_act-{_source.digest_of(variant(), 'sm_90')}.cubin").write_bytes(b"prebuilt")
    assert _build.compiled(variant(), 90) == b"prebuilt" and not compiles


def test_many_at_once_get_the_same_and_leave_whole_files_alone(compiles: list[int]) -> None:
    images: list[bytes] = []
    threads = [threading.Thread(target=lambda: images.append(_build.compiled(variant(), 90))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(images)) == 1 and len(images) == 8
    assert [path.suffix for path in _build.cache_folder().iterdir()] == [".cubin"]


def test_what_a_killed_build_leaves_is_not_taken_for_a_kernel(compiles: list[int]) -> None:
    folder = _build.cache_folder()
    folder.mkdir(parents=True)
    name = f"bias_act-{_source.digest_of(variant(), 'sm_90')}.cubin"
    (folder / f".tmp-{name}-12345678").write_bytes(b"half")
    assert _build.compiled(variant(), 90) != b"half"


def test_a_cache_that_cannot_be_written_costs_time_and_says_so_once(
        compiles: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(_build.CACHE_VARIABLE, str(tmp_path / "file" / "kernels"))
    with caplog.at_level("INFO"):
        assert _build.compiled(variant(), 90) == _build.compiled(variant(), 90)
    assert len(compiles) == 2
    (said,) = [record.message for record in caplog.records if "cannot be kept" in record.message]
    assert "(Not a directory)" in said and "$STYLEGAN_OCT_KERNELS names another folder" in said


def test_a_damaged_file_is_compiled_anew(compiles: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    class Picky:
        def __init__(self, image: bytes, name: str) -> None:
            if image == b"cut":
                raise CudaError("CUDA: CUDA_ERROR_INVALID_IMAGE (200)")
            self.image = image

    whole = _build.compiled(variant(), 90)
    (path,) = _build.cache_folder().iterdir()
    path.write_bytes(b"cut")
    monkeypatch.setattr(_build, "Function", Picky)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    _build._function.cache_clear()
    assert _build._function(variant(), 90, 0).image == whole and path.read_bytes() == whole
    _build._function.cache_clear()


def test_kernels_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_build.OFF_VARIABLE, "1")
    _build.why_unavailable.cache_clear()
    assert _build.why_unavailable() == "$STYLEGAN_OCT_NO_KERNELS is set"
    _build.why_unavailable.cache_clear()


def nvrtc() -> str | None:
    try:
        return _driver.nvrtc_version()
    except CudaError as error:
        return None if "not to be found" in str(error) else str(error)


@pytest.mark.skipif(nvrtc() is None, reason="NVRTC is not installed")
@pytest.mark.parametrize("last", [False, True])
def test_nvrtc_compiles_the_kernels_without_a_gpu(last: bool) -> None:
    form = torch.channels_last if last else torch.contiguous_format
    x, y = (torch.empty(2, 8, size, size).contiguous(memory_format=form) for size in (32, 64))
    what = upfirdn2d_launch(y, x, torch.ones(4, 4), up=[2, 2], down=[1, 1], padding=[2, 1, 2, 1], flip_filter=False,
                            gain=4.0)
    image, kind = _driver.compile_source(_source.source_of(what.variant), 90)
    assert kind == "cubin" and image[:4] == b"\x7fELF"
    newer = max(_driver.supported_architectures()) + 5
    assert _driver.compile_source(_source.source_of(what.variant), newer)[1] == "ptx"


@pytest.mark.skipif(nvrtc() is None, reason="NVRTC is not installed")
def test_a_source_that_does_not_compile_says_why_in_a_line() -> None:
    with pytest.raises(CudaError, match="^NVRTC refuses a kernel: .*error.*$"):
        _driver.compile_source("int main( {", 90)
