"""Each parameter against its distribution in ADA, appendix B, and the share of images that each strength touches."""

import math

import pytest
import torch
from scipy import stats

from stylegan_oct.augment.color import draw_color
from stylegan_oct.augment.corruption import add_noise, cut_out
from stylegan_oct.augment.draws import Draws
from stylegan_oct.augment.filtering import draw_band_gains
from stylegan_oct.augment.geometry import draw_geometry
from stylegan_oct.augment.pipeline import AugmentPipe
from stylegan_oct.augment.spec import TRANSFORMATIONS, AugmentSpec

N = 20_000


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(7)


def geometry(name, p=1.0, **settings):
    return draw_geometry(AugmentSpec(**{name: 1.0}, **settings), Draws(N, p), width=200, height=100)


def color(name, channels=3):
    return draw_color(AugmentSpec(**{name: 1.0}), Draws(N, 1.0), channels=channels)


def assert_distributed(values, distribution):
    """At this N, a true distribution gives a Kolmogorov distance of 0.02 once in a million times."""
    assert stats.kstest(values.numpy(), distribution.cdf).statistic < 0.02


def normal(std):
    return stats.norm(scale=std)


def uniform(limit):
    return stats.uniform(-limit, 2 * limit)


def test_half_of_the_images_are_flipped_at_full_strength():
    values, counts = geometry("xflip")[:, 0, 0].unique(return_counts=True)
    assert values.tolist() == [-1, 1]
    assert counts / N == pytest.approx([0.5, 0.5], abs=0.02)


def test_quarter_turns_are_equally_likely():
    m = geometry("rotate90")
    turns = torch.atan2(m[:, 1, 0], m[:, 0, 0]).div(math.pi / 2).round().remainder(4)
    assert torch.bincount(turns.long()) / N == pytest.approx([0.25] * 4, abs=0.02)


def test_whole_shifts_are_uniform_in_an_eighth_of_the_image():
    m = geometry("xint")
    assert torch.equal(m, m.round())
    x, y = m[:, 0, 2], m[:, 1, 2]
    assert (x.abs().max(), y.abs().max()) == (25, 12)
    # Spread over the width of a pixel, rounded numbers are uniform again.
    assert_distributed(x + torch.rand(N) - 0.5, uniform(25))
    assert_distributed(y + torch.rand(N) - 0.5, uniform(12.5))
    assert abs(stats.pearsonr(x, y).statistic) < 0.03


def test_scale_is_log_normal_and_isotropic():
    m = geometry("scale")
    assert torch.equal(m[:, 0, 0], m[:, 1, 1])
    assert_distributed(m[:, 0, 0].log2(), normal(0.2))


def test_anisotropic_scale_keeps_the_area():
    m = geometry("aniso")
    torch.testing.assert_close(m[:, 0, 0] * m[:, 1, 1], torch.ones(N, dtype=torch.float64))
    assert_distributed(m[:, 0, 0].log2(), normal(0.2))


def test_rotation_is_uniform_over_the_circle():
    m = geometry("rotate")
    assert_distributed(torch.atan2(m[:, 1, 0], m[:, 0, 0]), uniform(math.pi))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_either_rotation_is_applied_with_probability_p(p):
    turned = geometry("rotate", p, rotate_max=0.4)[:, 0, 0] != 1
    assert turned.double().mean().item() == pytest.approx(p, abs=0.015)


def test_fractional_shifts_are_normal_shares_of_width_and_height():
    m = geometry("xfrac")
    assert_distributed(m[:, 0, 2] / 200, normal(0.125))
    assert_distributed(m[:, 1, 2] / 100, normal(0.125))


def test_brightness_is_normal():
    assert_distributed(color("brightness")[:, 0, 3], normal(0.2))


def test_contrast_is_log_normal():
    assert_distributed(color("contrast")[:, 1, 1].log2(), normal(0.5))


