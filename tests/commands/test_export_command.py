"""`export` as a person uses it."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from dnnlib.files import sha256_of
from tools.__main__ import main


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], terminal_width=100)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Three pictures of each class of the demo."""
    out = tmp_path_factory.mktemp("export") / "demo"
    return out, invoke("export", "--per-class", "3", "--split", "2,1", "--latents", "--allow-unreviewed", "--out", out)


def test_an_export_holds_what_was_asked_for(exported: tuple[Path, Result]) -> None:
    out, result = exported
    assert result.exit_code == 0, result.output
    pictures = sorted(path.relative_to(out / "images").as_posix() for path in out.rglob("*.png"))
    assert len(pictures) == 12
    for name in ("CNV", "DME", "DRUSEN", "NORMAL"):
        assert [path.split("/")[:2] for path in pictures if name in path] == [["train", name]] * 2 + [["val", name]]
    with Image.open(out / "images" / pictures[0]) as picture:
        assert picture.size == (64, 64)


def test_what_was_rejected_is_told(exported: tuple[Path, Result]) -> None:
    out, result = exported
    drawn = json.loads((out / "export.json").read_text())["drawn"]
    for name, counts in drawn.items():
        assert counts["kept"] == 3
        assert any(line.split()[:3] == [name, str(sum(counts.values())), "3"] for line in result.output.splitlines())


def test_a_class_that_is_too_small_for_a_split_is_told(tmp_path: Path) -> None:
    args = ["--no-biomarkers", "--classes", "CNV=2,DME=1", "--split", "2,1", "--allow-unreviewed"]
    result = invoke("export", *args, "--out", tmp_path / "export")
    assert result.exit_code == 0 and "No picture of DME goes to val" in result.output, result.output


def test_verify_finds_all_well(exported: tuple[Path, Result]) -> None:
    result = invoke("export", "--verify", exported[0], "--count", "12")
    assert result.exit_code == 0 and "12 the same to the bit" in result.output, result.output


def test_the_same_command_again_changes_nothing(exported: tuple[Path, Result]) -> None:
    out, _ = exported
    before = {path: (path.stat().st_mtime_ns, sha256_of(path)) for path in out.rglob("*") if path.is_file()}
    result = invoke("export", "--per-class", "3", "--split", "2,1", "--latents", "--allow-unreviewed", "--out", out)
    assert result.exit_code == 0
    assert before == {path: (path.stat().st_mtime_ns, sha256_of(path)) for path in before}


def test_latents_draw_the_pictures(exported: tuple[Path, Result]) -> None:
    import torch
    from safetensors.torch import load_file

    from stylegan_oct.model import load_generator
    from torch_utils.images import to_uint8

    out, _ = exported
    latents = load_file(out / "latents.safetensors")
    rows = (out / "manifest.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[5]) for row in rows] == latents["seed"].tolist()
    with torch.inference_mode():
        again = to_uint8(load_generator().synthesize(latents["w"]))[:, 0].numpy().astype(int)
    for picture, row in zip(again, rows, strict=True):
        with Image.open(out / row.split(",")[0]) as stored:
            assert np.abs(picture - np.asarray(stored)).max() <= 1


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, exported: tuple[Path, Result]) -> dict[str, Path]:
    """Things that are given by mistake."""
    import torch
    from tiny import write_archive

    from stylegan_oct.latent.codes import Codes, save_codes
    from stylegan_oct.model import load_generator

    folder = tmp_path_factory.mktemp("mistakes")
    G = load_generator()
    for name, patient in (("codes", False), ("private-codes", True)):
        save_codes(folder / f"{name}.safetensors", Codes(
            w=torch.zeros(G.network.num_ws, 512), class_name="CNV", checkpoint_sha256=G.info.sha256,
            derived_from_patient=patient))
    write_archive(folder / "small.zip", resolution=8)
    write_archive(folder / "scans.zip", resolution=64)
    (folder / "full").mkdir()
    (folder / "full" / "thesis.txt").write_text("mine")
    (folder / "text.safetensors").write_text("text")
    (folder / "empty").mkdir()
    return {"folder": folder, "done": exported[0]}


