"""Exchange of weights with the official program."""

import pytest
import torch

from dnnlib.errors import CheckpointError
from stylegan_oct.networks import legacy
from stylegan_oct.networks.discriminator import Discriminator
from stylegan_oct.networks.generator import Generator

COMMON = {"img_resolution": 32, "channel_base": 256, "channel_max": 16}
NETWORKS = pytest.mark.parametrize("kind, options", [
    (Generator, {"z_dim": 6, "w_dim": 8, "c_dim": 3, "img_channels": 1, "mapping_layers": 3, "architecture": "skip"}),
    (Generator, {"z_dim": 6, "w_dim": 8, "c_dim": 0, "img_channels": 3, "mapping_layers": 2, "architecture": "orig"}),
    (Generator, {"z_dim": 6, "w_dim": 8, "c_dim": 2, "img_channels": 1, "mapping_layers": 1, "architecture": "resnet"}),
    (Discriminator, {"c_dim": 3, "img_channels": 1, "mapping_layers": 2, "architecture": "resnet"}),
    (Discriminator, {"c_dim": 3, "img_channels": 3, "mapping_layers": 1, "architecture": "skip", "cmap_dim": 5}),
    (Discriminator, {"c_dim": 0, "img_channels": 1, "mapping_layers": 0, "architecture": "orig", "mbstd_channels": 2}),
])


@NETWORKS
def test_a_network_is_rebuilt_from_its_official_state(kind, options):
    network = kind(**COMMON, **options)
    state = legacy.official_state(network)
    assert "mapping.w_avg_class" not in state
    again = legacy.from_official(state)
    assert type(again) is kind
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == {
        name: tensor.shape for name, tensor in network.state_dict().items()}
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in state.items())
    for key, value in {**COMMON, **options}.items():
        if hasattr(again, key):
            assert getattr(again, key) == value, key


def test_class_means_are_those_of_the_mapping_network():
    torch.manual_seed(0)
    G = Generator(z_dim=6, w_dim=8, c_dim=2, img_channels=1, mapping_layers=2, **COMMON)
    again = legacy.from_official(legacy.official_state(G))
    ws = G.mapping(torch.randn(20000, 6), torch.ones(20000, dtype=torch.int64))[:, 0]
    torch.testing.assert_close(again.mapping.w_avg_class[1], ws.mean(dim=0), rtol=0, atol=0.1)
    assert (again.mapping.w_avg_class[0] - again.mapping.w_avg_class[1]).abs().max() > 0.1


def test_what_is_no_network_or_lacks_a_tensor_is_named():
    with pytest.raises(CheckpointError, match="no StyleGAN2-ADA network"):
        legacy.from_official({"conv.weight": torch.zeros(1)})
    state = legacy.official_state(Discriminator(c_dim=0, img_channels=1, mapping_layers=0, **COMMON))
    state.pop("b8.conv0.bias")
    with pytest.raises(CheckpointError, match=r"missing b8\.conv0\.bias"):
        legacy.from_official(state)
