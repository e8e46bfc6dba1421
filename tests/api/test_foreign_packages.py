"""Other projects have packages named dnnlib, torch_utils and tools: a line says whose was found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stylegan_oct import _siblings

ROOT = Path(__file__).parents[2]


def start(first: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run Python where the packages of a folder stand before ours."""
    path = os.pathsep.join([str(first), str(ROOT)])
    return subprocess.run([sys.executable, "-P", *command], cwd=first, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path})


@pytest.fixture(params=["package", "file", "bare folder"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(folder: Path, name: str, kind: str) -> Path:
    """Make a foreign module as other projects have them."""
    if kind == "file":
        (folder / f"{name}.py").write_text("mine = True\n")
        return folder / f"{name}.py"
    (folder / name).mkdir()
    if kind == "package":
        (folder / name / "__init__.py").write_text("mine = True\n")
    return folder / name


@pytest.mark.parametrize("name", ["dnnlib", "torch_utils"])
@pytest.mark.parametrize("before", ["", "import {name}; "])
def test_a_foreign_package_that_stands_first_is_named(tmp_path: Path, name: str, before: str) -> None:
    place = make(tmp_path, name, "package")
    done = start(tmp_path, "-c", f"{before.format(name=name)}import stylegan_oct")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("ImportError: ") and str(place) in last and str(ROOT) in last


def test_files_count_and_folders_without_code_do_not(tmp_path: Path, kind: str) -> None:
    place = make(tmp_path, "dnnlib", kind)
    done = start(tmp_path, "-c", "import stylegan_oct; print(stylegan_oct.load_generator.__name__)")
    # A folder without __init__.py gives way to a package further down the path.
    assert (done.returncode == 0) is (kind == "bare folder"), done.stderr
    assert kind == "bare folder" or str(place) in done.stderr


def test_foreign_tools_are_named_by_the_command_and_left_alone_by_the_library(tmp_path: Path) -> None:
    place = make(tmp_path, "tools", "package")
    done = start(tmp_path, "-m", "stylegan_oct", "--help")
    assert done.returncode != 0 and str(place) in done.stderr and len(done.stderr.strip().splitlines()) == 1
    done = start(tmp_path, "-c", "import tools, stylegan_oct; assert tools.mine; print(stylegan_oct.measure.__name__)")
    assert done.returncode == 0 and done.stdout.strip() == "measure", done.stderr


def test_the_command_runs_by_the_name_of_the_package(tmp_path: Path) -> None:
    done = start(tmp_path, "-m", "stylegan_oct", "--help")
    assert done.returncode == 0 and "project" in done.stdout, done.stderr


def test_ours_are_found_here() -> None:
    assert [_siblings.foreign(name) for name in ("dnnlib", "torch_utils", "tools", "stylegan_oct")] == [None] * 4
    assert _siblings.foreign("json") is not None
