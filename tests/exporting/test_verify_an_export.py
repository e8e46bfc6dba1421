"""`export --verify`: what is damaged, missing, added or drawn otherwise is found and named."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from in_parts import export_in_parts, tree
from PIL import Image

from dnnlib.errors import ConfigError, DataError
from dnnlib.files import sha256_of
from stylegan_oct.export.folder import verify as verifying
from stylegan_oct.export.folder.verify import verify
from stylegan_oct.export.layouts import LAYOUTS


@pytest.fixture(scope="module", params=LAYOUTS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp(request.param) / "export"
    export_in_parts(out, layout=request.param, corner_mark=request.param == "imagefolder")
    return out


def test_a_whole_export_of_any_layout_is_drawn_again_to_the_bit(whole: Path) -> None:
    before = tree(whole)
    found = verify(whole, count=26)
    assert found.good and (found.pictures, found.same, found.near, found.other) == (26, 26, [], []), found
    assert tree(whole) == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folder") / "export"
    export_in_parts(out)
    return out


def relist(out: Path) -> None:
    """Write the list of hashes anew, as somebody does who wants a change not to show."""
    (out / "SHA256SUMS").write_text("".join(f"{sha256}  {name}\n" for name, sha256 in tree(out).items()
                                            if name != "SHA256SUMS"))


def repaint(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    Image.fromarray(change(pixels)).save(path)


def rename_in_manifest(out: Path, name: str, **changes: str) -> None:
    with open(out / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with open(out / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **changes} if row["file_name"] == name else row for row in rows)


def test_each_kind_of_damage_is_named(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    shutil.copytree(folder, out)
    first, second, third = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))[:3]
    repaint(out / first, lambda pixels: pixels)   # the same picture saved anew, without its marks
    (out / second).unlink()
    (out / "images" / "train" / "more.png").write_bytes((out / third).read_bytes())
    found = verify(out, count=0)
    assert not found.good
    assert f"{first}: not as it was written" in found.wrong
    assert f"{second}: missing" in found.wrong
    assert "images/train/more.png: not part of the export" in found.wrong


def test_another_picture_is_found_though_all_hashes_were_made_to_agree(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    shutil.copytree(folder, out)
    name = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))[0]
    repaint(out / name, lambda pixels: pixels[:, ::-1])
    with Image.open(out / name) as picture:
        import hashlib
        pixels_sha256 = hashlib.sha256(np.asarray(picture).tobytes()).hexdigest()
    rename_in_manifest(out, name, sha256=sha256_of(out / name), pixels_sha256=pixels_sha256)
    relist(out)
    assert verify(out, count=0).good   # hashes alone cannot tell
    found = verify(out, count=26)
    assert not found.good and found.other == [name] and found.same == 25


def test_a_grey_level_of_rounding_is_no_fault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = verifying.draw_pixels

    def rounded(*args: object) -> object:
        pixels = drawn(*args).clone()  # type: ignore[arg-type]
        pixels[:, 0, 5, 5] += 1
        return pixels

    monkeypatch.setattr(verifying, "draw_pixels", rounded)
    found = verify(folder, count=5)
    assert found.good and len(found.near) == 5


def test_a_manifest_of_fewer_pictures_is_found(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    shutil.copytree(folder, out)
    lines = (out / "manifest.csv").read_text().splitlines(keepends=True)
    (out / "manifest.csv").write_text("".join(lines[:-1]))
    relist(out)
    assert "manifest.csv: 25 pictures, 26 were planned" in verify(out, count=0).wrong


def test_what_cannot_be_checked_is_refused(folder: Path, tmp_path: Path,
                                           generator_of_16_px: str) -> None:
    with pytest.raises(DataError, match="is no export"):
        verify(tmp_path)
    with pytest.raises(ConfigError, match=r"drawn by another generator.*--count 0"):
        verify(folder, checkpoint=generator_of_16_px)
    out = tmp_path / "export"
    shutil.copytree(folder, out)
    (out / "SHA256SUMS").unlink()
    with pytest.raises(DataError, match="not complete"):
        verify(out)


@pytest.fixture(scope="module")
def generator_of_16_px(tmp_path_factory: pytest.TempPathFactory) -> str:
    from generator_file import write_generator

    return str(write_generator(tmp_path_factory.mktemp("other")).info.path)
