"""What several GPUs and computers may bring: an estimate up to 64 GPUs, and what can be measured without them.

    python -m benchmarks.scaling                                        # 256 px, 12.5 s/kimg on one GPU
    python -m benchmarks.scaling --resolution 512 --sec-per-kimg 41.1
    torchrun --standalone --nproc-per-node=2 -m benchmarks.scaling --measure-overlap      # two CPU processes, gloo

The first two take one training batch on the CPU apart: the bytes of each message, when in the last backward pass of a
step it is complete, and how many ops a batch launches. From these, the time of an image on one GPU and the bandwidth of
a link follow the tables; docs/many-gpus.md writes the model out. The third runs real steps in two processes, with
messages that leave during the backward pass and with a single one at its end.

Expected before measuring: G's gradients come late, since its small images hold most weights and are last in its
backward pass, D's early; overlap saves a tenth of the time of the two processes.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dnnlib.config import override
from stylegan_oct.config import AugmentConfig, DataConfig, DiscriminatorConfig, GeneratorConfig, TrainConfig
from stylegan_oct.presets import PRESETS
from stylegan_oct.training import steps as steps_module
from stylegan_oct.training.state import create_state
from stylegan_oct.training.steps import Microbatch, Phase, Steps
from torch_utils.distributed import World, init_world
from torch_utils.gradients import FlatGradients
from torch_utils.memory import keep_freed_memory
from torch_utils.stats import Stats

NODE = 8  # GPUs in a computer
# Bytes a second in one direction, and seconds until the first byte arrives.
LINKS = {"NVLink": (450e9, 3e-6), "PCIe 4": (25e9, 5e-6), "400 Gb/s": (50e9, 10e-6), "100 Gb/s": (12.5e9, 10e-6)}
# Of the host for an op: no batch is faster than all of its ops. Estimated: one core here takes 102 ms for
# the 2500 ops of a batch of one-channel networks at 64 px, small convolutions included.
LAUNCH_SEC = 15e-6


@dataclass
class Kind:
    """One kind of step, taken apart."""

    every: int                           # batches between two of them
    sec: float = 0.0                     # of one, on this CPU
    last_backward_sec: float = 0.0
    ops: int = 0
    messages: list[tuple[int, float]] | None = None  # bytes, and when complete: seconds after the last backward began


class Clock(World):
    """One process that passes for the first of two, and notes when messages are complete."""

    def __init__(self) -> None:
        super().__init__(0, 2)
        object.__setattr__(self, "sent", [])

    def all_reduce_later_(self, tensor: Tensor) -> Callable[[], None]:
        self.sent.append((tensor.numel() * tensor.element_size(), time.perf_counter()))
        return lambda: None


class TimedGradients(FlatGradients):
    """Notes when the last backward pass of a step begins and ends."""

    begin = end = 0.0

    def backward(self, loss: Tensor, *, last: bool) -> None:
        begin = time.perf_counter()
        super().backward(loss, last=last)
        TimedGradients.begin, TimedGradients.end = begin, time.perf_counter()


class CountOps(TorchDispatchMode):
    """Counts ops that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def take_apart(config: TrainConfig) -> dict[Phase, Kind]:
    """Return what a batch of one image consists of."""
    world = Clock()
    steps_module.FlatGradients = TimedGradients
    steps, batch = prepare(config, world, 1)
    steps_module.FlatGradients = FlatGradients
    calls = {Phase.GENERATOR: steps.generator, Phase.PATH_LENGTH: steps.path_length,
             Phase.DISCRIMINATOR: steps.discriminator, Phase.R1: steps.r1}
    kinds = {Phase.GENERATOR: Kind(1), Phase.PATH_LENGTH: Kind(config.path_length.interval),
             Phase.DISCRIMINATOR: Kind(1), Phase.R1: Kind(config.r1.interval)}
    for phase, kind in kinds.items():
        with CountOps() as ops:
            calls[phase](batch)  # the first step of a kind sends all at its end
        kind.ops = ops.count
        world.sent.clear()
        begin = time.perf_counter()
        calls[phase](batch)
        kind.sec = time.perf_counter() - begin
        kind.last_backward_sec = TimedGradients.end - TimedGradients.begin
        kind.messages = [(size, min(at, TimedGradients.end) - TimedGradients.begin) for size, at in world.sent]
    return kinds


def prepare(config: TrainConfig, world: World, images: int) -> tuple[Steps, list[Microbatch]]:
    """Return the steps of a run that draws its own pictures, and this process's part of a batch."""
    state = create_state(config, world.device, "phantom")
    steps = Steps(config, state, world, Stats(world), torch.arange(4).repeat(100))
    resolution = config.data.resolution
    pictures = torch.rand(images, 1, resolution, resolution, device=world.device) * 2 - 1
    return steps, [Microbatch(world.rank * images, pictures, torch.arange(images) % 4)]


def reduce_sec(size: int, gpus: int, link: str) -> float:
    """Return the time of a ring all-reduce: 2 (n - 1) / n times the bytes, 2 (n - 1) hops."""
    bandwidth, latency = LINKS[link]
    return 2 * (gpus - 1) / gpus * size / bandwidth + 2 * (gpus - 1) * latency


