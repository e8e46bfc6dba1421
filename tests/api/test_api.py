"""What `stylegan_oct` offers to programs: the numbers of the commands, shown as synthetic, silent, refused in a line.

The generator is a small one with random weights, and a cheap detector stands for lite0.
"""

import io
import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from generator_file import write_generator
from PIL import Image
from tiny import write_archive
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

import stylegan_oct
from dnnlib.errors import ConfigError, UserError
from dnnlib.pictures import SYNTHETIC_NOTE, encode_png
from stylegan_oct.api.latent import Directions
from stylegan_oct.features.detector import Detector
from stylegan_oct.latent.biomarkers.measure import NAMES
from stylegan_oct.latent.directions.file import Direction, Readout, save_directions
from stylegan_oct.latent.library import write_library
from stylegan_oct.model import OctGenerator
from tools.__main__ import main

ROOT = Path(__file__).parents[2]


class Seer(Detector):
    """Sees what remains of a picture after averaging."""

    name, dim, size, sha256 = "smooth", 16, None, "5" * 64

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    @classmethod
    def load(cls, weights=None):
        return cls()

    def taps(self, images):
        planes = [avg_pool2d(images[:, :1], size) for size in (2, 4)]
        return [torch.cat([plane, torch.ones_like(plane)], dim=1) for plane in planes]

    def pool(self, images):
        return adaptive_avg_pool2d(images[:, :1], 4).flatten(1)


@pytest.fixture
def G(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OctGenerator:
    monkeypatch.chdir(tmp_path)
    for place in ("api.latent", "latent.projection.prepare", "latent.atlas.make"):
        monkeypatch.setattr(f"stylegan_oct.{place}.load_detector", lambda *_, **__: Seer())
    made = write_generator(tmp_path)
    write_library(Path("lib.zip"), made, count=40)
    return made


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)


def chunks(png: bytes) -> dict[str, str]:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return dict(image.text)


def test_every_name_is_there_and_importing_takes_no_torch() -> None:
    for name in stylegan_oct.__all__:
        found = getattr(stylegan_oct, name)
        assert name == "__version__" or (callable(found) and found.__doc__), name
    assert set(stylegan_oct.__all__) <= set(dir(stylegan_oct))
    code = "import sys, stylegan_oct; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = stylegan_oct.nothing_such


@pytest.mark.parametrize("first", ["import stylegan_oct.export.description.hashes", "from stylegan_oct import export",
                                   "from stylegan_oct.export.description import hashes"])
def test_export_is_a_function_and_a_package_in_any_order_of_imports(first: str) -> None:
    code = (f"{first}\nimport stylegan_oct\nassert callable(stylegan_oct.export)\n"
            "from stylegan_oct.export.description import hashes as one\n"
            "assert stylegan_oct.export.description.hashes is one")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_pictures_are_those_of_the_command_with_its_text_chunks(G: OctGenerator) -> None:
    found = stylegan_oct.generate(G, "drusen", seeds=[3, 5], psi=0.7)
    done = CliRunner().invoke(main, ["generate", "-c", str(G.info.path), "--class", "DRUSEN", "--seeds", "3,5",
                                     "--psi", "0.7", "--out", "out"])
    assert done.exit_code == 0, done.output
    for one, seed in zip(found, (3, 5), strict=True):
        file = Path(f"out/synthetic-DRUSEN-seed{seed:05d}.png")
        assert one.png() == file.read_bytes()
        assert one.save("one.png").read_bytes() == file.read_bytes()
        assert np.array_equal(np.asarray(one), np.asarray(one.image)) and one.seed == seed
    assert found.w.shape == (2, G.network.num_ws, G.network.w_dim)
    # The latents are those of the pictures: with the speckle of all others they give the same retina.
    again = stylegan_oct.draw(G, found)
    assert torch.equal(again.w, found.w) and len(again) == 2


def test_a_notebook_shows_that_pictures_are_synthetic(G: OctGenerator, noise: np.ndarray) -> None:
    pictures = stylegan_oct.generate(G, seeds=[0, 1])
    shown = [pictures, pictures[0], stylegan_oct.draw(G, pictures), stylegan_oct.measure(pictures[0]),
             stylegan_oct.project(G, stylegan_oct.read_scan(noise, patient=False), steps=2, library="lib.zip"),
             stylegan_oct.neighbours(G, stylegan_oct.read_scan(noise, patient=False), k=3, library="lib.zip")]
    for one in shown:
        text = chunks(one._repr_png_())
        assert text["synthetic"] == "true" and text["Title"] == "synthetic", one
        assert "synthetic" in one._repr_html_() and "synthetic" in repr(one) and len(repr(one)) < 3000
        assert one is shown[4] or text["Description"] == SYNTHETIC_NOTE
    scan = stylegan_oct.read_scan(noise)
    assert "synthetic" not in chunks(scan._repr_png_()) and "synthetic" not in scan._repr_html_()


