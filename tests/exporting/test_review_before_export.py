"""Nothing is exported of a generator that was not evaluated, unless that is asked for."""

from dataclasses import replace
from pathlib import Path

import pytest
from generator_file import write_generator

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.export import review
from stylegan_oct.export.review import find_review
from stylegan_oct.metrics.report.report import FILE, Reference, Report, Subject, write_report
from stylegan_oct.model import GeneratorInfo, load_generator


@pytest.fixture
def info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GeneratorInfo:
    """A generator in a checkpoint of a run."""
    monkeypatch.setattr(review, "USUAL", tmp_path / "out" / "evaluate")
    place = tmp_path / "00000-test" / "checkpoints" / "nimg-00000008"
    place.mkdir(parents=True)
    return write_generator(place).info


def make_report(sha256: str, **changes: object) -> Report:
    subject = Subject(file="G_ema.safetensors", sha256=sha256, nimg=8, preset="test", classes=("CNV", "DRUSEN"),
                      resolution=16, channels=1, data_source="phantom", training_archive="", psi=1.0)
    report = Report(made="2026-01-02T03:04:05", subject=subject, detectors=(), settings={}, versions={}, parts=(),
                    reference=Reference(file="a.zip", fingerprint="f" * 64, source="phantom", splits=()), complete=True)
    return replace(report, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["00000-test/checkpoints/nimg-00000008", "00000-test", "out/evaluate"])
def test_the_evaluation_is_found_where_it_usually_lies(info: GeneratorInfo, tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    write_report(tmp_path / place / FILE, make_report(info.sha256))
    assert find_review(info) == make_report(info.sha256)


def test_without_an_evaluation_nothing_is_exported(info: GeneratorInfo) -> None:
    with pytest.raises(ConfigError, match=r"no evaluation of this generator.*tools evaluate -c .*--allow-unreviewed"):
        find_review(info)
    assert find_review(info, allow_unreviewed=True) is None


def test_the_evaluation_of_another_generator_is_none(info: GeneratorInfo, tmp_path: Path) -> None:
    write_report(info.path.parent / FILE, make_report("0" * 64))
    with pytest.raises(ConfigError, match="no evaluation of this generator"):
        find_review(info)
    with pytest.raises(ConfigError, match="of another generator"):
        find_review(info, info.path.parent, allow_unreviewed=True)


def test_an_evaluation_that_was_stopped_is_none(info: GeneratorInfo) -> None:
    write_report(info.path.parent / FILE, make_report(info.sha256, complete=False))
    with pytest.raises(ConfigError, match="no evaluation of this generator"):
        find_review(info)
    with pytest.raises(ConfigError, match="stopped before its end"):
        find_review(info, info.path.parent / FILE)


def test_a_damaged_evaluation_is_told_when_it_is_named(info: GeneratorInfo) -> None:
    (info.path.parent / FILE).write_text("{")
    with pytest.raises(ConfigError, match="no evaluation of this generator"):
        find_review(info)
    with pytest.raises(DataError, match="Evaluate again"):
        find_review(info, info.path.parent)


def test_the_demo_comes_with_its_evaluation() -> None:
    """Another demo generator needs another one: copy report.json of `evaluate` beside it."""
    report = find_review(load_generator().info)
    assert report is not None
    assert {part.name for part in report.parts if not part.reason} >= {"fidelity", "memorisation", "consistency"}
