"""The training on a GPU that is not there: right devices, no host that waits, and the numbers of the CPU."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fake_gpu import FakeGpu, kernels
from rich.console import Console

from dnnlib.config import override
from stylegan_oct.config import (
    DataConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    TrainConfig,
)
from stylegan_oct.model import load_generator
from stylegan_oct.training import launch, loop, monitor
from stylegan_oct.training.state import State, create_state
from stylegan_oct.training.steps import Microbatch, Steps
from torch_utils import checkpoint
from torch_utils.distributed import World
from torch_utils.prefetch import prefetch
from torch_utils.stats import Stats

STEPS = ("generator", "path_length", "discriminator", "r1")


@pytest.fixture
def gpu() -> Iterator[FakeGpu]:
    with FakeGpu() as gpu:
        yield gpu


def small(**changes: object) -> TrainConfig:
    data = DataConfig(path="", fingerprint="", resolution=16, classes=("a", "b", "c"))
    config = TrainConfig(
        preset="test", batch=4, batch_gpu=2, total_kimg=1, data=data,
        G=GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=16),
        D=DiscriminatorConfig(mapping_layers=1, channel_base=128, channel_max=16, mbstd_group_size=2))
    return override(config, {name.replace("__", "."): value for name, value in changes.items()})


def prepare(config: TrainConfig, device: torch.device) -> tuple[State, Steps, Stats, list[Microbatch]]:
    world = World(device=device)
    stats = Stats(world)
    state = create_state(config, device, "phantom")
    state.p = 0.7
    labels = torch.arange(len(config.data.classes) or 1).repeat(8)
    images = torch.rand(config.batch, config.data.channels, config.data.resolution, config.data.resolution,
                        generator=torch.Generator().manual_seed(1)).to(device)
    n = config.batch_gpu
    batch = [Microbatch(i, images[i:i + n], labels[i:i + n]) for i in range(0, config.batch, n)]
    return state, Steps(config, state, world, stats, labels), stats, batch


def whole_step(state: State, steps: Steps, batch: list[Microbatch]) -> None:
    for name in STEPS:
        getattr(steps, name)(batch)
    state.update_average()


@pytest.mark.parametrize("precision, channels, groups", [("fp32", 1, "bgcfnc"), ("auto", 1, "bgcfnc"),
                                                         ("bf16", 1, "bg"), ("auto", 3, "bgcfnc")])
def test_no_step_lets_the_host_wait_or_mixes_devices(gpu: FakeGpu, precision: str, channels: int, groups: str) -> None:
    state, steps, stats, batch = prepare(
        small(precision=precision, data__channels=channels, augment__groups=groups), gpu.device)
    with gpu.strict():
        for _ in range(2):
            whole_step(state, steps, batch)
            state.nimg += 4
    found = stats.flush()
    assert {"loss/G", "loss/D", "loss/r1_penalty", "nonfinite/D"} <= found.keys()
    assert found["nonfinite/G"].mean == found["nonfinite/D"].mean == 0


@pytest.mark.parametrize("changes", [{"style_mixing": 0.0}, {"data__classes": []}, {"data__balanced": True},
                                     {"D__architecture": "skip", "G__architecture": "resnet"},
                                     {"augment__mode": "off"}, {"G__speckle": True},
                                     {"G__speckle": True, "G__architecture": "resnet", "precision": "bf16"}])
def test_nor_in_any_other_kind_of_run(gpu: FakeGpu, changes: dict[str, object]) -> None:
    state, steps, _, batch = prepare(small(**changes), gpu.device)
    with gpu.strict():
        whole_step(state, steps, batch)


def test_a_step_on_a_gpu_learns_what_it_learns_on_a_cpu(gpu: FakeGpu) -> None:
    config = small(precision="fp32", augment__groups="bgcfnc")
    learned = []
    for device in (gpu.device, torch.device("cpu")):
        state, steps, _, batch = prepare(config, device)
        whole_step(state, steps, batch)
        learned.append({f"{part}.{name}": gpu.values(value) for part in ("G", "D", "G_ema")
                        for name, value in getattr(state, part).state_dict().items()})
    for name, value in learned[0].items():
        torch.testing.assert_close(value, learned[1][name], rtol=1e-4, atol=1e-5, msg=name)


def step_at_full_size(resolution: int, base: int, precision: str) -> FakeGpu:
    config = small(precision=precision, data__resolution=resolution, batch=8, batch_gpu=8, augment__groups="bgcfnc",
                   G__channel_base=base, G__channel_max=512, D__channel_base=base, D__channel_max=512, G__w_dim=512,
                   G__z_dim=512)
    with FakeGpu(values=False) as gpu:
        state, steps, _, batch = prepare(config, gpu.device)
        with gpu.strict():
            whole_step(state, steps, batch)
    return gpu


@pytest.mark.parametrize("resolution, base, precision", [(256, 16384, "auto"), (256, 16384, "fp32"),
                                                         (512, 32768, "bf16")])
def test_at_full_size_every_kernel_of_a_step_can_be_planned(resolution: int, base: int, precision: str) -> None:
    gpu = step_at_full_size(resolution, base, precision)
    names = {variant.name for variant in gpu.variants}
    assert names == {"upfirdn2d", "bias_act", "layer_end", "warp2d"}
    half = {"auto": "SCALAR_float16", "bf16": "SCALAR_bfloat16", "fp32": "SCALAR_float32"}[precision]
    assert any(half in dict(variant.definitions) for variant in gpu.variants)
    # The slow path takes any strides; where training meets it, a copy or a layout is wrong.
    assert not any("LAYOUT_any" in dict(variant.definitions) for variant in gpu.variants)


def test_the_average_takes_few_launches(gpu: FakeGpu) -> None:
    state, _, _, _ = prepare(small(), gpu.device)
    assert kernels(gpu, state.update_average) <= 2
    assert torch.equal(gpu.values(state.G_ema.mapping.w_avg), gpu.values(state.G.mapping.w_avg))


def test_a_statistic_takes_no_launch_until_it_is_asked_for(gpu: FakeGpu) -> None:
    stats = Stats(World())
    values = torch.ones(4, 1, device=gpu.device)
    assert kernels(gpu, lambda: stats.add("loss", values)) == 0
    assert stats.flush()["loss"] == (1.0, 0.0, 4)


def test_a_run_on_a_gpu_waits_only_at_ticks_and_ends_where_one_on_a_cpu_does(
        gpu: FakeGpu, make_config: Callable[..., TrainConfig], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(precision="fp32", augment__p=0.5, total_kimg=0.02)
    monkeypatch.setattr(monitor, "_event_writer", lambda *_: None)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    ends = []
    for world in (World(device=gpu.device), World()):
        with monkeypatch.context() as patch:
            if world.device.type == "cuda":
                for name in STEPS:
                    patch.setattr(loop.Steps, name, strictly(gpu, getattr(loop.Steps, name)))
                for name in ("update_average", "fetch_signs", "update_strength"):
                    patch.setattr(loop.State, name, strictly(gpu, getattr(loop.State, name)))
                patch.setattr(loop, "prefetch", lambda items, device: strict_items(gpu, prefetch(items, device)))
            choice = launch.choose_run(config, tmp_path / world.device.type, new=True)
            end = launch.start(config, choice, world, Console(file=io.StringIO())).checkpoint
        assert end is not None
        ends.append(end)
    for part in ("G", "D", "G_ema", "G_opt", "D_opt", "training"):
        on_gpu, on_cpu = (checkpoint.read_tensors(end / f"{part}.safetensors") for end in ends)
        assert on_gpu.keys() == on_cpu.keys()
        for name, value in on_gpu.items():
            torch.testing.assert_close(value, on_cpu[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_generator_on_a_gpu_draws_what_it_draws_on_a_cpu(gpu: FakeGpu) -> None:
    pictures = []
    for device in (gpu.device, torch.device("cpu")):
        G = load_generator(device=device)
        pictures.append(gpu.values(G(G.z([0, 1]), "DRUSEN", psi=0.7)))
    assert (pictures[0] - pictures[1]).square().mean().sqrt() < 2e-3  # float16 on the GPU; of a range of 2


def strictly(gpu: FakeGpu, run: Callable[..., None]) -> Callable[..., None]:
    def wrapped(*args: object) -> None:
        with gpu.strict():
            run(*args)
    return wrapped


def strict_items(gpu: FakeGpu, items: Iterator[object]) -> Iterator[object]:
    while True:
        with gpu.strict():
            item = next(items)
        yield item