def test_what_a_scan_of_a_patient_gave_is_for_the_owner_alone(G: OctGenerator, noise: np.ndarray) -> None:
    found = stylegan_oct.project(G, noise, class_name="CNV", steps=2, library="lib.zip")
    near = stylegan_oct.neighbours(G, noise, k=2, library="lib.zip")
    moved = stylegan_oct.draw(G, found)
    for number, one in enumerate((found, found.page, near, moved, moved[0], stylegan_oct.measure(moved[0]))):
        assert one.private and stat.S_IMODE(one.save(f"{number}.png").stat().st_mode) == 0o600, one
    assert chunks(moved.png())["derived_from_patient"] == chunks(found.png())["derived_from_patient"] == "true"
    assert stat.S_IMODE(found.save_codes("codes.safetensors").stat().st_mode) == 0o600


def test_a_projection_is_that_of_the_command(G: OctGenerator, noise: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(encode_png(noise))
    done = CliRunner().invoke(main, ["project", "-c", str(G.info.path), "scan.png", "--library", "lib.zip", "--steps",
                                     "3", "--compare", "0", "--space", "w", "--json"])
    assert done.exit_code == 0, done.output
    found = stylegan_oct.project(G, "scan.png", library="lib.zip", steps=3, space="w")
    assert json.loads(json.dumps(found.facts)) == json.loads(done.stdout)[0]
    assert found.distance == found.facts["distance"] and found.drawn.picture.shape == (16, 16)
    # Codes that were saved go on in the commands.
    found.save_codes("mine.safetensors")
    done = CliRunner().invoke(main, ["neighbours", "-c", str(G.info.path), "--space", "w", "mine.safetensors",
                                     "--library", "lib.zip", "-k", "3", "--json"])
    assert done.exit_code == 0, done.output
    near = stylegan_oct.neighbours(G, found, k=3, library="lib.zip")
    assert json.loads(json.dumps([near.facts])) == json.loads(done.stdout)


def test_a_drawn_picture_is_its_own_nearest_neighbour(G: OctGenerator) -> None:
    one = stylegan_oct.generate(G, "DRUSEN", seeds=[7])[0]   # number 7 of the library is of the second class
    near = stylegan_oct.neighbours(G, one, k=1, library="lib.zip")
    assert near[0].seed == 7 and near[0].class_name == "DRUSEN" and not near.private


def test_measured_is_what_the_command_measures(G: OctGenerator, tmp_path: Path) -> None:
    one = stylegan_oct.generate(G, "CNV", seeds=[0])[0]
    done = CliRunner().invoke(main, ["biomarkers", "-c", str(G.info.path), "--class", "CNV", "--seeds", "0", "--json"])
    row = json.loads(done.stdout)[0]
    found = stylegan_oct.measure(one)
    for name in NAMES:
        assert (row[name] is None and np.isnan(found[name])) or found[name] == pytest.approx(row[name], abs=1e-4)
    (tmp_path / "scan.png").write_bytes(one.png())
    scan = stylegan_oct.measure("scan.png", um_per_px=(4.0, 11.0))
    assert scan.um_per_px == (4.0, 11.0) and scan.private


def make_directions(G: OctGenerator) -> list[Direction]:
    rng = torch.Generator().manual_seed(0)
    step, other = torch.randn(2, G.network.w_dim, generator=rng)
    readout = Readout(weight=0.003 * step, constant=0.1)
    common = {"class_name": "DRUSEN", "layers": (0, G.network.num_ws - 1), "unit": ""}
    return [Direction(name="drusen_area_mm2", kind="regression", step=step, readout=readout, **common),
            Direction(name="pca1", kind="pca", step=other, **common)]


@pytest.mark.parametrize("change", [0.02, -0.01, 0.0])
def test_a_move_changes_the_predicted_biomarker_by_what_is_asked(G: OctGenerator, change: float) -> None:
    found = make_directions(G)
    moves = Directions(G, tuple(found))
    start = stylegan_oct.generate(G, "DRUSEN", seeds=[0, 1])
    moved = moves.move(start, drusen_area=change)
    assert found[0].readout is not None
    predicted = found[0].readout(moved.w[:, 0]) - found[0].readout(start.w[:, 0])
    torch.testing.assert_close(predicted, torch.full((2,), change), rtol=1e-4, atol=1e-6)
    assert torch.equal(moves.move(start, drusen_area_mm2=change).w, moved.w)
    # A direction without a unit takes steps; there and back is nothing.
    torch.testing.assert_close(moves.move(start, pca1=2.0).w - start.w, (2 * found[1].step).expand_as(start.w))
    back = moves.move(moves.move(start, drusen_area=change, pca1=1), drusen_area=-change, pca1=-1)
    torch.testing.assert_close(back.w, start.w)


def test_directions_come_from_a_file_or_lie_beside_the_generator(G: OctGenerator, tmp_path: Path) -> None:
    made = make_directions(G)
    save_directions(tmp_path / "mine.safetensors", made, checkpoint_sha256=G.info.sha256)
    save_directions(tmp_path / "directions-DRUSEN.safetensors", made[:1], checkpoint_sha256=G.info.sha256)
    assert list(stylegan_oct.directions(G, file="mine.safetensors")) == ["drusen_area_mm2", "pca1"]
    beside = stylegan_oct.directions(G, "drusen")
    assert list(beside) == ["drusen_area_mm2"] and "mm2" in repr(beside) and "mm2" in beside._repr_html_()
    assert list(stylegan_oct.directions(G, "DRUSEN", methods=["pca"], samples=100)) == ["pca1", "pca2", "pca3"]


def test_a_walk_an_atlas_and_an_export_are_written(G: OctGenerator, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None, str]] = []
    film = stylegan_oct.walk(G, "walk.gif", classes=["DRUSEN"], frames=4, fps=10,
                             progress=lambda *at: seen.append(at))
    assert film.path.is_file() and "synthetic" in film._repr_html_() and seen[-1] == (4, 4, "drawing")
    maps = stylegan_oct.atlas(G, "atlas", samples=40, method="pca", biomarkers=False, library="lib.zip")
    assert chunks(maps._repr_png_())["synthetic"] == "true" and maps.made.page.is_file()
    done = stylegan_oct.export(G, "exported", classes={"DRUSEN": 4}, oracle="none", allow_unreviewed=True,
                               biomarkers=False)
    assert len(list((tmp_path / "exported").rglob("*.png"))) == 4 and "4 synthetic pictures" in str(done)


