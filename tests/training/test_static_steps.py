"""A step does the same in every call but for the numbers in its tensors, and its record does what it does."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fake_gpu import FakeGpu
from test_on_a_gpu import STEPS, prepare, small, whole_step
from torch import Tensor

from stylegan_oct.training.state import State
from stylegan_oct.training.steps import Microbatch, Phase, Steps
from torch_utils.graphs import WARM_UP
from torch_utils.seeding import seed_torch

TIMES = WARM_UP + 3
KINDS = [{"augment__groups": "bgcfnc", "G__speckle": True},
         {"augment__groups": "bgcfnc", "G__speckle": True, "precision": "bf16", "data__balanced": True},
         {"augment__groups": "bgcfnc", "data__channels": 3, "precision": "fp32"},
         {"data__classes": [], "G__architecture": "resnet", "D__architecture": "skip"}]


@pytest.fixture
def gpu() -> Iterator[FakeGpu]:
    with FakeGpu() as gpu:
        yield gpu


def program(gpu: FakeGpu, state: State, steps: Steps, phase: Phase, images: Tensor, labels: Tensor, *, p: float,
            seed: int) -> list[tuple[Any, ...]]:
    """Return what both functions of a kind of step do."""
    steps._strength.fill_(p)
    seed_torch(seed)
    gpu.programs.append([])
    with gpu.strict(), steps._gradients[phase] as gradients:
        found = steps._add[phase](images, labels)
        steps._move[phase](gradients.reduce(found.sums))
    return gpu.programs.pop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", Phase)
def test_two_steps_are_one_program(gpu: FakeGpu, phase: Phase, kind: dict[str, object]) -> None:
    state, steps, _, batch = prepare(small(graphs=False, style_mixing=0.5, **kind), gpu.device)
    images, labels = batch[0].images, batch[0].labels.to(gpu.device)
    program(gpu, state, steps, phase, images, labels, p=0.5, seed=0)  # the optimizer makes its tensors
    first = program(gpu, state, steps, phase, images, labels, p=0.0, seed=1)
    second = program(gpu, state, steps, phase, 1 - images, labels.flip(0), p=1.0, seed=2)
    assert len(first) > 50
    for one, other in zip(first, second, strict=True):
        assert one == other


def learned(gpu: FakeGpu, *, graphs: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights and the statistics of a short training."""
    state, steps, stats, batch = prepare(small(graphs=graphs, precision="fp32", augment__groups="bgcfnc"), gpu.device)
    for number in range(TIMES):
        state.p = 0.2 * number
        whole_step(state, steps, [Microbatch(m.offset, (m.images + number / 7) % 1, m.labels) for m in batch])
        state.nimg += 4
    weights = {f"{part}.{name}": gpu.values(value).clone() for part in ("G", "D", "G_ema")
               for name, value in getattr(state, part).state_dict().items()}
    weights |= {"pl_mean": gpu.values(state.pl_mean), "signs": gpu.values(state.sign_sums)}
    return weights, {name: moments._asdict() for name, moments in stats.flush().items()}


def test_records_do_what_the_steps_do(gpu: FakeGpu) -> None:
    plain = learned(gpu, graphs=False)
    assert gpu.launches["graph"] == 0
    replayed = learned(gpu, graphs=True)
    # From the step on in which all are warm: two micro-batches, then a move.
    assert gpu.launches["graph"] == len(Phase) * 3 * (TIMES - WARM_UP)
    for found, wanted in zip(replayed, plain, strict=True):
        assert found.keys() == wanted.keys()
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-6, atol=1e-7, msg=name)


def test_where_recording_fails_one_line_says_so_and_the_steps_go_on(
        gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    plain = learned(gpu, graphs=False)

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("operation not permitted\nand a long story")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    with caplog.at_level(logging.WARNING):
        found = learned(gpu, graphs=True)
    assert [record.getMessage() for record in caplog.records] == [
        "without CUDA graphs, which make steps shorter: operation not permitted. If the run ends, add --no-graphs."]
    for name, value in plain[0].items():
        torch.testing.assert_close(found[0][name], value, rtol=1e-6, atol=1e-7, msg=name)


def test_the_names_of_steps_and_phases_agree() -> None:
    assert len(STEPS) == len(Phase)
