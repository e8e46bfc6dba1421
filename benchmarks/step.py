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
from collections.abc import Callable

import torch

from stylegan_oct.config import AugmentConfig, DataConfig, DiscriminatorConfig, GeneratorConfig, TrainConfig
from stylegan_oct.training.launch import set_up_device
from stylegan_oct.training.state import create_state
from stylegan_oct.training.steps import Microbatch, Steps
from torch_utils.distributed import init_world
from torch_utils.stats import Stats


def matrix_product() -> float:
    """Return the GFLOP/s of a float32 matrix product with the threads of this process: what the device does today."""
    a = torch.ones(2048, 2048)
    begin = time.perf_counter()
    for _ in range(3):
        a @ a
    return 3 * 2 * 2048**3 / (time.perf_counter() - begin) / 1e9


def main() -> None:
    """Print milliseconds by phase, seconds per image and peak memory."""
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
    args = parser.parse_args()

    world = init_world()
    torch.set_num_threads(args.threads or max((os.cpu_count() or 1) // world.size, 1))
    share = args.batch // world.size
    widths = {"channel_base": args.base, "channel_max": args.max, "mapping_layers": args.mapping}
    config = TrainConfig(
        preset="benchmark", precision=args.precision, tf32=args.tf32, total_kimg=1,
        batch=args.batch, batch_gpu=share,
        data=DataConfig(path="", fingerprint="", resolution=args.resolution, classes=("a", "b", "c", "d")),
        G=GeneratorConfig(**widths), D=DiscriminatorConfig(**widths), augment=AugmentConfig(mode="fixed", p=args.p))
    set_up_device(config, world)
    state = create_state(config, world.device, "phantom")
    steps = Steps(config, state, world, Stats(world), torch.arange(4).repeat(100))
    images = torch.rand(share, 1, args.resolution, args.resolution, device=world.device) * 2 - 1
    batch = [Microbatch(world.rank * share, images, torch.arange(share) % 4)]

    def once(phase: Callable[[list[Microbatch]], None]) -> float:
        begin = time.perf_counter()
        phase(batch)
        if world.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    floor: list[float] = []
    def draw(_: list[Microbatch]) -> None:
        with torch.inference_mode():
            state.G(torch.randn(share, state.G.z_dim, device=world.device), torch.arange(share) % 4)

    phases = {"Gmain": steps.generator, "Greg": steps.path_length, "Dmain": steps.discriminator, "Dreg": steps.r1,
              "draw": draw}
    times: dict[str, list[float]] = {name: [] for name in phases}
    for number in range(args.repeat + 2):
        if world.device.type == "cpu":
            floor.append(matrix_product())
        for name, phase in phases.items():
            seconds = once(phase)
            if number >= 2:
                times[name].append(seconds)
        state.nimg += args.batch
    median = {name: statistics.median(values) for name, values in times.items()}
    per_image = (median["Gmain"] + median["Greg"] / config.path_length.interval + median["Dmain"]
                 + median["Dreg"] / config.r1.interval) / args.batch
    world.close()
    if not world.is_first:
        return
    for name, values in times.items():
        print(f"{name:6} {1e3 * median[name]:7.0f} ms/batch   ({1e3 * min(values):.0f} to {1e3 * max(values):.0f})")
    print(f"{per_image:.4f} s/image at {args.resolution} px, batch {args.batch}, {world.size} processes, "
          f"{torch.get_num_threads()} threads each")
    print(f"{1e3 * median['draw'] / share:.1f} ms for a drawn picture")
    if world.device.type == "cpu":
        print(f"matrix product meanwhile: {statistics.median(floor):.0f} GFLOP/s in float32 with these threads "
              f"({min(floor):.0f} to {max(floor):.0f})")
    if world.device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GB on the GPU")
    else:
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


if __name__ == "__main__":
    main()
