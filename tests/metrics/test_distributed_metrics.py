import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from generator_file import write_generator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def measure(tmp_path: Path, name: str, processes: int) -> list[dict[str, Any]]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] * (processes > 1)
    path = os.pathsep.join(map(str, (ROOT, HERE, HERE.parent)))
    result = subprocess.run(
        [sys.executable, *launcher, str(HERE / "measure_together.py"), str(tmp_path / "G_ema.safetensors"),
         str(tmp_path), name],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}, text=True, capture_output=True, timeout=240)
    assert result.returncode == 0, result.stderr
    return [json.loads((tmp_path / f"{name}-{rank}.json").read_text()) for rank in range(processes)]


def test_two_processes_give_the_values_of_one_and_share_the_work(tmp_path: Path) -> None:
    write_generator(tmp_path)
    (one,) = measure(tmp_path, "one", 1)
    two = measure(tmp_path, "two", 2)
    assert two[0]["values"] == two[1]["values"]
    assert one["looks"] == 360 and all(each["looks"] < 220 for each in two)
    assert sum(each["looks"] for each in two) == 360
    for expected, found in zip(one["values"], two[0]["values"], strict=True):
        for key in expected:
            if isinstance(expected[key], float | list):
                np.testing.assert_allclose(found[key], expected[key], rtol=1e-6, atol=1e-9, err_msg=expected["metric"])
            else:
                assert found[key] == expected[key]
    names = [path.name for path in (tmp_path / "one").iterdir()]
    assert sorted(names) == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        if name.endswith(".npy"):
            np.testing.assert_array_equal(np.load(tmp_path / "one" / name), np.load(tmp_path / "two" / name))
    assert not [name for name in names if name.startswith(".tmp-")]
