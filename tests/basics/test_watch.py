"""A process that dies, hangs or fails ends the others with its name; one that is busy or done does not."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from watched import Folder

from dnnlib.errors import TrainingError
from torch_utils import watch

HERE = Path(__file__).parent
Process = subprocess.Popen[str]


def start_one(folder: Path, plan: str, rank: int, size: int) -> Process:
    return subprocess.Popen([sys.executable, str(HERE / "watched.py"), str(folder), str(rank), str(size), plan],
                            env={"PYTHONPATH": str(HERE.parents[1])}, text=True, stderr=subprocess.PIPE)


def start(folder: Path, plan: str, size: int = 3) -> list[Process]:
    """Start processes, and return once they watch."""
    processes = [start_one(folder, plan, rank, size) for rank in range(size)]
    while len(list(folder.glob("ready-*"))) < size:
        assert not (gone := [end(process) for process in processes if process.poll() is not None]), gone
        time.sleep(0.02)
    return processes


def end(process: Process) -> tuple[int, str]:
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_others_at_once_with_its_name(tmp_path: Path, rank: int) -> None:
    processes = start(tmp_path, "wait")
    processes[rank].kill()
    line = (f"error: Rank {rank} of 3 (pid {processes[rank].pid} on {socket.gethostname()}) died. Run the same command "
            "again to go on.\n")
    assert [end(process) for process in processes if process is not processes[rank]] == [(2, line)] * 2
    assert end(processes[rank]) == (-9, "")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_process_ends_the_others_with_its_name_and_itself_once_it_goes_on(tmp_path: Path, rank: int) -> None:
    processes = start(tmp_path, "wait")
    processes[rank].send_signal(signal.SIGSTOP)
    found = [end(process) for process in processes if process is not processes[rank]]
    processes[rank].send_signal(signal.SIGCONT)
    assert found[0] == found[1] and found[0][0] == 2 and found[0][1].count("\n") == 1
    assert f"Rank {rank} of 3" in found[0][1] and "not answered for 3 seconds" in found[0][1]
    code, errors = end(processes[rank])
    assert code == 2 and errors.count("error: ") == 1


def test_a_process_that_fails_ends_the_others_with_its_reason_and_itself_as_it_likes(tmp_path: Path) -> None:
    processes = start(tmp_path, "fail")
    found = [end(process) for process in processes]
    assert found[1] == (3, "")
    for code, errors in (found[0], found[2]):
        assert code == 2 and "Rank 1 of 3" in errors and errors.endswith("failed: the picture 7.png cannot be read\n")


def test_processes_that_were_all_stopped_do_not_blame_each_other(tmp_path: Path) -> None:
    processes = start(tmp_path, "end")
    for number, seconds in ((signal.SIGSTOP, 4.0), (signal.SIGCONT, 0.0)):
        for process in processes:
            process.send_signal(number)
        time.sleep(seconds)
    assert [end(process) for process in processes] == [(0, "")] * 3


def test_a_late_process_is_waited_for_and_an_early_end_is_no_alarm(tmp_path: Path) -> None:
    early = [start_one(tmp_path, "end", rank, 3) for rank in (0, 1)]
    time.sleep(4)
    assert [end(process) for process in (*early, start_one(tmp_path, "end", 2, 3))] == [(0, "")] * 3


def test_strangers_at_the_door_are_sent_away(tmp_path: Path) -> None:
    board = Folder(tmp_path)
    found: list[list[watch.Link]] = []
    first = threading.Thread(target=lambda: found.append(watch._accept(2, board, "localhost", "Rank 0")))
    first.start()
    place = json.loads(board.get("watch"))
    with socket.create_connection((place["host"] or "localhost", place["port"])) as stranger:
        stranger.sendall(b'{"rank": 1, "secret": "guessed", "name": "stranger"}\n')
        assert stranger.recv(1) == b""
    second = threading.Thread(target=lambda: found.append([watch._connect(1, board, "localhost", "Rank 1")]))
    second.start()
    first.join()
    found[0][0].socket.sendall(b"{}\n")
    second.join()
    assert [link.name for links in found for link in links] == ["Rank 1", "Rank 0"]
    for links in found:
        links[0].socket.close()


def test_processes_that_cannot_connect_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "CONNECT_SEC", 0.2)
    board = Folder(tmp_path)
    with pytest.raises(TrainingError, match="Ranks 1, 2 of 3 did not connect to Rank 0"):
        watch._accept(3, board, "localhost", "Rank 0")
    with pytest.raises(TrainingError, match="Rank 2 found no connection to Rank 0 at localhost"):
        watch._connect(2, board, "localhost", "Rank 2")
