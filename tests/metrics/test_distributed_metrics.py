import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from generator_file import write_generator
from measure_together import measure

from torch_utils.distributed import World

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def test_two_processes_give_the_values_of_one_and_share_the_work(tmp_path: Path) -> None:
    file = write_generator(tmp_path).info.path
    one = measure(file, tmp_path / "one", World())
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(HERE / "measure_together.py"), str(file), str(tmp_path / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE, HERE.parent)))},
        text=True, capture_output=True, timeout=240)
    assert result.returncode == 0, result.stderr
    two = [json.loads((tmp_path / f"process-{rank}.json").read_text()) for rank in (0, 1)]
    assert two[0]["values"] == two[1]["values"]
    assert one["looks"] == 360 == sum(each["looks"] for each in two) and all(each["looks"] < 220 for each in two)
    for expected, found in zip(one["values"], two[0]["values"], strict=True):
        rounding = 1e-6 if expected["metric"].startswith("ppl") else 1e-9  # float32 leaves few digits of a short step
        for key in expected:
            if isinstance(expected[key], float | list):
                np.testing.assert_allclose(found[key], expected[key], rtol=1e-6, atol=rounding,
                                           err_msg=expected["metric"])
            else:
                assert found[key] == expected[key]
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert not [name for name in names if name.startswith(".tmp-")]
    for name in names:
        if name.endswith(".npy"):
            np.testing.assert_array_equal(np.load(tmp_path / "one" / name), np.load(tmp_path / "two" / name))
