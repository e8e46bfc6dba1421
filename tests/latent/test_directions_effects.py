"""What directions do, on pictures whose every biomarker is something simple."""

import contextlib
import csv
import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from generator_file import write_generator
from numpy.typing import NDArray
from PIL import Image

from dnnlib.errors import ConfigError, DataError
from dnnlib.pictures import Picture
from stylegan_oct.features.detector import load_detector
from stylegan_oct.features.oct import INCLUDED
from stylegan_oct.features.perceptual import PerceptualDistance
from stylegan_oct.latent.biomarkers.measure import NAMES
from stylegan_oct.latent.codes import Codes, save_codes
from stylegan_oct.latent.directions import population as population
from stylegan_oct.latent.directions.effects import (
    MIN_SAMPLES,
    Change,
    Effect,
    change_along,
    correlation,
    measure_effects,
    oracle_for,
    pictures_to_measure,
)
from stylegan_oct.latent.directions.file import Direction
from stylegan_oct.latent.directions.population import draw_ws
from stylegan_oct.latent.directions.report import table
from stylegan_oct.latent.directions.search import (
    FIT,
    FRESH,
    MIN_VALID,
    Search,
    choose_direction,
    find_directions,
    usual_counts,
)
from stylegan_oct.latent.directions.traverse import (
    rows_of_codes,
    rows_of_seeds,
    steps_between,
    traverse,
)
from stylegan_oct.model import OctGenerator
from tools.__main__ import main

FIRST, SECOND = "central_thickness_um", "mean_thickness_um"


def simple(pictures: list[Picture]) -> dict[str, NDArray[np.float64]]:
    """Brightness of the left half, that of the right, and nothing else."""
    pixels = np.stack(pictures).astype(np.float64)
    values = {name: np.full(len(pixels), np.nan) for name in NAMES}
    return {**values, FIRST: pixels[:, :, :8].mean(axis=(1, 2)), SECOND: pixels[:, :, 8:].mean(axis=(1, 2))}


@pytest.fixture(autouse=True)
def simple_biomarkers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "measure_pictures", simple)
    # Other processes would not know of it.
    monkeypatch.setattr(population, "measuring_processes", lambda: contextlib.nullcontext(population.measure_here))


@pytest.fixture(scope="module")
def G(tmp_path_factory: pytest.TempPathFactory) -> OctGenerator:
    return write_generator(tmp_path_factory.mktemp("G"))


@pytest.fixture(scope="module")
def perceptual() -> PerceptualDistance:
    return PerceptualDistance(load_detector())


def test_a_change_is_exact_for_straight_lines_and_leaves_out_what_was_not_measured() -> None:
    steps = np.array([-2.0, 0.0, 2.0])
    rests = np.arange(20.0)[:, None]
    values = np.concatenate([rests + 3 * steps, rests[:1] * np.nan + steps])
    change = change_along(values, steps)
    assert change is not None and change.samples == 20
    assert (change.per_step, change.half_width, change.monotonic) == pytest.approx((3.0, 0.0, 1.0))
    assert change.in_sd == pytest.approx(3 / np.arange(20.0).std()) and change.r_mean == pytest.approx(1.0)
    half = np.concatenate([rests + 3 * steps, rests - steps, rests + 0 * steps])
    assert change_along(half, steps).monotonic == pytest.approx(1 / 3)  # type: ignore[union-attr]
    assert change_along(np.full((20, 3), 5.0), steps) is None
    assert change_along(np.full((20, 3), np.nan), steps) is None


def test_the_interval_covers_the_true_change_in_about_95_of_100_trials() -> None:
    rng = np.random.default_rng(0)
    steps = np.array([-2.0, 0.0, 2.0])
    covered = 0
    for _ in range(400):
        slopes = rng.normal(1.0, 2.0, (60, 1))
        change = change_along(slopes * steps + rng.normal(0, 1, (60, 3)), steps)
        assert change is not None
        covered += abs(change.per_step - 1.0) <= change.half_width
    assert 0.92 <= covered / 400 <= 0.98


