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
