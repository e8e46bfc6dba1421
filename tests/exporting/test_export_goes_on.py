"""Exports that are stopped go on, and several processes export what one does."""

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import in_parts
import pytest
from in_parts import export_in_parts, tree
from PIL import Image

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.export import export as exporting
from stylegan_oct.export.layouts import LAYOUTS, complete_parts, files, read_parts

SCRIPT = Path(in_parts.__file__)


def start(*args: object, **environment: str) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(SCRIPT.parents[2]), *sys.path])
    return subprocess.Popen([sys.executable, str(SCRIPT), *map(str, args)], stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export without a stop."""
    out = tmp_path_factory.mktemp("whole") / "export"
    export_in_parts(out)
    return out


def pictures(names: dict[str, str]) -> dict[str, str]:
    return {name: sha256 for name, sha256 in names.items() if name.endswith(".png")}


@pytest.mark.slow
def test_a_killed_export_leaves_a_valid_prefix_and_goes_on_to_the_same_files(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    process = start(out, 15)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert complete_parts(out) == [0]
    left, reference = tree(out), tree(whole)
    items = list(read_parts(out))
    for item in items:
        assert left[item.file_name] == item.sha256 == reference[item.file_name]
        with Image.open(out / item.file_name) as picture:
            picture.load()
    assert pictures(left).items() <= pictures(reference).items()
    assert "SHA256SUMS" not in left
    again = export_in_parts(out)
    assert again.drawn_now == 26 - len(items)
    assert tree(out) == reference


@pytest.mark.parametrize("stop", [1, 13, 26])
def test_a_full_disk_is_told_in_a_line_and_the_export_goes_on(whole: Path, tmp_path: Path, stop: int,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "export"
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_picture", failing(files.write_picture, stop))
        with pytest.raises(DataError, match=r"No space left.*goes on from here"):
            export_in_parts(out)
    assert pictures(tree(out)).items() <= pictures(tree(whole)).items()
    export_in_parts(out)
    assert tree(out) == tree(whole)


def test_ctrl_c_tells_what_is_kept(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, lines = tmp_path / "export", list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_picture", failing(files.write_picture, 15, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            export_in_parts(out, say=lines.append)
    assert re.search(r"^\d+ of 26 pictures are kept in .*; the same command goes on\.$", lines[-1])
    assert int(lines[-1].split()[0]) == len(list(read_parts(out))) > 0
    export_in_parts(out)
    assert tree(out) == tree(whole)


def failing(write: Callable[[Path, bytes], None], number: int,
            error: BaseException | None = None) -> Callable[[Path, bytes], None]:
    """Return what writes until the disk is full."""
    seen = []

    def writing(path: Path, data: bytes) -> None:
        seen.append(path)
        if len(seen) >= number:
            raise error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    return writing


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_stop_while_it_is_closed_leaves_no_trace(tmp_path: Path, layout: str,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """The hashes are written last; whatever was written before them is written again."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    export_in_parts(straight, layout=layout)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("stylegan_oct.export.folder.seal.write_sums", lambda *_, **__: stop())
        with pytest.raises(KeyboardInterrupt):
            export_in_parts(stopped, layout=layout)
    export_in_parts(stopped, layout=layout)
    assert tree(stopped) == tree(straight)


def test_a_stop_before_the_folder_is_cleared_leaves_no_trace(whole: Path, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "export"
    with monkeypatch.context() as patch:
        patch.setattr(exporting.folder, "clear", lambda _: None)
        export_in_parts(out)
    assert (out / ".parts").exists()
    export_in_parts(out)
    assert tree(out) == tree(whole)


@pytest.mark.slow
def test_two_processes_export_what_one_does(whole: Path, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    out = tmp_path / "export"
    processes = [start(out, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                       MASTER_PORT=port) for rank in (0, 1)]
    errors = [process.communicate(timeout=200)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert tree(out) == tree(whole)


def test_an_export_of_another_plan_is_not_mixed_in(whole: Path) -> None:
    before = tree(whole)
    with pytest.raises(ConfigError, match="another psi and seed"):
        export_in_parts(whole, psi=0.5, seed=1)
    assert tree(whole) == before


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        export_in_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.txt"]


def test_two_exports_at_once_do_not_share_a_folder(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    shutil.copytree(whole, out)
    (out / "SHA256SUMS").unlink()
    with exporting.folder.lock(out), pytest.raises(ConfigError, match="Another process"):
        export_in_parts(out)
