import numpy as np
import pytest
import torch

from stylegan_oct.features.detector import Detector, load_detector
from stylegan_oct.features.perceptual import PerceptualDistance, depth_weights
from stylegan_oct.features.vgg16_lpips import Vgg16Lpips, Vgg16LpipsDetector
from stylegan_oct.phantom import render
from torch_utils.images import to_unit


@pytest.fixture(scope="module")
def distance():
    return PerceptualDistance(load_detector("lite0"))


@pytest.fixture(scope="module")
def scans():
    """Two eyes, the first also under other speckle: [3, 1, 64, 64] in [-1, 1]."""
    shown = [render(3, 0, label="DME", resolution=(64, 64), border=False),
             render(3, 0, label="DME", resolution=(64, 64), border=False, speckle_seed=9),
             render(3, 1, label="DME", resolution=(64, 64), border=False)]
    return to_unit(torch.from_numpy(np.stack([scan.image for scan in shown]))[:, None])


@pytest.fixture
def mask():
    """Valid but for the left quarter, [1, 1, 64, 64]."""
    valid = torch.ones(1, 1, 64, 64)
    valid[..., :16] = 0
    return valid


def test_equal_images_have_distance_zero(distance, scans):
    assert distance(scans, scans).tolist() == [0, 0, 0]


def test_the_distance_is_symmetric_and_at_most_four(distance, scans):
    there, back = distance(scans, scans.flip(0)), distance(scans.flip(0), scans)
    torch.testing.assert_close(there, back)
    assert 0 < distance(scans, -scans).max() <= 4


def test_the_same_eye_under_other_speckle_is_nearer_than_another_eye(distance, scans):
    assert distance(scans[:1], scans[1:2]) < 0.5 * distance(scans[:1], scans[2:])


@pytest.mark.parametrize("label", ["CNV", "DME"])
def test_the_distance_from_a_healthy_eye_grows_with_its_lesions(distance, label):
    eyes = np.stack([render(3, 2, label=label, resolution=(128, 128), border=False, lesion_scale=scale).image
                     for scale in (0, 0.3, 0.6, 1)])
    features = distance.features(to_unit(torch.from_numpy(eyes)[:, None]))
    grown = distance.distance(features[:1], features)
    assert (grown.diff() > 0).all()


def test_the_content_below_the_mask_does_not_count(distance, scans, mask):
    changed = scans.clone()
    changed[..., :16] = torch.rand(3, 1, 64, 16) * 2 - 1
    torch.testing.assert_close(distance(scans, scans.flip(0), mask), distance(changed, scans.flip(0), mask))
    assert (distance(scans, changed) > 0.001).all()


def test_a_mask_of_ones_changes_nothing(distance, scans):
    torch.testing.assert_close(distance.features(scans, torch.ones(1, 1, 64, 64)), distance.features(scans))


def test_a_masked_distance_is_the_mean_over_what_is_valid(distance, mask):
    """A detector without a receptive field: the masked distance of images is the distance of their valid parts."""

    class Identity(Detector):
        name, dim, size, sha256 = "identity", 3, None, "0" * 64

        def taps(self, images):
            return [images]

    a, b = (torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) + 0.1 for seed in (0, 1))
    plain = PerceptualDistance(Identity())
    torch.testing.assert_close(plain(a, b, mask), plain(a[..., 16:], b[..., 16:]))


def test_a_picture_without_any_valid_part_is_like_every_other(distance, scans):
    nothing = torch.zeros(1, 1, 64, 64)
    assert distance(scans, scans.flip(0), nothing).abs().max() == 0


def test_gradients_lead_towards_the_target(distance, scans):
    start = scans[2:].clone().requires_grad_()
    before = distance(start, scans[:1])
    (grad,) = torch.autograd.grad(before.sum(), start)
    assert distance(start - 0.05 * grad / grad.abs().max(), scans[:1]) < before
    assert grad.isfinite().all()


def test_black_pictures_give_finite_gradients(distance):
    black = torch.full((1, 1, 32, 32), -1.0, requires_grad=True)
    (grad,) = torch.autograd.grad(distance(black, black.detach()).sum(), black)
    assert grad.isfinite().all()


def test_each_tap_counts_twice_the_one_before():
    weights = depth_weights(5)
    assert sum(weights) == pytest.approx(1)
    assert [b / a for a, b in zip(weights, weights[1:], strict=False)] == pytest.approx([2] * 4)


def test_with_lpips_weights_the_distance_is_lpips():
    torch.manual_seed(0)
    network = Vgg16Lpips().requires_grad_(False)
    for head in network.heads:
        head.copy_(torch.rand_like(head))
    detector = Vgg16LpipsDetector(network, "0" * 64)
    a, b = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    expected = torch.zeros(2)
    for left, right, head in zip(detector.taps(a), detector.taps(b), network.heads, strict=True):
        unit = [x / x.square().sum(1, keepdim=True).sqrt() for x in (left, right)]
        expected += ((unit[0] - unit[1]).square() * head[:, None, None]).sum(1).mean((1, 2))
    torch.testing.assert_close(PerceptualDistance(detector)(a, b), expected, rtol=1e-3, atol=1e-5)
