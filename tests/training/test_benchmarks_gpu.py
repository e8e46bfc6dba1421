"""The benchmarks of a GPU run through on one that is not there: their logic is right before they first measure."""

import time
from collections.abc import Iterator

import pytest
import torch
from fake_gpu import FakeGpu

from benchmarks import kernels, levers
from stylegan_oct.networks import discriminator, layers, synthesis
from stylegan_oct.training.state import build_networks
from torch_utils.distributed import World
from torch_utils.graphs import WARM_UP


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.time = time.perf_counter()

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, end: "Event") -> float:
            return 1000 * (end.time - self.time)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda _: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch, "compile", lambda f: f)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    monkeypatch.setattr(levers, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(levers, "WARM_UP", 0)
    with FakeGpu(values=False) as gpu:
        yield gpu


def test_every_op_is_measured_and_compared(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(kernels, "CALLS", 1)
    monkeypatch.setattr(kernels, "REPEATS", 1)
    kernels.ops(32, 1)
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == 2 * 2 * 2 * 7 + 2 and all(line.count("%") == 3 for line in lines)


@pytest.mark.parametrize("name", ["default", "unfused Adam", "compile without graphs", "graphs off"])
def test_a_lever_changes_only_how_a_step_is_computed(name: str, gpu: FakeGpu) -> None:
    world, config = World(device=gpu.device), levers.configuration(16, 256, 16, 4)
    found = levers.measure(levers.LEVERS[name], config, world, WARM_UP + 1)
    assert found["sec_per_image"] > 0
    assert gpu.launches["graph"] == (0 if name.endswith(("graphs", "graphs off")) else 4 * 2)


def test_the_lever_contiguous_reaches_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (synthesis, discriminator):  # what the lever replaces is put back after the test
        monkeypatch.setattr(module, "as_float32", module.as_float32)
    monkeypatch.setattr(layers.MixedPrecisionBlock, "enter", layers.MixedPrecisionBlock.enter)
    levers.contiguous()
    formats = []

    def note(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        formats.append(output.is_contiguous())

    with FakeGpu(values=False) as gpu:
        G, D = build_networks(levers.configuration(32, 512, 32, 4), gpu.device)
        for layer in (*G.modules(), *D.modules()):
            if isinstance(layer, synthesis.SynthesisLayer | layers.Conv2dLayer):
                layer.register_forward_hook(note)
        D(G(torch.zeros(4, 512, device=gpu.device), torch.zeros(4, 4, device=gpu.device)),
          torch.zeros(4, 4, device=gpu.device))
    assert len(formats) > 15 and all(formats)


def test_the_table_of_levers_shows_ratios_to_the_default(monkeypatch: pytest.MonkeyPatch,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([1.0, 0.5, 1.0, 2.0, 1.5, 2.0])

    def measured(lever: levers.Lever, *_: object) -> dict[str, float] | str:
        failed = lever.name == "compile without graphs"
        return "no memory" if failed else {"sec_per_image": next(times), "memory_gb": 1.0}

    monkeypatch.setattr(levers, "in_a_process", measured)
    levers.levers(["bf16", "compile without graphs"], (16, 256, 16, 4), 2, 1)
    text = capsys.readouterr().out
    assert "bf16" in text and "0.500 to 0.750" in text and "compile without graphs: failed: no memory" in text
