import re

import pytest
from made_samples import CHECKPOINT, COLLECTION, made_item

from dnnlib.errors import ConfigError
from stylegan_oct.export.description.card import CARD, README, Facts, write_card
from stylegan_oct.export.description.manifest import manifest_of
from stylegan_oct.metrics.report.report import Finding, Part, Reference, Report, Subject
from stylegan_oct.metrics.statistics.values import Value


def _rows():
    return map(made_item, range(20))


def _facts(**changes):
    facts = {"layout": "imagefolder", "collection": COLLECTION, "checkpoint_sha256": CHECKPOINT, "nimg": 1000,
             "data_source": "phantom", "psi": 0.8}
    return Facts(**{**facts, **changes})


def _report(psi=0.8):
    note = "of few pictures"
    values = (Value(metric="kd_lite0", value=0.25, interval=(0.24, 0.26), floor=0.01, n=1000, better="lower"),
              Value(metric="recall_lite0", value=0.5, n=1000, note=note),
              Value(metric="coverage_lite0", value=0.5, n=1000, note=note),
              Value(metric="kd_lite0", value=0.75, class_name="CNV", n=250, better="lower"))
    subject = Subject(file="G.safetensors", sha256=CHECKPOINT, nimg=1000, preset="tiny", classes=COLLECTION.classes,
                      resolution=16, channels=1, data_source="phantom", training_archive="", psi=psi)
    return Report(made="2026-01-02T03:04:05", subject=subject, detectors=(), settings={}, versions={},
                  reference=Reference(file="secret-name.zip", fingerprint="f" * 64, source="phantom", splits=()),
                  parts=(Part(name="fidelity", values=values), Part(name="memorisation", reason="no held-out scans")),
                  warnings=("few pictures",), verdict=(Finding(text="A part is missing.", weight=1.0, level="fault"),))


def _card(tmp_path, **changes):
    write_card(tmp_path, _facts(**changes), _rows)
    return (tmp_path / CARD).read_text()


def test_hugging_face_reads_the_same_card(tmp_path):
    assert _card(tmp_path) == (tmp_path / README).read_text()


def test_an_unreviewed_export_says_so_at_its_top(tmp_path):
    text = _card(tmp_path)
    assert "NOT REVIEWED" in text.split("## What")[0] and "--allow-unreviewed" in text
    assert "NOT REVIEWED" not in _card(tmp_path, report=_report())


def test_the_figures_of_the_evaluation_stand_beside_their_floor(tmp_path):
    text = _card(tmp_path, report=_report())
    assert "| Kernel distance (lite0) | all | 0.25 (0.24 to 0.26) | 0.010 | 1,000 |" in text
    assert "| Recall (lite0) [1] | all | 0.50 | - | 1,000 |" in text and text.count("[1] of few pictures.") == 1
    assert "A part is missing." in text and "few pictures" in text
    assert "Not measured: no held-out scans" in text


def test_an_evaluation_at_another_psi_is_told(tmp_path):
    assert "Evaluated at psi 1, exported at psi 0.8" in _card(tmp_path, report=_report(psi=1.0))
    assert "Evaluated at psi" not in _card(tmp_path, report=_report())


def test_shares_rejected_are_told_with_their_reasons(tmp_path):
    drawn = {"CNV": {"kept": 6, "the oracle sees another class": 3, "copy": 1}, "DME": {"kept": 5}}
    text = _card(tmp_path, drawn=drawn, conditions=("DRUSEN: drusen_area_mm2 at least 0.02 mm2",))
    assert "| CNV | 10 | 6 | 40.0% | 30.0% the oracle sees another class; 10.0% copy |" in text
    assert "| DME | 5 | 5 | 0.0% | - |" in text
    assert "Kept only with DRUSEN: drusen_area_mm2 at least" in text


def test_copies_among_the_pictures_are_counted_or_nobody_looked(tmp_path):
    assert "**Nobody looked**" in _card(tmp_path)
    write_card(tmp_path, _facts(), lambda: (
        made_item(seed, nearest_percentile=float(seed), memorised=seed == 0) for seed in range(20)))
    text = (tmp_path / CARD).read_text()
    assert "Of 20 pictures" in text and "1 are flagged" in text and "10.0 % lie nearer" in text


def test_the_pictures_are_counted_by_split_and_class(tmp_path):
    assert "| split | CNV | DME | DRUSEN | NORMAL | all |" in _card(tmp_path)
    assert "| train | 4 | 4 | 4 | 4 | 16 |\n| val | 1 | 1 | 1 | 1 | 4 |" in _card(tmp_path)


def test_a_synthetic_test_split_is_warned_of(tmp_path):
    write_card(tmp_path, _facts(), lambda: iter([made_item(1, split="test")]))
    assert "**There is a test split of synthetic pictures**" in (tmp_path / CARD).read_text()
    assert "no test split on purpose" in _card(tmp_path)


def test_the_card_tells_the_training_data_and_its_licence_or_that_nobody_told(tmp_path):
    assert "show no patient" in _card(tmp_path)
    assert _card(tmp_path, data_source="scans").count("not told") == 3
    text = _card(tmp_path, data_source="scans", data_name="OCT2017", data_licence="CC BY\n4.0", licence="cc-by-4.0")
    assert "scans of patients: OCT2017." in text and "CC BY 4.0" in text and "license: cc-by-4.0\n" in text
    assert "not told" not in text


def test_nothing_of_the_card_is_a_date_or_the_name_of_a_private_file(tmp_path):
    text = _card(tmp_path, report=_report())
    assert not re.search(r"20\d\d-\d\d-\d\d", text) and "secret-name" not in text


@pytest.mark.parametrize("licence", ["CC BY 4.0", "mit\nx: y", ""])
def test_what_is_no_licence_is_refused(licence):
    with pytest.raises(ConfigError, match="cc-by-4.0"):
        _facts(licence=licence)


@pytest.mark.parametrize("layout", ["imagefolder", "webdataset", "medmnist", "stylegan", "fddm", "multieye"])
def test_the_front_matter_is_yaml_with_the_classes_and_columns(layout, tmp_path):
    yaml = pytest.importorskip("yaml", reason="needs pip install 'stylegan-oct[loaders]'")
    front = yaml.safe_load(_card(tmp_path, layout=layout).split("---\n")[1])
    assert "synthetic" in front["tags"] and front["license"] == "other" and front["size_categories"] == ["n<1K"]
    assert ("configs" in front) == (layout in ("imagefolder", "webdataset"))
    if layout == "imagefolder":
        features = {feature["name"]: feature["dtype"] for feature in front["configs"][0]["features"]}
        assert list(features)[1:] == list(manifest_of(_rows).names[1:])
        assert features["label"]["class_label"]["names"] == {str(n): name for n, name in enumerate(COLLECTION.classes)}


@pytest.mark.parametrize(("changes", "said"), [
    ({"corner_mark": True}, "upper left corner"), ({"latents": True}, "`latents.safetensors` holds w"),
    ({"teacher": "resnet-12ab"}, "soft labels of resnet-12ab"), ({"psi": 0.8}, "less varied")])
def test_what_was_asked_for_is_told(changes, said, tmp_path):
    assert said in _card(tmp_path, **changes)
    assert said not in _card(tmp_path, psi=1.0, report=_report())
