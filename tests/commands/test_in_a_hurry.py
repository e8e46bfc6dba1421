"""Commands as somebody in a hurry uses them: things named twice, outputs that are inputs, files for folders."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from generator_file import write_generator
from PIL import Image

from dnnlib.errors import ConfigError
from stylegan_oct.export.drawing.rules import parse_rule
from stylegan_oct.export.prepare import parse_mapping
from stylegan_oct.latent.directions.traverse import rows_of_seeds
from stylegan_oct.latent.walk.routes import through_seeds
from stylegan_oct.metrics.ground import parse_weights
from stylegan_oct.model import OctGenerator
from stylegan_oct.sampling import Manner, draw
from tools.__main__ import main


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> OctGenerator:
    return write_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generator: OctGenerator) -> Path:
    """A folder to stand in, with a scan, a file that is none, and an empty folder."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save("scan.png")
    Path("text").write_text("no scan", encoding="utf-8")
    Path("folder").mkdir()
    Path("G.safetensors").write_bytes(generator.info.path.read_bytes())
    return tmp_path


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_what_is_named_twice_is_drawn_once_and_counted_once(here: Path) -> None:
    result = run("generate", "-c", "G.safetensors", "--seeds", "1,1,0-1", "--class", "CNV", "--class", "cnv",
                 "--out", "o")
    assert result.exit_code == 0 and result.stdout.startswith("2 pictures in o")
    assert len(list(Path("o").iterdir())) == 2
    result = run("biomarkers", "scan.png", "./scan.png", "--out", "b")
    assert result.exit_code == 0 and "1 pictures measured" in result.stdout


def test_lists_hold_each_thing_once_for_python_callers_too(generator: OctGenerator) -> None:
    drawn = [(sample.class_name, sample.seed) for sample in draw(generator, [3, 3, 1], ["DRUSEN", "drusen"], Manner())]
    assert drawn == [("DRUSEN", 3), ("DRUSEN", 1)]
    assert rows_of_seeds(generator, [3, 3, 1], "CNV").labels == ("CNV 3", "CNV 1")
    assert through_seeds(generator, classes=["CNV", "cnv"]).grid == (1, 1)
    with pytest.raises(ConfigError, match="oct twice"):
        parse_weights(["oct=a", "oct=b"])
    with pytest.raises(ConfigError, match="each class once"):
        parse_mapping("CNV=A,CNV=B")


@pytest.mark.parametrize("psi", [float("nan"), float("inf"), -1, 1e300])
def test_python_callers_get_no_black_pictures(generator: OctGenerator, psi: float) -> None:
    with pytest.raises(ConfigError, match="psi must be a number from 0 to 2"):
        generator(generator.z([0]), "CNV", psi=psi)
    with pytest.raises(ConfigError, match="psi must be"):
        Manner(psi=psi)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64])
def test_python_callers_get_a_line_for_seeds_that_are_none(generator: OctGenerator, seed: int) -> None:
    with pytest.raises(ConfigError, match="seed must be a whole number from 0 to 4294967295"):
        generator.z([seed])


def test_a_limit_of_a_biomarker_is_finite() -> None:
    for span in ("1e999-", "nan-inf", "-1e400", "2-1", "1e10-1e11"):
        with pytest.raises(ConfigError, match="is no range"):
            parse_rule(f"drusen_area_mm2={span}", ["CNV"])


@pytest.mark.parametrize("args, words", [
    (["pack", "G.safetensors", "-c", "G.safetensors"], "is the generator itself"),
    (["pack", "./G.safetensors", "-c", "G.safetensors"], "is the generator itself"),
    (["phantom", "scans.png", "-n", "4"], "scans.zip"),
    (["phantom", "--sheet", "sheet.zip"], "sheet.png"),
    (["phantom", "folder", "-n", "4"], "is a directory"),
    (["generate", "-c", "G.safetensors", "--out", "text"], "text"),
    (["generate", "-c", "G.safetensors", "--out", ""], "blank"),
    (["generate", "-c", "G.safetensors", "--device", "gpu"], "There is no device 'gpu'"),
    (["generate", "-c", "folder"], "no generator"),
    (["generate", "-c", "scan.png"], "scan.png"),
    (["generate", "-c", "G.safetensors", "--sedes", "0"], "--seeds"),
    (["biomarkers", "scan.png", "--out", "text"], "text"),
    (["biomarkers", "folder"], "folder"),
    (["biomarkers", "text"], "no format"),
    (["walk", "-c", "G.safetensors", "--classes", "CNV,,DRUSEN"], "''"),
    (["walk", "-c", "G.safetensors", "--grid", "32x32", "--scale", "32", "--class", "CNV", "--frames", "2"],
     "too large"),
    (["convert", "folder"], "DEST"),
    (["convert", "folder", "a.zip", "-r", "16"], "folder"),
    (["evaluate", "--compare", "folder", "text"], "report"),
    (["export", "--verify", "text"], "text"),
    (["info", "x" * 300], "path"),
])
def test_a_slip_is_one_line_and_exit_code_2_and_changes_nothing(here: Path, args: list[str], words: str) -> None:
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    result = run(*args)
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and not result.stdout, result.output
    assert len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0], lines
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_reader_who_has_enough_sees_no_traceback(generator: OctGenerator) -> None:
    command = [sys.executable, "-m", "tools", "info", "-c", str(generator.info.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
