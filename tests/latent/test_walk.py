"""Walks: where they lead, what is drawn, what is said of it, and what is refused."""

import json
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from generator_file import write_generator
from small_library import make_generator

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.latent.codes import Codes, save_codes
from stylegan_oct.latent.walk.curves import constant_speed
from stylegan_oct.latent.walk.film import draw_frames, film, step_lengths
from stylegan_oct.latent.walk.routes import plan, through_classes, through_codes, through_seeds
from stylegan_oct.model import OctGenerator
from tools.__main__ import main
from torch_utils.images import to_pictures

CLASSES = ("CNV", "DME", "DRUSEN")


@pytest.fixture(scope="module")
def G() -> OctGenerator:
    return make_generator(classes=CLASSES)


class PixelDistance(torch.nn.Module):
    """Stands in for the perceptual distance: the same interface over plain pixels."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    def distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).square().sum(dim=1)


def write_codes(path: Path, G: OctGenerator, seed: int, **changes: object) -> Path:
    w = G.ws(G.z([seed]), G.info.classes[0] if G.info.classes else None)[0]
    known = {"w": w, "class_name": "CNV", "checkpoint_sha256": G.info.sha256, **changes}
    save_codes(path, Codes(**known))
    return path


def test_a_walk_through_seeds_shows_each_seed_in_each_class(G: OctGenerator) -> None:
    route = through_seeds(G, [3, 1, 4, 1], ["drusen", "CNV"], psi=0.7)
    assert route.grid == (2, 1) and route.name == "DRUSEN-CNV-seeds3-1" and route.keys == 4
    frames = list(draw_frames(G, route, np.arange(4) / 4, batch=3))
    for frame, seed in zip(frames, [3, 1, 4, 1], strict=True):
        for column, name in enumerate(["DRUSEN", "CNV"]):
            alone = to_pictures(G(G.z([seed]), name, psi=0.7))[0]
            assert np.abs(frame[:, column * 16:(column + 1) * 16].astype(int) - alone).max() <= 1


def test_a_grid_shares_out_the_seeds(G: OctGenerator) -> None:
    route = through_seeds(G, range(8), ["DME"], grid=(2, 2))
    assert route.keys == 2 and route.cells == 4
    frame = next(draw_frames(G, route, np.array([0.0])))
    corners = [frame[:16, :16], frame[:16, 16:], frame[16:, :16], frame[16:, 16:]]
    for corner, picture in zip(corners, to_pictures(G(G.z([0, 2, 4, 6]), "DME")), strict=True):
        assert np.abs(corner.astype(int) - picture).max() <= 1


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_frames_do_not_depend_on_the_batch(batch: int, G: OctGenerator) -> None:
    route = through_seeds(G, range(3), [], grid=(3, 1))
    times = np.linspace(0, 1, 5)
    found, whole = (np.stack(list(draw_frames(G, route, times, batch=size))) for size in (batch, 15))
    assert found.shape == (5, 16, 48) and np.abs(found.astype(int) - whole).max() <= 1


def test_between_classes_z_stays_and_the_label_is_mixed(G: OctGenerator) -> None:
    route = through_classes(G, ["DME", "CNV"], [7], closed=False)
    ws = route.ws(np.array([0.0, 0.5, 1.0]))                     # [3, 1, layers, w_dim]
    torch.testing.assert_close(ws[0], G.ws(G.z([7]), "DME"))
    torch.testing.assert_close(ws[2], G.ws(G.z([7]), "CNV"))
    torch.testing.assert_close(ws[1], G.ws(G.z([7]), torch.tensor([[0.5, 0.5, 0.0]])))
    assert route.words(0.5) == ("synthetic  CNV 50%  DME 50%",)


def test_a_walk_between_scans_visits_their_codes_and_names_no_file(G: OctGenerator, tmp_path: Path) -> None:
    files = [write_codes(tmp_path / f"MULLER-{seed}.safetensors", G, seed, derived_from_patient=seed == 1)
             for seed in (0, 1)]
    route = through_codes(G, files)
    torch.testing.assert_close(route.ws(np.array([0.5]))[0, 0], G.ws(G.z([1]), "CNV")[0])
    assert route.derived_from_patient and route.name.endswith("-derived-from-patient")
    video = film(G, route, tmp_path / f"synthetic-walk-{route.name}.mp4", frames=4)
    assert b"MULLER" not in video.path.read_bytes() and "MULLER" not in route.name
    assert b"derived_from_patient=true" in video.path.read_bytes()
    assert video.path.stat().st_mode & 0o077 == 0


def test_the_speckle_is_held_still(G: OctGenerator) -> None:
    route = through_seeds(G, [5, 5], ["CNV"])
    first, *others = draw_frames(G, route, np.linspace(0, 1, 5), batch=2)
    assert all(np.abs(first.astype(int) - other).max() <= 1 for other in others)


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_lengths_of_pieces_are_those_of_plain_differences(batch: int, G: OctGenerator) -> None:
    route = through_seeds(G, range(4), ["CNV", "DME"])
    ws = route.ws(np.linspace(0, 1, 9))
    images = torch.stack([G.synthesize(cells) for cells in ws]).clamp(-1, 1).flatten(2)      # [9, cells, pixels]
    expected = images.diff(dim=0).norm(dim=2).mean(dim=1)
    found = step_lengths(G, route, PixelDistance(), pieces=8, batch=batch)
    torch.testing.assert_close(torch.from_numpy(found).float(), expected, rtol=1e-4, atol=1e-4)


def test_perceptual_speed_evens_out_the_steps(G: OctGenerator) -> None:
    route = through_classes(G, ["CNV", "DME", "DRUSEN"], [0])
    before = step_lengths(G, route, PixelDistance(), pieces=60)
    pace = constant_speed(step_lengths(G, route, PixelDistance()))
    images = torch.stack([G.synthesize(ws)[0] for ws in route.ws(pace(np.linspace(0, 1, 61)))]).clamp(-1, 1)
    after = images.flatten(1).diff(dim=0).norm(dim=1).numpy()
    assert after.std() / after.mean() < 0.2 * before.std() / before.mean()


def test_a_generator_without_classes_walks_too(tmp_path: Path) -> None:
    plain = make_generator(classes=())
    video = film(plain, plan(plain), tmp_path / "a.gif", frames=3)
    assert video.path.exists() and video.width == 256
    with pytest.raises(ConfigError, match="without classes"):
        plan(plain, classes=["CNV"])


@pytest.mark.parametrize("options, words", [
    ({"seeds": range(3), "grid": (2, 1), "classes": ["CNV"]}, "--seeds 0-3"),
    ({"seeds": [1], "classes": ["CNV"]}, "--seeds 0-1"),
    ({"grid": (2, 1)}, "--grid 3x1"),
    ({"classes": ["DRUSSEN"]}, "DRUSEN"),
    ({"morph": ["CNV"]}, "two or more"),
    ({"morph": ["CNV", "DME"], "seeds": [1, 2], "grid": (1, 1)}, "1 seeds; got 2"),
    ({"morph": ["CNV", "DME"], "classes": ["CNV"]}, "one of them"),
    ({"codes": [Path("a")]}, "two or more"),
    ({"codes": [Path("a"), Path("b")], "psi": 0.5}, "psi"),
])
def test_what_does_not_fit_is_said_in_a_line(options: dict, words: str, G: OctGenerator) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(G, **options)


def test_codes_of_another_generator_or_with_tuned_weights_are_refused(G: OctGenerator, tmp_path: Path) -> None:
    good = write_codes(tmp_path / "good", G, 0)
    with pytest.raises(DataError, match="another generator"):
        plan(G, codes=[good, write_codes(tmp_path / "other", G, 1, checkpoint_sha256="0" * 63 + "9")])
    with pytest.raises(ConfigError, match="--space w"):
        plan(G, codes=[good, write_codes(tmp_path / "pti", G, 1, delta={"a": torch.zeros(1)})])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    write_generator(folder)
    return folder


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, ["walk", *(str(arg) for arg in args)])


def test_the_command_films_all_classes_and_says_what_it_made(checkpoint: Path, tmp_path: Path) -> None:
    result = invoke("-c", checkpoint, "--frames", 6, "--fps", 12, "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["frames"], said["seconds"], said["width"], said["complete"]) == (6, 0.5, 512, True)
    assert Path(said["path"]).name == "synthetic-walk-CNV-DRUSEN-seeds0-3.mp4"
    done = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", said["path"], "-f", "null", "-"],
                          capture_output=True, text=True, check=True)
    assert not done.stderr


@pytest.mark.parametrize("args, words", [
    (["--class", "DRUSSEN"], "DRUSEN"),
    (["--grid", "4by2"], "4x2"),
    (["--classes", "CNV,DRUSSEN"], "DRUSEN"),
    (["--codes", "{missing}", "--codes", "{missing}"], "holds no codes"),
    (["--seeds", "3-1"], "3-1"),
    (["--format", "gif", "--fps", "60"], "50"),
])
def test_the_command_refuses_in_a_line(args: list[str], words: str, checkpoint: Path, tmp_path: Path) -> None:
    result = invoke("-c", checkpoint, "--out", tmp_path / "out",
                    *(arg.format(missing=tmp_path / "none.safetensors") for arg in args))
    assert result.exit_code == 2 and words in result.output
    assert "Traceback" not in result.output and not (tmp_path / "out").exists()
