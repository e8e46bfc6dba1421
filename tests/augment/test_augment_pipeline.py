import copy

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from dnnlib.errors import ConfigError
from stylegan_oct.augment import geometry
from stylegan_oct.augment.draws import Draws
from stylegan_oct.augment.pipeline import AugmentPipe
from stylegan_oct.augment.spec import GROUPS, PRESETS, TRANSFORMATIONS, AugmentSpec, parse_groups
from torch_utils.seeding import seed_torch


def run(pipe, images, p, seed=0, **options):
    seed_torch(seed)
    return pipe(images, p, **options)


@pytest.fixture(params=[1, 3])
def images(request):
    torch.manual_seed(3)
    return torch.rand(6, request.param, 16, 16) * 2 - 1


def test_strength_0_is_the_identity(images):
    assert AugmentPipe("bgcfnc", channels=images.shape[1])(images, 0.0) is images


@pytest.mark.parametrize("name", [*PRESETS, "blit,color", "xflip, noise", "b,c,cutout"])
def test_groups_keep_shape_dtype_and_finite_values(images, name):
    result = run(AugmentPipe(name, channels=images.shape[1]), images, 1.0)
    assert result.shape == images.shape and result.dtype == images.dtype
    assert result.isfinite().all() and not torch.equal(result, images)


def test_each_letter_of_a_preset_adds_a_group():
    assert parse_groups("bgcfnc") == TRANSFORMATIONS
    assert parse_groups("b") == GROUPS["blit"]
    assert parse_groups("bgc") == (*GROUPS["blit"], *GROUPS["geom"], *GROUPS["color"])
    assert parse_groups("color,xflip,xflip") == ("xflip", *GROUPS["color"])


@pytest.mark.parametrize("text, nearest", [("bgcx", "bgc"), ("blit,colour", "color"), ("rotat90", "rotate90"),
                                           ("cutoff", "cutout")])
def test_an_unknown_group_gets_the_nearest_name(text, nearest):
    with pytest.raises(ConfigError, match=f"{text!r}.*{nearest}"):
        AugmentPipe(text)


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_other_numbers_of_channels_are_refused(channels):
    with pytest.raises(ConfigError, match=f"1 or 3 channels; got {channels}"):
        AugmentPipe("bgc", channels=channels)


def test_negative_multipliers_are_refused():
    with pytest.raises(ConfigError, match="scale must not be negative; got -1"):
        AugmentSpec(scale=-1.0)


