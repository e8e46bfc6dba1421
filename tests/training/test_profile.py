"""Where the time of a step goes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from stylegan_oct.config import TrainConfig
from stylegan_oct.training.profile import COSTLIEST, profile_steps
from tools.__main__ import main
from torch_utils.distributed import World


def test_every_kind_of_step_has_a_trace_and_its_costliest_ops(make_config: Callable[..., TrainConfig],
                                                              tmp_path: Path) -> None:
    found = profile_steps(make_config(), World(), tmp_path)
    assert [step.name for step in found] == ["G main", "G path length", "D main", "D R1"]
    for step in found:
        assert json.loads(step.trace.read_text())["traceEvents"]
        times = [op.ms for op in step.costliest]
        assert len(times) == COSTLIEST and times == sorted(times, reverse=True) and 0 < sum(times) <= step.ms
        assert sum(op.share for op in step.costliest) == pytest.approx(sum(times) / step.ms)


def test_the_command_prints_tables_and_begins_no_run(archive: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["train", "--data", str(archive), "--profile", "--batch", "4", "--outdir",
                                     str(tmp_path), "--set", "G.channel_base=64", "--set", "D.channel_base=64",
                                     "--set", "D.mbstd_group_size=2"])
    assert done.exit_code == 0, done.output
    assert done.output.count("ms a batch") == 4 and "aten::" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["profile-demo-8px"]
