"""The commands as a person uses them: what they print, the files they leave, and how they refuse."""

import json
import os
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from tiny import tiny_config, write_archive

import stylegan_oct
from dnnlib.errors import UserError
from stylegan_oct.training import monitor
from stylegan_oct.training.state import create_state
from tools.__main__ import COMMANDS, main


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], terminal_width=100)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of untrained tiny networks."""
    import torch

    folder = tmp_path_factory.mktemp("run")
    config = tiny_config(write_archive(folder / "tiny.zip", resolution=16))
    return create_state(config, torch.device("cpu"), "phantom").save(folder / "checkpoints", {})


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert f"python -m tools {name}" in result.output


def test_an_unknown_command_names_the_nearest() -> None:
    result = invoke("trian")
    assert result.exit_code == 2 and "train" in result.output


@pytest.mark.parametrize("args, words", [
    (["train", "--data", "nowhere"], "nowhere"),
    (["train", "--data", "{zip}", "--preset", "oct265"], "oct256"),
    (["train", "--data", "{zip}", "--batch", "6", "--batch-gpu", "4"], "8"),
    (["train", "--data", "{zip}", "--set", "r1.gama=2"], "gamma"),
    (["train", "--data", "{zip}", "--set", "gamma"], "FIELD=VALUE"),
    (["train", "--data", "{zip}", "--resolution", "32"], "16"),
    (["train", "--data", "{zip}", "--device", "cuda"], "CUDA"),
    (["train", "--data", "{zip}", "--start-from", "nowhere"], "nowhere"),
    (["train", "--resolution", "48"], "48"),
    (["generate", "-c", "nowhere"], "nowhere"),
    (["generate", "-c", "{run}", "--class", "DRUSSEN"], "DRUSEN"),
    (["generate", "-c", "{run}", "--seeds", "9-3"], "9-3"),
    (["generate", "-c", "{run}", "--out", "{zip}"], "--out"),
    (["info", "nowhere"], "nowhere"),
    (["info", "{text}"], "text.safetensors"),
])
def test_a_wrong_option_or_path_is_refused_in_one_line_with_exit_code_2(
        archive16: Path, checkpoint: Path, tmp_path: Path, args: list[str], words: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    if os.environ.get("CUDA_VISIBLE_DEVICES", "none") != "none":
        pytest.skip("a GPU makes --device cuda work")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.safetensors").write_text("no tensors")
    places = {"zip": archive16, "run": checkpoint, "text": tmp_path / "text.safetensors"}
    result = invoke(*(arg.format(**places) for arg in args))
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert words in lines[-1] and "Traceback" not in result.output
    assert len([line for line in lines if "rror" in line]) == 1
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def archive16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive16") / "tiny.zip", resolution=16)


def test_pictures_say_what_they_are_and_are_the_same_every_time(checkpoint: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        result = invoke("generate", "-c", checkpoint, "--seeds", "0-2", "--class", "drusen", "--psi", "0.7", "--out",
                        tmp_path / folder, "--batch", 2 if folder == "one" else 3)
        assert result.exit_code == 0, result.output
    paths = sorted((tmp_path / "one").iterdir())
    assert [path.name for path in paths] == [f"synthetic-DRUSEN-seed0000{i}.png" for i in range(3)]
    with Image.open(paths[1]) as image:
        assert (image.mode, image.size) == ("L", (16, 16))
        text = image.text
    sha = stylegan_oct.load_generator(checkpoint).info.sha256
    wanted = {"synthetic": "true", "seed": "1", "class": "DRUSEN", "psi": "0.7", "checkpoint_sha256": sha}
    assert wanted.items() <= text.items()
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in sorted((tmp_path / "two").iterdir())]


def test_a_grid_holds_every_class_unless_some_are_named(checkpoint: Path, tmp_path: Path) -> None:
    result = invoke("generate", "-c", checkpoint, "--seeds", "0-9", "--grid", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "synthetic-grid.png") as image:
        assert image.text["class"] == "CNV DRUSEN" and image.text["synthetic"] == "true"


def test_info_tells_what_a_checkpoint_and_an_archive_hold(checkpoint: Path, archive16: Path) -> None:
    facts = json.loads(invoke("info", checkpoint, "--json").output)
    assert facts["classes"] == ["CNV", "DRUSEN"] and facts["resolution"] == 16 and facts["images shown"] == 0
    facts = json.loads(invoke("info", archive16, "--json").output)
    assert facts["images in train"] == {"all": 12, "CNV": 6, "DRUSEN": 6}
    assert "resolution" in invoke("info", checkpoint).output


def test_training_prints_where_everything_lies_and_a_second_call_says_it_is_done(
        archive16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_event_writer", lambda *_: None)
    options = ["train", "--data", archive16, "--outdir", tmp_path, "--batch", 4, "--kimg", 0.008]
    small = {"G.channel_base": 64, "G.channel_max": 8, "D.channel_base": 64, "D.channel_max": 8, "G.mapping_layers": 1}
    options += [f"--set={name}={value}" for name, value in small.items()]
    result = invoke(*options)
    assert result.exit_code == 0, result.output
    assert "No GPU" in result.output
    for word in ("samples", "checkpoint", "log"):
        line = next(line for line in result.output.splitlines() if line.startswith(f"  {word} "))
        assert Path(line.split()[1]).exists()
    again = invoke(*options)
    assert again.exit_code == 0 and "is finished" in again.output
    dry = json.loads(invoke(*options, "--dry-run").output)
    assert dry["batch"] == 4 and dry["G"]["channel_base"] == 64


def test_a_notebook_draws_in_three_lines(checkpoint: Path) -> None:
    G = stylegan_oct.load_generator(checkpoint)
    images = G(G.z([0, 1]), "DRUSEN")
    assert images.shape == (2, 1, 16, 16)
    mixed = G(G.z([0, 1]), ["CNV", 1])
    assert (mixed[1] == images[1]).all() and not (mixed[0] == images[0]).all()
    with pytest.raises(UserError, match="CNV, DRUSEN"):
        G(G.z([0]))


def test_an_exported_generator_is_half_as_large_and_draws_the_same(checkpoint: Path, tmp_path: Path) -> None:
    half, full = tmp_path / "half.safetensors", tmp_path / "full.safetensors"
    assert invoke("pack", half, "-c", checkpoint).exit_code == 0
    assert invoke("pack", full, "-c", checkpoint, "--full").exit_code == 0
    assert half.stat().st_size < 0.7 * full.stat().st_size
    first, second = stylegan_oct.load_generator(half), stylegan_oct.load_generator(full)
    assert first.info.classes == second.info.classes and first.info.options == second.info.options
    z = first.z(range(4))
    assert (first(z, "CNV") - second(z, "CNV")).abs().max() < 2 / 255
    before = half.read_bytes()
    assert invoke("pack", half, "-c", checkpoint).exit_code == 0 and half.read_bytes() == before
    assert not list(tmp_path.glob(".tmp*"))


def test_float16_is_refused_on_a_cpu(archive: Path, tmp_path: Path) -> None:
    options = ("train", "--data", archive, "--outdir", tmp_path, "--dry-run", "--device", "cpu", "--precision")
    result = invoke(*options, "fp16")
    assert result.exit_code == 2 and "--precision bf16" in result.output
    assert json.loads(invoke(*options, "bf16").output)["precision"] == "bf16"


@pytest.mark.parametrize("error", [
    MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")])
@pytest.mark.parametrize("name, advice", [("generate", "--batch"), ("library", "--batch"), ("neighbours", "Close")])
def test_too_little_memory_is_one_line_with_the_remedy(error: Exception, name: str, advice: str,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("stylegan_oct.model.load_generator", fail)
    result = invoke(name)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1 and "Out of memory" in result.stderr and advice in result.stderr


def test_other_errors_of_the_runtime_are_not_taken_for_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr("stylegan_oct.model.load_generator", fail)
    assert isinstance(invoke("generate").exception, RuntimeError)
