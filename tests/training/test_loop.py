"""Whole runs: resuming, several processes, and what goes wrong."""

import errno
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tiny import Killed, tensors, train

from dnnlib.errors import ConfigError, DataError, TrainingError
from dnnlib.logs import read_jsonl
from stylegan_oct.config import TrainConfig
from stylegan_oct.data.archive import Archive
from stylegan_oct.training import launch, loop, monitor, steps
from stylegan_oct.training.state import Counters
from torch_utils import checkpoint
from torch_utils.distributed import World

Make = Callable[..., TrainConfig]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_event_writer", lambda *_: None)  # its import takes seconds


def assert_same(first: Path, second: Path) -> None:
    one, two = tensors(first), tensors(second)
    assert one.keys() == two.keys() and len(one) > 50
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert checkpoint.read_meta(first, Counters) == checkpoint.read_meta(second, Counters)


def kill_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Kill the run at the call of that number of the averaging, in the middle of a step."""
    original, count = loop.State.update_average, [0]

    def update(self: loop.State) -> None:
        count[0] += 1
        if count[0] > calls:
            raise Killed
        original(self)

    monkeypatch.setattr(loop.State, "update_average", update)


def test_a_killed_and_resumed_run_equals_an_unbroken_one_bit_for_bit(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config()
    whole, first = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 6)
        train(config, tmp_path / "parts")
    logging.getLogger().handlers.clear()
    resumed, choice = train(config, tmp_path / "parts")
    assert choice.resumes and resumed.finished and resumed.nimg == 32
    assert whole.checkpoint and resumed.checkpoint
    assert_same(whole.checkpoint, resumed.checkpoint)
    rows, unbroken = ([row["nimg"] for row in read_jsonl(each.run.stats)] for each in (choice, first))
    assert rows == unbroken


def test_a_longer_run_goes_on_from_a_finished_one_and_a_finished_one_is_not_trained_again(
        make_config: Make, tmp_path: Path) -> None:
    long, _ = train(make_config(total_kimg=0.032), tmp_path / "long")
    train(make_config(total_kimg=0.016), tmp_path / "short")
    assert launch.choose_run(make_config(total_kimg=0.016), tmp_path / "short", new=False).finished
    again, choice = train(make_config(total_kimg=0.032), tmp_path / "short")
    assert choice.resumes and choice.run.path.name.startswith("00000")
    assert long.checkpoint and again.checkpoint
    assert_same(long.checkpoint, again.checkpoint)


def test_another_configuration_or_new_starts_another_run(make_config: Make, tmp_path: Path) -> None:
    train(make_config(total_kimg=0.004), tmp_path)
    assert not launch.choose_run(make_config(r1__gamma=3.0), tmp_path, new=False).resumes
    assert not launch.choose_run(make_config(), tmp_path, new=True).resumes


@pytest.mark.parametrize("call", range(1, 9))
def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    config = make_config(total_kimg=0.016, save__snapshot_kimg=0.008)
    train(make_config(total_kimg=0.008, save__snapshot_kimg=0.008), tmp_path)
    count = [0]

    def dying(original: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **options: object) -> object:
            count[0] += 1
            if count[0] == call:
                raise Killed
            return original(*args, **options)
        return wrapped

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "save_file", dying(checkpoint.save_file))
        patch.setattr(checkpoint.os, "replace", dying(os.replace))
        train(config, tmp_path)
    logging.getLogger().handlers.clear()
    run = launch.choose_run(config, tmp_path, new=False).run
    assert checkpoint.nimg_of(checkpoint.complete_checkpoints(run.checkpoints)[-1]) in (8, 16)
    outcome, _ = train(config, tmp_path)
    assert outcome.finished


def test_a_full_disk_is_one_line_and_the_last_good_checkpoint_stays(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(make_config(total_kimg=0.016), tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="No space left") as caught:
        patch.setattr(checkpoint, "save_file", full)
        train(make_config(), tmp_path)
    assert "\n" not in str(caught.value)
    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="No space left"):
        patch.setattr(monitor, "append_jsonl", full)
        train(make_config(), tmp_path)
    run = launch.choose_run(make_config(), tmp_path, new=False).run
    assert [path.name for path in checkpoint.complete_checkpoints(run.checkpoints)] == ["nimg-00000016"]


def test_gradients_that_are_never_numbers_stop_the_run(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(make_config(total_kimg=0.016), tmp_path)
    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="not numbers") as caught:
        patch.setattr(steps.losses, "generator_loss", lambda logits: logits.squeeze(1) * float("nan"))
        train(make_config(), tmp_path)
    assert "nimg-00000016" in str(caught.value)


def test_weights_that_are_not_numbers_are_never_saved(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_weights(self: steps.Steps, batch: object) -> None:
        with torch.no_grad():
            next(self._state.D.parameters()).fill_(float("nan"))

    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="weights of D"):
        patch.setattr(steps.Steps, "r1", break_weights)
        patch.setattr(monitor, "MASKED_LIMIT", 2.0)
        train(make_config(), tmp_path)
    assert not list(tmp_path.rglob("nimg-*/meta.json"))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_in_one_line(archive: Path, make_config: Make, tmp_path: Path,
                                                  workers: int) -> None:
    broken = tmp_path / "broken.zip"
    name = Archive(archive).names("train")[3]
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(broken, "w") as new:
        for item in old.infolist():
            new.writestr(item, b"no picture" if item.filename.endswith(name.split("/")[-1]) else old.read(item))
    config = make_config(data__path=str(broken), data__workers=workers)
    with pytest.raises(DataError, match=name.split("/")[-1]) as caught:
        train(config, tmp_path / "runs")
    assert "\n" not in str(caught.value)


def test_a_run_is_locked_while_it_is_trained(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    choice = launch.choose_run(config, tmp_path, new=False)
    with choice.run.lock(), pytest.raises(ConfigError, match="another process"):
        launch.start(config, choice, World(), Console(file=io.StringIO()))


def test_too_little_memory_names_the_next_smaller_micro_batch(make_config: Make) -> None:
    error = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    advice = loop.check_memory(error, make_config(batch=8, batch_gpu=8))
    assert advice and "--batch-gpu 4" in str(advice)
    assert loop.check_memory(RuntimeError("something else"), make_config()) is None


def test_old_checkpoints_are_thinned_and_the_newest_kept(make_config: Make, tmp_path: Path) -> None:
    outcome, choice = train(make_config(save__snapshot_kimg=0.008, save__keep=1), tmp_path)
    complete = checkpoint.complete_checkpoints(choice.run.checkpoints)
    assert [path.name for path in complete] == ["nimg-00000032"]
    reduced = choice.run.checkpoints / "nimg-00000016"
    assert sorted(file.name for file in reduced.iterdir()) == ["G_ema.safetensors", "meta.json"]
    assert outcome.grid and outcome.grid.exists() and (choice.run.samples / "reals.png").exists()


def test_the_statistics_say_what_a_person_wants_to_plot(make_config: Make, tmp_path: Path) -> None:
    _, choice = train(make_config(), tmp_path)
    rows = read_jsonl(choice.run.stats)
    last = {key: value for row in rows for key, value in row.items()}
    assert {"nimg", "img_per_sec", "augment_p", "path_length", "loss/G", "loss/D", "loss/r1_penalty", "logits/real",
            "logits/fake", "nonfinite/G", "memory_gb", "diversity/CNV", "diversity/DRUSEN"} <= last.keys()
    assert "32" not in choice.run.config.read_text().split('"start_from"')[1]


def test_a_collapsed_class_and_leaking_augmentations_are_warned_of(
        make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(monitor, "COLLAPSE_AFTER", 16)
    monkeypatch.setattr(monitor.Snapshots, "save", lambda *_: {"CNV": 0.1, "DRUSEN": 0.9})
    train(make_config(augment__mode="fixed", augment__p=0.8), tmp_path)
    text = caplog.text
    assert "samples of CNV vary only 10 %" in text and "samples of DRUSEN" not in text
    assert text.count("strength p is 0.80") == 1


def run_command(*options: str, processes: int = 1, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = launcher if processes > 1 else [sys.executable, "-m"]
    return subprocess.run([*command, "tools", "train", *options], cwd=cwd, env=environment, text=True,
                          capture_output=True, timeout=240)


def tiny_options(config: TrainConfig) -> list[str]:
    fields = {"batch": config.batch, "kimg": 0.032}
    settings = {"G.channel_base": 64, "G.channel_max": 8, "G.z_dim": 8, "G.w_dim": 8, "G.mapping_layers": 2,
                "D.channel_base": 64, "D.channel_max": 8, "D.mapping_layers": 1, "D.mbstd_group_size": 2,
                "batch_gpu": 2, "r1.interval": 2, "augment.interval": 2, "save.snapshot_kimg": 0.016,
                "save.tick_kimg": 0.008}
    return ["--data", config.data.path, *(f"--{name}={value}" for name, value in fields.items()),
            *(f"--set={name}={value}" for name, value in settings.items())]


def test_two_processes_learn_the_same_as_one_however_they_are_started(make_config: Make, tmp_path: Path) -> None:
    options = tiny_options(make_config())
    for name, processes, more in (("one", 1, []), ("torchrun", 2, []), ("own", 1, ["--processes=2"])):
        result = run_command(*options, *more, f"--outdir={name}", processes=processes, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("finished after") == 1
    one, *others = (tensors(next(tmp_path.glob(f"{name}/*/checkpoints/nimg-00000032")))
                    for name in ("one", "torchrun", "own"))
    for other in others:
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-4, msg=f"{name} differs")


def test_processes_are_chosen_so_that_they_can_share_the_batch(
        make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for cores, wanted in ((1, 1), (2, 2), (3, 2), (64, 4)):
        monkeypatch.setattr(launch.os, "cpu_count", lambda cores=cores: cores)
        assert launch.useful_processes(make_config(batch=8, batch_gpu=8), cpu) == wanted
    assert launch.useful_processes(make_config(batch=8, batch_gpu=8), torch.device("cuda")) == 1


def test_sigterm_saves_and_exits_with_0_and_the_same_command_goes_on(make_config: Make, tmp_path: Path) -> None:
    options = [*tiny_options(make_config()), "--kimg=100"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "tools", "train", *options], cwd=tmp_path, env=environment,
                               text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/stats.jsonl")) or not next(tmp_path.glob("runs/*/stats.jsonl")).stat().st_size:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "stopped after" in output and "The same command goes on" in output
    saved = checkpoint.complete_checkpoints(next(tmp_path.glob("runs/*/checkpoints")))
    assert saved
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