def test_correlations_pass_over_missing_values_and_constants_have_none() -> None:
    assert correlation(np.array([0.0, 1, 2, 3]), np.array([0.0, np.nan, -4, -6])) == pytest.approx(-1.0)
    assert correlation(np.zeros(3), np.arange(3.0)) is None


def test_samples_are_new_in_each_stream_balanced_and_mixed_outside_of_a_range(G: OctGenerator) -> None:
    a, b = (draw_ws(G, G.info.classes, 9, seed=0, stream=stream) for stream in (FIT, FRESH))
    assert a.labels.tolist() == [0] * 5 + [1] * 5 and not torch.isclose(a.ws, b.ws).all(dim=2).any()
    mixed = draw_ws(G, G.info.classes, 9, seed=0, stream=FIT, layers=(1, 2)).ws
    assert torch.equal(mixed[:, 1:3], a.ws[:, 1:3])
    assert torch.equal(mixed[:, 0], mixed[:, 5]) and not torch.isclose(mixed[:, 0], a.ws[:, 0]).all()


def test_named_directions_move_what_they_are_named_after_on_fresh_samples(
        G: OctGenerator, perceptual: PerceptualDistance) -> None:
    found = find_directions(G, Search(class_name="drusen", components=1, samples=400))
    assert [d.name for d in found] == ["pca1", "sefa1", "to_CNV", FIRST, SECOND]
    measured = {e.direction.name: e for e in measure_effects(G, found, perceptual, samples=60, class_name="DRUSEN")}
    for name in (FIRST, SECOND):
        effect = measured[name]
        change = effect.changes[name]
        assert effect.target == name and effect.r_predicted is not None and effect.r_predicted > 0.8
        assert change.per_step - change.half_width > 0 and change.monotonic > 0.8 and change.r_mean > 0.9
        assert change.per_step == pytest.approx(effect.direction.amount, rel=0.5)
    sizes = [effect.size for effect in measured.values()]
    assert sizes == sorted(sizes, reverse=True) and all(effect.path > 0 for effect in measured.values())
    assert table(list(measured.values())).count("\n") == len(found)


def test_orthogonal_directions_keep_what_they_should(G: OctGenerator, perceptual: PerceptualDistance) -> None:
    def side(orthogonal: tuple[str, ...]) -> float:
        search = Search(class_name="CNV", methods=("regression",), samples=400, orthogonal_to=orthogonal)
        found = [d for d in find_directions(G, search) if d.name == FIRST]
        assert found[0].orthogonal_to == tuple("DRUSEN" if name == "class" else name for name in orthogonal)
        (effect,) = measure_effects(G, found, perceptual, samples=60, class_name="CNV")
        assert effect.side_effect is not None
        return effect.side_effect[1]

    assert side((SECOND, "class")) < 0.5 * side(())


def test_a_range_of_layers_moves_them_alone_and_says_so(G: OctGenerator) -> None:
    found = find_directions(G, Search(layers=((0, 1), (2, 5)), components=1, samples=200))
    assert [d.name for d in found if d.kind == "pca"] == ["pca1@0-1", "pca1@2-5"]
    assert [d.layers for d in found if d.target == FIRST] == [(0, 1), (2, 5)]


