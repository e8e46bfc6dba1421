import logging
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dnnlib.errors import ConfigError
from dnnlib.files import Finder, atomic_path, atomic_write, sha256_of
from dnnlib.logs import append_jsonl, close_log, keep_rows, open_log, read_jsonl
from dnnlib.pictures import encode_png, save_png, sheet, synthetic_text
from dnnlib.rundir import create_run, find_run, runs_in
from dnnlib.text import format_nimg, format_seconds, parse_int_list, suggest


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_finished_write_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    for text in ("one\n", "two\n"):
        with atomic_write(path) as file:
            file.write(text)
    assert path.read_bytes() == b"two\n"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"three")
    assert path.read_bytes() == b"three"


def test_sha256_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "e").touch()
    assert sha256_of(tmp_path / "e") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_int_lists_keep_their_order() -> None:
    assert parse_int_list("7,0-3, 2") == [7, 0, 1, 2, 3, 2]


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-2", "1,,2", "1.5"])
def test_words_that_are_no_int_list_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="0-7"):
        parse_int_list(text)


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_any_list_of_numbers_is_read_back(numbers: list[int]) -> None:
    assert parse_int_list(",".join(map(str, numbers))) == numbers


@pytest.mark.parametrize(("seconds", "text"), [(0, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"),
                                              (3599, "59 min 59 s"),
                                               (3600, "1 h 00 min"), (90061, "1 d 01 h")])
def test_durations_read_naturally(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_image_counts_and_suggestions() -> None:
    assert format_nimg(1500) == "1.5 kimg"
    assert suggest("drusn", ["CNV", "DRUSEN"]) == " Did you mean DRUSEN?"
    assert suggest("zzz", ["CNV", "DRUSEN"]) == " There are: CNV, DRUSEN."


def test_json_lines_survive_a_cut_last_line_and_nan(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    append_jsonl(path, {"nimg": 1, "loss": float("nan")})
    append_jsonl(path, {"nimg": 2})
    with open(path, "a") as file:
        file.write('{"nimg": 3, "lo')
    assert read_jsonl(path) == [{"nimg": 1, "loss": None}, {"nimg": 2}]
    keep_rows(path, lambda row: row["nimg"] < 2)
    assert read_jsonl(path) == [{"nimg": 1, "loss": None}]
    assert read_jsonl(tmp_path / "absent.jsonl") == []


def test_the_log_is_appended_and_closed(tmp_path: Path) -> None:
    for line in ("first", "second"):
        open_log(tmp_path / "log.txt", logging.NullHandler())
        logging.getLogger("x").info(line)
        close_log()
    logging.getLogger("x").info("third")
    text = (tmp_path / "log.txt").read_text()
    assert "first" in text and "second" in text and "third" not in text


def test_pictures_carry_their_text_and_say_that_they_are_synthetic(tmp_path: Path) -> None:
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    save_png(tmp_path / "a.png", picture, synthetic_text("test", seed=3, place="Zürich"))
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["synthetic"] == "true" and image.text["seed"] == "3" and image.text["place"] == "Zürich"
        assert np.array_equal(np.asarray(image), picture)
    assert encode_png(picture) == encode_png(picture)


def test_a_sheet_holds_every_picture_and_grows_for_colour() -> None:
    grey, colour = np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)
    flat = sheet([[grey, grey], [grey]], row_labels=["a", "b"], title="t")
    assert flat.ndim == 2 and flat.shape[0] == 18 + 2 * 10 and (flat == 0).sum() >= 3 * 64
    assert sheet([[grey, colour]]).ndim == 3


def test_runs_are_numbered_and_found_newest_first(tmp_path: Path) -> None:
    for number in range(3):
        run = create_run(tmp_path, "demo")
        run.config.write_text(f'{{"seed": {number % 2}}}')
    assert [run.path.name for run in runs_in(tmp_path)] == ["00002-demo", "00001-demo", "00000-demo"]
    found = find_run(tmp_path, lambda config: config["seed"] == 0)
    assert found is not None and found.path.name == "00002-demo"
    assert find_run(tmp_path, lambda config: config["seed"] == 5) is None
    (tmp_path / "00003-broken").mkdir()
    (tmp_path / "00003-broken" / "config.json").write_text("{")
    assert find_run(tmp_path, lambda config: True) is not None


def _hold(path: Path, ready: "multiprocessing.synchronize.Event", done: "multiprocessing.synchronize.Event") -> None:
    from dnnlib.rundir import RunDir

    with RunDir(path).lock():
        ready.set()
        done.wait(30)


def test_a_run_is_trained_by_one_process_only(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    run = create_run(tmp_path, "demo")
    process = context.Process(target=_hold, args=(run.path, ready, done))
    process.start()
    assert ready.wait(30)
    with pytest.raises(ConfigError, match="another process"):
        run.lock()
    done.set()
    process.join()
    run.lock().close()


def test_a_file_is_found_by_a_name_of_another_case_or_form_where_only_one_can_be_meant(tmp_path: Path) -> None:
    for name in ("a/Mu\u0308ller.TIF", "a/x.png", "a/X.png", "B/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    finder = Finder()
    for name, found in (("a/m\u00fcller.tif", "a/Mu\u0308ller.TIF"), ("a/x.png", "a/x.png"), ("A/X.png", "a/X.png"),
                        ("a/x.PNG", None), ("b/Y.PNG", "B/y.png"), ("b/z.png", None), ("a/x.png/z", None),
                        ("B/../a/x.png", "B/../a/x.png"), ("x" * 5000, None), ("a/\0", None)):
        assert finder.find(tmp_path, name) == (None if found is None else tmp_path / found), name
