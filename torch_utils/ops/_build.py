"""Kernels ready to launch: compiled by NVRTC on first use, within a second, and kept as files named by their content.

    launch(upfirdn2d_launch(y, x, f, ...), device)

A file is looked for among those that came with the installation (`make kernels`), then in the user's cache. It is
written under a temporary name and renamed, so that two processes may compile the same kernel and a killed one leaves
nothing that looks finished; a changed source has another name. Where the cache cannot be written, kernels are compiled
anew in each process.
"""

import logging
import os
from functools import cache
from pathlib import Path

import torch

from dnnlib.files import atomic_write
from torch_utils.ops import _driver
from torch_utils.ops._driver import CudaError, Function
from torch_utils.ops._source import digest_of, source_of
from torch_utils.ops.launches import THREADS, Launch, Variant

PREBUILT = Path(__file__).parent / "prebuilt"
CACHE_VARIABLE = "STYLEGAN_OCT_KERNELS"   # folder of compiled kernels
OFF_VARIABLE = "STYLEGAN_OCT_NO_KERNELS"  # any value: plain PyTorch everywhere

logger = logging.getLogger(__name__)


@cache
def why_unavailable() -> str | None:
    """Return why kernels cannot run on this computer, or None when they can; tried once."""
    if os.environ.get(OFF_VARIABLE):
        return f"${OFF_VARIABLE} is set"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build without CUDA"
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA device"
    try:
        index = torch.cuda.current_device()
        torch.zeros(1, device=f"cuda:{index}")  # makes the context that modules are loaded into
        _function(_probe(), _architecture(index), index)
    except (CudaError, OSError) as error:
        return str(error)
    return None


def launch(what: Launch, device: torch.device) -> None:
    """Run a kernel on the current stream of a device, on which its tensors are.

    Raises:
        CudaError: it cannot be compiled or launched.
    """
    if what.blocks == 0:
        return
    index = device.index if device.index is not None else torch.cuda.current_device()
    function = _function(what.variant, _architecture(index), index)
    with torch.cuda.device(index):
        function(what.blocks, THREADS, what.parameters, torch.cuda.current_stream(index).cuda_stream)


@cache
def _function(variant: Variant, architecture: int, index: int) -> Function:
    """Return the kernel of a device; `index` is part of the key since each device loads a module of its own."""
    with torch.cuda.device(index):
        image = compiled(variant, architecture)
        try:
            return Function(image, variant.name)
        except CudaError:  # a file that was cut short or damaged
            logger.debug("compiling %s anew: its file is damaged", variant.name)
            return Function(compiled(variant, architecture, anew=True), variant.name)


def compiled(variant: Variant, architecture: int, *, anew: bool = False) -> bytes:
    """Return a kernel as the driver takes it: from a file, or compiled and kept in one.

    Args:
        variant: what to compile.
        architecture: compute capability, 90 for 9.0.
        anew: do not look for a file.
    Raises:
        CudaError: NVRTC is not to be found, or does not accept the source.
    """
    name = f"{variant.name}-{digest_of(variant, f'sm_{architecture}')}.cubin"
    folder = cache_folder()
    for path in () if anew else (PREBUILT / name, folder / name):
        try:
            return path.read_bytes()
        except OSError:
            continue
    image, _ = _driver.compile_source(source_of(variant), architecture)
    try:
        with atomic_write(folder / name, "wb") as file:
            file.write(image)
    except OSError as error:
        _say_once(f"kernels cannot be kept in {folder} ({error.strerror}): each process compiles them anew; "
                  f"${CACHE_VARIABLE} names another folder")
    return image


def cache_folder() -> Path:
    """Return where compiled kernels are kept."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stylegan_oct" / "kernels"


def _probe() -> Variant:
    """Return a small kernel whose compiling tells whether any can be."""
    return Variant("bias_act", (("SCALAR_float32", ""), ("ORDER", "0"), ("ACT_linear", ""), ("BIAS", "0"),
                                ("PACK", "4"), ("THREADS", str(THREADS)), ("INDEX", "unsigned int")))


@cache
def _architecture(index: int) -> int:
    major, minor = torch.cuda.get_device_capability(index)
    return 10 * major + minor


@cache
def _say_once(message: str) -> None:
    logger.info("%s", message)
