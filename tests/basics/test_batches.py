"""How many pictures are worked on at once, at every size and without drawing."""

import itertools

import pytest
import torch

from stylegan_oct import batches
from stylegan_oct.batches import Layers, at_once, seen_at_once, steady, usual_count
from stylegan_oct.config import DataConfig
from stylegan_oct.model import layers_of
from stylegan_oct.networks.generator import Generator
from stylegan_oct.networks.sizes import block_resolutions, channels_at
from stylegan_oct.presets import PRESETS, fit_to_device
from torch_utils import memory

CPU, GPU = torch.device("cpu"), torch.device("cuda")
GB = 2**30
SIZES = [8, 16, 32, 64, 128, 256, 512, 1024]
BASE = 0.6 * GB    # programs and weights of a generator of the papers' widths
LIMITS = {256: 2 * GB, 512: 4 * GB}


def layers(resolution: int, base: int, most: int = 512, least: int = 1) -> Layers:
    """Return the layers of a generator without making it."""
    numbers = [channels_at(side, channel_base=base, channel_max=most, channel_min=least) * side**2
               for side in block_resolutions(resolution)]
    return Layers(widest=max(numbers), total=sum(numbers))


WIDE = {side: layers(side, 32768 if side >= 512 else 16384) for side in SIZES}
NARROW = {side: layers(side, 2048, 128, 16) for side in SIZES}


@pytest.fixture(autouse=True)
def much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "free_memory", lambda _: 64 * GB)


@pytest.mark.parametrize("side", SIZES)
def test_a_batch_stays_within_the_limits_and_is_a_power_of_two(side: int) -> None:
    for found in (WIDE[side], NARROW[side]):
        for work in ("draw", "learn"):
            batch = at_once(found, CPU, work)
            assert batch >= 1 and batch & (batch - 1) == 0
            assert BASE + batch * found.memory(work) < LIMITS.get(side, 2 * GB if side < 256 else 8 * GB)
        assert steady(found, CPU) <= at_once(found, CPU) or side == 8
        assert seen_at_once(side, CPU) * batches.SEEN_BYTES * side**2 < GB


def test_the_sizes_of_the_presets() -> None:
    assert [at_once(WIDE[side], CPU) for side in (64, 256, 512)] == [16, 4, 1]
    assert [at_once(WIDE[side], CPU, "learn") for side in (64, 256, 512)] == [8, 2, 1]
    assert [steady(WIDE[side], CPU) for side in (64, 256, 512)] == [8, 4, 1]
    assert [seen_at_once(side, CPU) for side in (64, 256, 512)] == [32, 16, 4]
    assert at_once(NARROW[256], CPU) == 16


@pytest.mark.parametrize("found", [WIDE, NARROW])
def test_larger_pictures_never_have_larger_batches_or_counts(found: dict[int, Layers]) -> None:
    for small, large in itertools.pairwise(SIZES):
        for work in ("draw", "learn"):
            assert at_once(found[small], CPU, work) >= at_once(found[large], CPU, work)
        assert usual_count(found[small], CPU, 2000) >= usual_count(found[large], CPU, 2000) >= 1


def test_little_free_memory_makes_batches_smaller_but_not_those_that_must_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "free_memory", lambda _: GB // 4)
    assert at_once(WIDE[256], CPU) == at_once(WIDE[256], CPU, "learn") == 1
    assert steady(WIDE[256], CPU) == 4
    monkeypatch.setattr(batches, "free_memory", lambda _: 0)
    assert at_once(WIDE[64], CPU) == seen_at_once(64, CPU) == 1


def test_a_gpu_takes_what_its_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert at_once(WIDE[256], GPU) == batches.MOST_GPU and usual_count(WIDE[512], GPU, 2000) == 2000
    monkeypatch.setattr(batches, "free_memory", lambda _: 8 * GB)
    assert 1 < at_once(WIDE[512], GPU) < batches.MOST_GPU
    half = Layers(widest=WIDE[512].widest, total=WIDE[512].total, bytes_each=2)
    assert at_once(half, GPU) == 2 * at_once(WIDE[512], GPU)


def test_what_the_user_asks_for_is_taken() -> None:
    assert at_once(WIDE[1024], CPU, asked=7) == steady(WIDE[1024], CPU, asked=7) == 7


def test_counts_fit_the_resolution() -> None:
    assert [usual_count(WIDE[side], CPU, 2000, least=250) for side in (64, 256, 512)] == [2000, 1000, 500]
    assert usual_count(NARROW[256], CPU, 2000) == 2000
    assert usual_count(WIDE[1024], CPU, 10, least=50) == 10


@pytest.mark.parametrize("name, side, wanted", [("demo", 64, 8), ("oct64", 64, 8), ("demo256", 256, 8),
                                                ("small512", 512, 4), ("oct256", 256, 2), ("oct512", 512, 2)])
def test_a_training_step_fits_the_preset(name: str, side: int, wanted: int) -> None:
    raw = PRESETS[name](DataConfig(path="a.zip", fingerprint="0", resolution=side, classes=("a", "b")), 1)
    assert fit_to_device(raw, raw.batch_gpu, on_gpu=False, processes=1).batch_gpu == wanted


def test_a_network_says_what_its_pictures_take() -> None:
    options = {"channel_base": 1024, "channel_max": 64}
    G = Generator(z_dim=8, c_dim=0, w_dim=8, img_resolution=64, img_channels=1, mapping_layers=1, num_fp16_res=1,
                  **options)
    assert layers_of(G, CPU) == layers(64, 1024, 64)
    assert layers_of(G, GPU).bytes_each == 2


@pytest.mark.parametrize("error, known", [
    (MemoryError(), True), (torch.OutOfMemoryError("CUDA out of memory."), True),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True),
    (RuntimeError("std::bad_alloc"), True), (RuntimeError("shapes cannot be multiplied"), False),
    (ValueError("out of memory"), False)])
def test_a_failed_allocation_is_known_from_other_errors(error: Exception, known: bool) -> None:
    assert memory.is_out_of_memory(error) is known


def test_the_memory_that_is_free_is_within_what_the_machine_has() -> None:
    found = memory.free_memory(CPU)
    assert 0 < found < 2**45
