import copy
import json
import os
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dnnlib.errors import CheckpointError, TrainingError
from torch_utils import checkpoint
from torch_utils.distributed import World
from torch_utils.ema import ema_beta, update_ema
from torch_utils.images import to_pictures, to_uint8, to_unit
from torch_utils.sampler import MicrobatchSampler, Stream, microbatch_offsets
from torch_utils.seeding import seed_torch
from torch_utils.stats import Stats

LABELS = np.array([0] * 50 + [1] * 7 + [2] * 3)


def test_every_pass_shows_every_image_once_in_another_order() -> None:
    stream = Stream(LABELS, seed=1)
    passes = [[stream[60 * n + i] for i in range(60)] for n in range(2)]
    assert all(sorted(one) == list(range(60)) for one in passes)
    assert passes[0] != passes[1]


def test_balanced_streams_show_the_classes_equally_often_and_every_image() -> None:
    stream = Stream(LABELS, seed=1, balanced=True)
    indices = [stream[i] for i in range(3 * 50)]
    assert Counter(LABELS[indices].tolist()) == {0: 50, 1: 50, 2: 50}
    assert set(indices) == set(range(60))


@given(st.integers(0, 10**9), st.booleans())
def test_a_stream_needs_no_history(position: int, balanced: bool) -> None:
    used, fresh = Stream(LABELS, seed=3, balanced=balanced), Stream(LABELS, seed=3, balanced=balanced)
    for i in range(5):
        _ = used[i]
    assert used[position] == fresh[position]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_processes_share_a_batch_without_overlap(world_size: int) -> None:
    stream = Stream(LABELS, seed=0)
    parts = [list(islice(MicrobatchSampler(stream, start_nimg=32, batch=16, batch_gpu=4, rank=rank,
                                           world_size=world_size), 4 // world_size)) for rank in range(world_size)]
    offsets = [offset for rank in range(world_size) for offset in microbatch_offsets(16, 4, rank, world_size)]
    together = {offset: micro for offset, micro in zip(offsets, [m for part in parts for m in part], strict=True)}
    assert sum((together[offset] for offset in sorted(together)), []) == [stream[32 + i] for i in range(16)]


def test_seeding_depends_on_every_key() -> None:
    draws = []
    for keys in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0)):
        seed_torch(*keys)
        draws.append(float(torch.rand(())))
    assert draws[0] == draws[4]
    assert len(set(draws)) == 4


def test_stats_are_the_moments_of_all_values_since_the_last_flush() -> None:
    stats = Stats(World())
    values = torch.randn(100, dtype=torch.float64) + 1000
    for part in values.split(7):
        stats.add("x", part)
    moments = stats.flush()["x"]
    assert moments.mean == pytest.approx(float(values.mean()))
    assert moments.std == pytest.approx(float(values.std(correction=0)), rel=1e-6)
    assert moments.n == 100 and stats.flush() == {}


def test_the_average_halves_in_a_half_life() -> None:
    average, network = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(average.weight, 1.0)
    nn.init.constant_(network.weight, 0.0)
    for _ in range(10):
        update_ema(average, network, ema_beta(100, 1000, nimg=0))
    assert average.weight.item() == pytest.approx(0.5)


def test_a_ramp_forgets_the_first_weights_and_buffers_are_copied() -> None:
    assert ema_beta(16, 10_000, nimg=0, ramp=0.05) == 0.0
    assert ema_beta(16, 10_000, nimg=1000, ramp=0.05) == pytest.approx(0.5 ** (16 / 50))
    assert ema_beta(16, 10_000, nimg=10**9, ramp=0.05) == ema_beta(16, 10_000, nimg=0)
    average, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    network.running_mean.fill_(3.0)
    update_ema(average, network, 0.9)
    assert average.running_mean.tolist() == [3.0, 3.0]


def test_pixels_survive_the_way_to_network_images_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    images = to_unit(pixels)
    assert images.min() == -1 and images.max() == 1
    assert torch.equal(to_uint8(images), pixels)
    assert torch.equal(to_uint8(torch.tensor([[[[-9.0, 9.0]]]])).flatten(), torch.tensor([0, 255], dtype=torch.uint8))
    assert to_pictures(images)[0].shape == (16, 16)
    assert to_pictures(images.expand(1, 3, 16, 16))[0].shape == (16, 16, 3)


def make_network() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    return network, torch.optim.Adam(network.parameters(), betas=(0.0, 0.99), fused=True)


def step(network: nn.Module, optimizer: torch.optim.Optimizer, n: int) -> None:
    for i in range(n):
        torch.manual_seed(i)
        network(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def save(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    checkpoint.save(path, {"G": network.state_dict(), "opt": checkpoint.optimizer_tensors(optimizer, network)},
                    {"nimg": 1}, headers={"G": {"kind": "test"}})


def test_save_then_load_then_step_equals_step(tmp_path: Path) -> None:
    network, optimizer = make_network()
    step(network, optimizer, 3)
    save(tmp_path / "nimg-1", network, optimizer)
    other, other_optimizer = make_network()
    checkpoint.load_module(other, checkpoint.read_tensors(tmp_path / "nimg-1" / "G.safetensors"), source="G")
    tensors = checkpoint.read_tensors(tmp_path / "nimg-1" / "opt.safetensors")
    checkpoint.load_optimizer_tensors(other_optimizer, other, tensors)
    step(network, optimizer, 3)
    step(other, other_optimizer, 3)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
    assert checkpoint.read_header(tmp_path / "nimg-1" / "G.safetensors") == {"kind": "test"}


def test_a_checkpoint_that_lacks_a_byte_is_not_complete(tmp_path: Path) -> None:
    network, optimizer = make_network()
    save(tmp_path / "nimg-1", network, optimizer)
    assert checkpoint.is_complete(tmp_path / "nimg-1")
    for name in ("G.safetensors", "opt.safetensors", "meta.json"):
        damaged = tmp_path / "nimg-2"
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(tmp_path / "nimg-1", damaged)
        os.truncate(damaged / name, (damaged / name).stat().st_size - 1)
        (damaged / name).unlink() if name == "meta.json" else None
        assert not checkpoint.is_complete(damaged)
        assert checkpoint.complete_checkpoints(tmp_path) == [tmp_path / "nimg-1"]


def test_an_incomplete_checkpoint_is_written_again_and_a_complete_one_kept(tmp_path: Path) -> None:
    network, optimizer = make_network()
    (tmp_path / "nimg-1").mkdir()
    (tmp_path / ".tmp-nimg-1").mkdir()
    save(tmp_path / "nimg-1", network, optimizer)
    before = (tmp_path / "nimg-1" / "meta.json").stat().st_mtime_ns
    save(tmp_path / "nimg-1", network, optimizer)
    assert (tmp_path / "nimg-1" / "meta.json").stat().st_mtime_ns == before
    assert os.listdir(tmp_path) == ["nimg-1"]


def test_a_full_disk_is_one_line_and_leaves_the_older_checkpoint(tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    network, optimizer = make_network()
    save(tmp_path / "nimg-1", network, optimizer)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(TrainingError, match="No space left on device.*Make room"):
        save(tmp_path / "nimg-2", network, optimizer)
    assert checkpoint.complete_checkpoints(tmp_path) == [tmp_path / "nimg-1"]
    assert os.listdir(tmp_path) == ["nimg-1"]


def test_pruning_keeps_the_newest_whole_and_the_generators_of_snapshots(tmp_path: Path) -> None:
    network, optimizer = make_network()
    for nimg in (100, 150, 200, 250, 300):
        save(tmp_path / f"nimg-{nimg}", network, optimizer)
    (tmp_path / ".tmp-nimg-400").mkdir()
    checkpoint.prune(tmp_path, keep=2, reduce_to="G", snapshot_nimg=100)
    assert {path.name: sorted(os.listdir(path)) for path in tmp_path.iterdir()} == {
        "nimg-100": ["G.safetensors", "meta.json"], "nimg-200": ["G.safetensors", "meta.json"],
        "nimg-250": ["G.safetensors", "meta.json", "opt.safetensors"],
        "nimg-300": ["G.safetensors", "meta.json", "opt.safetensors"]}
    assert checkpoint.complete_checkpoints(tmp_path) == [tmp_path / "nimg-250", tmp_path / "nimg-300"]


def test_loading_names_what_is_missing_unexpected_or_of_another_shape() -> None:
    network, _ = make_network()
    state = copy.deepcopy(network.state_dict())
    state["extra"] = state.pop("0.bias")
    state["1.bias"] = torch.zeros(7)
    message = r"missing 0.bias; unexpected extra; other shapes 1.bias: \[7\] instead of \[1\]"
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load_module(network, state, source="G")


def test_damaged_files_and_other_formats_are_named(tmp_path: Path) -> None:
    (tmp_path / "G.safetensors").write_bytes(b"not safe")
    with pytest.raises(CheckpointError, match="G.safetensors is damaged.*header must fit"):
        checkpoint.read_tensors(tmp_path / "G.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.read_header(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        checkpoint.read_meta(tmp_path, checkpoint.Listing)
    (tmp_path / "meta.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(CheckpointError, match="another format"):
        checkpoint.read_meta(tmp_path, checkpoint.Listing)


def test_one_process_reduces_to_itself() -> None:
    world = World()
    x = torch.ones(3)
    world.all_reduce_(x)
    world.all_reduce_coalesced_([x])
    world.barrier()
    assert x.tolist() == [1, 1, 1] and world.is_first and world.any(True) and not world.any(False)
    assert world.share("text") == "text"


def test_encoded_tensors_are_the_same_bytes_each_time_and_read_back_whole(tmp_path):
    tensors = {"a": torch.randn(3, 5), "b": torch.arange(7, dtype=torch.int64), "c": torch.randn(2).half()}
    header = {name: "é" * length for length, name in enumerate(("kind", "info", "other", "more", "last"))}
    files = {checkpoint.encode_tensors(tensors, header) for _ in range(20)}
    assert len(files) == 1
    path = tmp_path / "a.safetensors"
    path.write_bytes(files.pop())
    assert checkpoint.read_header(path) == header
    for name, tensor in checkpoint.read_tensors(path).items():
        assert torch.equal(tensor, tensors[name]) and tensor.dtype == tensors[name].dtype
