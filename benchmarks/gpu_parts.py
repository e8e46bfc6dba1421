"""What `benchmarks.gpu_report` measures, each part a process of its own.

    python -m benchmarks.gpu_parts step 256 32 graphs
    python -m benchmarks.gpu_parts agreement

Prints lines for people, and facts as lines of JSON. Without a GPU the same runs at tiny sizes on the CPU.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from dnnlib.config import override
from stylegan_oct.config import DataConfig, DiscriminatorConfig, GeneratorConfig, TrainConfig
from stylegan_oct.features.lite0 import Lite0, Lite0Detector
from stylegan_oct.latent.projection.engine import Engine
from stylegan_oct.latent.projection.projector import PRESETS as PROJECTIONS
from stylegan_oct.model import load_generator
from stylegan_oct.presets import PRESETS
from stylegan_oct.training.state import State, create_state
from stylegan_oct.training.steps import Microbatch, Steps
from torch_utils.distributed import World
from torch_utils.graphs import WARM_UP
from torch_utils.ops.dispatch import why_unavailable
from torch_utils.precision import allow_tf32
from torch_utils.stats import Stats

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if ON_GPU else torch.device("cpu")
CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
ITERATIONS = 16   # in which every kind of step has its share
COSTLIEST = 20
KINDS = ("generator", "path_length", "discriminator", "r1")


def fact(**values: Any) -> None:
    """Print a fact."""
    print(json.dumps(values), flush=True)


def wait() -> None:
    """Wait until the device has done all."""
    if ON_GPU:
        torch.cuda.synchronize()


def machine() -> None:
    """Print what the machine is, and how fast it copies."""
    fact(python=sys.version.split()[0], torch=torch.__version__, cuda=torch.version.cuda, cores=os.cpu_count())
    if not ON_GPU:
        print("no GPU: the CPU does the same at tiny sizes")
        return
    properties = torch.cuda.get_device_properties(0)
    reason = why_unavailable()
    fact(gpu=properties.name, memory_gb=properties.total_memory / 2**30, cudnn=torch.backends.cudnn.version(),
         multiprocessors=properties.multi_processor_count, capability=f"{properties.major}.{properties.minor}")
    if reason:
        fact(wrong=f"kernels off: {reason}")
    from benchmarks.kernels import copy_bandwidth

    fact(copy_tb_per_s=copy_bandwidth(2**30) / 1e12)


def kernel_tests() -> None:
    """Run the tests of the kernels on the GPU; without one those of an op."""
    fewer = "not (tanh or sigmoid or selu or softplus or swish)"  # whose kernels a training does not compile
    wanted = ["tests/ops/test_kernels_gpu.py", "-m", "gpu and not slow", "-k", fewer] if ON_GPU else \
        ["tests/ops/test_warp2d.py"]
    lines = ["no output"]
    with subprocess.Popen([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *wanted],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.strip() or lines[-1])
    fact(kernel_tests=lines[-1])
    if process.returncode:
        fact(wrong=f"the kernels' tests: {lines[-1]}")


def small(precision: str, *, graphs: bool) -> TrainConfig:
    """Return a run whose steps a CPU can follow."""
    return TrainConfig(
        preset="report", batch=8, batch_gpu=8, total_kimg=1, graphs=graphs, precision=precision,  # type: ignore[arg-type]
        data=DataConfig(path="", fingerprint="", resolution=64 if ON_GPU else 16, classes=CLASSES),
        G=GeneratorConfig(z_dim=64, w_dim=64, mapping_layers=2, channel_base=1024, channel_max=64),
        D=DiscriminatorConfig(mapping_layers=1, channel_base=1024, channel_max=64))


def learner(config: TrainConfig, device: torch.device, p: float) -> tuple[State, Steps, Stats, list[Microbatch]]:
    """Return a training at its start, with a batch of noise."""
    allow_tf32(False)  # as a training has it
    world = World(device=device)
    state, stats = create_state(config, device, "phantom"), Stats(world)
    state.p = p
    side = config.data.resolution
    images = (torch.rand(config.batch, 1, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)
    labels = torch.arange(config.batch) % len(CLASSES)
    batch = [Microbatch(i, images[i:i + config.batch_gpu], labels[i:i + config.batch_gpu])
             for i in range(0, config.batch, config.batch_gpu)]
    return state, Steps(config, state, world, stats, torch.arange(400) % len(CLASSES)), stats, batch


@contextlib.contextmanager
def numbers_of_the_cpu() -> Iterator[None]:
    """Let all random numbers come from the CPU, so that devices draw the same."""
    plain = {name: getattr(torch, name) for name in ("rand", "randn", "randint")}

    def drawn(name: str) -> Callable[..., Tensor]:
        return lambda *args, device=None, **kwargs: plain[name](*args, **kwargs).to(device or "cpu")

    with contextlib.ExitStack() as stack:
        for name in plain:
            stack.enter_context(mock.patch.object(torch, name, drawn(name)))
        stack.enter_context(mock.patch.object(
            torch, "randn_like", lambda x: plain["randn"](x.shape, dtype=x.dtype).to(x.device)))
        yield


def agreement() -> None:
    """Print how near two steps of each kind, with augmentation at p 0.5, come to the CPU's, in each precision.

    Also how far steps from records are from the plain ones, which draw the same.
    """
    for precision, tolerance in (("fp32", 0.01), ("auto", 0.15), ("bf16", 0.3)):
        losses = {}
        for device in dict.fromkeys((torch.device("cpu"), DEVICE)):
            state, steps, stats, batch = learner(small("fp32" if device.type == "cpu" else precision, graphs=False),
                                                 device, 0.5)
            with numbers_of_the_cpu():
                for _ in range(2):
                    for kind in KINDS:
                        getattr(steps, kind)(batch)
                    state.nimg += 8
            losses[device.type] = {name: moments.mean for name, moments in stats.flush().items()}
        (wanted, found) = losses["cpu"], losses[DEVICE.type]
        far = max(abs(found[name] - wanted[name]) / max(abs(wanted[name]), 0.1) for name in wanted)
        fact(precision=precision, furthest_loss=far, losses=found)
        if not far < tolerance:
            fact(wrong=f"in {precision} a loss is {far:.1%} from the CPU's")
        if ON_GPU:
            _records_agree(precision)


def _records_agree(precision: str) -> None:
    """Print how far steps from records come to lie from the plain ones."""
    learned = []
    for graphs in (False, True, False):
        state, steps, _, batch = learner(small(precision, graphs=graphs), DEVICE, 0.5)
        for _ in range(WARM_UP + 4):
            for kind in KINDS:
                getattr(steps, kind)(batch)
            state.nimg += 8
        learned.append(torch.cat([p.detach().flatten() for p in state.G.parameters()]).double())
        if graphs and not steps.uses_records:
            fact(wrong=f"no CUDA graph in {precision}")
    plain, recorded, again = learned
    apart, rounding = ((x - plain).norm() / plain.norm() for x in (recorded, again))
    fact(precision=precision, records_apart=float(apart), plain_apart=float(rounding))
    if not float(apart) < max(10 * float(rounding), 1e-3):
        fact(wrong=f"in {precision} records learn something else: {float(apart):.1e}")


def step(resolution: str, batch: str, graphs: str) -> None:
    """Print the time of a step of each kind, of a free-running training with ADA at p 0.3, and the device's share."""
    config = _configuration(int(resolution), int(batch), graphs == "graphs")
    state, steps, stats, micros = learner(config, DEVICE, 0.3)
    torch.backends.cudnn.benchmark = True
    kinds: dict[str, Callable[[], object]] = {kind: lambda kind=kind: getattr(steps, kind)(micros) for kind in KINDS}

    def iterate() -> None:
        for _ in range(ITERATIONS):
            steps.generator(micros)
            if state.step % config.path_length.interval == 0:
                steps.path_length(micros)
            if state.step % config.augment.interval == 0:
                state.update_strength()
            steps.discriminator(micros)
            if state.step % config.r1.interval == 0:
                steps.r1(micros)
            state.update_average()
            state.nimg += config.batch
            if state.step % config.augment.interval == 0:
                state.fetch_signs()

    for run in kinds.values():
        for _ in range(WARM_UP + 2):
            run()
    milliseconds = {kind: 1000 * _seconds(run, 5) for kind, run in kinds.items()}
    iterate()
    wait()
    begin = time.perf_counter()
    iterate()
    host = time.perf_counter() - begin
    wait()
    free = time.perf_counter() - begin
    stats.flush()
    busy = _device_seconds(iterate) if ON_GPU else None
    fact(resolution=config.data.resolution, batch=config.batch, graphs=steps.uses_records, ms=milliseconds,
         s_per_kimg=free / ITERATIONS / config.batch * 1000, host_ms_per_step=1000 * host / ITERATIONS,
         busy=None if busy is None else min(busy / free, 1.0),
         memory_gb=torch.cuda.max_memory_reserved() / 2**30 if ON_GPU else None)
    if ON_GPU and graphs == "graphs" and not steps.uses_records:
        fact(wrong=f"no CUDA graph at {resolution} px, batch {batch}")