@pytest.mark.parametrize("args, words", [
    (["--layout", "imagefoldr"], "imagefolder"),
    (["--classes", "DRUSSEN=5"], "DRUSEN"),
    (["--classes", "CNV=5", "--like", "{folder}/scans.zip"], "give one"),
    (["--per-class", "2000000000"], "from 1 to 1000000"),
    (["--out", "{folder}/full"], "not empty"),
    (["--out", "{folder}/small.zip"], "is a file"),
    (["--out", "{done}", "--psi", "0.7"], "another counts and psi"),
    (["--training", "{folder}/small.zip"], "8 px"),
    (["--training", "{folder}/nowhere.zip"], "nowhere.zip"),
    (["--training", "{folder}/scans.zip", "--copies", "{folder}/nowhere"], "nowhere"),
    (["--copies", "{folder}/nowhere"], "Give both"),
    (["--like", "{folder}/text.safetensors"], "text.safetensors"),
    (["--oracle", "{folder}/nowhere.safetensors"], "nowhere.safetensors"),
    (["--oracle", "{folder}/text.safetensors"], "text.safetensors"),
    (["--oracle", "none", "--oracle-min", "0.5"], "--oracle-min"),
    (["--biomarker", "drusen=1-2"], "drusen_"),
    (["--biomarker", "drusen_area_mm2=big"], "upper-third"),
    (["--biomarker", "foci_count=upper-third", "--no-biomarkers"], "--no-biomarkers"),
    (["--teacher", "{folder}/text.safetensors"], "TorchScript"),
    (["--teacher-input", "224"], "224x3-imagenet"),
    (["--split", "ninety"], "80,10,10"),
    (["--licence", "CC BY 4.0"], "cc-by-4.0"),
    (["--mapping", "CNV=WAMD"], "imagefolder keeps"),
    (["--layout", "fddm", "--mapping", "CNV"], "CNV=WAMD"),
    (["--layout", "fddm", "--mapping", "CNV=AMD,CNV=WAMD"], "each class once"),
    (["--layout", "multieye", "--mapping", "CNV=WAMD+AMD"], "for fddm"),
    (["--layout", "multieye", "--mapping", "DRUSSEN=AMD"], "Did you mean DRUSEN"),
    (["--report", "{folder}/nowhere"], "evaluate"),
    (["-c", "{folder}/codes.safetensors"], "not a generator"),
    (["-c", "{folder}/private-codes.safetensors"], "not a generator"),
    (["-c", "{folder}/scans.zip"], "scans.zip"),
    (["-c", "{done}/latents.safetensors"], "not a generator"),
    (["--device", "cuda"], "CUDA"),
    (["--verify", "{folder}/full"], "is no export"),
    (["--verify", "{folder}/nowhere"], "is no export"),
])
def test_a_mistake_gets_one_line_and_nothing_is_written(places: dict[str, Path], args: list[str], words: str) -> None:
    def everything() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for place in places.values() for path in place.rglob("*")}

    before = everything()
    filled = [arg.format(**places) for arg in args]
    out = [] if "--out" in args else ["--out", places["folder"] / "new"]
    result = invoke("export", "--allow-unreviewed", *out, *filled)
    errors = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert result.exit_code == 2 and len(errors) == 1, result.output
    assert words in errors[0]
    assert everything() == before


def test_an_unreviewed_generator_is_refused(places: dict[str, Path], tmp_path: Path) -> None:
    from generator_file import write_generator

    G = write_generator(tmp_path)
    result = invoke("export", "-c", G.info.path, "--out", tmp_path / "new")
    assert result.exit_code == 2 and "--allow-unreviewed" in result.output
    assert not (tmp_path / "new").exists()


def test_a_generator_that_learned_from_scans_needs_an_oracle_of_scans(tmp_path: Path) -> None:
    from generator_file import write_generator
    from safetensors.torch import load_file, save_file

    from torch_utils.checkpoint import read_header

    file = write_generator(tmp_path).info.path
    save_file(load_file(file), tmp_path / "scans.safetensors", metadata={**read_header(file), "data_source": "scans"})
    args = ["export", "-c", tmp_path / "scans.safetensors", "--allow-unreviewed", "--per-class", 2, "--out"]
    result = invoke(*args, tmp_path / "new")
    assert result.exit_code == 2 and "train-detector" in result.output
    assert invoke(*args, tmp_path / "new", "--oracle", "none").exit_code == 0


def test_verify_exits_with_1_and_names_what_is_wrong(exported: tuple[Path, Result], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(exported[0], tmp_path / "export")
    name = next((tmp_path / "export").rglob("*.png"))
    name.write_bytes(name.read_bytes()[:-1])
    result = invoke("export", "--verify", tmp_path / "export", "--count", 2)
    assert result.exit_code == 1 and f"{name.name}: not as it was written" in result.output
    facts = json.loads(invoke("export", "--verify", tmp_path / "export", "--count", 2, "--json").stdout)
    assert facts["pictures"] == 12 and len(facts["wrong"]) == 2  # in the list of hashes and in the manifest


def test_numbers_are_printed_as_json(exported: tuple[Path, Result]) -> None:
    result = invoke("export", "--per-class", "3", "--split", "2,1", "--latents", "--allow-unreviewed", "--out",
                    exported[0], "--json")
    facts = json.loads(result.stdout)
    assert facts["pictures"] == 12 and facts["plan"]["counts"] == [3, 3, 3, 3] and facts["drawn_now"] == 0
