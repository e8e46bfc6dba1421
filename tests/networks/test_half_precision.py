"""Half precision: near float32, in images, logits and gradients.

A GPU takes float16 in the highest resolutions by itself; on a CPU the blocks are made to, which leaves all else as it
is. bfloat16 is taken where it is asked for, on a CPU by every block.
"""

import pytest
import torch

from stylegan_oct.networks import layers
from stylegan_oct.networks.discriminator import Discriminator
from stylegan_oct.networks.generator import Generator

COMMON = {"c_dim": 2, "img_resolution": 32, "img_channels": 1, "mapping_layers": 2, "channel_base": 512,
          "channel_max": 32, "num_fp16_res": 2}
DEVICES = [pytest.param("cpu"), pytest.param("cuda", marks=[
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")])]


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch):
    if request.param == "cpu":
        def dtype(device_type, in_half, precision):
            return torch.float16 if in_half and precision == "auto" else torch.float32

        monkeypatch.setattr(layers, "block_dtype", dtype)
    return request.param


def assert_near(results, tolerance=0.01):
    """Compare outputs and gradients of both precisions."""
    (output, gradient), (exact, exact_gradient) = results
    assert (output - exact).norm() < tolerance * exact.norm()
    # One of 2048 features at 4x4 that changes sides of the leaky ReLU's kink changes the gradient by 2 %.
    assert (gradient - exact_gradient).norm() < 5 * tolerance * exact_gradient.norm()


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_generator(device, architecture):
    torch.manual_seed(0)
    G = Generator(z_dim=16, w_dim=16, architecture=architecture, **COMMON).to(device)
    dtypes = []
    G.synthesis.b32.conv1.register_forward_hook(lambda _, __, output: dtypes.append(output.dtype))
    z, c = torch.randn(4, 16, device=device), torch.tensor([0, 1, 0, 1], device=device)
    results = []
    for force_fp32 in (False, True):
        images = G(z, c, noise_mode="const", force_fp32=force_fp32)
        assert images.dtype == torch.float32
        results.append((images, torch.autograd.grad(images.square().mean(), G.synthesis.b8.conv1.weight)[0]))
    assert dtypes == [torch.float16, torch.float32]
    assert_near(results)


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_discriminator(device, architecture):
    torch.manual_seed(0)
    D = Discriminator(architecture=architecture, **COMMON).to(device)
    dtypes = []
    D.b32.conv1.register_forward_hook(lambda _, __, output: dtypes.append(output.dtype))
    images, c = torch.randn(4, 1, 32, 32, device=device), torch.tensor([0, 1, 0, 1], device=device)
    results = []
    for force_fp32 in (False, True):
        logits = D(images, c, force_fp32=force_fp32)
        assert logits.dtype == torch.float32
        results.append((logits, torch.autograd.grad(logits.sum() * 100, D.b32.conv0.weight)[0]))
    assert dtypes == [torch.float16, torch.float32]
    assert_near(results)


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_bfloat16_is_as_near_as_eight_bits_allow(architecture):
    torch.manual_seed(0)
    G = Generator(z_dim=16, w_dim=16, architecture=architecture, **COMMON)
    D = Discriminator(architecture=architecture, **COMMON)
    dtypes = []
    for layer in (G.synthesis.b8.conv1, D.b8.conv1):  # not among the highest resolutions
        layer.register_forward_hook(lambda _, __, output: dtypes.append(output.dtype))
    z, c, real = torch.randn(4, 16), torch.tensor([0, 1, 0, 1]), torch.randn(4, 1, 32, 32)
    drawn, judged = [], []
    for precision in ("bf16", "fp32"):
        layers.set_precision(G, precision)
        layers.set_precision(D, precision)
        images, logits = G(z, c, noise_mode="const"), D(real, c)
        drawn.append((images, torch.autograd.grad(images.square().mean(), G.synthesis.b8.conv1.weight)[0]))
        judged.append((logits, torch.autograd.grad(logits.sum() * 100, D.b32.conv0.weight)[0]))
    assert dtypes == [torch.bfloat16] * 2 + [torch.float32] * 2
    assert_near(drawn, 0.04)
    assert_near(judged, 0.04)


@pytest.mark.parametrize("device_type, half, precision, expected", [
    ("cpu", True, "auto", torch.float32), ("cuda", True, "auto", torch.float16), ("cuda", False, "auto", torch.float32),
    ("cuda", True, "fp32", torch.float32), ("cuda", True, "bf16", torch.bfloat16),
    ("cuda", False, "bf16", torch.float32), ("cpu", False, "bf16", torch.bfloat16),
    ("cuda", True, "fp16", torch.float16)])
def test_what_a_block_computes_in(device_type, half, precision, expected):
    assert layers.block_dtype(device_type, half, precision) is expected
