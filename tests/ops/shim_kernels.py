"""Runs the CUDA kernels on the CPU: the same sources and launches, compiled as C++ with threads made of fibers."""

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from torch_utils.ops._source import digest_of, source_of
from torch_utils.ops.launches import Launch, Variant

SHIM = Path(__file__).parent / "shim" / "device.h"
RUNNER = """
static Params parameters;
static void one() { %s(parameters); }
extern "C" int run(const void* bytes, unsigned int size, unsigned int blocks) {
    if (size != sizeof(Params)) return 2;
    std::memcpy(&parameters, bytes, size);
    return shim::run(one, blocks, THREADS);
}
"""


def run_on_cpu(launch: Launch) -> None:
    """Run a kernel on tensors in the memory of the CPU."""
    code = _compiled(launch.variant).run(launch.parameters, len(launch.parameters), launch.blocks)
    assert code == 0, {1: "a barrier that not all threads reach", 2: "parameters of another size"}[code]


@cache
def _compiled(variant: Variant) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the kernels for the CPU")
    folder = _folder()
    source, library = folder / f"{digest_of(variant, 'host')}.cpp", folder / f"{digest_of(variant, 'host')}.so"
    source.write_text(f'#include "{SHIM}"\n' + source_of(variant) + RUNNER % variant.name)
    done = subprocess.run([compiler, "-std=c++17", "-O0", "-w", "-shared", "-fPIC", "-ffp-contract=off", str(source),
                           "-o", str(library)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(library))
    loaded.run.argtypes = [ctypes.c_char_p, ctypes.c_uint, ctypes.c_uint]
    return loaded


@cache
def _folder() -> Path:
    return Path(mkdtemp(prefix="kernels-"))
