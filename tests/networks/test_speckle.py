"""The speckle layer: what it adds, how strongly, and that everything else stays as it was."""

import math
from pathlib import Path

import pytest
import torch

from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.model import GeneratorInfo, OctGenerator
from stylegan_oct.networks.generator import Generator
from stylegan_oct.networks.sizes import channels_at
from stylegan_oct.networks.synthesis import CAMERAS, SPECKLE_LEVELS, SpeckleLayer, read_off
from torch_utils.images import to_uint8

SIZES = {"z_dim": 8, "w_dim": 8, "c_dim": 2, "img_resolution": 16, "img_channels": 1, "mapping_layers": 2,
         "channel_base": 64, "channel_max": 8}


def make(**changes: object) -> Generator:
    torch.manual_seed(0)
    return Generator(**{**SIZES, "speckle": True, **changes}).eval()  # type: ignore[arg-type]


def layer(strength: float = 0.02) -> SpeckleLayer:
    torch.manual_seed(0)
    speckle = SpeckleLayer(16)
    speckle.strength.fill_(strength)
    speckle.camera_strength.fill_(strength)
    return speckle


def test_a_fresh_layer_adds_nothing_and_nothing_of_it_learns() -> None:
    img = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(SpeckleLayer(16)(img, noise_mode="random"), img)
    assert not list(SpeckleLayer(16).parameters())


def test_weak_speckle_is_the_noise_in_the_measured_strength() -> None:
    speckle, img = layer(0.001), torch.zeros(2, 1, 16, 16)
    added = speckle(img, noise_mode="const")
    torch.testing.assert_close(added, (0.002 * speckle.noise_const).expand(2, 1, 16, 16), atol=1e-4, rtol=0)  # of 2
    assert torch.equal(speckle(img, noise_mode="none"), img)
    assert not torch.equal(*speckle(img, noise_mode="random"))


def test_the_strength_follows_the_grey_pixel_by_pixel() -> None:
    speckle = layer()
    speckle.camera_strength.copy_(torch.linspace(0, 0.04, SPECKLE_LEVELS))
    img = torch.full((100, 1, 16, 16), -0.5)
    img[..., 8:] = 0.5
    noise = speckle(img, noise_mode="random") - img
    assert noise[..., :8].std() == pytest.approx(2 * 0.01, rel=0.1)
    assert noise[..., 8:].std() == pytest.approx(2 * 0.03, rel=0.1)


def test_in_the_dark_the_light_is_spread_evenly_and_cut_at_black() -> None:
    grey, strength = 0.1, 0.05
    drawn = layer(strength)(torch.full((400, 1, 16, 16), 2 * grey - 1), noise_mode="random")
    spread = 4 * grey**3 * strength
    black = 0.5 * math.erfc(grey**4 / spread / math.sqrt(2))
    assert 0.05 < black < 0.5 and (to_uint8(drawn) == 0).double().mean() == pytest.approx(black, rel=0.05)
    light = ((drawn + 1) / 2).pow(4)
    assert light.quantile(0.8) == pytest.approx(grey**4 + 0.8416 * spread, rel=0.02)


def test_colours_share_the_speckle_of_their_mean() -> None:
    speckle = layer(0.001)
    img = torch.full((1, 3, 16, 16), 0.2)
    noise = speckle(img, noise_mode="const") - img
    torch.testing.assert_close(noise[:, :1].expand(1, 3, 16, 16), noise)


def test_a_curve_is_read_off_straight_between_its_steps() -> None:
    curves = torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 4.0]])
    at = torch.tensor([-9.0, 0.0, 0.25, 0.5, 0.625, 1.0, 9.0]).repeat(2, 1)
    expected = torch.tensor([[1.0, 1.0, 2.0, 3.0, 2.75, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0, 1.0, 4.0, 4.0]])
    torch.testing.assert_close(read_off(curves, at), expected)
    torch.testing.assert_close(read_off(curves[:1], at), expected[:1].repeat(2, 1))


def test_gradients_pass_as_if_the_noise_were_added() -> None:
    img = torch.linspace(-2, 2, 256).reshape(1, 1, 16, 16).requires_grad_()
    shown = layer(0.1)(img, noise_mode="const")
    (slope,) = torch.autograd.grad(shown.sum(), img)
    assert torch.equal(slope, torch.ones_like(slope))
    shown, img = shown.detach(), img.detach()
    assert bool(shown.isfinite().all())
    outside = img.abs() >= 1  # blacker than black stays so, and is seen
    torch.testing.assert_close(shown[img <= -1], img[img <= -1])
    assert shown[img >= 1].mean() == pytest.approx(float(img[img >= 1].mean()), abs=0.1)
    assert shown[~outside].min() >= -1 - 1e-6


