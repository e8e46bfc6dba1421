"""A name of a class that is HTML, Markdown, a formula, markup and terminal codes at once harms nobody who reads it."""

import contextlib
import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from generator_file import write_generator
from PIL import Image
from safetensors.torch import load_file, save_file
from small_seer import SmoothSeer

from dnnlib.escape import markdown, printable
from stylegan_oct.data.archive import Archive
from stylegan_oct.latent.biomarkers.measure import NAMES
from stylegan_oct.latent.directions import population
from stylegan_oct.model import load_generator
from stylegan_oct.training import monitor
from tools.__main__ import main
from torch_utils.checkpoint import read_header

RAW = "=cmd|' /C calc'!A0 <script>alert(1)</script> [red]*x*[/red] `a` $b$ \x1b[31m\u202eevil"
NAME = printable(RAW)
NO_FILE = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f]')
NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?|-?inf|nan")

Run = Callable[..., str]


def harmless(folder: Path, output: str) -> None:
    """Look through all that a command wrote and said."""
    assert "\x1b" not in output and "\u202e" not in output
    for path in folder.rglob("*"):
        assert not NO_FILE.search(path.relative_to(folder).as_posix().replace("/", "")), path
        if path.suffix not in (".md", ".html", ".csv", ".json", ".jsonl", ".txt"):
            continue
        text = path.read_text(encoding="utf-8")
        assert "\x1b" not in text and "\u202e" not in text, path
        if path.suffix in (".md", ".html"):
            body = text.split("\n---\n")[-1]
            assert "<script>alert" not in body and "[red]*x*" not in (body if path.suffix == ".md" else ""), path
        if path.suffix == ".csv":
            for row in csv.reader(text.splitlines()):
                assert not [cell for cell in row if cell[:1] in "=+-@" and cell and not NUMBER.fullmatch(cell)], path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a folder with the generator g/ and a cheap detector; check all that it leaves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stylegan_oct.latent.projection.prepare.load_detector", lambda *_, **__: SmoothSeer())
    (tmp_path / "g").mkdir()
    G = write_generator(tmp_path / "g", classes=("CNV", "b", "c"))
    header = {**read_header(G.info.path), "classes": json.dumps(["CNV", NAME, "-ve"])}
    save_file(load_file(G.info.path), G.info.path, metadata=header)

    def call(*args: object) -> str:
        result = CliRunner().invoke(main, [str(arg) for arg in args])
        assert result.exit_code == 0, (result.output, result.exception)
        harmless(tmp_path, result.output)
        return result.output
    return call


def test_a_strangers_generator_draws_under_every_name(run: Run, tmp_path: Path) -> None:
    assert load_generator("g").info.classes == ("CNV", NAME, "-ve")
    run("generate", "-c", "g", "--class", NAME, "--seeds", "0,1", "--out", "out")
    run("generate", "-c", "g", "--class", "-ve", "--seeds", "0,1", "--out", "out")
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    for args in (("generate", "-c", "g", "--grid"), ("info", "g"), ("walk", "-c", "g", "--frames", 3), (
            "walk", "-c", "g", "--class", NAME, "--frames", 3, "--seeds", "0-3")):
        run(*args)
    result = CliRunner().invoke(main, ["generate", "-c", "g", "--class", "evil"])
    assert result.exit_code == 2 and "\x1b" not in result.output and result.output.strip().count("\n") == 0


def test_a_strangers_generator_with_terminal_codes_in_a_name_is_refused(run: Run) -> None:
    header = {**read_header(Path("g/G_ema.safetensors")), "classes": json.dumps(["CNV", RAW, "-ve"])}
    save_file(load_file("g/G_ema.safetensors"), "g/G_ema.safetensors", metadata=header)
    result = CliRunner().invoke(main, ["generate", "-c", "g"])
    assert result.exit_code == 2 and "\x1b" not in result.output and "without control characters" in result.output


@pytest.mark.parametrize("layout", ["imagefolder", *(pytest.param(name, marks=pytest.mark.slow) for name in (
    "webdataset", "medmnist", "stylegan"))])
def test_exports(run: Run, layout: str) -> None:
    run("export", "-c", "g", "--allow-unreviewed", "--per-class", 2, "--layout", layout, "--oracle", "none",
        "--no-biomarkers", "--out", "out")
    assert "All is well" in run("export", "--verify", "out", "-c", "g", "--count", 2)


