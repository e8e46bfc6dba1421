"""What `make train` learns from when it is given nothing, scans, or an archive."""

import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import write_archive

from dnnlib.errors import DataError
from stylegan_oct.data import prepare
from stylegan_oct.data.prepare import prepare_archive


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What was asked for; conversion and simulation write a tiny archive at once."""
    calls: list[tuple[str, int]] = []

    def simulate(dest: Path, *, count: int, resolution: int, **_: object) -> None:
        calls.append((f"phantom {count}", resolution))
        write_archive(dest, count=2)

    def convert(source: Path, dest: Path, *, resolution: int, **_: object) -> SimpleNamespace:
        calls.append((source.name, resolution))
        archive = write_archive(dest, count=2)
        return SimpleNamespace(remarks=(), splits=(), audit=archive,
                               summary=("2 scans in the folder",), outcomes={"kept": 2, "refused": 1},
                               left_out=lambda: "1 refused")

    monkeypatch.setattr(prepare, "write_phantom_archive", simulate)
    monkeypatch.setattr(prepare, "convert", convert)
    return calls


@pytest.mark.parametrize("resolution, preset, size, count", [
    (None, None, 64, 2000), (256, None, 256, 8000), (None, "oct512", 512, 8000), (None, "cifar", 64, 2000)])
def test_without_data_scans_are_simulated_once(made: list[tuple[str, int]], tmp_path: Path, resolution: int | None,
                                               preset: str | None, size: int, count: int) -> None:
    first = prepare_archive(None, resolution, preset=preset, cache=tmp_path)
    assert prepare_archive(None, resolution, preset=preset, cache=tmp_path) == first
    assert made == [(f"phantom {count}", size)]


def test_scans_are_converted_once_for_each_resolution_and_place(made: list[tuple[str, int]], tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place / "scans").mkdir(parents=True)
    archives = {prepare_archive(str(tmp_path / place / "scans"), size, preset=None, cache=tmp_path / "cache")
                for place in ("a", "b") for size in (64, 256) for _ in range(2)}
    assert len(archives) == 4 == len(made)


def test_what_was_left_out_is_said(made: list[tuple[str, int]], tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    said: list[str] = []
    prepare_archive(str(tmp_path / "scans"), 64, preset=None, cache=tmp_path / "cache", say=said.append)
    assert said[-1].startswith("2 scans taken, 1 refused; which and why: ") and "2 scans in the folder" in said


@pytest.mark.parametrize("classes", [(), ("CNV", "DRUSEN")])
def test_an_archive_without_classes_is_said_in_one_line(tmp_path: Path, classes: tuple[str, ...]) -> None:
    archive, said = write_archive(tmp_path / "archive.zip", classes=classes), list[str]()
    prepare_archive(str(archive), None, preset=None, cache=tmp_path, say=said.append)
    assert [line[:10] for line in said] == ["no classes"] * (not classes)


def test_a_zip_of_scans_is_converted_and_an_archive_taken_as_it_is(made: list[tuple[str, int]], tmp_path: Path) -> None:
    scans = tmp_path / "scans.zip"
    with zipfile.ZipFile(scans, "w") as file:
        file.writestr("CNV/a.png", b"")
    assert prepare_archive(str(scans), 64, preset=None, cache=tmp_path) != scans
    archive = write_archive(tmp_path / "archive.zip")
    assert prepare_archive(str(archive), None, preset=None, cache=tmp_path) == archive
    assert len(made) == 1
    with pytest.raises(DataError, match="8 px"):
        prepare_archive(str(archive), 64, preset=None, cache=tmp_path)


def test_other_processes_wait_for_the_first(made: list[tuple[str, int]], tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(prepare.time, "sleep", lambda _: write_archive(tmp_path / "phantom-64-2000.zip", count=2))
    prepare_archive(None, None, preset=None, cache=tmp_path)
    assert not made


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        prepare_archive(str(tmp_path / "nowhere"), None, preset=None, cache=tmp_path)
