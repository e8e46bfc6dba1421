"""Which lever of the trainer wins on this machine: each measured alone against the default.

    python -m benchmarks.levers                    # on a GPU at 256 px, batch 32; on a CPU at 64 px, batch 8
    python -m benchmarks.levers --only bf16,contiguous --rounds 5
    python -m benchmarks.levers table              # s/kimg and memory at 256 and 512 px, batch 16, 32 and 64; on a GPU

Every measurement is a process of its own, since some levers cannot be taken back. In each round the default runs
before and after the levers, so that a machine that grows slower is seen; a ratio is to the mean of the two. A lever
whose ratios lie on both sides of 1, or within the spread of the default, decides nothing.

Expected before measuring, times of the default's: on a GPU kernels off 1.3, fp32 2, bf16 1, tf32 0.97, contiguous 1.3,
cudnn.benchmark off 1.1, graphs off 2, compile without graphs 1.9, unfused Adam 1.02; on a CPU heap not kept 1.1
(64 px) to 1.6 (256 px), contiguous 1.3, bf16 0.65, compile 1.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dnnlib.config import override
from stylegan_oct.config import AugmentConfig, DataConfig, DiscriminatorConfig, GeneratorConfig, TrainConfig
from stylegan_oct.networks import discriminator, layers, synthesis
from stylegan_oct.training.state import State, create_state
from stylegan_oct.training.steps import Microbatch, Steps
from torch_utils.distributed import World, init_world
from torch_utils.memory import keep_freed_memory
from torch_utils.ops._build import OFF_VARIABLE
from torch_utils.precision import allow_tf32
from torch_utils.stats import Stats

WARM_UP = 3  # steps of each kind that are not counted
TABLE = [(resolution, base, batch) for resolution, base in ((256, 16384), (512, 32768)) for batch in (16, 32, 64)]


@dataclasses.dataclass(frozen=True)
class Lever:
    """One change of the default.

    `config` holds fields of the configuration, `process` runs before anything is built, `state` after that, and
    `main_step` is entered around each main step of G ("G") or of D ("D"), never around a regularisation step.
    """

    name: str
    devices: tuple[str, ...] = ("cuda", "cpu")
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    keeps_heap: bool = True
    process: Callable[[], object] = lambda: None
    state: Callable[[State], None] = lambda _: None
    main_step: Callable[[State, str], contextlib.AbstractContextManager[None]] = lambda *_: contextlib.nullcontext()


def contiguous() -> None:
    """Let the networks work on contiguous feature maps, and convolutions on weights laid out as these."""
    def enter(self: layers.MixedPrecisionBlock, x: Tensor, *, force_fp32: bool) -> Tensor:
        dtype = layers.block_dtype(x.device.type, self.in_half, "fp32" if force_fp32 else self.precision)
        return x.to(dtype, memory_format=torch.contiguous_format)

    layers.MixedPrecisionBlock.enter = enter  # type: ignore[method-assign]
    for module in (synthesis, discriminator):
        module.as_float32 = lambda x: x.to(torch.float32, memory_format=torch.contiguous_format)


def unfused_adam(state: State) -> None:
    """Let Adam run as several passes over all weights."""
    for name, network in (("opt_G", state.G), ("opt_D", state.D)):
        options = {**getattr(state, name).defaults, "fused": None, "foreach": True}
        setattr(state, name, torch.optim.Adam(network.parameters(), **options))


@contextlib.contextmanager
def instead(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module run another function within."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


class Compiled:
    """torch.compile of both networks in the main steps; it cannot differentiate twice."""

    def __init__(self) -> None:
        self._compiled: dict[nn.Module, Callable[..., Any]] = {}

    @contextlib.contextmanager
    def __call__(self, state: State, _: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for module in (state.G.synthesis, state.D):
                if module not in self._compiled:
                    self._compiled[module] = torch.compile(module.forward)
                stack.enter_context(instead(module, self._compiled[module]))
            yield


def cudnn_chooses_once() -> None:
    """Do not try which convolution is the fastest."""
    torch.backends.cudnn.benchmark = False


GPU, CPU = ("cuda",), ("cpu",)
LEVERS = {lever.name: lever for lever in (
    Lever("default"),
    Lever("kernels off", GPU, environment={OFF_VARIABLE: "1"}),
    Lever("fp32", GPU, config={"precision": "fp32"}),
    Lever("bf16", config={"precision": "bf16"}),
    Lever("tf32", GPU, process=lambda: allow_tf32(True)),
    Lever("fp32 and tf32", GPU, config={"precision": "fp32"}, process=lambda: allow_tf32(True)),
    Lever("contiguous", process=contiguous),
    Lever("cudnn.benchmark off", GPU, process=cudnn_chooses_once),
    Lever("p 0, no mixing", GPU, config={"augment.p": 0.0, "style_mixing": 0.0}),
    Lever("graphs off", GPU, config={"graphs": False}),
    Lever("heap not kept", CPU, keeps_heap=False),
    Lever("one thread", CPU, process=lambda: torch.set_num_threads(1)),
    Lever("unfused Adam", state=unfused_adam),
    Lever("compile without graphs", config={"graphs": False}, main_step=Compiled()))}


def configuration(resolution: int, base: int, most: int, batch: int) -> TrainConfig:
    """Return the run that is measured: networks as in `auto`, `bgc` at p 0.3."""
    widths = {"channel_base": base, "channel_max": most, "mapping_layers": 2}
    return TrainConfig(
        preset="benchmark", batch=batch, batch_gpu=batch, total_kimg=1,
        data=DataConfig(path="", fingerprint="", resolution=resolution, classes=("a", "b", "c", "d")),
        G=GeneratorConfig(**widths), D=DiscriminatorConfig(**widths), augment=AugmentConfig(mode="fixed", p=0.3))


def measure(lever: Lever, config: TrainConfig, world: World, repeat: int) -> dict[str, float]:
    """Return seconds an image, by medians of the four kinds of step at the shares they have, and peak memory in GB."""
    if lever.keeps_heap:
        keep_freed_memory()
    torch.backends.cudnn.benchmark = True
    lever.process()
    config = override(config, lever.config)
    state = create_state(config, world.device, "phantom")
    lever.state(state)
    steps = Steps(config, state, world, Stats(world), torch.arange(4).repeat(100))
    side = config.data.resolution
    batch = [Microbatch(0, torch.rand(config.batch, 1, side, side, device=world.device) * 2 - 1,
                        torch.arange(config.batch) % 4)]
    kinds = {"G": (steps.generator, 1.0), "PL": (steps.path_length, 1 / config.path_length.interval),
             "D": (steps.discriminator, 1.0), "R1": (steps.r1, 1 / config.r1.interval)}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(repeat + WARM_UP):
        for name, (step, _) in kinds.items():
            with lever.main_step(state, name) if name in ("G", "D") else contextlib.nullcontext():
                begin = time.perf_counter()
                step(batch)
                _wait(world)
            if number >= WARM_UP:
                times[name].append(time.perf_counter() - begin)
        state.nimg += config.batch
    seconds = sum(statistics.median(times[name]) * share for name, (_, share) in kinds.items())
    return {"sec_per_image": seconds / config.batch, "memory_gb": _peak_gb(world)}


def _wait(world: World) -> None:
    if world.device.type == "cuda":
        torch.cuda.synchronize(world.device)


def _peak_gb(world: World) -> float:
    if world.device.type == "cuda":
        return torch.cuda.max_memory_allocated(world.device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def in_a_process(lever: Lever, sizes: tuple[int, int, int, int], repeat: int) -> dict[str, float] | str:
    """Return what `measure` finds in a new process, or the last line of why it failed."""
    command = [sys.executable, "-m", "benchmarks.levers", "one", "--only", lever.name, "--repeat", str(repeat),
               *(f"--{name}={value}" for name, value in zip(("resolution", "base", "max", "batch"), sizes,
                                                             strict=True))]
    done = subprocess.run(command, env={**os.environ, **lever.environment}, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"ended with {done.returncode}"
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def levers(names: list[str], sizes: tuple[int, int, int, int], rounds: int, repeat: int) -> None:
    """Print the table of all levers."""
    times: dict[str, list[float]] = {name: [] for name in ["default", *names]}
    ratios: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, float] = {}
    for _ in range(rounds):
        found = {}
        for name in ["default", *names, "default again"]:
            result = in_a_process(LEVERS[name.removesuffix(" again")], sizes, repeat)
            if isinstance(result, str):
                print(f"{name}: failed: {result}", flush=True)
                continue
            found[name] = result["sec_per_image"]
            memory[name] = result["memory_gb"]
        defaults = [found[name] for name in ("default", "default again") if name in found]
        times["default"] += defaults
        for name in names:
            if name in found and defaults:
                times[name].append(found[name])
                ratios[name].append(found[name] / statistics.mean(defaults))
    print(f"{'':24} {'s/kimg':>8}  {'of the default':>16}   {'memory':>8}")
    for name, seconds in times.items():
        if seconds:
            share = f"{min(seconds) / statistics.mean(seconds):.3f} to {max(seconds) / statistics.mean(seconds):.3f}" \
                if name == "default" else f"{min(ratios[name]):.3f} to {max(ratios[name]):.3f}"
            print(f"{name:24} {1000 * statistics.median(seconds):8.2f}  {share:>16}   {memory[name]:5.2f} GB")


def table(repeat: int) -> None:
    """Print seconds for 1000 images and peak memory at the sizes of `TABLE`."""
    print(f"{'':16} {'batch':>5} {'s/kimg':>8} {'memory':>9}")
    for resolution, base, batch in TABLE:
        result = in_a_process(LEVERS["default"], (resolution, base, 512, batch), repeat)
        figures = result if isinstance(result, str) else (f"{1000 * result['sec_per_image']:8.2f} "
                                                          f"{result['memory_gb']:6.2f} GB")
        print(f"{resolution} px, {base:5}  {batch:5} {figures}", flush=True)


def main() -> None:
    """Measure the levers, or the table, or (in a process of these) one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="levers", choices=["levers", "table", "one"])
    parser.add_argument("--only", help="names of levers, by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=8, help="steps of each kind in a measurement")
    on_gpu = torch.cuda.is_available()
    for name, value in (("resolution", 256 if on_gpu else 64), ("base", 16384 if on_gpu else 4096),
                        ("max", 512 if on_gpu else 256), ("batch", 32 if on_gpu else 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    sizes = (args.resolution, args.base, args.max, args.batch)
    kind = "cuda" if on_gpu else "cpu"
    here = [name for name, lever in LEVERS.items() if kind in lever.devices and name != "default"]
    names = args.only.split(",") if args.only else here
    if unknown := sorted(set(names) - set(LEVERS)):
        parser.error(f"no lever {', '.join(unknown)}; there are {', '.join(here)}")
    if args.what == "one":
        print(json.dumps(measure(LEVERS[names[0]], configuration(*sizes), init_world(), args.repeat)))
        return
    machine = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    print(f"{machine}, torch {torch.__version__}")
    if args.what == "levers":
        print(f"{sizes[0]} px, base {sizes[1]}, at most {sizes[2]} channels, batch {sizes[3]}, {args.rounds} rounds")
        levers(names, sizes, args.rounds, args.repeat)
    elif on_gpu:
        table(args.repeat)
    else:
        raise SystemExit("the table is of a GPU, and there is none")


if __name__ == "__main__":
    main()
