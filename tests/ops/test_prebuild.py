"""Kernels compiled ahead of their first use."""

import shutil
import sys
from pathlib import Path

import pytest

from torch_utils.ops import prebuild
from torch_utils.ops._source import digest_of


def test_without_nvcc_it_says_what_happens_instead(monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["prebuild"])
    prebuild.main()
    assert "skipped, there is no nvcc; kernels are compiled on first use" in capsys.readouterr().out


def test_spills_are_read_from_the_log() -> None:
    line = "    8 bytes stack frame, {} bytes spill stores, {} bytes spill loads"
    assert prebuild._spills(line.format(8, 16)) and not prebuild._spills(line.format(0, 0))


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc")
def test_nvcc_compiles_a_kernel_to_the_file_that_is_looked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    one = next(prebuild.fast_paths())
    monkeypatch.setattr(prebuild, "fast_paths", lambda: iter([one, one]))
    monkeypatch.setattr(sys, "argv", ["prebuild", "--architectures", "90,9999", "--out", str(tmp_path)])
    prebuild.main()
    assert (tmp_path / f"{one.name}-{digest_of(one, 'sm_90')}.cubin").read_bytes()[:4] == b"\x7fELF"
    said = capsys.readouterr().out
    assert "1 kernels for sm_90" in said and "sm_9999: skipped" in said and "no kernel spills" in said
