"""The generator."""

import pytest
import torch

from dnnlib.errors import ConfigError
from stylegan_oct.networks.generator import Generator

ARCHITECTURES = pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])


def make(**changes):
    torch.manual_seed(0)
    options = {"z_dim": 8, "c_dim": 3, "w_dim": 8, "img_resolution": 16, "img_channels": 1, "mapping_layers": 2,
               "channel_base": 128, "channel_max": 8}
    G = Generator(**(options | changes)).eval()
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    return G


def latents(n=4):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 8, generator=generator), torch.arange(n) % 3


@ARCHITECTURES
@pytest.mark.parametrize("channels", [1, 3])
def test_images_have_the_asked_shape(architecture, channels):
    images = make(architecture=architecture, img_channels=channels)(*latents())
    assert images.shape == (4, channels, 16, 16) and images.dtype == torch.float32 and images.is_contiguous()


@pytest.mark.parametrize("resolution", [8, 16, 32, 64, 128, 256, 512, 1024])
@ARCHITECTURES
def test_every_resolution_from_8_to_1024_has_two_latents_a_block(resolution, architecture):
    with torch.device("meta"):
        G = make(img_resolution=resolution, channel_base=1024, architecture=architecture)
        images = G(torch.empty(2, 8), torch.zeros(2, 3))
    assert images.shape == (2, 1, resolution, resolution)
    assert G.num_ws == 2 * (resolution.bit_length() - 2)


def test_other_resolutions_are_refused():
    with pytest.raises(ConfigError, match="got 96"):
        make(img_resolution=96)


def test_feature_maps_follow_base_and_maximum():
    G = make(img_resolution=64, channel_base=256, channel_max=24)
    widths = [G.get_submodule(f"synthesis.b{r}.conv1").weight.shape[0] for r in (4, 8, 16, 32, 64)]
    assert widths == [24, 24, 16, 8, 4]


@ARCHITECTURES
def test_each_image_depends_on_its_own_latent_alone(architecture):
    G, (z, c) = make(architecture=architecture), latents()
    images = G(z, c, noise_mode="const")
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(G(z[order], c[order], noise_mode="const"), images[order])
    torch.testing.assert_close(G(z[1:2], c[1:2], noise_mode="const"), images[1:2])


def test_noise_is_fixed_new_or_absent():
    G, (z, c) = make(), latents()
    const = G(z, c, noise_mode="const")
    assert torch.equal(const, G(z, c, noise_mode="const"))
    assert not torch.equal(G(z, c, noise_mode="random"), G(z, c, noise_mode="random"))
    none = G(z, c, noise_mode="none")
    assert (none - const).abs().max() > 1e-3
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.zero_()
    torch.testing.assert_close(G(z, c, noise_mode="random"), none)


def test_random_noise_follows_the_seed():
    G, (z, c) = make(), latents()
    torch.manual_seed(5)
    first = G(z, c)
    torch.manual_seed(5)
    assert torch.equal(first, G(z, c))


def test_the_class_changes_the_image_and_indices_equal_one_hot():
    G, (z, c) = make(), latents()
    images = G(z, c, noise_mode="const")
    assert torch.equal(images, G(z, torch.nn.functional.one_hot(c, 3).float(), noise_mode="const"))
    assert (images - G(z, (c + 1) % 3, noise_mode="const")).abs().max() > 1e-3


def test_psi_0_draws_one_image_a_class():
    G, (z, c) = make(), latents(6)
    G.mapping.w_avg_class.normal_()
    images = G(z, c, psi=0.0, center="class", noise_mode="const")
    torch.testing.assert_close(images[:3], images[3:])
    assert (images[0] - images[1]).abs().max() > 1e-3


def test_late_latents_leave_the_coarse_blocks_alone():
    G, (z, c) = make(), latents()
    ws = G.mapping(z, c)
    seen = []
    G.synthesis.b8.register_forward_hook(lambda _, __, output: seen.append(output[0]))
    for _ in range(2):
        G.synthesis(ws, noise_mode="const")
        ws = torch.cat([ws[:, :3], torch.randn_like(ws[:, 3:])], dim=1)
    assert torch.equal(*seen)


@pytest.mark.parametrize("architecture, torgb", [("orig", [16]), ("skip", [4, 8, 16]), ("resnet", [16])])
def test_torgb_is_where_the_architecture_puts_it(architecture, torgb):
    G = make(architecture=architecture)
    assert [r for r in (4, 8, 16) if hasattr(G.get_submodule(f"synthesis.b{r}"), "torgb")] == torgb


def test_float16_blocks_fall_back_to_float32_on_a_cpu():
    z, c = latents()
    torch.testing.assert_close(make(num_fp16_res=4)(z, c, noise_mode="const"), make()(z, c, noise_mode="const"),
                               rtol=0, atol=0)


def test_features_are_clamped():
    G, (z, c) = make(conv_clamp=0.5), latents()
    features = []
    G.synthesis.b16.conv1.register_forward_hook(lambda _, __, output: features.append(output))
    G(z, c)
    assert features[0].abs().max() == 0.5
    assert make(conv_clamp=None)(z, c).isfinite().all()


@ARCHITECTURES
def test_second_order_gradients_reach_every_parameter(architecture):
    G, (z, c) = make(architecture=architecture), latents()
    ws = G.mapping(z, c)
    images = G.synthesis(ws, noise_mode="const")
    (gradient,) = torch.autograd.grad((images * torch.randn_like(images)).sum(), ws, create_graph=True)
    gradient.square().sum().backward()
    without = [name for name, parameter in G.named_parameters() if parameter.grad is None]
    assert all(name.endswith("torgb.bias") for name in without)  # the image is linear in these alone