def test_half_of_the_images_are_reflected_about_the_luma_axis():
    assert (color("lumaflip")[:, 0, 0] < 1).double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_hue_is_uniform_over_the_circle():
    m = color("hue")[:, :3, :3]
    cos = (m.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2
    sin = (m[:, 1, 0] - m[:, 0, 1]) * math.sqrt(3) / 2
    assert_distributed(torch.atan2(sin, cos), uniform(math.pi))


def test_saturation_is_log_normal():
    chroma = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64) / math.sqrt(2)
    assert_distributed((chroma @ color("saturation")[:, :3, :3] @ chroma).log2(), normal(1.0))


@pytest.mark.parametrize("band", range(4))
def test_a_band_gain_is_log_normal_and_keeps_the_expected_power(band):
    bands = tuple(float(band == other) for other in range(4))
    gains = draw_band_gains(AugmentSpec(imgfilter=1.0, imgfilter_bands=bands), Draws(N, 1.0))
    assert_distributed((gains[:, band] / gains[:, band - 1]).log2(), normal(1.0))
    power = torch.tensor([10, 1, 1, 1], dtype=torch.float64) / 13
    torch.testing.assert_close((gains.square() * power).sum(dim=1), torch.ones(N, dtype=torch.float64))


def test_the_standard_deviation_of_the_noise_is_half_normal():
    noise = add_noise(torch.zeros(2000, 1, 32, 32), AugmentSpec(noise=1.0), Draws(2000, 1.0))
    distance = stats.kstest(noise.std(dim=(1, 2, 3)).numpy(), stats.halfnorm(scale=0.1).cdf).statistic
    assert distance < 0.04


def test_the_centre_of_the_cutout_is_uniform():
    kept = cut_out(torch.ones(5000, 1, 32, 32), AugmentSpec(cutout=1.0), Draws(5000, 1.0))[:, 0]
    columns = (kept == 0).any(dim=1)                                                     # [N, W]
    # A centre within a quarter of an end cuts the square off: the width tells the centre, else its first column.
    assert columns.sum(dim=1).min() >= 8 and columns.sum(dim=1).max() == 16
    assert columns[:, 0].double().mean().item() == pytest.approx(0.25 + 0.5 / 32, abs=0.03)
    assert columns[:, 16].double().mean().item() == pytest.approx(0.5, abs=0.03)
    rows = (kept == 0).any(dim=2)
    assert abs(stats.pearsonr(rows[:, 0].double(), columns[:, 0].double()).statistic) < 0.05


# Share of the images that a transformation of probability 1 changes: one choice of 2 or of 4 is none.
CHANGED = {"xflip": 1 / 2, "rotate90": 3 / 4, "lumaflip": 1 / 2}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@pytest.mark.parametrize("p", [0.2, 0.7])
def test_the_share_of_changed_images_follows_p(name, p):
    images = torch.rand(1500, 3, 8, 8)
    changed = (AugmentPipe(name, channels=3)(images, p) != images).flatten(1).any(dim=1)
    # A shift by at most an eighth of 8 pixels rounds to none a quarter of the times; each of 4 bands is drawn apart.
    expected = 1 - (1 - p) ** 4 if name == "imgfilter" else p * {**CHANGED, "xint": 3 / 4}.get(name, 1.0)
    assert changed.double().mean().item() == pytest.approx(expected, abs=0.045)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_the_multiplier_scales_the_probability(name):
    images = torch.rand(400, 3, 8, 8)
    torch.manual_seed(1)
    half = AugmentPipe.from_multipliers(channels=3, **{name: 0.5})(images, 0.8)
    torch.manual_seed(1)
    torch.testing.assert_close(half, AugmentPipe(name, channels=3)(images, 0.4))


@pytest.mark.parametrize("name", sorted(set(TRANSFORMATIONS) - {"rotate"}))
def test_a_greater_strength_changes_the_same_images_likewise_and_more(name):
    images, results = torch.rand(200, 3, 8, 8), []
    for p in (0.3, 0.6):
        torch.manual_seed(1)
        results.append(AugmentPipe(name, channels=3)(images, p))
    touched = (results[0] != images).flatten(1).any(dim=1)
    if name == "imgfilter":  # four gates of their own: one more band may be amplified
        assert ((results[1] != images).flatten(1).any(dim=1) >= touched).all()
    else:
        torch.testing.assert_close(results[1][touched], results[0][touched])
