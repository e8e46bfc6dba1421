"""CUDA kernels from bytes to launches: the few functions of NVRTC and of the driver that this takes, by ctypes.

PyTorch brings both libraries, so that no compiler, header or CUDA toolkit needs to be installed.
"""

import ctypes
import importlib.util
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch

NO_CONTEXT = (3, 201)  # CUDA_ERROR_NOT_INITIALIZED, CUDA_ERROR_INVALID_CONTEXT
NVRTC_NAMES = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")


class CudaError(RuntimeError):
    """A call of NVRTC or of the driver failed; the message is one line."""


def compile_source(source: str, architecture: int) -> tuple[bytes, str]:
    """Return (cubin or PTX, its kind "cubin" or "ptx") of a CUDA source that includes nothing.

    PTX of the newest architecture that this NVRTC knows is made for one that it does not know; the driver compiles it.

    Args:
        source: CUDA C++.
        architecture: compute capability, 90 for 9.0.
    Raises:
        CudaError: NVRTC is not to be found, or does not accept the source.
    """
    nvrtc = _nvrtc()
    known = supported_architectures()
    exact = architecture in known
    target = f"sm_{architecture}" if exact else f"compute_{max(number for number in known if number < architecture)}"
    program = ctypes.c_void_p()
    _check_nvrtc(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None))
    try:
        options = [f"--gpu-architecture={target}".encode(), b"--std=c++17"]
        failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        if failed:
            lines = _read(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).decode(errors="replace")
            reason = next((line for line in lines.splitlines() if "error" in line), "no reason given")
            raise CudaError(f"NVRTC refuses a kernel: {reason.strip()}")
        if exact:
            return _read(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN), "cubin"
        return _read(program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX), "ptx"
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def supported_architectures() -> tuple[int, ...]:
    """Return the compute capabilities that NVRTC compiles for, ascending.

    Raises:
        CudaError: it is not to be found.
    """
    count = ctypes.c_int()
    _check_nvrtc(_nvrtc().nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    numbers = (ctypes.c_int * count.value)()
    _check_nvrtc(_nvrtc().nvrtcGetSupportedArchs(numbers))
    return tuple(sorted(numbers))


def nvrtc_version() -> str:
    """Return the version of NVRTC, such as 13.0.

    Raises:
        CudaError: it is not to be found.
    """
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check_nvrtc(_nvrtc().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return f"{major.value}.{minor.value}"


class Function:
    """A function of a loaded module, of one device.

    Args:
        image: cubin or PTX.
        name: of the function.
    Raises:
        CudaError: the driver does not accept the image.
    """

    def __init__(self, image: bytes, name: str) -> None:
        self._image = image  # the driver may read it later
        module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        _check(_in_context(lambda: _driver().cuModuleLoadData(ctypes.byref(module), image)))
        _check(_driver().cuModuleGetFunction(ctypes.byref(self._function), module, name.encode()))
        self._launch = _driver().cuLaunchKernel

    def __call__(self, blocks: int, threads: int, parameters: bytes, stream: int) -> None:
        """Launch over `blocks` blocks, at most 2^31 - 1, with one struct of parameters.

        Raises:
            CudaError: the launch is refused.
        """
        struct = ctypes.c_char_p(parameters)
        pointers = (ctypes.c_void_p * 1)(ctypes.cast(struct, ctypes.c_void_p))
        code = self._launch(self._function, blocks, 1, 1, threads, 1, 1, 0, ctypes.c_void_p(stream), pointers, None)
        if code:
            _check(_in_context(lambda: self._launch(self._function, blocks, 1, 1, threads, 1, 1, 0,
                                                    ctypes.c_void_p(stream), pointers, None)))


def _in_context(call: Callable[[], int]) -> int:
    """Return the code of a call of the driver, made again with the device's context if the thread has none.

    A thread in which PyTorch has done nothing yet has none, such as that of autograd where its first work is ours.
    """
    code = call()
    if code not in NO_CONTEXT:
        return code
    device, context = ctypes.c_int(torch.cuda.current_device()), ctypes.c_void_p()
    _check(_driver().cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    _check(_driver().cuCtxSetCurrent(context))
    return call()


@cache
def _nvrtc() -> ctypes.CDLL:
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
            library.nvrtcGetErrorString.restype = ctypes.c_char_p
            return library
        except OSError:
            continue
    raise CudaError("libnvrtc, which comes with PyTorch for CUDA, is not to be found")


def _candidates() -> Iterator[str]:
    """Yield where NVRTC may lie: among Python packages, where the loader looks, in a CUDA toolkit."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for name in NVRTC_NAMES:
            yield from (str(path) for path in sorted(Path(root).glob(f"*/lib/{name}"), reverse=True))
    yield from NVRTC_NAMES
    for name in NVRTC_NAMES:
        yield f"/usr/local/cuda/lib64/{name}"


@cache
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise CudaError("the CUDA driver (libcuda.so.1) is not installed") from error


def _read(program: ctypes.c_void_p, size_of: Callable[..., int], read: Callable[..., int]) -> bytes:
    size = ctypes.c_size_t()
    _check_nvrtc(size_of(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check_nvrtc(read(program, buffer))
    return buffer.raw[:size.value]


def _check_nvrtc(code: int) -> None:
    if code:
        raise CudaError(f"NVRTC: {_nvrtc().nvrtcGetErrorString(code).decode()}")


def _check(code: int) -> None:
    if code:
        text = ctypes.c_char_p()
        _driver().cuGetErrorName(code, ctypes.byref(text))
        raise CudaError(f"CUDA: {(text.value or b'unknown error').decode()} ({code})")