def test_an_evaluation_writes_the_report(G: OctGenerator, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "scans.zip", resolution=16, count=40, held_out=20)
    found = stylegan_oct.evaluate(G, "eval", data=archive, parts=["consistency"], count=16)
    assert (tmp_path / "eval" / "report.json").is_file() and (tmp_path / "eval" / "report.html").is_file()
    assert [part.name for part in found.report.parts] == ["consistency"]
    assert "synthetic" in found._repr_html_() and "report.html" in str(found)


def test_a_training_runs_and_ends_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                           capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    archive = write_archive(tmp_path / "scans.zip", resolution=8)
    config = stylegan_oct.train_config(archive, device="cpu", total_kimg=0.008, batch=4, batch_gpu=4,
                                       save__tick_kimg=0.008, G__channel_max=8, D__channel_max=8, G__z_dim=8,
                                       G__w_dim=8)
    done = stylegan_oct.train(config, "runs", device="cpu")
    assert done.finished and done.nimg == 8 and "finished" in str(done) and "synthetic" in done._repr_html_()
    assert stylegan_oct.load_generator(done.run).info.nimg == 8
    again = stylegan_oct.train(config, "runs", device="cpu")
    assert again.finished and again.run == done.run
    assert capfd.readouterr() == ("", "")


def test_nothing_is_printed_unless_it_is_asked_for(G: OctGenerator, noise: np.ndarray,
                                                   capfd: pytest.CaptureFixture[str]) -> None:
    stylegan_oct.project(G, noise, steps=2, library="lib.zip")
    stylegan_oct.neighbours(G, noise, k=2, library="lib.zip")
    stylegan_oct.directions(G, "CNV", methods=["pca"], samples=100)
    stylegan_oct.walk(G, "walk.gif", classes=["DRUSEN"], frames=2, fps=10)
    assert capfd.readouterr() == ("", "")


WRONG: dict[str, Callable[[OctGenerator], object]] = {
    "floats": lambda G: stylegan_oct.measure(np.zeros((64, 64))),
    "no picture": lambda G: stylegan_oct.project(G, 7),
    "no file": lambda G: stylegan_oct.read_scan("missing.png"),
    "no class": lambda G: stylegan_oct.generate(G, "DRUSSEN"),
    "no seeds": lambda G: stylegan_oct.generate(G, "DRUSEN", seeds=[]),
    "batch": lambda G: stylegan_oct.generate(G, "DRUSEN", batch=0),
    "latents": lambda G: stylegan_oct.draw(G, torch.zeros(3, 5)),
    "no latents": lambda G: stylegan_oct.draw(G, "w"),
    "direction": lambda G: Directions(G, tuple(make_directions(G))).move(torch.zeros(8), drusen_are=1),
    "preset": lambda G: stylegan_oct.project(G, np.zeros((64, 64), np.uint8), preset="quik"),
    "small": lambda G: stylegan_oct.measure(np.zeros((8, 8), np.uint8)),
    "field": lambda G: stylegan_oct.train_config(write_archive(Path("a.zip")), device="cpu", r1__gama=1),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_in_a_line(G: OctGenerator, name: str) -> None:
    with pytest.raises(UserError) as caught:
        WRONG[name](G)
    assert str(caught.value).strip() and "\n" not in str(caught.value)


def test_pil_numpy_and_images_of_the_network_are_taken_alike(noise: np.ndarray) -> None:
    image = torch.from_numpy(noise).float()[None, None] / 127.5 - 1
    for source in (noise, Image.fromarray(noise), image, image[0]):
        assert np.array_equal(np.asarray(stylegan_oct.read_scan(source)), noise)
    with pytest.raises(ConfigError, match=r"float64 \[64, 64\]"):
        stylegan_oct.read_scan(noise / 255)
