"""Where chance would leave a class out of a split, the patients are shared out by class, and that is said."""

from collections import defaultdict

from PIL import Image

from stylegan_oct.data.archive import Archive
from stylegan_oct.data.convert import convert


def make(tmp_path, draw_scan, patients):
    """Write two scans of each patient, so many patients a class."""
    number = 0
    for label, count in patients.items():
        place = tmp_path / "scans" / label
        place.mkdir(parents=True)
        for _ in range(count):
            for i in range(2):
                Image.fromarray(draw_scan(2 * number + i)).save(place / f"{label}-{700000 + number}-{i}.png")
            number += 1
    return tmp_path / "scans"


def run(source, dest, **options):
    return convert(source, dest, resolution=32, workers=1, **options)


def test_a_small_set_has_every_class_in_every_split_and_says_so(tmp_path, draw_scan):
    folder = make(tmp_path, draw_scan, {"CNV": 4, "DME": 4, "DRUSEN": 4, "NORMAL": 4})
    report = run(folder, tmp_path / "a.zip")
    assert all(set(counts) == {"CNV", "DME", "DRUSEN", "NORMAL"} for counts in report.counts.values())
    (line,) = report.splits
    assert "split by class, patients kept apart" in line and "--no-stratify" in line
    assert line in report.audit.read_text().replace("\\", "")
    splits = defaultdict(set)
    for name, row in Archive(tmp_path / "a.zip").rows().items():
        splits[row["patient"]].add(name.partition("/")[0])
    assert all(len(found) == 1 for found in splits.values())
    again = run(folder, tmp_path / "b.zip", key=report.key)
    assert again.archive.read_bytes() == report.archive.read_bytes()


def test_by_chance_where_asked_and_what_is_lacking_then_is_said(tmp_path, draw_scan):
    report = run(make(tmp_path, draw_scan, {"CNV": 4, "DME": 4}), tmp_path / "a.zip", stratify=False)
    lacking = {split for split, counts in report.counts.items() if len(counts) < 2}
    assert lacking and len(report.splits) == len(lacking)
    assert all("has no scans of" in line or "is empty" in line for line in report.splits)


def test_a_large_set_is_split_by_chance_as_ever(tmp_path, draw_scan):
    folder = make(tmp_path, draw_scan, {"CNV": 40, "NORMAL": 40})
    report = run(folder, tmp_path / "a.zip")
    if not report.splits:
        plain = run(folder, tmp_path / "b.zip", stratify=False, key=report.key)
        assert plain.archive.read_bytes() == report.archive.read_bytes()


def test_a_class_of_too_few_patients_is_named_with_what_that_forbids(tmp_path, draw_scan):
    report = run(make(tmp_path, draw_scan, {"CNV": 1, "DME": 2, "NORMAL": 6}), tmp_path / "a.zip")
    assert "CNV" in report.counts["train"] and {"DME", "NORMAL"} <= set(report.counts["val"])
    said = " ".join(report.splits)
    assert "The split val has no scans of CNV (1 patient): nothing chosen or stopped by val" in said
    assert "The split test has no scans of CNV (1 patient), DME (2 patients): test cannot tell" in said
