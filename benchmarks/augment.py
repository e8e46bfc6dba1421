"""Time of the augmentations by group and size, forward alone and with the gradient to the images.

    python -m benchmarks.augment                               # 64, 256 and 512 px, batch 8, p 0.3, one channel
    python -m benchmarks.augment --sizes 64 --groups bgc --p 0.8 --device cuda

Expected before measuring, `bgc` forward on two cores with AVX-512: 3 ms at 64 px, where some hundred tiny operations on
the host make up a millisecond, and 40 ms at 256 px, half of it matrix products of 0.4 GFLOP an image. The official code
took 10 to 16 and 107 to 404 ms.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from dnnlib.text import parse_int_list
from stylegan_oct.augment.pipeline import AugmentPipe
from stylegan_oct.augment.spec import PRESETS
from torch_utils.seeding import seed_torch

WARM_UP = 3


def main() -> None:
    """Print milliseconds per batch, every group and size over batches of the same seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=parse_int_list, default=[64, 256, 512])
    parser.add_argument("--groups", nargs="+", default=[*PRESETS])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--p", type=float, default=0.3)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    print(f"ms per batch of {args.batch}, {args.channels} channel(s), p {args.p}, {device}, {args.threads} threads: "
          f"median (10 % to 90 %) of {args.repeat} batches")
    print("size  groups   forward                 forward and backward")
    for size in args.sizes:
        images = torch.rand(args.batch, args.channels, size, size, device=device, requires_grad=True)
        for groups in args.groups:
            pipe = AugmentPipe(groups, channels=args.channels).to(device)
            forward = _measure(lambda pipe=pipe, images=images: pipe(images, args.p), args.repeat, device)
            both = _measure(lambda pipe=pipe, images=images: _backward(pipe(images, args.p), images), args.repeat,
                            device)
            print(f"{size:4}  {groups:7}  {_spread(forward):22}  {_spread(both)}", flush=True)


def _backward(result: Tensor, images: Tensor) -> None:
    """The images may come back as they are, where no transformation was drawn."""
    torch.autograd.grad(result.sum(), images)


def _measure(run: Callable[[], object], repeat: int, device: torch.device) -> list[float]:
    """Return milliseconds of each of `repeat` batches, seeded by their number."""
    times = []
    for number in range(-WARM_UP, repeat):
        seed_torch(number + WARM_UP)
        begin = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 0:
            times.append(1e3 * (time.perf_counter() - begin))
    return times


def _spread(times: list[float]) -> str:
    deciles = statistics.quantiles(times, n=10)
    return f"{statistics.median(times):6.1f} ({deciles[0]:.1f} to {deciles[-1]:.1f})"


if __name__ == "__main__":
    main()