def _configuration(resolution: int, batch: int, graphs: bool) -> TrainConfig:
    data = DataConfig(path="", fingerprint="", resolution=resolution, classes=CLASSES)
    config = PRESETS["oct256" if resolution <= 256 else "oct512"](data, 1)
    config = override(config, {"batch": batch, "batch_gpu": batch, "graphs": graphs, "augment.p": 0.3})
    if ON_GPU:
        return config
    tiny = override(small("fp32", graphs=graphs), {"batch": 4, "batch_gpu": 4, "augment.p": 0.3})
    return dataclasses.replace(tiny, data=dataclasses.replace(data, resolution=16))


def _seconds(run: Callable[[], object], count: int) -> float:
    """Return the median time of a call, waited for."""
    times = []
    for _ in range(count):
        wait()
        begin = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - begin)
    return sorted(times)[count // 2]


def _device_seconds(run: Callable[[], object]) -> float:
    """Return for how long the device works in a call."""
    with profile(activities=[ProfilerActivity.CUDA]) as measured:
        run()
        wait()
    return sum(event.self_device_time_total for event in _work(measured)) / 1e6


def _work(measured: profile) -> list[Any]:
    """Return what the device has done, or without a GPU the CPU: not what started it, nor what waited for it."""
    wanted = "CUDA" if ON_GPU else "CPU"
    return [event for event in measured.key_averages()
            if event.device_type.name == wanted and not event.key.endswith("Sync") and not event.is_user_annotation]


def costliest(resolution: str, batch: str) -> None:
    """Print the costliest kernels of each kind of step."""
    config = _configuration(int(resolution), int(batch), graphs=False)
    _, steps, _, micros = learner(config, DEVICE, 0.3)
    torch.backends.cudnn.benchmark = True
    for kind in KINDS:
        run = getattr(steps, kind)
        run(micros)
        run(micros)
        with profile(activities=[ProfilerActivity.CUDA if ON_GPU else ProfilerActivity.CPU]) as measured:
            run(micros)
            wait()
        rows = sorted(((event.self_device_time_total if ON_GPU else event.self_cpu_time_total, event.count, event.key)
                       for event in _work(measured)), reverse=True)
        total = sum(row[0] for row in rows)
        print(f"{kind}: {total / 1000:.1f} ms, {sum(row[1] for row in rows)} launches")
        for microseconds, count, name in rows[:COSTLIEST]:
            print(f"  {microseconds / 1000:8.2f} ms {count:5d}x  {name[:140]}")
        fact(kind=kind, device_ms=total / 1000, launches=sum(row[1] for row in rows))


def project() -> None:
    """Print the time to project a scan with each preset; weights are random, of the generator and of lite0."""
    config = _configuration(256, 4, graphs=False)
    with tempfile.TemporaryDirectory() as folder:
        G = load_generator(create_state(config, torch.device("cpu"), "phantom").save(Path(folder), {}), device=DEVICE)
    torch.manual_seed(0)
    network = Lite0()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5 / max(parameter[0].numel(), 1) ** 0.5)
    detector = Lite0Detector(network, "0" * 64).eval().requires_grad_(False).to(DEVICE)
    side = config.data.resolution
    scans = torch.randint(0, 256, (1, 1, side, side), dtype=torch.uint8)
    presets = ("quick", "standard", "thorough") if ON_GPU else ("quick",)
    for name in presets:
        engine = Engine(G, detector, dataclasses.replace(PROJECTIONS[name], **({} if ON_GPU else {"steps": 2})))
        engine.run(scans, None, ["NORMAL"], patient=False)
        seconds = _seconds(lambda engine=engine: engine.run(scans, None, ["NORMAL"], patient=False), 1)  # type: ignore[misc]
        fact(projection=name, seconds=seconds)


