"""How many threads compute: by the work, and never what the user has not chosen."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from generator_file import write_generator

from torch_utils import threads
from torch_utils.threads import SMALL, choose, for_work, wait_briefly

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("work", "current", "environ", "expected"), [
    (SMALL, 8, {}, 1),                            # small: one
    (1.01 * SMALL, 8, {}, 8),                     # large: all
    (1, 4, {}, 4),                                # not the usual number: the user's
    (1, 12, {}, 12),
    (1, 8, {"OMP_NUM_THREADS": "8"}, 8),          # named in the environment: the user's, though it is the usual one
    (1, 8, {"MKL_NUM_THREADS": "8"}, 8),
    (1, 8, {"OMP_NUM_THREADS": ""}, 1),           # names nothing
])
def test_one_thread_where_the_work_is_small_and_the_users_number_where_there_is_one(
        work: float, current: int, environ: dict[str, str], expected: int) -> None:
    assert choose(work, current, 8, environ) == expected


@pytest.mark.parametrize("fails", [False, True])
def test_the_number_is_afterwards_what_it_was(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    for name in threads.SET_BY_USER:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        monkeypatch.setattr(threads, "_USUAL", 3)
        try:
            with for_work(1.0):
                assert torch.get_num_threads() == 1
                with for_work(2 * SMALL):   # within small work all is small
                    assert torch.get_num_threads() == 1
                if fails:
                    raise KeyError
        except KeyError:
            pass
        assert torch.get_num_threads() == 3
        monkeypatch.setattr(threads, "_USUAL", 5)
        with for_work(1.0):
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_generator_asks_by_its_layers_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    G = write_generator(tmp_path)
    asked: list[float] = []
    monkeypatch.setattr("stylegan_oct.model.for_work", lambda work: asked.append(work) or for_work(work))
    G(G.z(range(3)), "CNV")
    assert asked == [3 * G.layer_work] * 2 and 0 < G.layer_work < SMALL


@pytest.mark.parametrize(("given", "expected"), [({}, {"GOMP_SPINCOUNT": "5000"}), ({"GOMP_SPINCOUNT": "7"},) * 2,
                                                 ({"OMP_WAIT_POLICY": "PASSIVE"},) * 2])
def test_how_threads_wait_is_the_users_where_they_say(given: dict[str, str], expected: dict[str, str]) -> None:
    environ = dict(given)
    wait_briefly(environ)
    assert environ == expected


def test_importing_the_library_sets_nothing(tmp_path: Path) -> None:
    code = ("import os; before = dict(os.environ)\nimport stylegan_oct, torch; number = torch.get_num_threads()\n"
            "stylegan_oct.load_generator()\nassert dict(os.environ) == before and torch.get_num_threads() == number")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
