import csv
import io
import json
import zipfile
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dnnlib.errors import ConfigError
from stylegan_oct.classes import CLASSES
from stylegan_oct.data.archive import Archive
from stylegan_oct.data.phantom_archive import SHARES, masks_path, split_of, write_phantom_archive
from stylegan_oct.phantom import factor_names, render
from tools.__main__ import main


@pytest.fixture(scope="module")
def archive_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "phantom.zip"
    write_phantom_archive(path, count=40, resolution=32, seed=5, masks=True, workers=1)
    return path


def rows_of(path):
    return list(csv.DictReader(io.StringIO(Archive(path).read("factors.csv").decode())))


def test_an_archive_can_be_read_and_holds_the_classes_equally_often(archive_path):
    archive = Archive(archive_path)
    assert (archive.resolution, archive.channels, archive.classes, archive.source) == (32, 1, CLASSES, "phantom")
    labels = np.concatenate([archive.labels(split) for split in archive.splits])
    assert Counter(labels.tolist()) == dict.fromkeys(range(4), 10)
    for split in archive.splits:
        assert len(set(Counter(archive.labels(split).tolist()).values())) == 1


def test_factors_agree_with_the_images(archive_path):
    archive, rows = Archive(archive_path), rows_of(archive_path)
    assert list(rows[0]) == ["name", *factor_names()]
    names = [name for split in archive.splits for name in archive.names(split)]
    assert sorted(row["name"] for row in rows) == sorted(names)
    for index in (0, 7, 30):
        scan = render(5, index, label=CLASSES[index % 4], resolution=(32, 32))
        np.testing.assert_array_equal(archive.read_pixels(rows[index]["name"]), scan.image)
        assert {key: str(value) for key, value in scan.factors.row().items()} == {
            key: value for key, value in rows[index].items() if key != "name"}


def test_masks_lie_beside_the_archive_under_the_names_of_the_images(archive_path):
    with zipfile.ZipFile(masks_path(archive_path)) as masks:
        names = {name.split("/", 1)[1] for name in masks.namelist()}
        assert names == {row["name"] for row in rows_of(archive_path)}
        layers = np.asarray(Image.open(masks.open(f"layers/{rows_of(archive_path)[3]['name']}")))
    scan = render(5, 3, label=CLASSES[3], resolution=(32, 32), masks=True)
    np.testing.assert_array_equal(layers, scan.layers)


def test_dataset_json_explains_the_masks(archive_path):
    legend = json.loads(Archive(archive_path).read("dataset.json"))["phantom"]
    assert legend["seed"] == 5
    assert legend["layers"]["vitreous"] == 0
    assert legend["layers"]["border"] == 255
    assert legend["lesions"]["drusen"] == 1


def test_pictures_say_that_they_are_synthetic(archive_path):
    archive = Archive(archive_path)
    with Image.open(io.BytesIO(archive.read(archive.names("train")[0]))) as image:
        assert image.text["synthetic"] == "true"
        assert image.text["source"] == "phantom"
        assert image.text["seed"] == "5"


def test_the_archive_does_not_depend_on_the_number_of_processes(archive_path, tmp_path):
    write_phantom_archive(tmp_path / "two.zip", count=40, resolution=32, seed=5, workers=2)
    assert (tmp_path / "two.zip").read_bytes() == archive_path.read_bytes()


def test_a_longer_series_begins_with_the_shorter_one(archive_path, tmp_path):
    write_phantom_archive(tmp_path / "short.zip", count=8, resolution=32, seed=5, workers=1)
    assert rows_of(tmp_path / "short.zip") == rows_of(archive_path)[:8]


def test_splits_have_the_shares_asked_for():
    found = Counter(split_of(place, SHARES) for place in range(1000))
    assert {split: pytest.approx(1000 * share, abs=4) for split, share in SHARES.items()} == found
    assert {split_of(place, {"train": 1.0}) for place in range(100)} == {"train"}
    assert {split_of(place, {"train": 1.0, "val": 0.0}) for place in range(100)} == {"train"}


def test_progress_counts_every_scan_and_a_stop_leaves_no_file(tmp_path):
    done = []

    def stop(step, total):
        done.append(step)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantom_archive(tmp_path / "a.zip", count=8, resolution=16, workers=1, masks=True, progress=stop)
    assert list(tmp_path.iterdir()) == []
    assert done == [1, 2, 3]


@pytest.mark.parametrize(("options", "word"), [
    ({"count": 3}, "count must be at least 4"),
    ({"resolution": 4}, "resolution must be a whole number from 8 to 2048"),
    ({"seed": -1}, "seed must be"),
    ({"classes": ("CNV", "DRUSE")}, "Did you mean DRUSEN"),
    ({"classes": ("CNV", "CNV")}, "each once"),
    ({"shares": {"train": -0.1, "val": 1.1}}, "share of train"),
    ({"shares": {"trian": 1.0}}, "Did you mean train"),
    ({"shares": {"train": 0.0}}, "above 0"),
])
def test_a_wrong_option_is_named(tmp_path, options, word):
    with pytest.raises(ConfigError, match=word):
        write_phantom_archive(tmp_path / "a.zip", **{"count": 8, "resolution": 16, **options})
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_an_archive_and_a_sheet(tmp_path):
    dest, picture = tmp_path / "p.zip", tmp_path / "p.png"
    result = CliRunner().invoke(main, ["phantom", str(dest), "--count", "4", "--resolution", "16", "--workers", "1",
                                       "--class", "DME", "--class", "NORMAL", "--sheet", str(picture), "--val", "0.5"])
    assert result.exit_code == 0, result.output
    assert Archive(dest).classes == ("DME", "NORMAL")
    with Image.open(picture) as image:
        assert image.text["synthetic"] == "true"


@pytest.mark.parametrize(("arguments", "word"), [
    ([], "Say where"),
    (["there.zip"], "is there already"),
    (["new.zip", "--resolution", "3"], "from 8 to 2048"),
    (["new.zip", "--class", "AMD"], "There is no class"),
    (["new.zip", "--val", "0.7", "--test", "0.5"], "share of train"),
])
def test_a_wrong_command_gets_one_line_and_exit_code_2(tmp_path, monkeypatch, arguments, word):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.zip").write_bytes(b"")
    result = CliRunner().invoke(main, ["phantom", *arguments])
    assert result.exit_code == 2
    assert word in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_without_border_the_scan_is_the_same_where_the_border_was_not():
    for index in range(12):
        framed, plain = (render(4, index, resolution=(64, 64), border=border) for border in (True, False))
        assert plain.factors.border_fraction == 0
        same = (framed.image == plain.image).mean()
        assert same >= 1 - framed.factors.border_fraction - 0.06  # the area average mixes the seam
        if framed.factors.border_fraction == 0:
            assert same == 1
