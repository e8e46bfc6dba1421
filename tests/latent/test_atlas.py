"""The atlas: what lies where, what is kept, what the page and the picture hold."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from generator_file import write_generator
from PIL import Image

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.latent.atlas.atlas import Atlas, load_atlas, place_codes, save_atlas
from stylegan_oct.latent.atlas.colours import RAMP, UNKNOWN, class_colour, ramp_colour, value_range
from stylegan_oct.latent.atlas.make import Made, Settings, make_atlas
from stylegan_oct.latent.atlas.page import embed, page_data, sprite
from stylegan_oct.latent.atlas.picture import draw_atlas
from stylegan_oct.latent.biomarkers.measure import NAMES
from stylegan_oct.latent.codes import Codes, save_codes
from stylegan_oct.model import OctGenerator, load_generator
from tools.__main__ import main
from torch_utils.images import to_pictures

SETTINGS = Settings(samples=40, psi=0.8, method="pca")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("atlas")


@pytest.fixture(scope="module")
def G(folder: Path) -> OctGenerator:
    return write_generator(folder)


@pytest.fixture(scope="module")
def made(folder: Path, G: OctGenerator) -> Made:
    return make_atlas(G, SETTINGS, folder / "out", library=folder / "library.zip")


@pytest.fixture(scope="module")
def atlas(made: Made) -> Atlas:
    return load_atlas(made.atlas)


@pytest.fixture(scope="module")
def codes(folder: Path, G: OctGenerator) -> Path:
    """Codes that are those of picture 7."""
    w = G.ws(G.z([7]), "DRUSEN", psi=0.8)[0]
    save_codes(folder / "MULLER.safetensors", Codes(w=w, class_name="DRUSEN", checkpoint_sha256=G.info.sha256,
                                                    derived_from_patient=True))
    return folder / "MULLER.safetensors"


def embedded(page: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)[1])


def test_every_picture_has_its_class_seed_thumbnail_and_biomarkers(atlas: Atlas, G: OctGenerator) -> None:
    assert len(atlas) == 40 and [atlas.class_name(i) for i in range(3)] == ["CNV", "DRUSEN", "CNV"]
    assert atlas.seeds.tolist() == list(range(40)) and set(atlas.values) == set(NAMES)
    alone = to_pictures(G(G.z([5]), "DRUSEN", psi=0.8))[0]
    assert np.abs(atlas.thumbnails[5].astype(int) - alone).max() <= 1
    for map_ in atlas.maps.values():
        assert map_.places.shape == (40, 2) and 0.5 < map_.trustworthiness <= 1


def test_nearest_pictures_are_the_nearest_vectors_and_never_itself(atlas: Atlas) -> None:
    for map_ in atlas.maps.values():
        far = torch.cdist(map_.vectors.float(), map_.vectors.float()).fill_diagonal_(torch.inf)
        assert not (map_.nearest == torch.arange(40)[:, None]).any()
        expected = far.topk(6, largest=False).values
        torch.testing.assert_close(far.gather(1, map_.nearest), expected, atol=1e-2, rtol=1e-2)


def test_a_projected_scan_lies_where_its_latents_do(atlas: Atlas, G: OctGenerator, codes: Path) -> None:
    (scan,) = place_codes(atlas, G, [codes])
    for space, map_ in atlas.maps.items():
        spread = float(map_.places.std())
        assert (scan.places[space] - map_.places[7]).norm() < 0.02 * spread, space
        assert int(scan.nearest[space][0]) == 7
    assert np.abs(scan.picture.astype(int) - atlas.thumbnails[7]).max() <= 1


def test_an_atlas_comes_back_from_its_file_without_pickle(atlas: Atlas, tmp_path: Path) -> None:
    save_atlas(tmp_path / "again.safetensors", atlas)
    again = load_atlas(tmp_path / "again.safetensors")
    assert page_data(again) == page_data(atlas) and (again.thumbnails == atlas.thumbnails).all()
    assert (tmp_path / "again.safetensors").read_bytes()[8:9] == b"{"


def test_scans_can_be_placed_later_and_the_maps_stay(made: Made, G: OctGenerator, codes: Path, tmp_path: Path) -> None:
    later = make_atlas(G, SETTINGS, tmp_path, codes=[codes], source=made.atlas)
    before, after = embedded(made.page), embedded(later.page)
    assert after["maps"]["w"]["places"] == before["maps"]["w"]["places"]
    assert len(after["scans"]) == 1 and after["scans"][0]["nearest"]["w"][0] == 7
    assert later.page.name == "synthetic-atlas-derived-from-patient.html"
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert "MULLER" not in path.name and b"MULLER" not in path.read_bytes()


def test_the_page_needs_nothing_from_outside_and_says_that_it_is_synthetic(made: Made) -> None:
    page = made.page.read_text(encoding="utf-8")
    assert "default-src 'none'" in page and not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert "<title>Synthetic" in page and "not for diagnosis" in page and made.page.name.startswith("synthetic-")
    assert made.page.stat().st_size < 300_000


def test_the_page_holds_every_picture_in_its_place(atlas: Atlas) -> None:
    whole = sprite(list(atlas.thumbnails))
    data = page_data(atlas)
    row, column = divmod(23, data["columns"])
    assert (whole[16 * row:16 * row + 16, 16 * column:16 * column + 16] == atlas.thumbnails[23]).all()
    assert data["seeds"][23] == 23 and len(data["values"]["central_thickness_um"]) == 40


def test_names_cannot_break_out_of_the_script() -> None:
    text = embed({"classes": ["</script><script>alert(1)</script>"]})
    assert "<" not in text and json.loads(text)["classes"][0].startswith("</script>")


def test_the_script_of_the_page_is_sound(made: Made, tmp_path: Path) -> None:
    """Where node is installed."""
    script = re.findall(r"<script>(.*?)</script>", made.page.read_text(encoding="utf-8"), re.S)[-1]
    (tmp_path / "page.js").write_text(script)
    try:
        done = subprocess.run(["node", "--check", tmp_path / "page.js"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("node is not installed")
    assert done.returncode == 0, done.stderr


def test_the_picture_shows_dots_in_the_colours_of_the_classes(made: Made, atlas: Atlas) -> None:
    with Image.open(made.picture) as image:
        assert image.text["synthetic"] == "true" and image.text["samples"] == "40"
        found = {colour for _, colour in image.getcolors(1 << 20)}
    assert {class_colour(0), class_colour(1)} <= found
    thick = draw_atlas(atlas, colour="mean_thickness_um")
    assert thick.shape == (726, 1280, 3) and not (thick == draw_atlas(atlas)).all()


def test_a_ramp_goes_from_end_to_end_and_the_unknown_is_grey() -> None:
    assert ramp_colour(2.0, 2.0, 5.0) == RAMP[0] and ramp_colour(9.0, 2.0, 5.0) == RAMP[-1]
    assert ramp_colour(float("nan"), 0, 1) == UNKNOWN
    assert value_range(np.array([np.nan, np.nan])) == (0.0, 1.0)
    low, high = value_range(np.array([*range(1, 99), np.nan, 1e9]))
    assert low >= 1 and high < 1e9


def test_an_atlas_of_another_generator_is_refused(atlas: Atlas, codes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another generator"):
        place_codes(atlas, write_generator(tmp_path, seed=1), [codes])
    with pytest.raises(DataError, match="another generator"):
        other = Codes(w=torch.zeros(2, 2), class_name="CNV", checkpoint_sha256="1" * 64)
        save_codes(tmp_path / "other", other)
        place_codes(atlas, load_generator(codes.parent), [tmp_path / "other"])


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, ["atlas", *(str(arg) for arg in args)])


def test_the_command_makes_the_files_and_prints_the_figures(folder: Path, tmp_path: Path) -> None:
    result = invoke("-c", folder, "--method", "pca", "--samples", 32, "--no-biomarkers", "--library",
                    folder / "library.zip", "--psi", 0.8, "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["samples"] == 32 and set(said["maps"]) == {"w", "features"}
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"synthetic-atlas.html", "synthetic-atlas.png", "atlas.safetensors"}


@pytest.mark.parametrize("args, words", [
    (["--color", "drusen", "--method", "pca"], "drusen_"),
    (["--color", "drusen_area_mm2", "--no-biomarkers", "--method", "pca"], "without biomarkers"),
    (["--from", "{text}"], "holds no atlas"),
    (["--samples", "5"], "32"),
    (["--codes", "{text}", "--method", "pca"], "holds no codes"),
])
def test_the_command_refuses_in_a_line(args: list[str], words: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    result = invoke("-c", folder, "--samples", 32, "--psi", 0.8, "--library", folder / "library.zip", "--out", tmp_path,
                    *(arg.format(text=tmp_path / "text") for arg in args))
    assert result.exit_code == 2 and words in result.output and "Traceback" not in result.output


def test_the_commands_do_not_import_umap() -> None:
    code = "import sys, tools.atlas, stylegan_oct.latent.atlas.make; assert 'umap' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