@pytest.mark.parametrize(("search", "words"), [
    ({"class_name": "drusn"}, "no class 'drusn'. Did you mean DRUSEN"),
    ({"layers": ((3, 9),)}, "no layers 3-9; this generator has 0-5"),
    ({"orthogonal_to": ("clas",)}, "orthogonal to 'clas'. Did you mean class"),
    ({"orthogonal_to": ("foci_count",)}, "foci_count could not be measured"),
    ({"samples": 20}, "at least 100 samples; got 20"),
])
def test_what_cannot_be_searched_is_refused(G: OctGenerator, search: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_directions(G, Search(**{"samples": 120, **search}))  # type: ignore[arg-type]


def test_a_traversal_starts_from_seeds_or_codes_and_passes_through_them(G: OctGenerator, tmp_path: Path) -> None:
    direction = choose_direction(G, None, None, class_name="CNV")
    rows = rows_of_seeds(G, [3, 4], "CNV")
    moved = traverse(G, direction, rows, steps_between(direction, 2.0, 3), batch=2)
    assert rows.labels == ("CNV 3", "CNV 4") and moved.steps.tolist() == [-2, 0, 2]
    for row, picture in zip(moved.pictures, traverse(G, direction, rows, np.zeros(1)).pictures, strict=True):
        assert np.array_equal(row[1], picture[0]) and not np.array_equal(row[0], row[2])
    save_codes(tmp_path / "c.safetensors", Codes(w=rows.ws[0], class_name="CNV", checkpoint_sha256=G.info.sha256,
                                                 derived_from_patient=True))
    again = rows_of_codes(G, [tmp_path / "c.safetensors"])
    assert again.from_patient and torch.equal(again.ws[0], rows.ws[0]) and again.labels == ("scan 1",)
    save_codes(tmp_path / "p.safetensors", Codes(w=rows.ws[0], class_name="CNV", checkpoint_sha256=G.info.sha256,
                                                 space="pti", delta={"x.A": torch.zeros(1)}))
    with pytest.raises(DataError, match="weights of its own"):
        rows_of_codes(G, [tmp_path / "p.safetensors"])
    with pytest.raises(ConfigError, match="pca1 is not named after a biomarker"):
        steps_between(direction, 2.0, 3, in_unit=True)


@pytest.fixture
def run(G: OctGenerator, tmp_path: Path) -> Callable[..., str]:
    def call(*args: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, [args[0], "-c", str(G.info.path), "--out", str(tmp_path), *args[1:]])
        assert result.exit_code == code, (result.output, result.exception)
        return result.output
    return call


def test_the_commands_write_directions_table_picture_grid_and_video(run: Callable[..., str], tmp_path: Path) -> None:
    brief = ["--class", "DRUSEN", "--fit-samples", "100", "--samples", "12", "--components", "1"]
    report = json.loads(run("directions", *brief, "--json"))
    names = [d["name"] for d in report["directions"]]
    assert set(names) == {"pca1", "sefa1", "to_CNV", FIRST, SECOND}
    assert json.loads((tmp_path / "directions.json").read_text()) == report
    rows = list(csv.DictReader((tmp_path / "directions.csv").read_text().splitlines()))
    assert {row["direction"] for row in rows} == set(names) and {row["biomarker"] for row in rows} == {FIRST, SECOND}
    file = tmp_path / "directions.safetensors"
    said = run("traverse", "--directions", str(file), "--direction", FIRST, "--in-unit", "--reach", "5", "--video",
               "mp4", "--seconds", "0.2", "--seeds", "0,1")
    assert f"{FIRST}, mean of 2 rows, um:" in said and (tmp_path / f"synthetic-traverse-{FIRST}.mp4").exists()
    with Image.open(tmp_path / f"synthetic-traverse-{FIRST}.png") as image:
        assert image.text["synthetic"] == "true" and image.text["direction"] == FIRST  # type: ignore[attr-defined]
    with Image.open(tmp_path / "synthetic-directions.png") as image:
        assert image.text["synthetic"] == "true"  # type: ignore[attr-defined]
    moved = json.loads(run("traverse", "--class", "CNV", "--layers", "0-1", "--json", "--biomarker", SECOND))
    assert moved["direction"] == "pca1" and np.shape(moved["values"][SECOND]) == (5, 7)


def test_directions_beside_a_generator_are_taken_until_it_is_another_one(tmp_path: Path) -> None:
    def call(*args: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, [args[0], "-c", str(tmp_path), "--out", str(tmp_path / "out"), *args[1:]])
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    G = write_generator(tmp_path)
    few = ["--fit-samples", "100", "--samples", "12", "--components", "1", "--beside"]
    call("directions", *few)
    written = {path.name for path in tmp_path.glob("directions-*")}
    assert written == {f"directions-{name}.{end}" for name in G.info.classes for end in ("safetensors", "json")}
    assert not (tmp_path / "out").exists()
    report = json.loads((tmp_path / "directions-DRUSEN.json").read_text())
    assert (report["class"], report["samples"], report["fit_samples"]) == ("DRUSEN", 12, 100)
    brief = ["traverse", "--class", "drusen", "--seeds", "0", "--columns", "2", "--json"]
    assert json.loads(call(*brief))["direction"] == report["directions"][0]["name"]
    assert json.loads(call(*brief, "--direction", SECOND))["direction"] == SECOND
    assert "Say within which class 'mean_thickness_um' is meant: --class CNV or DRUSEN" in call(
        "traverse", "--direction", SECOND, code=2)
    write_generator(tmp_path, seed=1)    # as after more training
    said = call(*brief, code=2)
    assert "belong to another generator" in said and "python -m tools directions --beside" in said
    call("directions", *few, "--class", "DRUSEN")
    call(*brief)


def test_nothing_lies_beside_a_generator_without_classes(tmp_path: Path) -> None:
    write_generator(tmp_path, classes=())
    result = CliRunner().invoke(main, ["directions", "-c", str(tmp_path), "--beside"])
    assert result.exit_code == 2 and "leave --beside out" in result.output


def test_larger_pictures_get_fewer_samples() -> None:
    small, large = usual_counts(64), usual_counts(256)
    assert small.fit > large.fit >= MIN_VALID and small.moved > large.moved >= MIN_SAMPLES


@pytest.mark.parametrize(("args", "words"), [
    (["--direction", "drusen_area_mm2"], "Say with --directions which file holds 'drusen_area_mm2'"),
    (["--biomarker", "thickness"], "There is no biomarker 'thickness'."),
    (["--directions", "missing.safetensors"], "holds no directions"),
    (["--in-unit"], "pca1 is not named after a biomarker"),
    (["--layers", "4-40"], "There are no layers 4-40"),
    (["--layers", "a"], "'a' is not a range of layers"),
    (["--codes", "missing.safetensors"], "holds no codes"),
])
def test_mistakes_get_one_line_and_exit_code_2(run: Callable[..., str], args: list[str], words: str) -> None:
    assert words in run("traverse", *args, code=2)


def test_what_a_scan_became_is_for_its_owner_alone(run: Callable[..., str], G: OctGenerator, tmp_path: Path) -> None:
    save_codes(tmp_path / "c.safetensors", Codes(w=G.ws(G.z([0]), "CNV")[0], class_name="CNV",
                                                 checkpoint_sha256=G.info.sha256, derived_from_patient=True))
    run("traverse", "--codes", str(tmp_path / "c.safetensors"), "--class", "CNV")
    assert (tmp_path / "synthetic-traverse-pca1.png").stat().st_mode & 0o077 == 0


def test_ctrl_c_keeps_the_samples_moved_so_far_along_every_direction(
        G: OctGenerator, perceptual: PerceptualDistance) -> None:
    found = find_directions(G, Search(class_name="CNV", methods=("pca",), components=3, samples=200))

    def measured(stop_at: int) -> list[Effect]:
        stopped: list[int] = []

        def stop(done: int) -> None:
            if done >= stop_at and not stopped:
                stopped.append(done)
                os.kill(os.getpid(), signal.SIGINT)

        return measure_effects(G, found, perceptual, samples=40, class_name="CNV", batch=20, progress=stop)

    each = 10 * (1 + 2 * len(found))    # pictures of a part of ten samples
    assert measured(30) == []
    effects = measured(2 * each + 15)
    assert {e.direction.name for e in effects} == {"pca1", "pca2", "pca3"}
    assert {e.samples for e in effects} == {20} == {c.samples for e in effects for c in e.changes.values()}


def test_what_is_measured_depends_neither_on_the_batch_nor_on_other_directions(
        G: OctGenerator, perceptual: PerceptualDistance) -> None:
    found = find_directions(G, Search(methods=("pca", "sefa"), components=2, samples=200))
    oracle: Any = oracle_for(G, None)
    together = {e.direction.name: e for e in measure_effects(G, found, perceptual, samples=24, oracle=oracle, batch=6)}
    for direction in found:
        (alone,) = measure_effects(G, [direction], perceptual, samples=24, oracle=oracle, batch=32)
        same = together[direction.name]
        for name, change in alone.changes.items():
            assert dataclasses.astuple(change) == pytest.approx(dataclasses.astuple(same.changes[name]), rel=1e-3)
        assert (alone.same_class, alone.samples) == (same.same_class, same.samples)
        assert alone.path == pytest.approx(same.path, rel=1e-4)


def test_every_sample_is_drawn_at_rest_once(G: OctGenerator, perceptual: PerceptualDistance,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_directions(G, Search(methods=("pca",), components=3, samples=200))
    drawn: list[int] = []
    synthesize = G.synthesize
    monkeypatch.setattr(G, "synthesize", lambda ws: drawn.append(len(ws)) or synthesize(ws))
    measure_effects(G, found, perceptual, samples=24)
    assert sum(drawn) == 24 * (1 + 2 * len(found)) == pictures_to_measure(G, found, 24, None)


def test_processes_measure_the_same_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    rng = np.random.default_rng(0)
    batches = [list(rng.integers(0, 255, (size, 16, 16), dtype=np.uint8)) for size in (1, 3, 2, 1, 1, 2, 1)]
    seen: list[int] = []
    with population.measuring_processes(2) as measure:
        parallel = measure(iter(batches), seen.append)
    assert seen == [1, 4, 6, 7, 8, 10, 11]
    for name, values in population.measure_here(batches).items():
        np.testing.assert_array_equal(parallel[name], values)


class Oracle:
    """Names the pictures of each sample after these classes: those of pictures at rest, and those at -2 and 2."""

    def __init__(self, rest: int, *moved: int) -> None:
        self.rest, self.moved, self.calls = rest, moved, 0

    def classify(self, pixels: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        at_rest = self.calls % 2 == 1    # with one direction they take turns
        return torch.eye(2)[torch.tensor((self.rest,) if at_rest else self.moved).repeat(
            len(pixels) if at_rest else len(pixels) // 2)]


def test_the_share_of_samples_that_keep_their_class_is_that_of_the_oracle(
        G: OctGenerator, perceptual: PerceptualDistance) -> None:
    found = [choose_direction(G, None, None, class_name="CNV")]
    for classes, share in (((0, 0, 0), 1.0), ((0, 0, 1), 0.5), ((0, 1, 1), 0.0)):
        oracle: Any = Oracle(*classes)
        (effect,) = measure_effects(G, found, perceptual, samples=20, class_name="CNV", oracle=oracle)
        assert effect.same_class == share
    assert measure_effects(G, found, perceptual, samples=20, class_name="CNV")[0].same_class is None


def test_the_included_oracle_is_for_generators_of_simulated_scans_alone(G: OctGenerator) -> None:
    of_scans = OctGenerator(G.network, dataclasses.replace(G.info, data_source="scans"))
    assert oracle_for(of_scans, None) is None
    assert (oracle_for(G, None) is not None) == INCLUDED.exists()


def test_a_direction_that_leaves_its_biomarker_alone_has_no_side_effect_rather_than_an_infinite_one() -> None:
    def change(in_sd: float) -> Change:
        return Change(per_step=in_sd, half_width=0.1, in_sd=in_sd, monotonic=1.0, r_steps=0.5, r_mean=0.5, samples=20)

    def side_effect(target_in_sd: float) -> tuple[str, float] | None:
        direction = Direction(name="drusen_count", kind="regression", class_name="", layers=(0, 1), unit="1 SD",
                              step=torch.ones(8))
        changes = {"drusen_count": change(target_in_sd), "foci_count": change(-0.3)}
        return Effect(direction=direction, samples=20, changes=changes, same_class=None, path=1.0,
                      r_predicted=None).side_effect

    assert side_effect(0.6) == ("foci_count", pytest.approx(0.5))
    assert side_effect(0.0) is None
