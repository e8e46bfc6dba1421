"""What commands say and leave where nothing can be written: a disk without room, or a folder that is closed."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from generator_file import write_generator

from stylegan_oct import video
from tools.__main__ import main

resource = pytest.importorskip("resource", reason="Windows has no limit of the size of files")

TO_FOLDERS = {
    "pictures": ["generate", "--seeds", "0-3"],
    "grid": ["generate", "--seeds", "0-3", "--grid"],
    "biomarkers": ["biomarkers", "--seeds", "0-1"],
    "mp4": ["walk", "--frames", "4"],
    "gif": ["walk", "--frames", "4", "--format", "gif"],
    "png": ["walk", "--frames", "4", "--format", "png"],
    "traversal": ["traverse", "--columns", "2", "--seeds", "0", "--class", "CNV"],
    "export": ["export", "--allow-unreviewed", "--per-class", "1", "--no-biomarkers", "--oracle", "none"],
}
TO_FILES = {
    "pack": ["pack", "{}.safetensors"],
    "library": ["library", "--count", "4", "--out", "{}.zip"],
    "phantom": ["phantom", "{}.zip", "--count", "4", "--resolution", "16", "--workers", "1"],
    "masks": ["phantom", "{}.zip", "--count", "4", "--resolution", "16", "--workers", "1", "--masks"],
    "sheet": ["phantom", "--sheet", "{}.png", "--resolution", "16"],
}


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    write_generator(folder)
    return folder / "G_ema.safetensors"


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes, of ffmpeg neither."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(params=[*TO_FOLDERS, *TO_FILES])
def command(request: pytest.FixtureRequest, generator: Path, tmp_path: Path) -> list[str]:
    """A command that writes into tmp_path/out."""
    out = tmp_path / "out"
    if request.param in TO_FOLDERS:
        return [*TO_FOLDERS[request.param], "-c", str(generator), "--out", str(out)]
    out.mkdir()
    args = [arg.format(out / "file") for arg in TO_FILES[request.param]]
    return args if args[0] == "phantom" else [*args, "-c", str(generator)]


def fails(command: list[str], code: int = 1) -> str:
    """The one line of a command that fails."""
    result = CliRunner().invoke(main, command)
    lines = result.stderr.splitlines()
    assert result.exit_code == code and not result.stdout, (result.output, result.exception)
    assert [line[:7] for line in lines if "rror" in line] == ["error: "], lines
    return lines[-1]


# imageio leaves the pipe of an ffmpeg that ended early to the collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("size", [0, 200])
def test_a_full_disk_is_said_in_a_line_and_nothing_half_written_stays(command: list[str], size: int,
                                                                    tmp_path: Path) -> None:
    with room_for(size):
        said = fails(command)
    assert "out" in said and any(word in said for word in ("oom", "ree some space", "another place")), said
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != ".lock"]
    assert not left


def test_a_folder_that_is_closed_is_said_in_a_line(command: list[str], tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            if str(path).startswith(str(tmp_path / "out")):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *args, **options)
        return call

    monkeypatch.setattr(os, "mkdir", refuse(os.mkdir))
    for module in ("dnnlib.files", "stylegan_oct.data.archive"):
        monkeypatch.setattr(f"{module}.open", refuse(open), raising=False)
    monkeypatch.setattr("zipfile.io.open", refuse(open))
    monkeypatch.setattr(Path, "write_bytes", refuse(Path.write_bytes))
    assert "Permission denied" in fails(command)
    monkeypatch.undo()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_video_without_its_end_is_noticed(suffix: str, tmp_path: Path, generator: Path) -> None:
    result = CliRunner().invoke(main, ["walk", "-c", str(generator), "--frames", "3", "--format", suffix[1:], "--out",
                                       str(tmp_path)])
    (whole,) = tmp_path.glob(f"*{suffix}")
    assert result.exit_code == 0 and video._is_whole(whole, suffix)
    data = whole.read_bytes()
    for cut in {0, 1, 7, 8, 40, len(data) // 2, len(data) - 1}:
        whole.write_bytes(data[:cut])
        assert not video._is_whole(whole, suffix), cut
