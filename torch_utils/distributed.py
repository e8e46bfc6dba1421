"""One process or many: started by torchrun or by ourselves, talking over gloo (CPU) or nccl (GPUs)."""

import datetime
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from dnnlib.errors import ConfigError, TrainingError
from torch_utils.precision import allow_tf32
from torch_utils.watch import Watch, start_watch

JOIN_SEC = 300.0     # until all processes have found together
ANSWER_SEC = 3600.0  # in a collective, for a process that lives; the first one may be evaluating meanwhile
GRACE_SEC = 5.0      # for the watch to name the process that broke a collective, and to end this one
SILENT_SEC = 30.0    # without a sign of life until a process counts as dead


@dataclass(frozen=True)
class World:
    """The processes that train together."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    watch: Watch | None = field(default=None, compare=False, repr=False)  # over processes that die or hang

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def all_reduce_(self, tensor: Tensor) -> None:
        """Sum a tensor over all processes in place.

        Raises:
            TrainingError: another process died or did not answer in time.
        """
        if self.size == 1:
            return
        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:
            raise self._lost(error) from error

    def all_reduce_later_(self, tensor: Tensor) -> Callable[[], None]:
        """Begin to sum a tensor over several processes in place; return what waits for it.

        On a GPU only the current stream waits, not the host. The tensor must be left alone until then.

        Raises:
            TrainingError: also when waiting: another process died or did not answer in time.
        """
        try:
            work = dist.all_reduce(tensor, async_op=True)
        except RuntimeError as error:
            raise self._lost(error) from error
        assert work is not None

        def wait() -> None:
            try:
                work.wait()
            except RuntimeError as error:
                raise self._lost(error) from error

        return wait

    def all_reduce_coalesced_(self, tensors: Iterable[Tensor]) -> None:
        """Sum several tensors of one dtype over all processes in place, as one message."""
        if self.size == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.reshape(-1) for part in parts])
        self.all_reduce_(flat)
        for part, summed in zip(parts, torch.split(flat, [part.numel() for part in parts]), strict=True):
            part.copy_(summed.view_as(part))

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process; on the CPU, so that no GPU waits."""
        if self.size == 1:
            return flag
        votes = torch.tensor([float(flag)])
        self.all_reduce_(votes)
        return bool(votes.item() > 0)

    def share(self, text: str) -> str:
        """Return the first process's text on every process."""
        if self.size == 1:
            return text
        data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) if self.is_first and text else None
        length = torch.tensor([0.0 if data is None else float(len(data))])
        self.all_reduce_(length)
        buffer = torch.zeros(int(length.item()), dtype=torch.int32)
        if data is not None:
            buffer += data
        self.all_reduce_(buffer)
        return bytes(buffer.to(torch.uint8).tolist()).decode()

    def barrier(self) -> None:
        """Wait for all processes."""
        self.any(False)

    def close(self) -> None:
        """Leave the group. While an exception is on its way the other processes are told of it, and end too."""
        error = sys.exception()
        if self.watch:
            self.watch.close(None if error is None else _first_line(error))
        if self.size > 1 and error is None and dist.is_initialized():
            dist.destroy_process_group()

    def _lost(self, error: RuntimeError) -> TrainingError:
        if self.watch:
            time.sleep(GRACE_SEC)
        return TrainingError(f"Process {self.rank} of {self.size} waited in vain for the others "
                             f"({_first_line(error)}). See their messages above, then run the same command again to "
                             "go on.")


def _first_line(error: BaseException) -> str:
    """Return what an error says, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def start_processes(number: int) -> list[subprocess.Popen[bytes]]:
    """Run this command again as processes 1 .. number - 1 of a group on this computer, this one being its first.

    For one computer a simpler torchrun: `init_world` then joins the group. Ctrl-C reaches the first process alone,
    which tells the others; they end by themselves when it is gone.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    threads = max((os.cpu_count() or 1) // number, 1)
    os.environ.update(WORLD_SIZE=str(number), RANK="0", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
                      OMP_NUM_THREADS=str(threads))
    torch.set_num_threads(threads)  # the variable is read when torch is imported, so it serves the others
    command = [sys.executable, *sys.orig_argv[1:]]
    return [subprocess.Popen(command, env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                             start_new_session=True) for rank in range(1, number)]


def pick_device(device: str | None = None) -> str:
    """Return the device asked for, or CUDA where there is a GPU, else the CPU.

    Raises:
        ConfigError: CUDA is asked for and there is none, or something else is asked for.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", kind, re.ASCII):
        raise ConfigError(f"There is no device {kind[:40]!r}. Give cpu, cuda, or one of several GPUs such as cuda:1.")
    if kind.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device {kind}: PyTorch sees no CUDA device. Leave the option out to use the CPU.")
    if kind.startswith("cuda:") and int(kind[5:]) >= torch.cuda.device_count():
        raise ConfigError(f"--device {kind}: there are {torch.cuda.device_count()} GPUs, from cuda:0 on.")
    return kind


def init_world(device: str | None = None, *, timeout_sec: float = ANSWER_SEC, silent_sec: float = SILENT_SEC) -> World:
    """Return this process's place among those that torchrun, Slurm or `start_processes` started, or a world of one.

    On a GPU float32 then means float32, also in convolutions; see `torch_utils.precision.allow_tf32`.

    Args:
        device: "cpu", "cuda" or None for CUDA where there is a GPU.
        timeout_sec: how long a process that lives is waited for.
        silent_sec: after which time without a sign of life a process counts as dead, and the others end.
    Raises:
        ConfigError: CUDA is asked for and there is none.
        TrainingError: the processes do not find together.
    """
    kind = pick_device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    if kind == "cuda":
        if size > 1 and local_rank >= torch.cuda.device_count():
            raise ConfigError(f"Process {local_rank} of this computer finds only {torch.cuda.device_count()} GPUs. "
                              "Start as many processes as there are GPUs.")
        kind = f"cuda:{local_rank}"
        torch.cuda.set_device(local_rank)
    if kind.startswith("cuda"):
        allow_tf32(False)
    if size == 1:
        return World(device=torch.device(kind))
    return World(rank, size, torch.device(kind), _join(rank, size, kind, timeout_sec, silent_sec))


def _join(rank: int, size: int, kind: str, timeout_sec: float, silent_sec: float) -> Watch:
    """Make the process group, and begin to watch over it."""
    backend = "cpu:gloo,cuda:nccl" if kind.startswith("cuda") else "gloo"
    try:
        store, *_ = next(rendezvous("env://", timeout=datetime.timedelta(seconds=JOIN_SEC)))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size,
                                timeout=datetime.timedelta(seconds=timeout_sec))
        return start_watch(rank, size, store, os.environ["MASTER_ADDR"], silent_sec=silent_sec)
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        raise TrainingError(f"Process {rank} of {size} did not find the others at {os.environ.get('MASTER_ADDR')}:"
                            f"{os.environ.get('MASTER_PORT')} within {JOIN_SEC:g} seconds ({_first_line(error)}). "
                            "Start all of them, with the same address.") from error
