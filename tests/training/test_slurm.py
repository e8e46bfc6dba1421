"""The batch script for Slurm, with commands that stand for Slurm's."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tools.train import train

SCRIPT = Path(__file__).parents[2] / "docs" / "slurm" / "train.sbatch"
# https://slurm.schedmd.com/sbatch.html
SBATCH = {"job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "signal", "requeue",
          "open-mode", "output"}
COMMANDS = {
    "srun": 'for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & echo $! >> pids; done\n'
            "code=0; for pid in $(cat pids); do wait $pid || { c=$?; [ $c -gt $code ] && code=$c; }; done; exit $code",
    "scancel": '[ "$*" = "--signal=TERM 77" ] && kill -TERM $(cat pids)',
    "scontrol": 'case $1 in show) echo first; echo second;; *) echo "$*" >> scontrol-calls;; esac',
    "python": 'trap "exit 0" TERM; echo "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT $*" >> started\n'
              "[ -e fails ] && exit $(cat fails); for i in $(seq 600); do sleep 0.05; done; exit 9",
}


def run(folder: Path) -> subprocess.Popen[str]:
    for name, text in COMMANDS.items():
        file = folder / (".venv/bin" if name == "python" else "bin") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)
    slurm = {"JOB_ID": "77", "NTASKS": "2", "JOB_NODELIST": "node[1-2]", "CPUS_PER_TASK": "4"}
    return subprocess.Popen(["bash", str(SCRIPT)], cwd=folder, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True,
                            env={"PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
                                 **{f"SLURM_{name}": value for name, value in slurm.items()}})


def lines(file: Path) -> list[str]:
    return sorted(file.read_text().splitlines()) if file.exists() else []


def test_the_script_parses_and_every_option_exists() -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=True).returncode == 0
    text = SCRIPT.read_text()
    assert set(re.findall(r"^#SBATCH --([a-z-]+)", text, flags=re.MULTILINE)) == SBATCH
    command = re.search(r"-m tools train (.*)\)", text)
    known = {option for parameter in train.params for option in parameter.opts}
    assert command and (named := set(re.findall(r"--[a-z-]+", command[1]))) and named <= known


def test_before_the_time_limit_processes_are_told_and_the_job_queues_again(tmp_path: Path) -> None:
    job = run(tmp_path)
    while len(lines(tmp_path / "started")) < 2:
        assert job.poll() is None
        time.sleep(0.05)
    job.send_signal(signal.SIGUSR1)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 0, output
    assert lines(tmp_path / "scontrol-calls") == ["requeue 77"]
    assert [line.split(" -m ")[0] for line in lines(tmp_path / "started")] == ["0 0 2 first 20077", "1 1 2 first 20077"]


@pytest.mark.parametrize("code, again", [(0, False), (2, False), (137, True)])
def test_a_killed_process_queues_the_job_again_and_an_error_does_not(tmp_path: Path, code: int, again: bool) -> None:
    (tmp_path / "fails").write_text(str(code))
    job = run(tmp_path)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == code, output
    assert lines(tmp_path / "scontrol-calls") == ["requeue 77"] * again
