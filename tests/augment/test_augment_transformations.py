"""Each transformation alone does what its name says."""

import math

import pytest
import torch
import torch.nn.functional as F

from stylegan_oct.augment import filtering, geometry
from stylegan_oct.augment.pipeline import AugmentPipe
from stylegan_oct.augment.spec import TRANSFORMATIONS

WIDTH = 32


def smooth(n=2, channels=1, size=WIDTH, *, seed=0):
    """Images without high frequencies, to which flips and turns by resampling are almost those of the pixels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 6, 6, generator=generator, dtype=torch.float64) * 2 - 1
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)


def at(name, percentile, images, **settings):
    pipe = AugmentPipe.from_multipliers(channels=images.shape[1], **{name: 1.0}, **settings)
    return pipe(images, 1.0, percentile=percentile)


def assert_close(value, expected, atol=1e-5):
    torch.testing.assert_close(value, expected, rtol=0, atol=atol)


def inner(images, margin=4):
    return images[:, :, margin:-margin, margin:-margin]


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_neutral_quantile_changes_nothing(name, channels):
    neutral = {"xflip": 0.4, "rotate90": 0.2, "lumaflip": 0.4, "noise": 0.0}.get(name, 0.5)
    settings = {"cutout_size": 0.0} if name == "cutout" else {}
    images = torch.rand(2, channels, 16, 16)
    assert_close(at(name, neutral, images, **settings), images)


def test_xflip_exchanges_left_and_right():
    images = smooth()
    assert_close(inner(at("xflip", 0.9, images)), inner(images.flip(3)), 0.05)


@pytest.mark.parametrize("percentile, turns", [(0.3, 1), (0.6, 2), (0.9, 3)])
def test_rotate90_turns_by_quarters(percentile, turns):
    images = smooth()
    assert_close(inner(at("rotate90", percentile, images)), inner(images.rot90(turns, (2, 3))), 0.05)


@pytest.mark.parametrize("percentile, shift", [(0.0, -4), (0.25, -2), (0.75, 2), (1.0, 4)])
def test_xint_shifts_by_whole_pixels_and_reflects_at_the_border(percentile, shift):
    images = torch.rand(2, 3, WIDTH, WIDTH)
    padded = F.pad(images, [4] * 4, mode="reflect")
    expected = padded[:, :, 4 - shift:4 - shift + WIDTH, 4 - shift:4 - shift + WIDTH]
    assert torch.equal(at("xint", percentile, images), expected)


def test_shifting_pixels_equals_resampling():
    images = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    inverse = torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)
    inverse[:, :2, 2] = torch.tensor([[0, 0], [3, -2], [-5, 1]])
    f = filtering.geometry_filter()
    assert_close(geometry.shift_pixels(images, inverse[:, :2, 2]), geometry.warp(images, inverse, f), 1e-6)


def _blob(x, y, size=WIDTH, sigma=2):
    """A bright spot at (x, y) pixels from the centre."""
    places = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return (-((places - x) ** 2 + (places[:, None] - y) ** 2) / (2 * sigma ** 2)).exp()[None, None]


def _centre(images):
    places = torch.arange(images.shape[-1], dtype=torch.float64) - (images.shape[-1] - 1) / 2
    weight = (images[0, 0] - 0.1).clamp(min=0)  # without the foot of its mirror image beyond the border
    return [(weight * p).sum().item() / weight.sum().item() for p in (places, places[:, None])]


@pytest.mark.parametrize("name, percentile, settings, expected", [
    ("scale", 1.0, {"scale_std": 0.1}, None),
    ("rotate", 0.75, {}, (0.0, -4.0)),           # +90 degrees turns what is on the right upwards
    ("rotate", 1.0, {"rotate_max": 0.5}, (0.0, -4.0)),
    ("rotate", 0.0, {"rotate_max": 0.25}, (4 / math.sqrt(2), 4 / math.sqrt(2))),
    ("xfrac", 0.75, {"xfrac_std": 0.1}, None),
])
def test_a_spot_goes_where_the_map_takes_it(name, percentile, settings, expected):
    normal = torch.tensor(2 * percentile - 1).clamp(max=1 - 2 ** -24).erfinv().item()
    if name == "scale":
        expected = (4 * 2 ** (0.1 * normal), 0.0)
    if name == "xfrac":
        shift = 0.1 * normal * WIDTH
        expected = (4 + shift, shift)
    # The filter is not symmetric: it moves what turns by up to 0.1 pixels.
    assert _centre(at(name, percentile, _blob(4, 0), **settings)) == pytest.approx(expected, abs=0.11)


def test_anisotropic_scale_widens_and_flattens():
    s = 2 ** (0.5 * torch.tensor(0.5).erfinv().item())
    x, y = _centre(at("aniso", 0.75, _blob(5, 5), aniso_std=0.5))
    assert (x, y) == pytest.approx((5 * s, 5 / s), abs=0.1)


def test_brightness_adds_a_constant():
    images = torch.rand(2, 3, 8, 8)
    assert_close(at("brightness", 0.9, images), images + 0.2 * torch.tensor(0.8).erfinv())


def test_contrast_multiplies():
    images = torch.rand(2, 1, 8, 8)
    assert_close(at("contrast", 0.1, images), images * 2 ** (0.5 * torch.tensor(-0.8).erfinv()))


def test_lumaflip_turns_greys_into_their_negatives_and_keeps_hue():
    images = torch.rand(2, 3, 8, 8)
    flipped = at("lumaflip", 0.9, images)
    mean = images.mean(dim=1, keepdim=True)
    assert_close(flipped, images - 2 * mean)
    grey = torch.rand(2, 1, 8, 8)
    assert_close(at("lumaflip", 0.9, grey), -grey)


def test_hue_keeps_grey_and_turns_red_into_green_at_a_third_of_the_circle():
    grey = torch.rand(1, 1, 8, 8).expand(1, 3, 8, 8)
    assert_close(at("hue", 0.8, grey), grey)
    red, green = (torch.eye(3)[i].reshape(1, 3, 1, 1).expand(1, 3, 8, 8) for i in (0, 1))
    assert_close(at("hue", 0.5 + 1 / 3, red), green)


def test_saturation_stretches_the_distance_from_grey():
    images = torch.rand(2, 3, 8, 8)
    mean = images.mean(dim=1, keepdim=True)
    assert_close(at("saturation", 0.9, images), mean + (images - mean) * 2 ** torch.tensor(0.8).erfinv())


@pytest.mark.parametrize("name", ["brightness", "contrast", "lumaflip", "hue", "saturation"])
def test_one_channel_is_treated_as_a_grey_image_of_three(name):
    images = torch.rand(2, 1, 8, 8)
    assert_close(at(name, 0.8, images).expand(-1, 3, -1, -1), at(name, 0.8, images.expand(-1, 3, -1, -1)))


def test_the_filter_bank_at_gain_1_is_the_identity():
    bank = filtering.filter_bank()
    delta = torch.zeros(43, dtype=torch.float64)
    delta[21] = 1
    assert_close(bank.sum(dim=0), delta, 1e-12)
    assert_close(bank, bank.flip(1), 1e-12)


def test_a_constant_image_has_the_lowest_band_alone():
    images = torch.full([1, 1, 16, 16], 0.5, dtype=torch.float64)
    result = filtering.amplify_bands(images, torch.tensor([[3.0, 7.0, 7.0, 7.0]]).double(), filtering.filter_bank())
    assert_close(result, images * 9)  # along both axes


def test_bands_are_octaves_from_low_to_high():
    spectrum = torch.fft.rfft(filtering.filter_bank(), n=512).abs()
    peaks = spectrum.argmax(dim=1) / 512
    assert peaks.tolist() == sorted(peaks.tolist())
    assert peaks[0] == 0 and peaks[3] == 0.5


@pytest.mark.parametrize("size", [8, 16, 48])
def test_filtering_equals_convolving_the_reflected_image(size):
    torch.manual_seed(0)
    images, gains, bank = torch.rand(2, 1, size, size).double(), torch.rand(2, 4).double(), filtering.filter_bank()
    positions = filtering.reflect(torch.arange(-21, size + 21), size)
    padded = images[:, :, positions][:, :, :, positions]
    expected = [F.conv2d(F.conv2d(image[None], taps[None, None, None]), taps[None, None, :, None])
                for image, taps in zip(padded, gains @ bank, strict=True)]
    assert_close(filtering.amplify_bands(images, gains, bank), torch.cat(expected), 1e-10)


def test_noise_has_its_standard_deviation_and_no_mean():
    torch.manual_seed(0)
    noise = at("noise", 0.9, torch.zeros(4, 1, 128, 128))
    sigma = 0.1 * torch.tensor(0.9).erfinv().item()
    assert noise.std().item() == pytest.approx(sigma, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=sigma / 50)


@pytest.mark.parametrize("percentile, share", [(0.0, 1 / 16), (0.5, 1 / 4), (1.0, 1 / 16)])
def test_cutout_sets_a_square_of_half_the_width_to_zero(percentile, share):
    result = at("cutout", percentile, torch.ones(2, 1, 32, 32))
    assert (result == 0).double().mean().item() == share
    assert ((result == 0) | (result == 1)).all()


def test_reflect_walks_back_and_forth():
    assert filtering.reflect(torch.arange(-5, 7), 4).tolist() == [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0]
    assert filtering.reflect(torch.tensor([-2, 0, 3]), 1).tolist() == [0, 0, 0]
