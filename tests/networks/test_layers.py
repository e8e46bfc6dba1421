"""Layers and modulated convolution."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from dnnlib.errors import ConfigError
from stylegan_oct.networks import layers
from stylegan_oct.networks.layers import Conv2dLayer, FullyConnectedLayer
from stylegan_oct.networks.modulation import modulated_conv2d
from stylegan_oct.networks.sizes import block_resolutions
from torch_utils.ops.filters import setup_filter
from torch_utils.ops.upfirdn2d import upsample2d

FILTER = setup_filter([1.0, 3.0, 3.0, 1.0])


def random(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
@pytest.mark.parametrize("activation", ["linear", "lrelu"])
def test_a_fresh_dense_layer_keeps_the_variance_whatever_its_learning_rate(lr_multiplier, activation):
    torch.manual_seed(0)
    layer = FullyConnectedLayer(512, 512, activation=activation, lr_multiplier=lr_multiplier)
    y = layer(torch.randn(256, 512))
    assert y.square().mean().item() == pytest.approx(1.0 if activation == "linear" else 1.04, abs=0.05)


def test_the_learning_rate_multiplier_scales_the_step_of_the_function():
    steps = []
    for lr_multiplier in (1.0, 0.01):
        torch.manual_seed(0)
        layer = FullyConnectedLayer(16, 8, lr_multiplier=lr_multiplier)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, eps=1e-12)
        x = torch.randn(4, 16)
        before = layer(x)
        before.sum().backward()
        optimizer.step()
        steps.append((layer(x) - before).detach())
    torch.testing.assert_close(steps[1], 0.01 * steps[0], rtol=1e-3, atol=1e-5)


def test_bias_starts_at_its_value_whatever_the_learning_rate():
    layer = FullyConnectedLayer(4, 3, lr_multiplier=0.01, bias_init=1.0)
    torch.testing.assert_close(layer(torch.zeros(2, 4)), torch.ones(2, 3))


@pytest.mark.parametrize("up, down, size", [(1, 1, 8), (2, 1, 16), (1, 2, 4)])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_fresh_convolution_scales_the_size_and_keeps_smooth_images_in_scale(up, down, size, kernel_size):
    torch.manual_seed(0)
    layer = Conv2dLayer(64, 64, kernel_size, up=up, down=down)
    y = layer(torch.randn(8, 64, 1, 1).expand(-1, -1, 8, 8))
    assert y.shape == (8, 64, size, size)
    inner = y[:, :, size // 4:-(size // 4), size // 4:-(size // 4)]
    assert inner.square().mean().item() == pytest.approx(1.0, abs=0.25)


def test_the_gain_scales_output_and_clamp():
    layer = Conv2dLayer(2, 2, 3, activation="lrelu", conv_clamp=0.5)
    x = random(1, 2, 8, 8, dtype=torch.float32) * 10
    torch.testing.assert_close(layer(x, gain=0.5), layer(x) * 0.5)
    assert layer(x).abs().max() == 0.5


def test_normalised_rows_have_unit_second_moment():
    y = layers.normalize_second_moment(random(5, 32) * 7)
    torch.testing.assert_close(y.square().mean(dim=1), torch.ones(5, dtype=torch.float64))


def test_resolutions_start_at_4_and_others_are_refused():
    assert block_resolutions(32) == [4, 8, 16, 32]
    for wrong in (4, 48, 2048, 0):
        with pytest.raises(ConfigError, match=f"power of two from 8 to 1024; got {wrong}"):
            block_resolutions(wrong)


def test_half_precision_never_reaches_4_pixels():
    assert layers.fp16_blocks(64, 0) == set()
    assert layers.fp16_blocks(64, 2) == {64, 32}
    assert layers.fp16_blocks(16, 4) == {16, 8}


def by_loop(x, weight, styles, *, up, demodulate):
    """Modulate the weights of each sample, as the paper writes it."""
    samples = []
    for image, style in zip(x, styles, strict=True):
        w = weight * style[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        # The transposed convolution of the upsampling layers has a flipped kernel.
        image = F.pad(image[None], [4] * 4) if up == 2 else image[None]
        y = F.conv2d(upsample2d(image, FILTER), w.flip((2, 3)), padding=1) if up == 2 else F.conv2d(image, w, padding=1)
        samples.append(y[:, :, 8:-8, 8:-8] if up == 2 else y)
    return torch.cat(samples)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_convolution_equals_a_loop_over_samples(up, demodulate):
    x, weight, styles = random(3, 4, 6, 6), random(5, 4, 3, 3), random(3, 4)
    y = modulated_conv2d(x, weight, styles, up=up, padding=1, resample_filter=FILTER, demodulate=demodulate,
                         flip_weight=up == 1)
    # Beyond the image the filter is cut off by the padding, so the outermost samples may differ.
    edge = slice(None) if up == 1 else slice(2, -2)
    expected = by_loop(x, weight, styles, up=up, demodulate=demodulate)
    torch.testing.assert_close(y[:, :, edge, edge], expected[:, :, edge, edge])


@pytest.mark.parametrize("up", [1, 2])
def test_modulated_convolution_has_gradients_of_both_orders(up):
    tensors = tuple(random(*shape).requires_grad_() for shape in ((2, 2, 3, 3), (2, 2, 3, 3), (2, 2)))
    noise = random(2, 1, 3 * up, 3 * up)

    def run(x, weight, styles):
        return modulated_conv2d(x, weight, styles, noise=noise, up=up, padding=1, resample_filter=FILTER)

    assert gradcheck(run, tensors)
    assert gradgradcheck(run, tensors)


def test_demodulation_gives_unit_variance_whatever_the_styles_and_their_scale():
    x, weight, styles = random(8, 64, 16, 16), random(64, 64, 3, 3), random(8, 64).exp()
    y = modulated_conv2d(x, weight, styles)
    assert y.var().item() == pytest.approx(1.0, abs=0.1)
    torch.testing.assert_close(modulated_conv2d(x, weight, styles * 1000), y, rtol=1e-6, atol=1e-6)


def test_noise_is_added_after_demodulation():
    x, weight, styles, noise = random(2, 3, 4, 4), random(5, 3, 3, 3), random(2, 3), random(2, 1, 4, 4)
    plain = modulated_conv2d(x, weight, styles, padding=1)
    torch.testing.assert_close(modulated_conv2d(x, weight, styles, padding=1, noise=noise), plain + noise)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_float16_neither_overflows_nor_strays(scale):
    x, weight, styles = random(2, 32, 8, 8), random(32, 32, 3, 3), random(2, 32) * scale
    exact = modulated_conv2d(x, weight, styles, padding=1)
    y = modulated_conv2d(x.half(), weight.float(), styles.float(), padding=1)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.double(), exact, rtol=0.01, atol=0.01)