def memory_checker() -> None:
    """Run every kernel once under the memory checker of the CUDA toolkit."""
    checker = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if checker is None or not ON_GPU:
        print("skipped: compute-sanitizer, of the CUDA toolkit, is not installed" if ON_GPU else "skipped: no GPU")
        return
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    done = subprocess.run([checker, "--tool", "memcheck", "--error-exitcode", "9", sys.executable, "-m",
                           "tests.ops.every_kernel_once"], env=environment, capture_output=True, text=True, check=False)
    print("\n".join((done.stdout + done.stderr).strip().splitlines()[-5:]))
    fact(memory_checker=done.returncode)
    if done.returncode:
        fact(wrong="the memory checker finds errors")


def bandwidth() -> None:
    """Print the bandwidth of each op."""
    if not ON_GPU:
        print("skipped: no GPU")
        return
    from benchmarks import kernels

    allow_tf32(False)
    kernels.ops(256, 32, compiles=False)
    kernels.overhead()


def levers() -> None:
    """Print what each lever of the trainer gives."""
    sizes = [] if ON_GPU else ["--resolution", "16", "--base", "256", "--max", "16", "--only", "one thread"]
    subprocess.run([sys.executable, "-m", "benchmarks.levers", "--rounds", "1", "--repeat", "3", *sizes], check=True)


PARTS: dict[str, Callable[..., None]] = {
    "machine": machine, "kernel_tests": kernel_tests, "agreement": agreement, "step": step, "bandwidth": bandwidth,
    "costliest": costliest, "project": project, "memory_checker": memory_checker, "levers": levers}


if __name__ == "__main__":
    if not ON_GPU:
        torch.set_num_threads(1)  # small sums, for which threads wait longer than they work
    PARTS[sys.argv[1]](*sys.argv[2:])