def test_noise_can_be_fitted_in_the_dark_too() -> None:
    speckle = layer(0.05)
    speckle.noise_const = torch.randn(2, 1, 16, 16).requires_grad_()
    img = torch.linspace(-1.2, 1.2, 256).reshape(1, 1, 16, 16).expand(2, 1, 16, 16)
    speckle(img, noise_mode="const").sum().backward()
    torch.testing.assert_close(speckle.noise_const.grad, torch.full((2, 1, 16, 16), 2 * 0.05))


def test_without_noise_the_picture_is_that_of_a_generator_without_the_layer() -> None:
    G, plain, z, c = make(), make(speckle=False), torch.randn(2, 8), torch.eye(2)
    shared = {name: tensor for name, tensor in G.state_dict().items() if ".speckle." not in name}
    assert plain.state_dict().keys() == shared.keys()
    plain.load_state_dict(shared)
    torch.testing.assert_close(G(z, c, noise_mode="none"), plain(z, c, noise_mode="none"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_images_are_float32_in_any_precision(precision: str) -> None:
    from stylegan_oct.networks.layers import set_precision

    G = make(num_fp16_res=2)
    set_precision(G, precision)  # type: ignore[arg-type]
    assert G(torch.randn(2, 8), torch.eye(2)).dtype == torch.float32


def test_widths_have_a_lower_bound() -> None:
    wide = {"channel_base": 2048, "channel_max": 128, "channel_min": 16}
    assert [channels_at(r, **wide) for r in (4, 16, 64, 128, 256, 512)] == [128, 128, 32, 16, 16, 16]
    assert make(channel_min=6).synthesis.b16.conv1.weight.shape[0] == 6
    assert make().synthesis.b16.conv1.weight.shape[0] == 4


def test_each_picture_has_the_speckle_of_a_camera() -> None:
    speckle, img = layer(0), torch.zeros(3, 1, 16, 16)
    speckle.camera_strength[5], speckle.camera_strength[7] = 0.001, 0.002
    speckle.camera_grain[7, 0, 0, 1], speckle.camera_grain[7, 0, 1, 1] = 1, 0  # the pixel above
    shown = speckle(img, noise_mode="const", speckle=torch.tensor([[0, 0, 0], [5, 0, 0], [7, 3, 15]]))
    assert not shown[0].any()
    torch.testing.assert_close(shown[1, 0], 0.002 * speckle.noise_const, atol=1e-4, rtol=0)
    moved = speckle.noise_const.roll((3, 15), dims=(0, 1))
    torch.testing.assert_close(shown[2, 0, 1:], 0.004 * moved[:-1], atol=5e-4, rtol=0)


def test_new_speckle_is_of_all_cameras() -> None:
    speckle = layer(0)
    speckle.camera_strength[::2] = 0.02
    still = speckle(torch.zeros(400, 1, 16, 16), noise_mode="random").abs().amax(dim=(1, 2, 3)) == 0
    assert still.double().mean() == pytest.approx(0.5, abs=0.1)


def test_each_latent_has_its_own_speckle_and_always_the_same() -> None:
    info = GeneratorInfo(Path(), "", ("A", "B"), 16, 1, 0, "", "", Preprocess(resolution=16), {})
    network = make()
    network.synthesis.b16.speckle.camera_strength.fill_(0.1)
    G = OctGenerator(network, info)
    z = G.z(range(400))
    speckle = G.speckle_of(z)
    assert torch.equal(speckle[5:9], G.speckle_of(z[5:9])) and not speckle.min(dim=0).values.any()
    assert speckle.max(dim=0).values.tolist() == [CAMERAS - 1, 15, 15]
    assert len({tuple(row) for row in speckle.tolist()}) > 350
    torch.testing.assert_close(G(z[:3], "A"), torch.cat([G(z[i:i + 1], "A") for i in range(3)]))
    ws = G.ws(z[:1], "A").repeat(2, 1, 1)
    one, two = G.synthesize(ws, speckle=speckle[:2])
    assert not torch.equal(one, two) and torch.equal(*G.synthesize(ws))