@pytest.mark.parametrize("layout", ["fddm", "multieye"])
def test_lists_refuse_it_in_a_line_or_map_it(run: Run, layout: str, tmp_path: Path) -> None:
    base = ["export", "-c", "g", "--allow-unreviewed", "--per-class", 2, "--layout", layout, "--oracle", "none",
            "--no-biomarkers", "--out", "lists"]
    result = CliRunner().invoke(main, [str(arg) for arg in base])
    assert result.exit_code == 2 and "\x1b" not in result.output and "has no such class" in result.output
    run(*base, "--mapping", f"{NAME}=AMD,-ve=NOR")
    assert len(list((tmp_path / "lists").rglob("*.png"))) == 6


def test_atlas_neighbours_projections_and_biomarkers(run: Run, tmp_path: Path) -> None:
    run("library", "-c", "g", "--count", 60, "--out", "lib.zip")
    run("atlas", "-c", "g", "--method", "pca", "--samples", 60, "--no-biomarkers", "--library", "lib.zip",
        "--out", "atlas")
    run("neighbours", "--library", "lib.zip", "-c", "g", "--out", "near")
    run("biomarkers", "-c", "g", "--class", NAME, "--seeds", "0,1", "--out", "thick")
    run("project", "-c", "g", "--library", "lib.zip", "--steps", 2, "--compare", 2, "--out", "projected")


@pytest.mark.slow
def test_directions(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def brightness(pictures: list[np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.array([picture.mean() + number for picture in pictures]) for number, name in enumerate(NAMES)}

    monkeypatch.setattr(population, "measure_pictures", brightness)
    monkeypatch.setattr(population, "measuring_processes", lambda: contextlib.nullcontext(population.measure_here))
    run("directions", "-c", "g", "--class", "CNV", "--fit-samples", 100, "--samples", 12, "--components", 1,
        "--out", "moved")
    names = [d["name"] for d in json.loads((tmp_path / "moved" / "directions.json").read_text())["directions"]]
    name = next(name for name in names if "alert" in name)
    run("traverse", "-c", "g", "--directions", "moved/directions.safetensors", "--direction", name, "--out", "moved",
        "--seeds", "0")


def test_there_are_no_simulated_scans_of_other_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_generator(tmp_path, classes=("a", "b"))
    made = CliRunner().invoke(main, ["library", "-c", ".", "--count", "20", "--out", "lib.zip"])
    assert made.exit_code == 0, made.output
    for command in ("neighbours", "project"):
        result = CliRunner().invoke(main, [command, "-c", ".", "--library", "lib.zip", "--out", "out"])
        assert result.exit_code == 2 and "Name a scan" in result.output, (result.output, result.exception)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two classes, from a list."""
    folder, out = tmp_path_factory.mktemp("scans"), tmp_path_factory.mktemp("archive")
    rng, lines = np.random.default_rng(0), ["path,label,patient"]
    for number in range(24):
        Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(folder / f"{number}.png")
        lines.append(f'{number}.png,"{RAW if number % 2 else "b"}",p{number}')
    (folder / "scans.csv").write_text("\n".join(lines), encoding="utf-8")
    result = CliRunner().invoke(main, ["convert", str(folder / "scans.csv"), str(out / "a.zip"), "-r", "16",
                                       "--workers", "1"])
    assert result.exit_code == 0, result.output
    harmless(out, result.output)
    return out / "a.zip"


def test_conversion(converted: Path) -> None:
    assert set(Archive(converted).classes) == {NAME, "b"}
    assert markdown(NAME) in converted.with_name("a-audit.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_training(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_event_writer", lambda *_: None)
    small = {"G.channel_base": 64, "G.channel_max": 8, "D.channel_base": 64, "D.channel_max": 8, "G.mapping_layers": 1}
    result = CliRunner().invoke(main, [
        "train", "--data", str(converted), "--outdir", str(tmp_path), "--batch", "4", "--kimg", "0.008",
        *(f"--set={name}={value}" for name, value in small.items())])
    assert result.exit_code == 0, result.output
    harmless(tmp_path, result.output)
