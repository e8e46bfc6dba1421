"""Which variant of a kernel runs on given tensors, over how many blocks, with which parameters.

A kernel is compiled for what it is called with: factors, filter size, phases, layout, dtype. So every call runs
unrolled code that multiplies nothing twice and no zero. The sources say what the definitions mean.
"""

import functools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

THREADS = 256
PACK_BYTES = 16
SHARED_BYTES = 48 * 1024     # of a block, without asking for more
MOST_TAPS = 64               # of a filter that is unrolled; 12 x 12 of a separable one are 24
MOST_SUMS = 64               # numbers that a thread sums up in registers
MOST_ROWS = 4                # that a march keeps in registers
MARCHES = 1 << 18            # threads that are enough for a march to be long
UNROLL = 4                   # as in bias_act.cu
SLOT_PIXELS = 64             # that a thread of layer_end.cu goes through
ENOUGH = 1 << 17             # threads that keep a GPU busy


@dataclass(frozen=True)
class Variant:
    """A kernel to compile: a source, the name of its function, and its definitions."""

    name: str                          # of the source and of the function in it
    definitions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Launch:
    """A kernel with its parameters."""

    variant: Variant
    blocks: int
    parameters: bytes                  # the struct Params of the source


def bias_act_launch(y: Tensor, x: Tensor | None, b: Tensor | None, g: Tensor | None, *, order: int, dim: int, act: str,
                    alpha: float, gain: float, clamp: float | None,
                    sigmoid: Sequence[Sequence[int]] = ()) -> Launch:
    """Return what writes clamp(gain * act(x + b)) into `y`, or for order n its n-th derivative times `g` and gain.

    Args:
        y: result, dense in any order of its axes.
        x: strides of `y`; None where a gradient needs none.
        b: [y.shape[dim]], or None.
        g: strides of `y`; for order 0 None.
        order, dim, act, alpha, gain, clamp: as in `torch_utils.ops.bias_act`.
        sigmoid: coefficients of the n-th and of the (n - 1)-th derivative of the logistic function.
    """
    tensors = [tensor for tensor in (y, x, g) if tensor is not None]
    pack = PACK_BYTES // y.element_size()
    if y.numel() % pack or any(tensor.data_ptr() % PACK_BYTES for tensor in tensors):
        pack = 1
    step, channels = (y.stride(dim), y.shape[dim]) if y.ndim else (1, 1)
    kind = 0
    if b is not None:
        # A pack lies within one channel, or holds neighbouring ones.
        aligned = b.data_ptr() % PACK_BYTES == 0 or pack == 1
        kind = 1 if step % pack == 0 else 2 if step == 1 and channels % pack == 0 and aligned else 3
    variant = _bias_act_variant(str(y.dtype), order, act, kind, clamp is not None, pack, y.numel() < 2**31,
                                tuple(tuple(factors) for factors in sigmoid))
    parameters = struct.pack("@PPPPqqqddd", _address(y), _address(x), _address(b), _address(g), y.numel(), max(step, 1),
                             max(channels, 1), alpha, gain, clamp if clamp is not None else 0.0)
    return Launch(variant, math.ceil(y.numel() / (pack * UNROLL * THREADS)), parameters)


@functools.cache
def _bias_act_variant(dtype: str, order: int, act: str, bias: int, clamp: bool, pack: int, small: bool,
                      sigmoid: tuple[tuple[int, ...], ...]) -> Variant:
    names = ("SIGMOID_N", "SIGMOID_N1")
    factors = [(name, "{ " + ", ".join(map(str, values)) + " }") for name, values in zip(names, sigmoid, strict=False)]
    return Variant("bias_act", (
        (_scalar(dtype), ""), ("ORDER", str(order)), (f"ACT_{act}", ""), ("BIAS", str(bias)), ("PACK", str(pack)),
        *((("HAS_CLAMP", ""),) if clamp else ()), ("THREADS", str(THREADS)),
        ("INDEX", "unsigned int" if small else "long long"), *factors))


