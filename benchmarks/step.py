"""Time of one training step by phase, of a drawn picture, and peak memory.

    python -m benchmarks.step                       # 64 px, channel base 4096, max 256, batch 8, bgc at p 0.3
    python -m benchmarks.step --resolution 256 --base 16384 --max 512 --batch 4
    python -m benchmarks.step --precision bf16
    torchrun --standalone --nproc-per-node 2 -m benchmarks.step

Expected before measuring, on two cores with AVX-512 that do about 200 GFLOP/s in float32: 0.10 to 0.15 s/image at
64 px. The floor is 0.09 (19 GFLOP an image); the official code took 0.162 to 0.181.
"""

import argparse
import os
import resource
import statistics
import time

import torch

from stylegan_oct.config import AugmentConfig, DataConfig, DiscriminatorConfig, GeneratorConfig, TrainConfig
from stylegan_oct.training.launch import set_up_device
from stylegan_oct.training.state import create_state
from stylegan_oct.training.steps import Microbatch, Steps
from torch_utils.distributed import World, init_world
from torch_utils.memory import keep_freed_memory
from torch_utils.stats import Stats

Times = tuple[float, float]  # elapsed and CPU time, seconds


def matrix_product() -> float:
    """Return the GFLOP/s of a float32 matrix product with the threads of this process: what the device does today."""
    a = torch.ones(2048, 2048)
    begin = time.perf_counter()
    for _ in range(3):
        a @ a
    return 3 * 2 * 2048**3 / (time.perf_counter() - begin) / 1e9


def main() -> None:
    """Print milliseconds by phase, seconds per image and peak memory."""
    args = arguments()
    world = init_world()
    torch.set_num_threads(args.threads or max((os.cpu_count() or 1) // world.size, 1))
    keep_freed_memory()
    config = configuration(args, world)
    set_up_device(config, world)
    times, floor = measure(config, world, args.repeat)
    world.close()
    if world.is_first:
        report(times, floor, config, world)


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--base", type=int, default=4096)
    parser.add_argument("--max", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--p", type=float, default=0.3)
    parser.add_argument("--mapping", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=12)
    parser.add_argument("--threads", type=int, help="default: the cores, shared among the processes")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "fp16", "bf16"])
    parser.add_argument("--tf32", action="store_true")
    return parser.parse_args()


def configuration(args: argparse.Namespace, world: World) -> TrainConfig:
    """Return a run of four classes whose batch is shared by the processes."""
    widths = {"channel_base": args.base, "channel_max": args.max, "mapping_layers": args.mapping}
    return TrainConfig(
        preset="benchmark", precision=args.precision, tf32=args.tf32, total_kimg=1,
        batch=args.batch, batch_gpu=args.batch // world.size,
        data=DataConfig(path="", fingerprint="", resolution=args.resolution, classes=("a", "b", "c", "d")),
        G=GeneratorConfig(**widths), D=DiscriminatorConfig(**widths), augment=AugmentConfig(mode="fixed", p=args.p))


def measure(config: TrainConfig, world: World, repeat: int) -> tuple[dict[str, list[Times]], list[float]]:
    """Return the times of every kind of step and of drawing a batch, and GFLOP/s of a matrix product meanwhile."""
    state = create_state(config, world.device, "phantom")
    steps = Steps(config, state, world, Stats(world), torch.arange(4).repeat(100))
    share, resolution = config.batch_gpu, config.data.resolution
    images = torch.rand(share, 1, resolution, resolution, device=world.device) * 2 - 1
    batch = [Microbatch(world.rank * share, images, torch.arange(share) % 4)]

    def draw(_: list[Microbatch]) -> None:
        with torch.inference_mode():
            state.G(torch.randn(share, state.G.z_dim, device=world.device), torch.arange(share) % 4)

    phases = {"Gmain": steps.generator, "Greg": steps.path_length, "Dmain": steps.discriminator, "Dreg": steps.r1,
              "draw": draw}
    times: dict[str, list[Times]] = {name: [] for name in phases}
    floor: list[float] = []
    for number in range(repeat + 2):
        if world.device.type == "cpu":
            floor.append(matrix_product())
        for name, phase in phases.items():
            begin, begin_cpu = time.perf_counter(), time.process_time()
            phase(batch)
            if world.device.type == "cuda":
                torch.cuda.synchronize()
            if number >= 2:
                times[name].append((time.perf_counter() - begin, time.process_time() - begin_cpu))
        state.nimg += config.batch
    return times, floor


def report(times: dict[str, list[Times]], floor: list[float], config: TrainConfig, world: World) -> None:
    """Print what `measure` returned."""
    for name, values in times.items():
        elapsed = [1e3 * value for value, _ in values]
        print(f"{name:6} {statistics.median(elapsed):7.0f} ms/batch   ({min(elapsed):.0f} to {max(elapsed):.0f})")
    elapsed_and_cpu = []
    for kind in (0, 1):
        median = {name: statistics.median([value[kind] for value in values]) for name, values in times.items()}
        elapsed_and_cpu.append((median["Gmain"] + median["Greg"] / config.path_length.interval + median["Dmain"]
                                + median["Dreg"] / config.r1.interval) / config.batch)
    drawn = 1e3 * statistics.median([value for value, _ in times["draw"]]) / config.batch_gpu
    print(f"{elapsed_and_cpu[0]:.4f} s/image at {config.data.resolution} px, batch {config.batch}, {world.size} "
          f"processes, {torch.get_num_threads()} threads each; CPU time of one {elapsed_and_cpu[1]:.4f} s/image")
    print(f"{drawn:.1f} ms for a drawn picture")
    if world.device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GB on the GPU")
        return
    print(f"matrix product meanwhile: {statistics.median(floor):.0f} GFLOP/s in float32 with these threads "
          f"({min(floor):.0f} to {max(floor):.0f})")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


if __name__ == "__main__":
    main()
