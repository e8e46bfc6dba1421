"""Projection: what it finds, that scans do not disturb each other, and what pivotal tuning and encoders add."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_library import make_generator
from small_seer import SmoothSeer

from dnnlib.errors import CheckpointError, ConfigError, DataError
from stylegan_oct.features.perceptual import PerceptualDistance
from stylegan_oct.latent.classspace import fit_class_space
from stylegan_oct.latent.codes import Codes, check_codes, load_codes, save_codes
from stylegan_oct.latent.library import Library, write_library
from stylegan_oct.latent.projection import noise as layer_noise
from stylegan_oct.latent.projection.encoder import load_encoder, save_encoder, train_encoder
from stylegan_oct.latent.projection.engine import Engine, configure, draw_codes
from stylegan_oct.latent.projection.fidelity import fidelity
from stylegan_oct.latent.projection.objective import Objective
from stylegan_oct.latent.projection.pivotal import draw_tuned, pick_rank, tune
from stylegan_oct.latent.projection.projector import PRESETS, ProjectConfig, project
from stylegan_oct.latent.projection.row_adam import RowAdam
from stylegan_oct.latent.projection.starts import LibraryStarts, find_starts
from torch_utils.images import to_uint8

G = make_generator()
SPACE = fit_class_space(G, samples=256)
SEER = PerceptualDistance(SmoothSeer())
QUICK = ProjectConfig(steps=30, lr=0.05)


def samples(count, first=0):
    labels = torch.arange(count) % 2
    ws = G.ws(G.z(range(first, first + count)), labels)
    return ws, labels, to_uint8(G.synthesize(ws))


def means(labels):
    return [{int(label): SPACE.means[label]} for label in labels]


def test_whitening_and_its_inverse_cancel():
    ws, labels, _ = samples(4)
    torch.testing.assert_close(SPACE.to_w(SPACE.to_v(ws, labels), labels), ws, atol=1e-5, rtol=1e-4)


def test_whitened_w_has_variance_one_along_the_wide_axes():
    w = G.ws(torch.randn(4000, 8, generator=torch.Generator().manual_seed(1)), 0)[:, :1]
    v = SPACE.to_v(w, torch.zeros(len(w), dtype=torch.long))[:, 0]
    assert v[:, :2].var(dim=0) == pytest.approx(1, abs=0.25)


def test_the_objective_is_zero_at_the_target_and_positive_elsewhere():
    _, _, pixels = samples(3)
    objective = Objective(SEER, pixels)
    images = pixels.float() / 127.5 - 1
    torch.testing.assert_close(objective(images, torch.arange(3)), torch.zeros(3), atol=1e-6, rtol=0)
    assert (objective(images.roll(1, dims=0), torch.arange(3)) > 1e-4).all()


def test_what_is_masked_does_not_count():
    _, _, pixels = samples(1)
    valid = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    valid[..., :8] = False
    other = pixels.clone()
    other[..., :8] = 255 - other[..., :8]
    objective = Objective(SEER, pixels, valid)
    assert float(objective(other.float() / 127.5 - 1, torch.tensor([0]))) == pytest.approx(0, abs=1e-6)


def test_rows_of_adam_equal_torchs_adam_each_by_itself():
    start = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    rows = RowAdam([start.clone()], (0.8, 0.9))
    theirs = [start[row].clone().requires_grad_(True) for row in range(3)]
    optimizers = [torch.optim.Adam([tensor], lr=0.1, betas=(0.8, 0.9)) for tensor in theirs]
    for step in range(4):
        if step == 2:
            rows.keep(torch.tensor([True, False, True]))
        rows.step([2 * rows.tensors[0]], 0.1)
        for tensor, optimizer in zip(theirs, optimizers, strict=True):
            optimizer.zero_grad()
            tensor.square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(rows.tensors[0], torch.stack([theirs[0], theirs[2]]).detach())


def test_own_samples_come_back():
    _, labels, pixels = samples(2)
    objective = Objective(SEER, pixels)
    with torch.no_grad():
        before = objective(G.synthesize(SPACE.means[labels]), torch.arange(2))
    found = project(G, objective, means(labels), SPACE, replace(QUICK, steps=150))
    assert all(result.distance < 0.1 * float(first) for result, first in zip(found, before, strict=True))


def test_a_scan_goes_its_way_as_if_alone():
    _, labels, pixels = samples(3)
    together = project(G, Objective(SEER, pixels), means(labels), SPACE, QUICK)
    alone = project(G, Objective(SEER, pixels[1:2]), means(labels[1:2]), SPACE, QUICK)[0]
    torch.testing.assert_close(together[1].w, alone.w, atol=1e-4, rtol=1e-4)


def test_the_size_of_the_batch_changes_nothing():
    _, labels, pixels = samples(3)
    whole, parts = (project(G, Objective(SEER, pixels), means(labels), SPACE, QUICK, batch=batch) for batch in (8, 2))
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a.w, b.w, atol=1e-4, rtol=1e-4)


def test_the_best_step_is_kept():
    _, labels, pixels = samples(1)
    objective = Objective(SEER, pixels)
    found = project(G, objective, means(labels), SPACE, replace(QUICK, lr=1.0))[0]
    assert found.distance == pytest.approx(min(found.curves[0]))
    with torch.no_grad():
        again = float(objective(G.synthesize(found.w[None]), torch.tensor([0])))
    assert again == pytest.approx(found.distance, rel=1e-3)


def test_in_w_all_layers_agree_and_in_w_plus_they_may_not():
    _, labels, pixels = samples(1)
    w, w_plus = (project(G, Objective(SEER, pixels), means(labels), SPACE, replace(QUICK, space=space))[0].w
                 for space in ("w", "w+"))
    assert w.shape == w_plus.shape == (G.network.num_ws, 8)
    assert (w == w[:1]).all() and not torch.allclose(w_plus, w_plus[:1])


def test_all_classes_are_ranked_and_the_best_goes_on():
    _, _, pixels = samples(2)
    both = [{0: SPACE.means[0], 1: SPACE.means[1]} for _ in range(2)]
    for found in project(G, Objective(SEER, pixels), both, SPACE, QUICK):
        assert set(found.ranking) == {0, 1} and list(found.ranking.values()) == sorted(found.ranking.values())
        assert found.label == next(iter(found.ranking))
        loser = next(label for label in (0, 1) if label != found.label)
        assert len(found.curves[found.label]) == 30 and len(found.curves[loser]) == 6


def test_a_scan_without_progress_is_done():
    _, labels, pixels = samples(1)
    found = project(G, Objective(SEER, pixels), means(labels), SPACE, replace(QUICK, lr=1e-9, patience=10))[0]
    assert len(found.curves[0]) < 15


def test_the_same_seed_gives_the_same_latents():
    _, labels, pixels = samples(1)
    official = replace(PRESETS["official"], steps=8)
    a, b, c = (project(G, Objective(SEER, pixels), means(labels), SPACE, official, seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(a.w, b.w) and not torch.equal(a.w, c.w)
    assert a.noise and all(abs(float(value.mean())) < 1e-5 for value in a.noise.values())


def test_white_noise_has_less_structure_than_stripes():
    white = {"a": torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))}
    stripes = {"a": torch.ones(1, 1, 16, 16) * torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(4)}
    assert float(layer_noise.structure(white)) < 0.1 * float(layer_noise.structure(stripes))


def test_starts_are_never_worse_than_the_class_mean(tmp_path):
    write_library(tmp_path / "a.zip", G, count=40)
    library = LibraryStarts(Library(tmp_path / "a.zip"))
    _, labels, pixels = samples(4, first=500)
    objective = Objective(SEER, pixels)
    starts = find_starts(G, objective, pixels, [[int(label)] for label in labels], SPACE, library=library)
    w = torch.stack([start[int(label)] for start, label in zip(starts, labels, strict=True)])
    chosen, mean = objective(G.synthesize(w), torch.arange(4)), objective(G.synthesize(SPACE.means[labels]),
                                                                         torch.arange(4))
    assert (chosen <= mean + 1e-6).all() and (chosen < mean).any()


def test_a_picture_of_the_library_is_nearest_to_itself(tmp_path):
    write_library(tmp_path / "a.zip", G, count=40)
    library = Library(tmp_path / "a.zip")
    pixels = torch.from_numpy(library.picture(7).copy())[None, None]
    assert int(LibraryStarts(library).shortlist(pixels, int(library.labels[7]))[0, 0]) == 7


def test_tuning_comes_nearer_and_leaves_the_generator_as_it_was():
    pixels = torch.randint(0, 256, (1, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    objective, w = Objective(SEER, pixels), SPACE.means[:1].expand(G.network.num_ws, -1)
    before = {name: value.clone() for name, value in G.network.synthesis.named_parameters()}
    untuned = float(objective(G.synthesize(w[None]), torch.tensor([0])))
    factors, distance = tune(G, objective, 0, w, steps=40)
    assert distance < 0.8 * untuned
    assert all(torch.equal(value, before[name]) for name, value in G.network.synthesis.named_parameters())
    drawn = float(objective(draw_tuned(G, w[None], factors), torch.tensor([0])))
    assert drawn == pytest.approx(distance, rel=0.05)    # the factors are stored in float16


def test_the_factors_fit_into_five_megabytes_at_512_px():
    widths = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64}
    weights = {f"{side}.{i}": torch.empty(width, width, 3, 3, device="meta")
               for side, width in widths.items() for i in (0, 1)}
    rank = pick_rank(weights)
    assert rank >= 4
    assert sum(2 * rank * (len(weight) + weight[0].numel()) for weight in weights.values()) <= 5_000_000


def test_codes_come_back_from_their_file(tmp_path):
    engine = Engine(G, SmoothSeer(), replace(QUICK, steps=5), tuned=True)
    _, _, pixels = samples(1)
    result = engine.run(pixels, None, ["CNV"], patient=True)[0]
    save_codes(tmp_path / "c.safetensors", result.codes)
    loaded = load_codes(tmp_path / "c.safetensors")
    assert torch.equal(loaded.w, result.codes.w) and loaded.derived_from_patient and loaded.space == "pti"
    assert torch.equal(to_uint8(draw_codes(G, loaded))[0], result.picture)
    assert (tmp_path / "c.safetensors").stat().st_mode & 0o077 == 0


def test_codes_of_another_generator_are_refused(tmp_path):
    codes = Codes(w=torch.zeros(G.network.num_ws, 8), class_name="CNV", checkpoint_sha256="f" * 64)
    with pytest.raises(DataError, match="another generator"):
        check_codes(codes, G, tmp_path / "c.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no codes"):
        load_codes(tmp_path / "bad.safetensors")


def test_an_encoder_learns_and_comes_back_from_its_file(tmp_path):
    seer = SmoothSeer()
    encoder, distances = train_encoder(G, seer, steps=60, batch=8)
    assert sum(distances[-10:]) < 0.9 * sum(distances[:10])
    save_encoder(tmp_path / "e.safetensors", encoder, G)
    loaded = load_encoder(tmp_path / "e.safetensors", G, seer)
    _, labels, pixels = samples(3)
    torch.testing.assert_close(loaded(pixels, labels), encoder(pixels, labels))
    with pytest.raises(CheckpointError, match="another generator"):
        load_encoder(tmp_path / "e.safetensors", make_generator(seed=1), seer)


def test_equal_pictures_have_perfect_fidelity_and_padding_does_not_count():
    a = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    valid = np.ones((32, 32), bool)
    same = fidelity(a, a, valid)
    assert same["mse"] == 0 and math.isinf(same["psnr"]) and same["ssim"] == pytest.approx(1)
    b, valid[:, :8] = a.copy(), False
    b[:, :8] = 0
    assert fidelity(a, b, valid)["mse"] == 0 and fidelity(a, b, valid)["ssim"] == pytest.approx(1)
    inverted = fidelity(a, 255 - a, np.ones_like(valid))
    assert inverted["ssim"] < 0 and inverted["psnr"] < 10


def test_the_pivot_lies_in_w_and_fitted_noise_keeps_the_last_step():
    assert configure(PRESETS["standard"], space="pti", steps=None, noise=False).space == "w"
    noisy = configure(PRESETS["standard"], space=None, steps=7, noise=True)
    assert noisy.noise_weight and noisy.keep == "last" and noisy.steps == 7
    with pytest.raises(ConfigError, match="steps must be a whole number from 1"):
        configure(PRESETS["standard"], space=None, steps=-1, noise=False)
