import math
import stat

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from toy_eyes import toy_eye, write_eyes

from dnnlib.errors import DataError
from dnnlib.pictures import encode_png
from stylegan_oct.classes import CLASSES
from stylegan_oct.data.archive import ArchiveWriter
from stylegan_oct.features.copies_training import CopyTraining, train_copies
from stylegan_oct.metrics.memorisation.measure import CopyJudge, check_archive, measure_memorisation, open_judge
from stylegan_oct.networks.generator import Generator
from stylegan_oct.phantom import render
from torch_utils.images import to_uint8, to_unit

TRAIN, HELD_OUT, SIDE = 150, 120, 32
FRESH = 50_000  # eyes that no archive holds


class Drawn:
    """Pictures that stand for those of a generator."""

    classes, seed = ("CNV", "NORMAL"), 7

    def __init__(self, pixels, name):
        self.pixels, self.identity = pixels, name
        self.labels, self.groups = np.arange(len(pixels)) % 2, np.arange(len(pixels))

    def __len__(self):
        return len(self.pixels)

    def read(self, rows):
        return self.pixels[list(rows)]


def stack(pictures):
    return torch.from_numpy(np.stack(pictures))[:, None]


def eyes(numbers, **how):
    return stack([toy_eye(i, side=SIDE, **how) for i in numbers])


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_eyes(tmp_path_factory.mktemp("eyes") / "eyes.zip", train=TRAIN, held_out=HELD_OUT, side=SIDE)


@pytest.fixture(scope="module")
def judge(archive):
    file = archive.with_name("c.safetensors")
    train_copies(archive, file, CopyTraining(nimg=4000, batch=50))
    return open_judge(archive, weights=file)


def value(found, metric, class_name=None):
    return next(one for one in found.values if one.metric == metric and one.class_name == class_name)


def auroc(copies, others):
    return (copies[:, None] < others[None]).mean()


def memorised(count):
    """Return a generator fitted to the first training pictures until it repeats them, and latents that give them."""
    torch.manual_seed(0)
    wanted = to_unit(eyes(range(count)))
    G = Generator(z_dim=8, w_dim=32, c_dim=0, img_resolution=SIDE, img_channels=1, mapping_layers=1, channel_base=512,
                  channel_max=32)
    ws = torch.randn(count, 1, 32).expand(-1, G.num_ws, -1)
    optimizer = torch.optim.Adam(G.parameters(), lr=1e-2, betas=(0.9, 0.99))
    for _ in range(400):
        loss = (G.synthesis(ws, noise_mode="none") - wanted).square().mean()
        if loss < 0.2 * wanted.var(dim=0).mean():
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return G.eval().requires_grad_(False), ws


def test_a_generator_that_repeats_its_training_pictures_is_flagged(judge, tmp_path):
    G, ws = memorised(16)
    near = ws.repeat(3, 1, 1) + 0.05 * torch.randn(48, 1, 32, generator=torch.Generator().manual_seed(1))
    drawn = to_uint8(G.synthesis(near, noise_mode="none"))
    found = measure_memorisation(judge, Drawn(drawn, "memorised"), cache=tmp_path)
    share = value(found, "memorised_copies")
    assert share.value > 0.8 and share.interval[0] > share.floor_interval[1]
    assert value(found, "authenticity_copies").value < 0.2
    assert (found.rows.nearest[found.rows.flagged] < 16).all()
    assert all(pair.flagged for pair in found.pairs)


def test_eyes_never_seen_are_flagged_as_often_as_held_out_ones(judge, tmp_path):
    found = measure_memorisation(judge, Drawn(eyes(range(FRESH, FRESH + 300)), "fresh"), cache=tmp_path)
    share, authentic = value(found, "memorised_copies"), value(found, "authenticity_copies")
    assert share.value <= 0.03 and share.interval[0] <= judge.null.level
    assert authentic.interval[0] < authentic.floor_interval[1] and authentic.floor_interval[0] < authentic.interval[1]
    assert (share.n, share.n_real, share.seed) == (300, HELD_OUT, 7)
    assert share.detector == judge.detector.identity


@pytest.mark.parametrize("change", ["speckle", "shift", "flip", "gamma"])
def test_planted_copies_are_flagged(judge, change):
    pixels = eyes(range(TRAIN), speckle=1)
    if change == "shift":
        pixels = pixels.roll((1, -1), dims=(2, 3))
    if change == "flip":
        pixels = pixels.flip(3)
    if change == "gamma":
        pixels = ((pixels / 255) ** 1.3 * 255).to(torch.uint8)
    verdicts = judge.judge(pixels)
    assert auroc(verdicts.ratio, judge.held_out.ratio) > 0.97
    assert verdicts.flagged.mean() > 0.7


def test_a_batch_is_judged_as_in_the_whole_set(judge, tmp_path):
    pixels = eyes([*range(5), *range(FRESH, FRESH + 5)])
    whole = measure_memorisation(judge, Drawn(pixels, "whole"), cache=tmp_path).rows
    part = judge.judge(pixels[3:6])
    np.testing.assert_array_equal(part.nearest, whole.nearest[3:6])
    np.testing.assert_allclose(part.ratio, whole.ratio[3:6], atol=1e-3)
    np.testing.assert_array_equal(part.hash_distance, whole.hash_distance[3:6])
    assert len(judge.judge(pixels[:0])) == 0


