"""Several processes learn what one does; one that dies ends the others with its name, and the run goes on."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_loop import ROOT, tensors, tiny_options
from trained_together import train

from dnnlib.rundir import RunDir
from stylegan_oct.config import TrainConfig
from stylegan_oct.training import monitor
from torch_utils import checkpoint
from torch_utils.distributed import World

HERE = Path(__file__).parent
Process = subprocess.Popen[str]


def start(arguments: list[str], *, size: int, cwd: Path) -> list[Process]:
    """Start processes as a batch system does, which says to each its place."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port), "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE, HERE.parent)))}
    return [subprocess.Popen([sys.executable, *arguments], cwd=cwd, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(size)]


def saved(run: Path) -> list[Path]:
    return checkpoint.complete_checkpoints(RunDir(run).checkpoints)


def test_four_processes_learn_the_same_as_one_and_send_gradients_early(
        archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_event_writer", lambda *_: None)
    processes = start([str(HERE / "trained_together.py"), str(archive), str(tmp_path / "many")], size=4, cwd=tmp_path)
    train(archive, tmp_path / "one", World())
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        found = re.fullmatch(r"(\d+) early\n", output)
        # The first step of each kind sends all at its end; then all but the last message leave early.
        assert found and int(found[1]) >= 10
    one, many = (tensors(next(tmp_path.glob(f"{name}/*/checkpoints/nimg-00000016"))) for name in ("one", "many"))
    assert one.keys() == many.keys()
    for name in one:
        torch.testing.assert_close(one[name], many[name], rtol=1e-3, atol=1e-4, msg=f"{name} differs")


FAILING = """
from dnnlib.errors import DataError
from torch_utils.distributed import init_world
world = init_world("cpu")
try:
    if world.rank == 1:
        raise DataError("7.png cannot be read.")
    world.barrier()
finally:
    world.close()
"""


def test_a_process_that_fails_says_why_itself_and_ends_the_other_with_its_reason(tmp_path: Path) -> None:
    first, second = start(["-c", FAILING], size=2, cwd=tmp_path)
    (_, errors), (_, own) = first.communicate(timeout=60), second.communicate(timeout=60)
    assert second.returncode == 1 and own.endswith("DataError: 7.png cannot be read.\n")
    assert first.returncode == 2
    assert errors == f"error: Rank 1 of 2 (pid {second.pid} on {socket.gethostname()}) failed: 7.png cannot be read.\n"


def test_a_process_that_dies_ends_the_other_with_its_name_and_the_run_goes_on_even_in_one(
        make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    options = ["-m", "tools", "train", *tiny_options(make_config())]
    first, second = start([*options, "--kimg=100"], size=2, cwd=tmp_path)
    while not (runs := list(tmp_path.glob("runs/*"))) or not saved(runs[0]):
        assert first.poll() is None and second.poll() is None
        time.sleep(0.1)
    second.kill()
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 2
    assert errors.splitlines() == [f"error: Rank 1 of 2 (pid {second.pid} on {socket.gethostname()}) died. Run the "
                                   "same command again to go on."]
    second.communicate()
    done = checkpoint.nimg_of(saved(runs[0])[-1])
    (alone,) = start([*options, f"--kimg={(done + 4) / 1000}"], size=1, cwd=tmp_path)
    output, errors = alone.communicate(timeout=120)
    assert alone.returncode == 0 and "going on from" in output and "finished after" in output, errors
    assert list(tmp_path.glob("runs/*")) == runs
