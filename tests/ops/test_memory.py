"""Keeping freed memory."""

import ctypes
import subprocess
import sys

import pytest

from torch_utils import memory

FAULTS = """
import resource, sys, torch
from torch_utils.memory import keep_freed_memory
assert len(sys.argv) < 2 or keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for number in range(24):
    if number == 20:  # until then free blocks of the right size come to be
        before = faults()
    torch.ones(2**23)
print(faults() - before)
"""


def test_freed_memory_is_used_again_without_page_faults():
    if not memory.keep_freed_memory():
        pytest.skip("the C library is not glibc")
    run = subprocess.run([sys.executable, "-c", FAULTS, "keep"], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 100  # mapped anew, four times 32 MiB are 32768 pages of 4 KiB


@pytest.mark.parametrize("megabytes, faults", [(24, False), (60, True)])
def test_large_blocks_can_be_given_back_while_small_ones_are_kept(megabytes, faults):
    if not memory.keep_freed_memory():
        pytest.skip("the C library is not glibc")
    script = FAULTS.replace("keep_freed_memory", "map_large_blocks").replace("2**23", str(megabytes * 2**18))
    run = subprocess.run([sys.executable, "-c", script, "map"], capture_output=True, text=True, check=True)
    assert (int(run.stdout) > 1000) == faults


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert memory.keep_freed_memory() is False
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep_freed_memory() is False
