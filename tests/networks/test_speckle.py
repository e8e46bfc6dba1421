"""The speckle layer: what it adds, how strongly, and that everything else stays as it was."""

from pathlib import Path

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.model import GeneratorInfo, OctGenerator
from stylegan_oct.networks.generator import Generator
from stylegan_oct.networks.sizes import channels_at
from stylegan_oct.networks.synthesis import SPECKLE_START, SpeckleLayer, _from_black_on
from torch_utils.images import to_uint8

SIZES = {"z_dim": 8, "w_dim": 8, "c_dim": 2, "img_resolution": 16, "img_channels": 1, "mapping_layers": 2,
         "channel_base": 64, "channel_max": 8}


def make(**changes: object) -> Generator:
    torch.manual_seed(0)
    return Generator(**{**SIZES, "speckle": True, **changes}).eval()  # type: ignore[arg-type]


def layer() -> SpeckleLayer:
    torch.manual_seed(0)
    return SpeckleLayer(4, 1, w_dim=8, resolution=16)


def test_at_first_the_strength_is_the_same_everywhere() -> None:
    speckle, x, w = layer(), torch.randn(2, 4, 16, 16), torch.randn(2, 8)
    img = torch.zeros(2, 1, 16, 16)
    added = speckle(img, x, w, noise_mode="const")
    torch.testing.assert_close(added, (SPECKLE_START * speckle.noise_const).expand(2, 1, 16, 16))
    assert torch.equal(speckle(img, x, w, noise_mode="none"), img)


def test_the_strength_follows_the_features_pixel_by_pixel() -> None:
    speckle = layer()
    with torch.no_grad():
        speckle.strength.weight[:] = torch.tensor([1.0, 0, 0, 0])[None, :, None, None]
        speckle.strength.bias.zero_()
    x = torch.zeros(1, 4, 16, 16)
    x[:, 0, :, 8:] = 2
    w = torch.randn(1, 8)
    drawn = torch.cat([speckle(torch.zeros(1, 1, 16, 16), x, w, noise_mode="random") for _ in range(50)]).clamp(max=9)
    assert drawn[..., :8].abs().max() == 0 and drawn[..., 8:].std() > 0.1
    assert not torch.equal(drawn[0], drawn[1])


def test_what_falls_below_black_is_black() -> None:
    x, w = torch.zeros(1, 4, 16, 16), torch.zeros(1, 8)
    grey = torch.linspace(-2, 1, 256).reshape(1, 1, 16, 16).requires_grad_()
    shown = layer()(grey, x, w, noise_mode="none")
    difference = to_uint8(shown.detach()).int() - to_uint8(grey.detach()).int()
    assert difference.abs().max() <= 1 and not difference[grey < -1].any() and shown.min() > -1.06
    (slope,) = torch.autograd.grad(shown.sum(), grey)
    assert slope.min() > 0  # what is too dark can learn


def test_without_noise_the_picture_is_that_of_a_generator_without_the_layer() -> None:
    G, plain, z, c = make(), make(speckle=False), torch.randn(2, 8), torch.eye(2)
    shared = {name: tensor for name, tensor in G.state_dict().items() if ".speckle." not in name}
    assert plain.state_dict().keys() == shared.keys()
    plain.load_state_dict(shared)
    torch.testing.assert_close(G(z, c, noise_mode="none"), _from_black_on(plain(z, c, noise_mode="none")))


def test_gradients_of_first_and_second_order() -> None:
    speckle = layer().double()
    x, w = torch.randn(1, 4, 4, 4, dtype=torch.float64), torch.randn(1, 8, dtype=torch.float64)
    speckle.resolution, speckle.noise_const = 4, torch.randn(4, 4, dtype=torch.float64)
    speckle.strength.weight.data.normal_()
    img = torch.rand(1, 1, 4, 4, dtype=torch.float64) + 5  # far from black, where there is a kink

    def run(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return speckle(img, x, w, noise_mode="const")

    # The layer itself returns float32: the tolerance is that of its rounding.
    inputs = (x.requires_grad_(), w.requires_grad_())
    options = {"eps": 1e-2, "atol": 1e-2, "rtol": 1e-2, "nondet_tol": 0.0}
    assert gradcheck(run, inputs, **options) and gradgradcheck(run, inputs, **options)


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


def test_a_shift_moves_the_fixed_speckle_around_for_each_picture() -> None:
    speckle, x, w = layer(), torch.zeros(2, 4, 16, 16), torch.randn(2, 8)
    img = torch.zeros(2, 1, 16, 16)
    still = speckle(img, x, w, noise_mode="const")
    moved = speckle(img, x, w, noise_mode="const", shift=torch.tensor([[0, 0], [3, 15]]))
    assert torch.equal(moved[0], still[0])
    torch.testing.assert_close(moved[1], still[1].roll((3, 15), dims=(1, 2)))


def test_each_latent_has_its_own_speckle_and_always_the_same() -> None:
    info = GeneratorInfo(Path(), "", ("A", "B"), 16, 1, 0, "", "", Preprocess(resolution=16), {})
    G = OctGenerator(make(), info)
    z = G.z(range(200))
    shift = G.speckle_shift(z)
    assert torch.equal(shift[5:9], G.speckle_shift(z[5:9])) and shift.min() == 0 and shift.max() == 15
    assert len({tuple(row) for row in shift.tolist()}) > 100
    torch.testing.assert_close(G(z[:3], "A"), torch.cat([G(z[i:i + 1], "A") for i in range(3)]))
    ws = G.ws(z[:1], "A").repeat(2, 1, 1)
    one, two = G.synthesize(ws, shift=shift[:2])
    assert not torch.equal(one, two) and torch.equal(*G.synthesize(ws))
