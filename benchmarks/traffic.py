"""How many bytes the ops of a step read and write, counted without a GPU, and the least time that takes on one.

    python -m benchmarks.traffic                                     # 256 px, channel base 16384, batch 32
    python -m benchmarks.traffic --resolution 512 --base 32768 --batch 16

Every op of a plain step on a GPU that is not there (tests/fake_gpu.py) with its inputs and outputs, views left out;
copies that only differ in layout are left out too, as sizes alone do not tell which op lays out how. What an op does
inside counts once: a convolution reads its images, weights and writes its result. Times are bytes over --bandwidth:
what is memory traffic takes as long at least, convolutions may take longer.
"""

import argparse
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from dnnlib.config import override
from stylegan_oct.config import DataConfig
from stylegan_oct.presets import PRESETS
from stylegan_oct.training.state import create_state
from stylegan_oct.training.steps import Microbatch, Steps
from tests.fake_gpu import FakeGpu
from torch_utils.distributed import World
from torch_utils.stats import Stats

KINDS = ("generator", "path_length", "discriminator", "r1")
LAYOUT = ("_to_copy", "clone", "copy_")  # ops that may copy for the sake of a layout alone


class Counting(FakeGpu):
    """Counts bytes by op."""

    def __init__(self) -> None:
        super().__init__(values=False)
        self.bytes, self.calls = Counter[str](), Counter[str]()

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an op and count what it moves."""
        result = super().run(func, args, kwargs)
        name = func.overloadpacket._qualified_op_name
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        if not func.is_view and not (name.endswith(LAYOUT) and len({x.dtype for x in tensors}) == 1):
            self.bytes[name] += sum(x.numel() * x.element_size() for x in tensors)
            self.calls[name] += 1
        return result


def main() -> None:
    """Print the ops of each kind of step, the busiest first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--base", type=int, default=16384)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--bandwidth", type=float, default=4.2, help="TB/s, read and written; that of an H200")
    parser.add_argument("--ops", type=int, default=8, help="how many to print")
    args = parser.parse_args()
    data = DataConfig(path="", fingerprint="", resolution=args.resolution, classes=("a", "b", "c", "d"))
    config = override(PRESETS["oct256"](data, 1), {"batch": args.batch, "batch_gpu": args.batch, "graphs": False,
                                                   "G.channel_base": args.base, "D.channel_base": args.base})
    with Counting() as gpu:
        world = World(device=gpu.device)
        state = create_state(config, gpu.device, "phantom")
        state.p = 0.3
        steps = Steps(config, state, world, Stats(world), torch.arange(4).repeat(100))
        images = torch.zeros(args.batch, 1, args.resolution, args.resolution, device=gpu.device)
        batch = [Microbatch(0, images, torch.arange(args.batch) % 4)]
        total = 0.0
        for kind in KINDS:
            getattr(steps, kind)(batch)  # the optimizer makes its tensors
            gpu.bytes.clear()
            gpu.calls.clear()
            getattr(steps, kind)(batch)
            moved = gpu.bytes.total()
            share = {"path_length": 1 / config.path_length.interval, "r1": 1 / config.r1.interval}.get(kind, 1.0)
            total += moved * share
            milliseconds = moved / args.bandwidth / 1e9
            print(f"{kind}: {moved / 1e9:.1f} GB, {gpu.calls.total()} ops, at least {milliseconds:.1f} ms")
            for name, size in gpu.bytes.most_common(args.ops):
                print(f"  {size / 1e9:7.2f} GB {gpu.calls[name]:5d}x  {name}")
    milliseconds = total / args.bandwidth / 1e9
    print(f"a batch of {args.batch}: {total / 1e9:.1f} GB, at least {milliseconds:.1f} ms, "
          f"{milliseconds / args.batch:.2f} s/kimg of memory traffic")


if __name__ == "__main__":
    main()
