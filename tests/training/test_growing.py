"""Runs in stages: what a stage begins with, resuming within and between stages, and stages that make no sense."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny import Killed, tensors, tiny_config, train, write_archive

from dnnlib.errors import ConfigError, DataError
from dnnlib.logs import read_jsonl
from dnnlib.text import format_seconds
from stylegan_oct.config import DataConfig, StageConfig, TrainConfig
from stylegan_oct.data.dataset import ArchiveDataset, averaged
from stylegan_oct.model import read_info
from stylegan_oct.presets import PRESETS, parse_grow
from stylegan_oct.training import launch, loop, monitor
from stylegan_oct.training.bar import Bar, stage_at, work_left
from stylegan_oct.training.state import create_state
from stylegan_oct.training.transfer import grow_from, start_from
from torch_utils import checkpoint
from torch_utils.distributed import World
from torch_utils.ops.filters import setup_filter
from torch_utils.ops.upfirdn2d import upsample2d

CPU = torch.device("cpu")
STAGES = [{"resolution": 8, "kimg": 0.016, "gamma": 0.1, "lr": 0.003}]


@pytest.fixture(autouse=True)
def _no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_event_writer", lambda *_: None)


@pytest.fixture
def grown(tmp_path: Path) -> Callable[..., TrainConfig]:
    archive = write_archive(tmp_path / "a.zip", resolution=16)
    return lambda **changes: tiny_config(archive, **{"grow": STAGES, **changes})


@pytest.mark.parametrize("where", ["in the first stage", "between the stages", "in the last stage"])
def test_a_run_killed_anywhere_goes_on_to_the_same_weights(
        grown: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    config = grown(augment__mode="fixed", augment__p=0.2)
    whole, first = train(config, tmp_path / "whole")
    place, name = {"in the first stage": (3, "update_average"), "between the stages": (2, "create_state"),
                   "in the last stage": (7, "update_average")}[where]
    owner = loop.State if name == "update_average" else loop
    original, calls = getattr(owner, name), [0]

    def dying(*args: object, **options: object) -> object:
        calls[0] += 1
        if calls[0] >= place:
            raise Killed
        return original(*args, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, dying)
        train(config, tmp_path / "parts")
    logging.getLogger().handlers.clear()
    resumed, choice = train(config, tmp_path / "parts")
    assert choice.resumes and resumed.finished and resumed.nimg == 32
    assert whole.checkpoint and resumed.checkpoint
    one, two = tensors(whole.checkpoint), tensors(resumed.checkpoint)
    assert one.keys() == two.keys() and any(".b16." in key for key in one)
    assert [key for key in one if not torch.equal(one[key], two[key])] == []
    rows, unbroken = ([(row["nimg"], row.get("resolution")) for row in read_jsonl(each.run.stats)]
                      for each in (choice, first))
    assert rows == unbroken and {resolution for _, resolution in rows} >= {8, 16}


def test_a_run_stopped_before_its_first_step_begins_as_it_would_have(
        grown: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = grown(total_kimg=0.02)
    whole, _ = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(loop.Interrupt, "__init__", lambda self: self.__dict__.update(requested=True, _previous={}))
        stopped, _ = train(config, tmp_path / "parts")
    assert not stopped.finished and stopped.nimg == 0
    resumed, choice = train(config, tmp_path / "parts")
    assert choice.resumes and "growing to 8 px" not in choice.run.log.read_text()
    assert whole.checkpoint and resumed.checkpoint
    one, two = tensors(whole.checkpoint), tensors(resumed.checkpoint)
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def test_the_generators_of_a_run_say_their_own_resolution(grown: Callable[..., TrainConfig], tmp_path: Path) -> None:
    _, choice = train(grown(), tmp_path / "runs")
    found = {checkpoint.nimg_of(path): read_info(path / "G_ema.safetensors")
             for path in choice.run.checkpoints.glob("nimg-*")}
    assert found[16].resolution == found[16].preprocess.resolution == 8
    assert found[32].resolution == found[32].preprocess.resolution == 16


def test_a_longer_run_goes_on_in_its_last_stage(grown: Callable[..., TrainConfig], tmp_path: Path) -> None:
    train(grown(total_kimg=0.024), tmp_path / "runs")
    outcome, choice = train(grown(total_kimg=0.032), tmp_path / "runs")
    assert choice.resumes and outcome.nimg == 32
    assert not launch.choose_run(grown(grow=[]), tmp_path / "runs", new=False).resumes


@pytest.mark.parametrize("speckle", [False, True])
def test_a_grown_generator_begins_with_the_picture_of_the_smaller_one(
        grown: Callable[..., TrainConfig], tmp_path: Path, speckle: bool) -> None:
    small, large = grown(G__speckle=speckle).stages()
    donor = create_state(small, CPU, "scans")
    donor.nimg, donor.p, donor.controller.p = 16, 0.3, 0.3
    state = create_state(large, CPU, "scans")
    grow_from(state, donor.save(tmp_path / "checkpoints", {}))
    mode = "none" if speckle else "const"  # each resolution has a speckle of its own
    z, c = torch.randn(3, 8), torch.eye(2)[[0, 1, 0]]
    before = donor.G_ema(z, c, noise_mode=mode)
    assert before.std() > 0.01
    wanted = upsample2d(before, setup_filter((1.0, 3.0, 3.0, 1.0)))
    for network in (state.G, state.G_ema):
        torch.testing.assert_close(network(z, c, noise_mode=mode), wanted, rtol=1e-5, atol=1e-5)
    assert (state.nimg, state.p, state.controller.p) == (16, 0.3, 0.3)


def test_the_new_layers_learn_though_their_pictures_begin_at_0(grown: Callable[..., TrainConfig],
                                                              tmp_path: Path) -> None:
    outcome, _ = train(grown(), tmp_path / "runs")
    assert outcome.checkpoint
    weights = checkpoint.read_tensors(outcome.checkpoint / "G.safetensors")
    assert weights["synthesis.b16.torgb.weight"].abs().min() > 0


def test_other_architectures_keep_their_only_toRGB(grown: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = grown(G__architecture="resnet")
    source = create_state(config.stages()[0], CPU, "scans").save(tmp_path / "checkpoints", {})
    state = create_state(config.stages()[1], CPU, "scans")
    start_from(state, source)
    assert state.G.synthesis.b16.torgb.weight.abs().min() > 0


def test_smaller_stages_see_the_means_over_squares(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.zip", resolution=16)
    large = ArchiveDataset(path)
    for cached in (False, True):
        small = ArchiveDataset(path, resolution=8, mirror=True, cached=cached)
        exact = large[3][0].double().reshape(1, 8, 2, 8, 2).mean(dim=(2, 4))
        assert (small[3][0] - exact).abs().max() <= 0.5 and small[3][1] == large[3][1]
        assert torch.equal(small[len(large) + 3][0], small[3][0].flip(2))
    assert np.array_equal(averaged(np.full((3, 4, 4), 255, np.uint8), 4), np.full((3, 1, 1), 255))
    with pytest.raises(DataError, match="16 px, which cannot become 32.*--resolution 32"):
        ArchiveDataset(path, resolution=32)


def test_the_last_stage_is_the_run_itself(grown: Callable[..., TrainConfig]) -> None:
    config = grown(total_kimg=0.04)
    small, large = config.stages()
    assert all(stage.G.speckle for stage in grown(G__speckle=True).stages())
    assert (small.data.resolution, small.total_nimg, small.r1.gamma, small.optimizer.D_lr) == (8, 16, 0.1, 0.003)
    assert (large.data.resolution, large.total_nimg, large.r1, large.grow) == (16, 40, config.r1, ())
    assert config.identity() != grown(total_kimg=0.04, grow=[]).identity()


@pytest.mark.parametrize(("stages", "words"), [
    ([{**STAGES[0], "resolution": 16}], "must rise.*16, 16"),
    ([{**STAGES[0], "resolution": 32}], "must rise.*32, 16"),
    ([{**STAGES[0], "resolution": 12}], "power of two"),
    ([{**STAGES[0], "kimg": 0.032}], "the last never begins.*--grow 8:"),
    ([{**STAGES[0], "kimg": 0}], "grow.kimg must be a number from 0.001"),
    ([{**STAGES[0], "lr": -1}], "grow.lr must be a number from 1e-09"),
    ([{**STAGES[0], "gama": 1}], "gama"),
])
def test_stages_that_make_no_sense_are_refused_in_a_line(grown: Callable[..., TrainConfig], stages: object,
                                                         words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        grown(grow=stages)
    assert "\n" not in str(caught.value)


def preset(name: str, resolution: int = 256) -> TrainConfig:
    return PRESETS[name](DataConfig(path="", fingerprint="", resolution=resolution, classes=("A", "B")), 1)


def test_stages_are_written_as_resolutions_with_lengths() -> None:
    large = preset("oct256")
    first, second = parse_grow("64:30,128,256", large)
    assert first == StageConfig(resolution=64, kimg=30, gamma=large.r1.gamma / 16, lr=large.optimizer.G_lr)
    assert second.kimg == large.total_kimg / 10 and second.gamma == large.r1.gamma / 4
    assert parse_grow("64,256", large, gamma=16)[0].gamma == 1
    assert parse_grow("off", large) == parse_grow("256", large) == ()
    own = preset("demo256")
    assert parse_grow("64,128,256", own) == own.grow and parse_grow("64,256", own) == own.grow[:1]
    assert parse_grow("64:5,256", own)[0].gamma == own.grow[0].gamma


@pytest.mark.parametrize("text", ["64", "64,128", "", "64;256", "64:x,256", "-64,256", "64:,256"])
def test_stages_that_cannot_be_read_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="64.*256"):
        parse_grow(text, preset("oct256"))


@pytest.mark.parametrize("name", ["demo256", "small512"])
def test_presets_grow_only_below_the_resolution_of_the_pictures(name: str) -> None:
    assert preset(name, 64).grow == ()
    for resolution in (128, 256, 512):
        assert [stage.resolution for stage in preset(name, resolution).grow][:1] == [64]


def resolved(**changes: object) -> TrainConfig:
    data = DataConfig(path="", fingerprint="", resolution=256, classes=("A", "B"))
    return launch.resolve(data, "demo256", changes, World())


def test_a_start_from_other_weights_does_not_grow_unless_asked_to(grown: Callable[..., TrainConfig],
                                                                 tmp_path: Path) -> None:
    source = create_state(grown().stages()[1], CPU, "scans").save(tmp_path / "checkpoints", {})
    assert [stage.resolution for stage in resolved().grow] == [64, 128]
    assert resolved(start_from=str(source)).grow == ()
    assert [stage.resolution for stage in resolved(start_from=str(source), grow="128,256").grow] == [128]


def test_the_time_left_counts_the_stages_to_come() -> None:
    stages = preset("demo256").stages()
    first, second, last = (stage.total_nimg for stage in stages)
    costs = [1.0, 1.5, 3.0]
    assert work_left(stages, costs, 0) == first + 1.5 * (second - first) + 3 * (last - second)
    assert work_left(stages, costs, last - 10_000) == 30_000 and work_left(stages, costs, last) == 0
    assert stage_at(stages, first) is stages[0] and stage_at(stages, first + 8) is stages[1]


def test_the_line_of_a_stage_foretells_all_stages(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    stages = preset("demo256").stages()
    bar = Bar(stages, [1.0, 2.0, 4.0], stages[0].total_nimg, Console(width=200), clock=lambda: now)
    now = 10.0
    bar.tick(stages[0].total_nimg + 200, "")  # 20 images a second at 128 px, so 10 at 256 px
    images = [stages[1].total_nimg - stages[0].total_nimg - 200, stages[2].total_nimg - stages[1].total_nimg]
    left = format_seconds(images[0] / 20 + images[1] / 10)
    assert f"128 px  20.0 images/s  {left} left" in capsys.readouterr().out


def test_a_run_with_other_stages_is_another_run_and_says_so(
        grown: Callable[..., TrainConfig], tmp_path: Path) -> None:
    _, first = train(grown(total_kimg=0.02), tmp_path / "runs")
    assert first.note == ""
    _, choice = train(grown(grow=[], r1__gamma=3.0, total_kimg=0.008), tmp_path / "runs")
    assert not choice.resumes and "00000-test" in choice.note and "(grow, r1.gamma)" in choice.note
    assert choice.note in choice.run.log.read_text()


def test_two_processes_grow_to_the_same_as_one(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", resolution=16)
    settings = {"G.channel_base": 64, "G.channel_max": 8, "G.z_dim": 8, "G.w_dim": 8, "D.channel_base": 64,
                "D.channel_max": 8, "D.mbstd_group_size": 2, "batch_gpu": 2}
    options = ["--data=a.zip", "--preset=demo256", "--batch=4", "--kimg=0.032", "--grow=8:0.016,16",
               *(f"--set={name}={value}" for name, value in settings.items())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    found = []
    for processes in (1, 2):
        result = subprocess.run([sys.executable, "-m", "tools", "train", *options, f"--processes={processes}",
                                 f"--outdir={processes}"], cwd=tmp_path, env=environment, text=True,
                                capture_output=True, timeout=240)
        assert result.returncode == 0, result.stderr
        found.append(tensors(next(tmp_path.glob(f"{processes}/*/checkpoints/nimg-00000032"))))
    one, two = found
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-4, msg=f"{name} differs")