def test_training_scans_themselves_are_at_no_distance(judge):
    verdicts = judge.judge(eyes(range(10)))
    np.testing.assert_array_equal(verdicts.nearest, np.arange(10))
    np.testing.assert_array_equal(verdicts.hash_distance, 0)
    assert verdicts.distance.max() < 0.01 and verdicts.flagged.all() and not judge.authentic(verdicts).any()


def test_classes_have_their_own_shares_and_floors(judge, tmp_path):
    pixels = torch.cat([eyes([0]), eyes([FRESH]), eyes([2]), eyes([FRESH + 1])])  # CNV are copies
    found = measure_memorisation(judge, Drawn(pixels, "half"), cache=tmp_path)
    assert value(found, "memorised_copies", "CNV").value == 1
    assert value(found, "memorised_copies", "NORMAL").value == 0
    assert value(found, "memorised_copies", "CNV").n_real == HELD_OUT // 2


def test_a_class_without_pictures_has_no_number_but_a_note(judge, tmp_path):
    found = measure_memorisation(judge, Drawn(eyes([FRESH]), "one"), cache=tmp_path)
    missing = value(found, "memorised_copies", "NORMAL")
    assert math.isnan(missing.value) and missing.note == "no picture of this class" and missing.interval is None


def test_the_judge_measures_itself_with_planted_copies(judge, tmp_path):
    found = measure_memorisation(judge, Drawn(eyes([FRESH]), "one"), cache=tmp_path)
    assert value(found, "planted_auroc_copies").value == pytest.approx(
        auroc(judge.planted.ratio, judge.held_out.ratio))
    assert value(found, "planted_found_copies").value == judge.planted.flagged.mean()


def test_few_held_out_scans_are_spoken_of(judge, tmp_path):
    archive = write_eyes(tmp_path / "few.zip", train=40, held_out=12, side=SIDE, per_patient=2)
    few = CopyJudge(archive, judge.detector)
    found = measure_memorisation(few, Drawn(eyes(range(FRESH, FRESH + 20)), "fresh"), cache=tmp_path)
    share = value(found, "memorised_copies")
    assert "only 12 held-out scans of 6 patients: the 1 % point needs 99" in share.note and "7.7%" in share.note
    assert share.floor_interval[1] > 0.2  # nobody is to rely on a floor of so few
    assert few.judge(eyes(range(5))).flagged.all()


def test_patients_with_training_scans_are_no_held_out_patients(tmp_path):
    path = tmp_path / "leak.zip"
    with ArchiveWriter(path, resolution=SIDE, channels=1, classes=(), source="scans") as writer:
        for split, number, patient in [("train", 0, "a"), ("train", 1, "b"), ("val", 2, "a"), ("val", 3, "c"),
                                       ("test", 4, "d"), ("test", 5, "b")]:
            writer.add_image(split, encode_png(toy_eye(number, side=SIDE)), None, {"patient": patient})
    assert check_archive(path).tolist() in ([3, 4], [2 + 1, 2 + 2])


def test_without_held_out_scans_the_way_to_get_some_is_told(judge, tmp_path):
    archive = write_eyes(tmp_path / "train.zip", train=10, held_out=0, side=SIDE)
    with pytest.raises(DataError, match="no held-out scans .* Convert the scans with a split by patient"):
        CopyJudge(archive, judge.detector)


def test_held_out_scans_of_one_patient_are_too_few(judge, tmp_path):
    archive = write_eyes(tmp_path / "one.zip", train=10, held_out=4, side=SIDE, per_patient=5)
    with pytest.raises(DataError, match="1 have none in training"):
        CopyJudge(archive, judge.detector)


def test_what_was_seen_of_scans_is_private(judge, archive):
    files = [file for file in (archive.parent / "eyes-seen").iterdir() if file.suffix == ".npy"]
    assert len(files) == 2
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def near_copy(picture, number):
    """Return a picture as a generator might copy it: moved by up to 3 px, blurred, another gamma, half mirrored."""
    rng = np.random.default_rng(number)
    moved = np.roll(picture, rng.integers(-3, 4, size=2), axis=(0, 1)) / 255
    bright = gaussian_filter(moved, rng.uniform(0, 0.8)) ** rng.uniform(0.75, 1.33)
    return np.rint(255 * bright).astype(np.uint8)[:, ::1 if number % 2 else -1].copy()


@pytest.mark.slow
def test_planted_copies_of_simulated_scans_are_told_with_an_auroc_of_98_percent(tmp_path):
    def scan(index, speckle=None):
        return render(20_270_000, index, label=CLASSES[index % 4], resolution=(64, 64), border=False,
                      speckle_seed=speckle).image

    n = 48
    with ArchiveWriter(tmp_path / "phantom.zip", resolution=64, channels=1, classes=CLASSES,
                       source="phantom") as writer:
        for index in range(2 * n):
            writer.add_image("train" if index < n else "val", encode_png(scan(index)), index % 4, {})
    judge = open_judge(tmp_path / "phantom.zip")
    copies = judge.judge(stack([near_copy(scan(index, 1), index) for index in range(n)]))
    fresh = judge.judge(stack([scan(index) for index in range(2 * n, 3 * n)]))
    assert auroc(copies.ratio, np.concatenate([fresh.ratio, judge.held_out.ratio])) >= 0.98
    assert (copies.nearest == np.arange(n)).mean() > 0.95
    assert fresh.flagged.mean() < 0.1
