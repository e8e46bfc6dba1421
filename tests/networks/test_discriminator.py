"""The discriminator."""

import pytest
import torch

from dnnlib.errors import ConfigError
from stylegan_oct.networks.discriminator import Discriminator, MinibatchStd

ARCHITECTURES = pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])


def make(**changes):
    torch.manual_seed(0)
    options = {"c_dim": 3, "img_resolution": 16, "img_channels": 1, "mapping_layers": 2, "channel_base": 128,
               "channel_max": 8}
    return Discriminator(**(options | changes)).eval()


def inputs(n=4, channels=1, resolution=16):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, channels, resolution, resolution, generator=generator), torch.arange(n) % 3


@ARCHITECTURES
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_have_one_column(architecture, channels):
    logits = make(architecture=architecture, img_channels=channels)(*inputs(channels=channels))
    assert logits.shape == (4, 1) and logits.dtype == torch.float32


@pytest.mark.parametrize("resolution", [8, 16, 32, 64, 128, 256, 512, 1024])
@ARCHITECTURES
def test_every_resolution_from_8_to_1024_works(resolution, architecture):
    with torch.device("meta"):
        D = make(img_resolution=resolution, channel_base=1024, architecture=architecture)
        assert D(torch.empty(4, 1, resolution, resolution), torch.zeros(4, 3)).shape == (4, 1)


def test_images_of_another_size_are_refused():
    with pytest.raises(AssertionError, match=r"\[\*, 1, 16, 16\] expected"):
        make()(torch.zeros(2, 1, 8, 8), torch.zeros(2, 3))


def test_labels_as_indices_equal_one_hot_and_matter():
    D, (images, c) = make(), inputs()
    logits = D(images, c)
    assert torch.equal(logits, D(images, torch.nn.functional.one_hot(c, 3).float()))
    assert not torch.allclose(logits, D(images, (c + 1) % 3))


def test_without_classes_no_label_is_needed():
    D, (images, _) = make(c_dim=0), inputs()
    assert torch.equal(D(images), D(images, torch.zeros(4, 0)))
    assert not any(name.startswith("mapping") for name in D.state_dict())


def test_the_size_of_the_mapped_label_can_be_chosen():
    D = make(cmap_dim=5)
    assert D.b4.out.weight.shape[0] == 5 and D(*inputs()).shape == (4, 1)


def test_groups_of_one_image_see_each_image_alone():
    D, (images, c) = make(mbstd_group_size=1), inputs()
    torch.testing.assert_close(D(images[2:3], c[2:3]), D(images, c)[2:3])


def test_float16_blocks_fall_back_to_float32_on_a_cpu():
    images, c = inputs()
    torch.testing.assert_close(make(num_fp16_res=4)(images, c), make()(images, c), rtol=0, atol=0)


@ARCHITECTURES
def test_second_order_gradients_reach_every_convolution(architecture):
    D, (images, c) = make(architecture=architecture), inputs()
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(D(images, c).sum(), images, create_graph=True)
    gradient.square().sum().backward()
    assert all(parameter.grad is not None for name, parameter in D.named_parameters() if name.endswith("weight"))


class TestMinibatchStd:
    def test_equal_images_differ_by_nothing(self):
        y = MinibatchStd(4)(torch.randn(1, 6, 4, 4).expand(4, -1, -1, -1))
        assert y.shape == (4, 7, 4, 4) and y[:, 6].max() < 1e-3

    def test_the_features_pass_and_the_mean_deviation_of_the_group_is_appended(self):
        x = torch.randn(4, 6, 4, 4)
        y = MinibatchStd(None)(x)
        assert torch.equal(y[:, :6], x)
        expected = (x.var(dim=0, correction=0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(y[:, 6], expected.expand(4, 4, 4))

    def test_a_group_takes_every_nth_image(self):
        x = torch.randn(6, 2, 4, 4)
        x[3:] = x[:3]  # images 0 and 3, 1 and 4, 2 and 5 are a group each
        assert MinibatchStd(2)(x)[:, 2].max() < 1e-3
        assert MinibatchStd(3)(x)[:, 2].min() > 0.1

    def test_channels_have_their_share_of_the_features(self):
        x = torch.randn(4, 6, 4, 4)
        x[:, :3] = 1.0
        y = MinibatchStd(4, num_channels=2)(x)
        assert y.shape[1] == 8 and y[:, 6].max() < 1e-3 and y[:, 7].min() > 0.1

    @pytest.mark.parametrize("n", [1, 2, 5, 6])
    def test_a_batch_that_is_no_multiple_has_smaller_groups(self, n):
        assert MinibatchStd(4)(torch.randn(n, 2, 4, 4)).shape == (n, 3, 4, 4)


class TestFrozenLayers:
    def names(self, D, n):
        frozen = {id(parameter) for parameter in D.frozen_parameters(n)}
        return [name for name, parameter in D.named_parameters() if id(parameter) in frozen]

    def test_none(self):
        assert make().frozen_parameters(0) == []

    def test_counting_starts_at_the_image(self):
        assert self.names(make(), 3) == [f"b16.{layer}.{kind}" for layer in ("fromrgb", "conv0", "conv1")
                                         for kind in ("weight", "bias")]

    def test_the_shortcut_counts_after_the_convolutions(self):
        assert set(self.names(make(), 5)) - set(self.names(make(), 3)) == {
            "b16.skip.weight", "b8.conv0.weight", "b8.conv0.bias"}

    @pytest.mark.parametrize("architecture, count", [("orig", 5), ("skip", 6), ("resnet", 7)])
    def test_all_layers_above_4_pixels_can_be_frozen_and_no_more(self, architecture, count):
        D = make(architecture=architecture)
        assert not any(name.startswith(("b4.", "mapping.")) for name in self.names(D, count))
        with pytest.raises(ConfigError, match=f"has {count} layers that can be frozen; got {count + 1}"):
            D.frozen_parameters(count + 1)
