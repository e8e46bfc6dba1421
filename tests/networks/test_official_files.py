"""Official files: what is read of them, what is refused, and that nothing in them runs."""

import os
import pickle
import random

import pytest
import torch
from official_pickles import networks, official_pickle
from safetensors.torch import save_file

from dnnlib.errors import CheckpointError
from stylegan_oct.networks.legacy import from_official, official_state
from stylegan_oct.networks.official import read_official
from torch_utils.pickles import read_pickle


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("options", [{}, {"img_channels": 3, "c_dim": 0}, {"num_fp16_res": 2, "conv_clamp": None}])
def test_networks_of_a_snapshot_compute_what_they_did(tmp_path, protocol, options):
    made = networks(**options)
    path = tmp_path / "network-snapshot-000123.pkl"
    path.write_bytes(official_pickle(made, protocol=protocol))
    found = {name: from_official(network.tensors, network.settings) for name, network in read_official(path).items()}
    assert set(found) == {"G", "D", "G_ema"}
    c = torch.arange(4) % 3
    z = torch.randn(4, 6)
    images = made["G_ema"](z, c, noise_mode="const")
    torch.testing.assert_close(found["G_ema"](z, c, noise_mode="const"), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(found["D"](images, c), made["D"](images, c), rtol=0, atol=1e-5)
    for name in ("G", "D"):
        blocks = [(ours.in_half, theirs.in_half) for ours, theirs in zip(made[name].modules(), found[name].modules(),
                                                                         strict=True) if hasattr(ours, "in_half")]
        assert all(ours == theirs for ours, theirs in blocks)


@pytest.mark.parametrize("suffix, save", [
    (".safetensors", save_file), (".pt", torch.save),
    (".pt", lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False)),
    (".pkl", lambda state, path: path.write_bytes(pickle.dumps(state)))])
def test_state_dicts_are_read_from_all_kinds_of_file(tmp_path, suffix, save):
    made = networks()
    for name in ("G_ema", "D"):
        path = tmp_path / f"{name}{suffix}"
        save({key: value.detach() for key, value in official_state(made[name]).items()}, path)
        (found,) = read_official(path).items()
        assert found[0] == name
        assert all(torch.equal(tensor, found[1].tensors[key]) for key, tensor in official_state(made[name]).items())


@pytest.mark.parametrize("changes, said", [
    ({"synthesis.b8.conv0.activation": "relu"}, "leaky ReLU"),
    ({"mapping.fc1.bias_gain": 0.1}, "mapping networks have 0.01"),
    ({"synthesis.b8.conv0.conv_clamp": 7.0}, "several values"),
    ({"synthesis.b8.conv0.resample_filter": None, "synthesis.b8.resample_filter": 5}, "missing")])
def test_networks_that_compute_otherwise_are_refused_by_name(tmp_path, changes, said):
    made = {"G_ema": networks()["G_ema"]}
    if "missing" in said:
        made["G_ema"].synthesis.b8._buffers.pop("resample_filter")
    path = tmp_path / "snapshot.pkl"
    path.write_bytes(official_pickle(made, **changes))
    network = read_official(path)["G_ema"]
    with pytest.raises(CheckpointError, match=said):
        from_official(network.tensors, network.settings)


def test_other_filters_and_other_architectures_are_refused():
    state = official_state(networks()["G_ema"])
    with pytest.raises(CheckpointError, match="resamples with"):
        from_official({**state, "synthesis.b8.resample_filter": torch.ones(4, 4) / 16})
    with pytest.raises(CheckpointError, match="configurations T or R"):
        from_official({**state, "synthesis.L0_36_512.weight": torch.ones(1)})