def upfirdn2d_launch(y: Tensor, x: Tensor, f: Tensor, *, up: Sequence[int], down: Sequence[int],
                     padding: Sequence[int], flip_filter: bool, gain: float) -> Launch:
    """Return what writes the upsampled, padded, filtered and downsampled `x` into `y`.

    Args:
        y: result, [N, C, H', W'], contiguous or channels last.
        x: [N, C, H, W], any strides.
        f: float32, contiguous, [fh, fw], or [n] for a pass along each axis where `is_separable_launch` says so.
        up, down: [x, y].
        padding: [x before, x after, y before, y after].
        flip_filter, gain: as in `torch_utils.ops.upfirdn2d`.
    """
    (n, c, h, w), (oh, ow) = x.shape, y.shape[2:]
    shape = (f.shape[0], f.shape[0]) if f.ndim == 1 else (f.shape[0], f.shape[1])
    last = y.stride(1) == 1 and c > 1 and not x.is_contiguous()
    same = x.is_contiguous(memory_format=torch.channels_last) if last else x.is_contiguous()
    layout = ("channels" if last else "planes") if same and (
        f.ndim == 1 or shape[0] * shape[1] <= MOST_TAPS) else "any"
    assert f.ndim == 2 or is_separable_launch(x, up, down, len(f))
    pack = PACK_BYTES // x.element_size()
    if (c if last else w) % pack or x.data_ptr() % PACK_BYTES or (last and y.data_ptr() % PACK_BYTES):
        pack = 1
    phase = (padding[0] % up[0], padding[2] % up[1])
    geometry = _upfirdn2d_geometry(str(x.dtype), layout, f.ndim == 1, tuple(up), tuple(down), shape, phase, pack,
                                   _power_of_two(ow), _power_of_two(oh))
    run_x, run_y = geometry.run
    chunks = 0
    if geometry.layout == "planes":
        lanes_x, lanes_y, lanes_p = geometry.lanes
        blocks = (math.ceil(ow / (lanes_x * run_x)) * math.ceil(oh / (lanes_y * run_y)) * math.ceil(n * c / lanes_p))
    elif geometry.march:
        strips = n * (c // pack) * math.ceil(ow / run_x)
        chunks = max(min(strips * math.ceil(oh / geometry.march) // MARCHES, math.ceil(oh / geometry.march)), 1)
        blocks = math.ceil(strips * math.ceil(oh / (geometry.march * chunks)) / THREADS)
    elif geometry.layout == "channels":
        blocks = math.ceil(n * (c // pack) * math.ceil(oh / run_y) * math.ceil(ow / run_x) / THREADS)
    else:
        blocks = math.ceil(y.numel() / THREADS)
    parameters = struct.pack("@PPPqqqqqq4q4qqqdii", _address(y), _address(x), _address(f), n, c, h, w, oh, ow,
                             *x.stride(), *y.stride(), padding[0], padding[2], gain, flip_filter, chunks)
    return Launch(geometry.variant, blocks, parameters)


def layer_end_launch(y: Tensor, x: Tensor | None, scale: Tensor | None, noise: Tensor | None, strength: Tensor | None,
                     b: Tensor | None, *, g: Tensor | None = None, of_y: Tensor | None = None, act: str, alpha: float,
                     gain: float, clamp: float | None) -> tuple[Launch, Tensor | None]:
    """Return what writes the end of a layer into `y`, or with `g` the gradient of x; and then where its sums will be.

    Args:
        y: result, [N, C, H, W], channels last, as are x, g and of_y.
        x: what the layer ends with; of a gradient None where there is no scale.
        scale: [N, C], contiguous, as are all below; or None.
        noise: [N, 1, H, W] or [1, 1, H, W], or None.
        strength: a number, with noise but for a gradient.
        b: [C], or None.
        g: gradient of the end.
        of_y: the end whose gradient it is.
        act, alpha, gain, clamp: as in `torch_utils.ops.layer_end`.
    Returns:
        The launch, and of a gradient a tensor [3, N, slots, C] of sums, to be added over its slots.
    """
    n, channels, pixels = y.shape[0], y.shape[1], y.shape[2] * y.shape[3]
    pack = PACK_BYTES // y.element_size()
    whole = [tensor for tensor in (y, x, g, of_y, scale, b) if tensor is not None]
    if channels % pack or any(tensor.data_ptr() % PACK_BYTES for tensor in whole):
        pack = 1
    # At least so many threads as keep a GPU busy, though small images then leave the adding to another kernel.
    slots = max(math.ceil(pixels / SLOT_PIXELS), min(pixels, math.ceil(ENOUGH / (n * (channels // pack)))))
    sums = None if g is None else y.new_empty(3, n, slots, channels, dtype=torch.float32)
    flags = [(name, "") for name, there in (("GRADIENT", g is not None), ("HAS_SCALE", scale is not None),
                                            ("HAS_NOISE", noise is not None), ("HAS_BIAS", b is not None),
                                            ("HAS_CLAMP", clamp is not None)) if there]
    variant = Variant("layer_end", (
        (_scalar(str(y.dtype)), ""), (f"ACT_{act}", ""), *flags, ("PACK", str(pack)), ("THREADS", str(THREADS))))
    parameters = struct.pack("@PPPPPPPPPqqqqqddd", *map(_address, (y, x, scale, noise, strength, b, g, of_y, sums)), n,
                             pixels, channels, slots, pixels if noise is not None and noise.shape[0] == n > 1 else 0,
                             alpha, gain, clamp if clamp is not None else 0.0)
    return Launch(variant, math.ceil(n * slots * (channels // pack) / THREADS), parameters), sums


def warp2d_launch(y: Tensor, x: Tensor, maps: Tensor, f: Tensor, *, adjoint: bool) -> Launch:
    """Return what writes the images `x`, read under affine maps, into `y`, or the adjoint of that.

    Args:
        y: result, [N, C, rows, columns], contiguous; of the adjoint [N, C, H, W].
        x: [N, C, H, W], of the adjoint [N, C, rows, columns], contiguous.
        maps: [N, 2, 3], of the dtype of the images, contiguous.
        f: [even], of the dtype of the images, contiguous.
        adjoint: which of the two.
    """
    image, plane = (y, x) if adjoint else (x, y)
    definitions = [(_scalar(str(x.dtype)), ""), ("TAPS", str(len(f))), ("THREADS", str(THREADS))]
    variant = Variant("warp2d", tuple(definitions + [("ADJOINT", "")] * adjoint))
    parameters = struct.pack("@PPPPqqqqqq", _address(y), _address(x), _address(f), _address(maps), *image.shape,
                             *plane.shape[2:])
    return Launch(variant, math.ceil(y.numel() // max(y.shape[1], 1) / THREADS), parameters)


def is_separable_launch(x: Tensor, up: Sequence[int], down: Sequence[int], taps: int) -> bool:
    """Return whether one launch can filter along both axes with the same taps, or two are needed."""
    if x.is_contiguous():
        # Of float64 too few numbers fit into a block's memory.
        return x.dtype != torch.float64 and taps * max(*up, *down) <= MOST_TAPS
    marches = all(taps <= MOST_ROWS * u and 1 in (u, d) for u, d in zip(up, down, strict=True))
    return marches and x.numel() < 2**31 and x.is_contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class _Geometry:
    variant: Variant
    layout: str
    run: tuple[int, int]
    lanes: tuple[int, int, int]
    march: int = 0             # rows of outputs between two turns of a march's loop; 0: it is none


@functools.cache
def _upfirdn2d_geometry(dtype: str, layout: str, separable: bool, up: tuple[int, ...], down: tuple[int, ...],
                        shape: tuple[int, int], phase: tuple[int, int], pack: int, width: int,
                        height: int) -> _Geometry:
    """Return the cut of the work into threads and blocks; `width` and `height` are rounded up to powers of two."""
    run, lanes, march = (1, 1), (1, 1, THREADS), 0
    rows: list[tuple[str, str]] = []
    if layout == "channels" and separable:
        run = (up[0], up[1])
        lead = _lead(up[1], down[1], shape[0], phase[1])
        chunk = math.lcm(lead + 1, down[1])
        march = chunk * up[1] // down[1]
        rows = [("LEAD", str(lead)), ("CHUNK", str(chunk))]
    elif layout == "channels":
        run = (max(4 // down[0], 1), max(2 // down[1], 1))
        run = (_multiple(run[0], up[0]), _multiple(run[1], up[1]))
        while run[0] * run[1] * pack > MOST_SUMS and run[0] > up[0]:
            run = (_multiple(run[0] // 2, up[0]), run[1])
    elif layout == "planes":
        tile = _tile(dtype, separable, up, down, shape, phase, width, height)
        if tile is None:
            assert not separable, f"no tile of {shape} taps, up {up}, down {down} fits into shared memory"
            layout = "any"
        else:
            run, lanes = tile
        pack = pack if width >= pack else 1
    definitions: list[tuple[str, str]] = [
        (_scalar(dtype), ""), (f"LAYOUT_{layout}", ""), ("UP_X", str(up[0])), ("UP_Y", str(up[1])),
        ("DOWN_X", str(down[0])), ("DOWN_Y", str(down[1])), ("FILTER_W", str(shape[1])), ("FILTER_H", str(shape[0])),
        ("PACK", str(pack)), ("THREADS", str(THREADS))]
    if layout != "any":
        definitions += [("PHASE_X", str(phase[0])), ("PHASE_Y", str(phase[1])), ("RUN_X", str(run[0])),
                        ("RUN_Y", str(run[1]))]
    if layout == "planes":
        definitions += [(f"LANES_{axis}", str(count)) for axis, count in zip("XYP", lanes, strict=True)]
    if separable:
        definitions.append(("SEPARABLE", ""))
    return _Geometry(Variant("upfirdn2d", tuple(definitions + rows)), layout, run, lanes, march)


def _lead(up: int, down: int, taps: int, phase: int) -> int:
    """Return how many inputs come between the first and the last that outputs made at the same time see.

    Output j is made when input j * down // up + lead is there, and sees no input before j * down // up.
    """
    return max(0, *((taps - 1 - phase + j * down) // up - j * down // up for j in range(up)))


def _tile(dtype: str, separable: bool, up: tuple[int, ...], down: tuple[int, ...], shape: tuple[int, int],
          phase: tuple[int, int], width: int, height: int) -> tuple[tuple[int, int], tuple[int, int, int]] | None:
    """Return (run, lanes) of a block whose tile fits into shared memory: 32 threads along x where images are wide.

    None where no tile does, as with 60 taps of float64.
    """
    run_x, run_y = up[0], _multiple(max(8 // down[1], 1), up[1])
    lanes_x = _floor_power(min(32, width // run_x))
    run_y = _multiple(min(run_y, height), up[1])
    lanes_y = _floor_power(min(THREADS // lanes_x, height // run_y))
    number = 8 if dtype == "torch.float64" else 4
    while True:
        lanes_p = THREADS // (lanes_x * lanes_y)
        tile_w, tile_h = lanes_x * run_x, lanes_y * run_y
        in_w = _seen(tile_w, up[0], down[0], shape[1], phase[0]) + down[0]
        in_h = _seen(tile_h, up[1], down[1], shape[0], phase[1])
        if lanes_p * in_h * (in_w + separable * tile_w) * number <= SHARED_BYTES:
            return (run_x, run_y), (lanes_x, lanes_y, lanes_p)
        if run_y > up[1]:
            run_y = _multiple(run_y // 2, up[1])
        elif lanes_p > 1:  # long filters on small images: threads beyond the image idle, but it is fewer planes
            lanes_x, lanes_y = (2 * lanes_x, lanes_y) if lanes_x <= lanes_y else (lanes_x, 2 * lanes_y)
        elif lanes_y > 1:
            lanes_y //= 2
            # As many threads as before: more planes would need more memory than the rows of one do.
            lanes_x = min(lanes_x * 2, THREADS)
        else:
            return None


def _seen(run: int, up: int, down: int, taps: int, phase: int) -> int:
    """Return how many inputs a run of outputs sees, as in upfirdn2d.cu."""
    reach = (run - 1) * down + taps - 1 - phase
    return reach // up + 1 if reach >= 0 else 0


def _scalar(dtype: str) -> str:
    return f"SCALAR_{dtype.removeprefix('torch.')}"


def _multiple(value: int, unit: int) -> int:
    return max(math.ceil(value / unit), 1) * unit


def _power_of_two(value: int) -> int:
    """Return the next power of two, at most 64: what sizes above have in common."""
    return min(1 << max(value - 1, 0).bit_length(), 64)


def _floor_power(value: int) -> int:
    """Return the largest power of two that is not above `value`, at least 1."""
    return 1 << (max(value, 1).bit_length() - 1)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
