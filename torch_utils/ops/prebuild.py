"""Compiles the kernels that StyleGAN2-ADA runs for the GPUs of today, with nvcc and without a GPU: `make kernels`.

    python -m torch_utils.ops.prebuild --architectures 80,90

The files go where `_build` looks first, so that nothing is compiled on first use. Fails where a kernel keeps numbers in
local memory for want of registers: it would be slow.
"""

import argparse
import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from torch_utils.ops._build import PREBUILT
from torch_utils.ops._source import digest_of, source_of
from torch_utils.ops.launches import (
    Variant,
    bias_act_launch,
    layer_end_launch,
    upfirdn2d_launch,
    warp2d_launch,
)

ARCHITECTURES = (70, 75, 80, 86, 89, 90, 100, 120)
FORMATS = (torch.contiguous_format, torch.channels_last)
CHANNELS = 16
SPILL = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")

# (taps of a side, up, down, padding) of the resampling layers and of their gradients.
RESAMPLING = ((4, 2, 1, (2, 1, 2, 1)), (4, 1, 2, (1, 1, 1, 1)), (4, 1, 1, (1, 1, 1, 1)), (4, 1, 1, (2, 2, 2, 2)),
              (4, 1, 2, (1, 2, 1, 2)), (4, 2, 1, (2, 2, 2, 2)))
WAVELET = 12  # taps of the filter of geometric augmentations


def fast_paths() -> Iterator[Variant]:
    """Yield the variants that training runs, some of them more than once."""
    for dtype, form in itertools.product((torch.float16, torch.bfloat16, torch.float32), FORMATS):
        for (taps, up, down, padding), size in itertools.product(RESAMPLING, (8, 16, 32, 64, 128)):
            yield _resampling(torch.ones(taps), size, up, down, padding, dtype, form)
        x = torch.empty(1, CHANNELS, 8, 8, dtype=dtype).contiguous(memory_format=form)
        b = torch.empty(CHANNELS, dtype=dtype)
        for act, clamp, bias in itertools.product(("lrelu", "linear"), (None, 256.0), (b, None)):
            options = {"dim": 1, "act": act, "alpha": 0.2, "gain": 1.4, "clamp": clamp}
            yield bias_act_launch(x, x, bias, None, order=0, **options).variant  # type: ignore[arg-type]
            yield bias_act_launch(x, x, None, x, order=1, sigmoid=((1,), (1,)),
                                  **options).variant  # type: ignore[arg-type]
        for act, clamp, scale, noise in itertools.product(("lrelu", "linear"), (None, 256.0), (None, x[:, :, 0, 0]),
                                                           (None, x[:, :1])):
            if form is FORMATS[0] or (act == "linear" and noise is not None):
                continue
            end = {"act": act, "alpha": 0.2, "gain": 1.4, "clamp": clamp}
            what, _ = layer_end_launch(x, x, scale, noise, b[:1], b, **end)  # type: ignore[arg-type]
            yield what.variant
            what, _ = layer_end_launch(x, x, scale, noise, None, None, g=x, of_y=x, **end)  # type: ignore[arg-type]
            yield what.variant
    images = torch.empty(1, 1, 8, 8)
    for adjoint in (False, True):
        yield warp2d_launch(images, images, torch.empty(1, 2, 3), torch.empty(WAVELET), adjoint=adjoint).variant


def main() -> None:
    """Compile what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", help="compute capabilities such as 80,90; default: all that nvcc knows")
    parser.add_argument("--out", type=Path, default=PREBUILT)
    args = parser.parse_args()
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        print("make kernels: skipped, there is no nvcc; kernels are compiled on first use instead")
        return
    known = {int(name) for name in re.findall(r"compute_(\d+)\b", _output(nvcc, "--list-gpu-arch"))}
    wanted = [int(name) for name in args.architectures.split(",")] if args.architectures else ARCHITECTURES
    for architecture in sorted(set(wanted) - known):
        print(f"sm_{architecture}: skipped, this nvcc does not know it")
    architectures = [architecture for architecture in wanted if architecture in known]
    variants = sorted(set(fast_paths()), key=str)
    print(f"{len(variants)} kernels for {', '.join(f'sm_{number}' for number in architectures)}, in {args.out}")
    _compile(variants, architectures, args.out, nvcc)
    spilled = [path.name for path in sorted(args.out.glob("*.log")) if _spills(path.read_text())]
    if spilled:
        sys.exit(f"{len(spilled)} kernels keep numbers in local memory: {', '.join(spilled[:5])}")
    print("no kernel spills registers")


def _resampling(f: torch.Tensor, size: int, up: int, down: int, padding: tuple[int, ...], dtype: torch.dtype,
                form: torch.memory_format, channels: int = CHANNELS) -> Variant:
    x = torch.empty(1, channels, size, size, dtype=dtype).contiguous(memory_format=form)
    out = [(size * up + sum(padding[2 * axis:2 * axis + 2]) - f.shape[0]) // down + 1 for axis in (1, 0)]
    y = torch.empty(1, channels, *out, dtype=dtype).contiguous(memory_format=form)
    return upfirdn2d_launch(y, x, f, up=(up, up), down=(down, down), padding=padding, flip_filter=False,
                            gain=1.0).variant


def _compile(variants: list[Variant], architectures: list[int], out: Path, nvcc: str) -> None:
    """Let ninja run nvcc for each kernel and architecture whose file is missing."""
    out.mkdir(parents=True, exist_ok=True)
    lines = ["rule nvcc", f"  command = {nvcc} -std=c++17 -cubin -arch=sm_$arch -Xptxas -v $in -o $out.tmp "
             "> $out.log 2>&1 && mv $out.tmp $out || (cat $out.log; false)", "  description = sm_$arch $out"]
    for variant, architecture in itertools.product(variants, architectures):
        name = f"{variant.name}-{digest_of(variant, f'sm_{architecture}')}"
        (out / f"{name}.cu").write_text(source_of(variant), encoding="utf-8")
        lines += [f"build {name}.cubin: nvcc {name}.cu", f"  arch = {architecture}"]
    (out / "build.ninja").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "ninja", "-C", str(out), "--quiet"], check=False)
    if done.returncode:
        sys.exit("nvcc refuses a kernel; see above")


def _spills(log: str) -> bool:
    return any(int(stores) or int(loads) for stores, loads in SPILL.findall(log))


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