@pytest.mark.parametrize("name", PRESETS)
def test_a_seed_determines_the_result(images, name):
    pipe = AugmentPipe(name, channels=images.shape[1])
    first, again, other = (run(pipe, images, 0.7, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_is_drawn_next_does_not_depend_on_the_strength(images):
    pipe = AugmentPipe("bgcfnc", channels=images.shape[1])
    following = []
    for p in (0.01, 0.5, 1.0):
        run(pipe, images, p)
        following.append(torch.rand(4))
    assert torch.equal(following[0], following[1]) and torch.equal(following[0], following[2])


def test_percentiles_draw_nothing_from_the_generator(images):
    state = torch.get_rng_state()
    AugmentPipe("bgc", channels=images.shape[1])(images, 1.0, percentile=0.3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("percentile", [0.0, 1.0])
def test_the_ends_of_the_distributions_are_finite(images, percentile):
    result = AugmentPipe("bgcfnc", channels=images.shape[1])(images, 1.0, percentile=percentile)
    assert result.isfinite().all()


@pytest.mark.parametrize("seed", range(8))
def test_an_image_does_not_depend_on_its_neighbours_in_the_batch(images, seed):
    pipe = AugmentPipe("bgcf", channels=images.shape[1])
    others = images.clone()
    others[1:] = 0.3
    # Summing in another order moves places of reading by 1e-6 pixels.
    torch.testing.assert_close(run(pipe, others, 0.6, seed)[0], run(pipe, images, 0.6, seed)[0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("groups", ["blit", "geom", "bgc", "f", "n,cutout", "bgcfnc"])
@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_computing_all_gives_what_computing_the_touched_images_gives(images, groups, p):
    pipe = AugmentPipe(groups, channels=images.shape[1])
    for seed in range(3):
        some = run(pipe, images.double(), p, seed)
        every = run(pipe, images.double(), torch.tensor(p, dtype=torch.float64), seed, everywhere=True)
        # The filter is known to float32.
        torch.testing.assert_close(every, some, rtol=0, atol=1e-5)


def test_the_batch_with_the_widest_margin_changes_no_other_image():
    torch.manual_seed(0)
    images = torch.rand(8, 1, 32, 32, dtype=torch.float64)
    inverse = geometry.draw_geometry(AugmentPipe("bg").spec, Draws(8, 0.8), width=32, height=32)
    f = AugmentPipe("bg").f_geom
    together = geometry.warp(images, inverse, f)
    apart = torch.cat([geometry.warp(images[i:i + 1], inverse[i:i + 1], f) for i in range(8)])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 3, 4, 4), (3, 1, 8, 24), (2, 1, 17, 9)])
@pytest.mark.parametrize("seed", range(3))
def test_tiny_odd_and_oblong_images_work(shape, seed):
    result = run(AugmentPipe("bgcfnc", channels=shape[1]), torch.rand(shape), 1.0, seed)
    assert result.shape == shape and result.isfinite().all()


def test_inputs_stay_unchanged_and_memory_format_does_not_matter(images):
    pipe, before = AugmentPipe("bgcfnc", channels=images.shape[1]), images.clone()
    expected = run(pipe, images, 0.8)
    assert torch.equal(images, before)
    result = run(pipe, images.contiguous(memory_format=torch.channels_last), 0.8)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_the_pipeline_is_differentiable_twice(channels, p):
    pipe = AugmentPipe("bgcfnc", channels=channels).double()
    x = torch.rand(2, channels, 5, 5, dtype=torch.float64, requires_grad=True)

    def augment(images):
        return run(pipe, images, p, seed=5)

    assert gradcheck(augment, (x,))
    # The pipeline itself is affine in the images; squaring it gives the second derivative something to be.
    assert gradgradcheck(lambda images: augment(images).square(), (x,), atol=1e-4)


def test_the_pipeline_is_affine_in_the_images(images):
    pipe, other = AugmentPipe("bgcfnc", channels=images.shape[1]), images.flip(0) * 0.5
    a, b, both = (run(pipe, x, 0.9) for x in (images, other, 0.25 * images + 0.75 * other))
    torch.testing.assert_close(both, 0.25 * a + 0.75 * b, rtol=0, atol=1e-4)


def test_the_gradient_penalty_reaches_the_weights_of_a_discriminator(images):
    D = torch.nn.Conv2d(images.shape[1], 1, 3)
    x = images.requires_grad_()
    logits = D(run(AugmentPipe("bgc", channels=images.shape[1]), x, 0.8)).tanh().sum()
    (gradient,) = torch.autograd.grad(logits, x, create_graph=True)
    gradient.square().sum().backward()
    assert D.weight.grad is not None and D.weight.grad.abs().max() > 0


def test_a_pipeline_has_no_state_and_can_be_copied():
    pipe = AugmentPipe("bgc")
    assert not pipe.state_dict() and not list(pipe.parameters())
    assert copy.deepcopy(pipe).spec == pipe.spec


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gpu_gives_the_same_images_without_being_waited_for(channels):
    pipe, images = AugmentPipe("bgcf", channels=channels), torch.rand(4, channels, 32, 32)
    expected = run(pipe, images, 0.7)
    pipe, images = pipe.cuda(), images.cuda()
    run(AugmentPipe("bgcfnc", channels=channels).cuda(), images, 0.7)
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = run(pipe, images, 0.7)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(result.cpu(), expected, rtol=0, atol=1e-4)