class Harmful:
    """Would write a file when unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("put", [lambda bad: bad, lambda bad: {"G_ema": bad}, lambda bad: [torch.ones(2), (bad,)],
                                 lambda bad: {"G_ema": {"a": torch.ones(1)}, "other": bad}])
def test_code_in_a_file_does_not_run_and_is_named(tmp_path, put):
    canary = tmp_path / "canary"
    for save in (lambda content, path: path.write_bytes(pickle.dumps(content)), torch.save,
                 lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False)):
        path = tmp_path / "network.pkl"
        save(put(Harmful(canary)), path)
        with pytest.raises(CheckpointError, match=r"would call \w+\.mkdir.*Nothing in it was run"):
            read_official(path)
    assert not canary.exists()


def test_code_in_the_bytes_of_a_tensor_does_not_run(tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "network.pkl"
    inner = pickle.dumps(Harmful(canary))
    path.write_bytes(b"\x80\x04ctorch.storage\n_load_from_bytes\n" + b"B" + len(inner).to_bytes(4, "little") + inner
                     + b"\x85R.")
    with pytest.raises(CheckpointError, match=r"would call \w+\.mkdir"):
        read_official(path)
    assert not canary.exists()


@pytest.mark.parametrize("data, said", [
    (b"", "damaged"), (b"hello", "not built"), (b"\x80\x04.", "do not fit together"),
    (b"\x80\x04" + b"K\x01\x85" * 3 + b"Ns\x94.", "do not fit together"),
    (b"\x80\x04" + b"(" * 10 + b".", "do not fit together"),
    (b"\x80\x04h\x05.", "not built"), (b"\x80\x04B\xff\xff\xff\x7fabc.", "damaged"),
    (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7fabc.", "damaged"),
    (b"\x80\x04})" + b"\x85" * 100_000 + b"K\x01s.", "key"),
    (b"\x80\x04" + b")" + b"\x85" * 200_000 + b".", None)])
def test_instructions_that_make_no_sense_end_in_one_line(tmp_path, data, said):
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    if said is None:
        assert isinstance(read_pickle(path), tuple)
    else:
        with pytest.raises(CheckpointError, match=said):
            read_pickle(path)


def test_what_a_file_claims_is_not_allocated(tmp_path):
    path = tmp_path / "x.pkl"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert data.count(b"K\x03") >= 2  # the numbers of the storage, and the size of the tensor
    for index in (data.index(b"K\x03"), data.rindex(b"K\x03")):
        path.write_bytes(data[:index] + b"J\xff\xff\xff\x7f" + data[index + 2:])
        with pytest.raises(CheckpointError, match="more numbers than it holds|larger than its numbers"):
            read_pickle(path)
    bomb = b"\x80\x04(lq\x00" + b"K\x01a" * 50_000 + b"0" + b"ccollections\nOrderedDict\nh\x00\x85R0" * 5_000 + b"N."
    path.write_bytes(bomb)
    with pytest.raises(CheckpointError):
        read_pickle(path)


def test_few_numbers_cannot_claim_a_large_network():
    state = official_state(networks()["G_ema"])
    wide = torch.zeros(1).expand(2**20, 16, 3, 3)
    with pytest.raises(CheckpointError, match="other shapes"):
        from_official({**state, "synthesis.b32.conv1.weight": wide})


def test_mutated_snapshots_are_read_or_refused(tmp_path):
    made = {"G_ema": networks(img_resolution=8, channel_base=32, channel_max=4)["G_ema"]}
    data, rng, path = official_pickle(made), random.Random(0), tmp_path / "x.pkl"
    outcomes = []
    for _ in range(500):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 20))):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        path.write_bytes(changed[:rng.randrange(len(changed))] if rng.random() < 0.2 else changed)
        try:
            for network in read_official(path).values():
                from_official(network.tensors, network.settings)
            outcomes.append("read")
        except CheckpointError as error:
            assert "\n" not in str(error)
            outcomes.append("refused")
    assert min(outcomes.count("read"), outcomes.count("refused")) > 25, outcomes


def test_files_that_are_no_network_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_official(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="does not exist"):
        read_official(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"123")
    with pytest.raises(CheckpointError, match=r"broken\.safetensors is not read"):
        read_official(tmp_path / "broken.safetensors")
    torch.save({"step": 5}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="holds no network"):
        read_official(tmp_path / "other.pt")
    torch.save({"G_ema": {"a": 5}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="something else where a network"):
        read_official(tmp_path / "other.pt")