def exposed_sec(kind: Kind, gpus: int, link: str, slow_down: float) -> float:
    """Return how long a step waits for its messages after its last backward pass.

    Args:
        kind: as measured on this computer.
        gpus, link: who sends, and over what.
        slow_down: time of the step on the GPU over that measured here.
    """
    assert kind.messages is not None
    free = 0.0
    for size, complete in kind.messages:
        free = max(free, complete * slow_down) + reduce_sec(size, gpus, link)
    return max(free - kind.last_backward_sec * slow_down, 0.0)


def estimate(kinds: dict[Phase, Kind], image_sec: float, gpus: int, images: int, link: str) -> tuple[float, float]:
    """Return the seconds that a batch computes, and those that it waits for messages."""
    least = sum(kind.ops * LAUNCH_SEC / kind.every for kind in kinds.values())
    compute = max(images * image_sec, least)
    measured = sum(kind.sec / kind.every for kind in kinds.values())
    waits = sum(exposed_sec(kind, gpus, link, compute / measured) / kind.every for kind in kinds.values())
    return compute, waits if gpus > 1 else 0.0


def print_tables(kinds: dict[Phase, Kind], image_sec: float, batch: int, growing: int) -> None:
    least = sum(kind.ops * LAUNCH_SEC / kind.every for kind in kinds.values())
    sizes = {phase: sum(size for size, _ in kind.messages or []) / 1e6 for phase, kind in kinds.items()}
    print(f"{'':15}{'MB':>8}{'messages':>10}{'ops':>8}   share of the bytes complete when half of the last backward "
          "pass is over")
    for phase, kind in kinds.items():
        early = sum(size for size, at in kind.messages or [] if at < kind.last_backward_sec / 2) / 1e6 / sizes[phase]
        print(f"{phase.name.lower():15}{sizes[phase]:8.1f}{len(kind.messages or []):10}{kind.ops:8}   {early:.0%}")
    print(f"{sum(sizes[phase] / kind.every for phase, kind in kinds.items()):.0f} MB a batch; its ops take at least "
          f"{1e3 * least:.0f} ms at {1e6 * LAUNCH_SEC:g} us each")
    for title, images_of in ((f"batch {batch}, whatever the number of GPUs", lambda n: batch // n),
                             (f"{growing} images a GPU, a batch that grows", lambda n: growing)):
        print(f"\n{title}\n{'GPUs':>5}{'link':>10}{'images a GPU':>14}{'compute ms':>12}{'wait ms':>9}{'s/kimg':>8}"
              f"{'efficiency':>12}")
        for gpus in (1, 2, 4, 8, 16, 32, 64):
            images = images_of(gpus)
            for link in ("NVLink", "PCIe 4") if gpus <= NODE else ("400 Gb/s", "100 Gb/s"):
                if images and not (gpus == 1 and link != "NVLink"):
                    compute, wait = estimate(kinds, image_sec, gpus, images, link)
                    rate = (compute + wait) / (gpus * images) * 1000
                    print(f"{gpus:5}{link if gpus > 1 else '-':>10}{images:14}{1e3 * compute:12.1f}{1e3 * wait:9.1f}"
                          f"{rate:8.2f}{image_sec * 1000 / gpus / rate:12.0%}")


def measure_overlap(repeat: int) -> None:
    """Print the time of steps whose messages leave during the backward pass, and of those with one at the end."""
    torch.set_num_threads(1)
    world = init_world("cpu")
    widths = {"channel_base": 4096, "channel_max": 256}
    config = TrainConfig(
        preset="benchmark", batch=4 * world.size, batch_gpu=4, total_kimg=1,
        data=DataConfig(path="", fingerprint="", resolution=64, classes=("a", "b", "c", "d")),
        G=GeneratorConfig(**widths), D=DiscriminatorConfig(**widths), augment=AugmentConfig(mode="fixed", p=0.3))
    runs = {}
    for name, chunk_bytes in (("at the end", 2**40), ("overlapped", 4 * 2**20)):
        steps_module.FlatGradients = functools.partial(FlatGradients, chunk_bytes=chunk_bytes)
        runs[name] = prepare(config, world, 4)
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(repeat + 2):
        for name, (steps, batch) in runs.items():
            for step in (steps.generator, steps.discriminator):
                world.barrier()
                begin = time.perf_counter()
                step(batch)
                if number >= 2:
                    times.setdefault((step.__name__, name), []).append(time.perf_counter() - begin)
    if world.is_first:
        for (step_name, name), values in times.items():
            print(f"{step_name:14}{name:12}{1e3 * statistics.median(values):7.0f} ms   ({1e3 * min(values):.0f} to "
                  f"{1e3 * max(values):.0f})")
    world.close()


def main() -> None:
    """Print the tables, or the measurement of overlap."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=256, choices=[256, 512])
    parser.add_argument("--sec-per-kimg", type=float, default=12.5, help="of one GPU, where it has work enough")
    parser.add_argument("--growing", type=int, default=16, help="images a GPU where the batch grows")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure-overlap", action="store_true")
    parser.add_argument("--repeat", type=int, default=12)
    args = parser.parse_args()
    keep_freed_memory()
    if args.measure_overlap:
        measure_overlap(args.repeat)
        return
    torch.set_num_threads(args.threads)
    data = DataConfig(path="", fingerprint="", resolution=args.resolution, classes=("a", "b", "c", "d"))
    preset = PRESETS[f"oct{args.resolution}"](data, 1)
    one = override(preset, {"batch": 2, "batch_gpu": 1, "precision": "fp32"})
    print_tables(take_apart(one), args.sec_per_kimg / 1000, preset.batch, args.growing)


if __name__ == "__main__":
    main()
