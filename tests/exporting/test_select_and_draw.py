"""What is rejected and why, and what is told of what is kept."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_plan_of_an_export import make_plan
from torch import Tensor

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.export.drawing.clock import Clock
from stylegan_oct.export.drawing.draw import Artist, Tally, draw_pixels
from stylegan_oct.export.drawing.measuring import measure_here, measuring_processes
from stylegan_oct.export.drawing.rules import Rule
from stylegan_oct.export.drawing.select import COPY, ELSEWHERE, KEPT, OUTSIDE, UNKNOWN, UNSURE, Selection
from stylegan_oct.export.plan import Plan
from stylegan_oct.latent.intake import pixel_size
from stylegan_oct.model import OctGenerator, load_generator
from stylegan_oct.phantom.scan import render

CLASSES = ("CNV", "DRUSEN")


class Oracle:
    """Reads the class and its probability from the first two pixels."""

    classes, identity = CLASSES, "oracle-0"

    def classify(self, pixels: Tensor) -> Tensor:
        p = pixels[:, 0, 0, 1].float() / 255
        first = torch.where(pixels[:, 0, 0, 0] == 0, p, 1 - p)
        return torch.stack([first, 1 - first], dim=1)


class Judge:
    """Flags white pictures."""

    def __init__(self) -> None:
        self.looked = 0
        self.training = SimpleNamespace(names=[f"train/{i}.png" for i in range(300)])

    def judge(self, pixels: Tensor) -> Any:
        self.looked += len(pixels)
        last = pixels[:, 0, -1, -1].numpy()
        return SimpleNamespace(nearest=last.astype(np.int64), distance=1 - last / 255, percentile=100 - last / 2.55,
                               flagged=last == 255)


def selection(plan: Plan, **changes: Any) -> Selection:
    fields: dict[str, Any] = {"oracle": None, "copies": None, "um_per_px": None, "clock": Clock()}
    return Selection(plan, **{**fields, **changes})


def pictures(*rows: tuple[int, int, int]) -> Tensor:
    """Return pictures of (class that the oracle sees, its probability in 1/255, likeness to training in 1/255)."""
    pixels = torch.zeros(len(rows), 1, 16, 16, dtype=torch.uint8)
    for picture, (seen, probability, alike) in zip(pixels, rows, strict=True):
        picture[0, 0, 0], picture[0, 0, 1], picture[0, -1, -1] = seen, probability, alike
    return pixels


def test_each_picture_is_rejected_for_the_first_reason_that_holds() -> None:
    judge = Judge()
    plan = make_plan((5, 5), classes=CLASSES, oracle_min=0.8)
    looker = selection(plan, oracle=Oracle(), copies=judge)
    seen = looker.look(pictures((0, 250, 10), (1, 250, 255), (0, 180, 255), (0, 250, 255), (0, 230, 0)), 0, 5)
    assert [one.reason for one in seen] == [KEPT, ELSEWHERE, UNSURE, COPY, KEPT]
    assert judge.looked == 3  # nobody looks for copies among what is rejected already
    assert seen[1].oracle_class == "DRUSEN" and seen[1].flagged is None
    assert seen[0].oracle_probabilities == pytest.approx({"CNV": 250 / 255, "DRUSEN": 5 / 255})
    assert (seen[3].nearest, seen[3].flagged) == (255, True)


def retinas(count: int) -> Tensor:
    return torch.from_numpy(np.stack([render(0, 4 * i + 2, label="DRUSEN", resolution=(64, 64)).image
                                      for i in range(count)]))[:, None]


def test_ranges_decide_and_what_cannot_be_measured_is_in_none() -> None:
    rule = Rule(biomarker="mean_thickness_um", class_name="DRUSEN", low=330.0)
    plan = make_plan((5, 5), classes=CLASSES, rules=(rule,))
    looker = selection(plan, rules=(rule,), um_per_px=(30.0, 92.2))
    pixels = torch.cat([retinas(8), torch.zeros(1, 1, 64, 64, dtype=torch.uint8)])
    seen = looker.look(pixels, 1, 1)
    for one in seen[:-1]:
        assert one.biomarkers is not None
        value = one.biomarkers["mean_thickness_um"]
        assert one.reason == (UNKNOWN if np.isnan(value) else KEPT if value >= 330 else OUTSIDE)
    assert {KEPT, OUTSIDE} <= {one.reason for one in seen[:-1]} and seen[-1].reason == UNKNOWN
    assert all(one.reason == KEPT for one in looker.look(pixels, 0, 9))  # the rule is for the other class


def test_biomarkers_that_decide_nothing_are_measured_for_no_more_than_is_needed() -> None:
    looker = selection(make_plan((5, 5), classes=CLASSES), um_per_px=(30.0, 92.2))
    seen = looker.look(retinas(4), 1, 2)
    assert [one.biomarkers is None for one in seen] == [False, False, True, True]


def test_an_oracle_of_other_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"does not know NORMAL.*train-detector"):
        selection(make_plan((1, 1), classes=("CNV", "NORMAL")), oracle=Oracle())
    selection(make_plan((1, 0), classes=("CNV", "NORMAL")), oracle=Oracle())  # which is not asked for


def test_a_range_needs_a_scale() -> None:
    plan = make_plan((1, 1), classes=CLASSES, rules=(Rule(biomarker="foci_count", class_name=None, low=1.0),))
    with pytest.raises(ConfigError, match="size of this generator's pixels"):
        selection(plan, rules=plan.rules)


def test_the_size_of_a_pixel_follows_what_was_done_to_the_scans() -> None:
    z, x = pixel_size(Preprocess(resolution=64)) or (0, 0)
    assert (z, x) == pytest.approx((496 * 3.872 / 64, 5900 / 64))
    assert pixel_size(Preprocess(resolution=64, roi=True)) == pytest.approx((0.6 * z, x))
    assert pixel_size(Preprocess(resolution=64, aspect="fit")) is None


@pytest.fixture(scope="module")
def G() -> OctGenerator:
    return load_generator()


class Fussy(Selection):
    """Keeps every third picture, by seed; of NORMAL none."""

    def look(self, pixels: Tensor, label: int, wanted: int) -> list[Any]:
        seen = super().look(pixels, label, wanted)
        for number, one in enumerate(seen):
            if number % 3 or label == 3:
                one.reason = ELSEWHERE
        return seen


def artist(G: OctGenerator, counts: Sequence[int], kind: type[Selection] = Fussy, tries: int = 20) -> Artist:
    plan = make_plan(tuple(counts), checkpoint_sha256=G.info.sha256, batch=6)
    return Artist(G=G, plan=plan, tries=tries,
                  selection=kind(plan, oracle=None, copies=None, um_per_px=None, clock=Clock()))


def test_a_part_holds_the_first_accepted_pictures_of_each_class_evenly_spread(G: OctGenerator) -> None:
    drawn = artist(G, (6, 3, 0, 0))
    tally: Tally = {}
    samples = list(drawn.samples(0, tally))
    assert [item.class_name for item, _ in samples] == ["CNV", "DME", "CNV"] * 3
    seeds = {name: [item.seed for item, _ in samples if item.class_name == name] for name in ("CNV", "DME")}
    assert seeds == {"CNV": [0, 12, 24, 36, 48, 60], "DME": [1, 13, 25]}
    assert tally["CNV"] == Counter({KEPT: 6, ELSEWHERE: 10})  # none counted after the last that was needed
    assert tally["DME"] == Counter({KEPT: 3, ELSEWHERE: 4})


def test_a_picture_is_that_of_its_seed_and_class(G: OctGenerator) -> None:
    for item, picture in artist(G, (2, 2, 0, 0), Selection).samples(0, {}):
        with torch.inference_mode():
            alone = G(G.z([item.seed]), item.class_name)[0, 0].mul(127.5).add(127.5).clamp(0, 255).numpy()
        assert np.abs(picture - alone).max() < 1.6
        assert (item.checkpoint_sha256, item.resolution, item.psi) == (G.info.sha256, 64, 1.0)


def test_pictures_do_not_depend_on_what_was_drawn_before(G: OctGenerator) -> None:
    drawn = artist(G, (4, 0, 0, 0), Selection)
    seeds = next(drawn.plan.batches(0, 0, 20))
    before = draw_pixels(G, seeds, 0, 1.0)
    list(drawn.samples(0, {}))
    assert torch.equal(before, draw_pixels(G, seeds, 0, 1.0))


def test_when_too_few_are_accepted_the_rate_and_the_reason_are_told(G: OctGenerator) -> None:
    with pytest.raises(DataError, match=r"Only 0.0% of 6 NORMAL .* 6 are rejected since the oracle sees another class.*"
                                        r"more --tries than 3 \(100 at most\)"):
        list(artist(G, (0, 0, 0, 2), tries=3).samples(0, {}))


def test_more_tries_keep_the_pictures_that_were_found(G: OctGenerator) -> None:
    few, many = artist(G, (3, 0, 0, 0), tries=3), artist(G, (3, 0, 0, 0), tries=50)
    assert few.plan == many.plan
    assert [item.seed for item, _ in few.samples(0, {})] == [item.seed for item, _ in many.samples(0, {})]


def test_the_nearest_training_scan_is_told_by_a_keyed_hash_alone(G: OctGenerator, tmp_path: Any) -> None:
    from stylegan_oct.data.privacy import Key

    drawn = artist(G, (4, 0, 0, 0), Selection)
    key = Key(tmp_path / "a.key")
    looker = selection(drawn.plan, copies=Judge())
    items = [item for item, _ in replace(drawn, selection=looker, key=key).samples(0, {})]
    for item in items:
        number = round(255 * (1 - (item.nearest_distance or 0)))
        assert item.nearest_training == key.hash("training scan", f"train/{number}.png")
        assert "train/" not in item.to_json() and item.memorised is False


@pytest.mark.slow
def test_several_processes_measure_what_one_does() -> None:
    pictures = retinas(5)[:, 0].numpy()
    with measuring_processes(2) as measure:
        there = measure(pictures, (30.0, 92.2))
    here = measure_here(pictures, (30.0, 92.2))
    assert there.keys() == here.keys()
    for name in here:
        np.testing.assert_array_equal(there[name], here[name])
