"""Float16 in the highest resolutions: near float32, in images, logits and gradients.

A GPU uses it by itself; on a CPU the entrance of the blocks is made to, which leaves all else as it is.
"""

import pytest
import torch

from stylegan_oct.networks import discriminator, synthesis
from stylegan_oct.networks.discriminator import Discriminator
from stylegan_oct.networks.generator import Generator

COMMON = {"c_dim": 2, "img_resolution": 32, "img_channels": 1, "mapping_layers": 2, "channel_base": 512,
          "channel_max": 32, "num_fp16_res": 2}
DEVICES = [pytest.param("cpu"), pytest.param("cuda", marks=[
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")])]


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch):
    if request.param == "cpu":
        def enter(x, *, use_fp16):
            return x.to(torch.float16 if use_fp16 else torch.float32, memory_format=torch.channels_last)

        monkeypatch.setattr(synthesis, "enter_block", enter)
        monkeypatch.setattr(discriminator, "enter_block", enter)
    return request.param


def assert_near(results):
    """Compare outputs and gradients of both precisions."""
    (output, gradient), (exact, exact_gradient) = results
    assert (output - exact).norm() < 0.01 * exact.norm()
    # One of 2048 features at 4x4 that changes sides of the leaky ReLU's kink changes the gradient by 2 %.
    assert (gradient - exact_gradient).norm() < 0.05 * exact_gradient.norm()


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
