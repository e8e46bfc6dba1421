"""Steps on a GPU: nothing lets the host wait, and images arrive whole."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from agreement import check_agreement, train
from rich.console import Console

from stylegan_oct.config import TrainConfig
from stylegan_oct.training import launch, monitor
from stylegan_oct.training.steps import Steps
from torch_utils.distributed import init_world
from torch_utils.prefetch import prefetch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("precision", ["fp32", "auto", "bf16"])
def test_no_step_waits_for_the_device(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def strictly(step):
        def run(*args):
            torch.cuda.set_sync_debug_mode("error")
            try:
                step(*args)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return run

    device = torch.device("cuda", torch.cuda.current_device())
    train(device, precision=precision, steps=1, graphs=False)  # libraries may wait when they are first used
    for name in ("generator", "path_length", "discriminator", "r1"):
        monkeypatch.setattr(Steps, name, strictly(getattr(Steps, name)))
    assert train(device, precision=precision, steps=3, graphs=False).isfinite().all()


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_steps_from_records_learn_what_the_plain_ones_do(precision: str) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    check_agreement(lambda rounding: train(device, precision=precision, steps=40, rounding=rounding, graphs=False),
                    lambda _: train(device, precision=precision, steps=40))


def test_prefetched_images_are_those_of_the_host_while_the_device_is_busy() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    made = [torch.randint(0, 256, (32, 1, 256, 256), dtype=torch.uint8) for _ in range(20)]
    sums = []
    for images, _ in prefetch(((x, None) for x in made), device):
        torch.cuda._sleep(1_000_000)
        sums.append(images.sum(dtype=torch.int64))
        del images
    assert [int(total) for total in sums] == [int(x.sum(dtype=torch.int64)) for x in made]


def test_a_run_begins_and_goes_on(make_config: Callable[..., TrainConfig], tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_event_writer", lambda *_: None)
    for kimg in (0.016, 0.032):
        config = make_config(augment__p=0.5, augment__groups="bgcfnc", total_kimg=kimg)
        choice = launch.choose_run(config, tmp_path, new=False)
        outcome = launch.start(config, choice, init_world("cuda"), Console(file=io.StringIO()))
        assert outcome.finished and outcome.checkpoint is not None
