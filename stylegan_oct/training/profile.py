"""Where the time of a step goes: a trace of one step of every kind, and the ops that cost most."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from dnnlib.files import atomic_path
from stylegan_oct.config import TrainConfig
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.training.state import create_state
from stylegan_oct.training.steps import Microbatch, Steps
from torch_utils.distributed import World
from torch_utils.images import to_unit
from torch_utils.stats import Stats

COSTLIEST = 10


@dataclass(frozen=True)
class Op:
    """What an op, or a CUDA kernel, cost in one step."""

    name: str
    ms: float      # without what it called
    share: float   # of all
    calls: int


@dataclass(frozen=True)
class StepProfile:
    """One step of a kind."""

    name: str
    ms: float                 # all ops
    trace: Path               # for chrome://tracing or ui.perfetto.dev
    costliest: tuple[Op, ...]

    def table(self) -> str:
        """Return the costliest ops as lines."""
        head = f"{self.name}: {self.ms:.1f} ms a batch, trace in {self.trace}"
        return "\n".join([head, *(f"  {op.ms:9.2f} ms {op.share:6.1%} {op.calls:6d} x  {op.name}"
                                  for op in self.costliest)])


def profile_steps(config: TrainConfig, world: World, out: Path,
                  progress: Callable[[int], object] = lambda _: None) -> list[StepProfile]:
    """Return the profiles of the main and regularisation steps of G and D, each after a step to warm up.

    Args:
        config: of a run; nothing of it is written.
        world: this process and its device.
        out: folder for the traces.
        progress: called with the number of kinds done.
    """
    config = dataclasses.replace(config, graphs=False)  # a record is one op
    dataset = ArchiveDataset(Path(config.data.path), split="train")
    state = create_state(config, world.device, dataset.source, dataset.preprocess)
    steps = Steps(config, state, world, Stats(world), torch.from_numpy(dataset.labels))
    batch = _batch(config, dataset, world)
    kinds = {"G main": steps.generator, "G path length": steps.path_length, "D main": steps.discriminator,
             "D R1": steps.r1}
    found = []
    for name, step in kinds.items():
        found.append(_profile(name, lambda step=step: step(batch), world, out))  # type: ignore[misc]
        progress(len(found))
    return found


def _batch(config: TrainConfig, dataset: ArchiveDataset, world: World) -> list[Microbatch]:
    """Return this process's part of a batch of the first training images."""
    items = itertools.cycle([dataset[i] for i in range(min(len(dataset), config.batch))])
    batch = []
    for offset in range(0, config.batch // world.size, config.batch_gpu):
        images, labels = zip(*itertools.islice(items, config.batch_gpu), strict=True)
        batch.append(Microbatch(offset, to_unit(torch.stack(images)).to(world.device), torch.tensor(labels)))
    return batch


def _profile(name: str, step: Callable[[], object], world: World, out: Path) -> StepProfile:
    step()
    on_gpu = world.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(world.device)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as measured:
        step()
        if on_gpu:
            torch.cuda.synchronize(world.device)
    trace = out / f"{name.replace(' ', '-')}.json"
    with atomic_path(trace) as temporary:
        measured.export_chrome_trace(str(temporary))
    ops = _costs(measured.key_averages(), on_gpu)
    total = sum(op.ms for op in ops)
    return StepProfile(name, total, trace, tuple(
        Op(op.name, op.ms, op.ms / max(total, 1e-9), op.calls) for op in ops[:COSTLIEST]))


def _costs(events: Sequence[Any], on_gpu: bool) -> list[Op]:
    """Return all ops, the costliest first: by the time on the device where there is one."""
    wanted = "CUDA" if on_gpu else "CPU"
    times = [(event.self_device_time_total if on_gpu else event.self_cpu_time_total, event) for event in events
             if event.device_type.name == wanted]
    return [Op(event.key, time / 1000, 0.0, event.count)
            for time, event in sorted(times, key=lambda pair: pair[0], reverse=True)]
