"""Videos: sizes, metadata, memory, and what an interruption leaves."""

import gc
import os
import re
import signal
import stat
import subprocess
import weakref
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from dnnlib.errors import ConfigError
from dnnlib.pictures import SYNTHETIC_NOTE, Picture, synthetic_text
from stylegan_oct.video import STRIP, enlargement, finish_frame, save_video

TEXT = synthetic_text("generator", psi=0.7, note="a=b; c#d\\e")


def frames(count: int, shape: tuple[int, ...] = (17, 31)) -> Iterator[Picture]:
    for index in range(count):
        yield np.full(shape, (20 + 8 * index) % 256, np.uint8)


def described(path: Path) -> str:
    """What ffmpeg says of a file, and its metadata."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    done = subprocess.run([ffmpeg, "-i", path, "-f", "ffmetadata", "-"], capture_output=True, text=True, check=True)
    return done.stderr + done.stdout.replace("\\", "")


def decoded(path: Path, width: int, height: int) -> Picture:
    """The frames of a file as ffmpeg plays them, grey [N, H, W]."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, height, width)


def test_an_mp4_is_what_browsers_play_and_says_that_it_is_synthetic(tmp_path: Path) -> None:
    video = save_video(tmp_path / "a.mp4", frames(12), fps=24, text=TEXT, scale=3)
    assert (video.frames, video.width, video.height, video.complete) == (12, 94, 52 + STRIP, True)
    assert video.seconds == 0.5
    said = described(video.path)
    assert re.search(r"h264 .*yuv420p.* 94x72.* 24 fps", said)
    assert "title=synthetic" in said and SYNTHETIC_NOTE.partition(";")[0] in said and "psi=0.7" in said
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert video.path.read_bytes().index(b"moov") < video.path.read_bytes().index(b"mdat")  # begins while it loads


def test_frames_come_back_in_order_and_nearly_as_they_were(tmp_path: Path) -> None:
    video = save_video(tmp_path / "a.mp4", frames(12), fps=30, text=TEXT, caption=None)
    found = decoded(video.path, video.width, video.height)[:, 8, 15].astype(int)
    assert np.abs(found - [20 + 8 * index for index in range(12)]).max() <= 3


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3)])
def test_a_gif_loops_keeps_grey_exactly_and_says_that_it_is_synthetic(shape: tuple[int, ...], tmp_path: Path) -> None:
    video = save_video(tmp_path / "a.gif", frames(5, shape), fps=20, text=TEXT, caption=None)
    with Image.open(video.path) as image:
        assert image.n_frames == 5 and image.info["loop"] == 0 and image.info["duration"] == 50
        grey = [np.asarray((image.seek(i), image.convert("L"))[1])[8, 8] for i in range(5)]
    assert grey == [20 + 8 * index for index in range(5)]
    assert SYNTHETIC_NOTE in described(video.path)


def test_a_folder_holds_png_files_that_say_so_and_no_frame_of_an_earlier_walk(tmp_path: Path) -> None:
    save_video(tmp_path / "a", frames(9), fps=30, text=TEXT)
    (tmp_path / "a" / "notes.txt").write_text("mine")
    video = save_video(tmp_path / "a", frames(3), fps=30, text=TEXT)
    assert sorted(os.listdir(video.path)) == [*(f"frame-0000{i}.png" for i in (1, 2, 3)), "notes.txt"]
    with Image.open(video.path / "frame-00002.png") as image:
        assert image.text["synthetic"] == "true" and image.text["frame"] == "2"
        assert image.size == (video.width, video.height)


def test_the_strip_is_below_the_picture_and_hides_nothing_of_it() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 90), dtype=np.uint8)
    page = finish_frame(picture, 2, ("synthetic", "b"))
    assert page.shape == (64 + STRIP, 180)
    assert (page[:64] == picture.repeat(2, 0).repeat(2, 1)).all()
    assert (page[64:, :70] > 200).any() and (page[64:, 90:110] > 200).any()
    assert finish_frame(picture, 1).shape == picture.shape


@pytest.mark.parametrize("side, factor", [(64, 4), (100, 3), (256, 1), (512, 1)])
def test_small_pictures_are_enlarged_to_be_watched(side: int, factor: int) -> None:
    assert enlargement(side) == factor


def test_no_more_than_a_few_frames_are_alive_at_a_time(tmp_path: Path) -> None:
    alive: list[weakref.ref[Picture]] = []
    most = 0

    def counted() -> Iterator[Picture]:
        nonlocal most
        for frame in frames(300, (16, 16)):
            alive.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in alive))
            yield frame

    save_video(tmp_path / "a.mp4", counted(), fps=30, text=TEXT)
    gc.collect()
    assert most <= 4 and not any(ref() is not None for ref in alive)


@pytest.mark.parametrize("name, left", [("a.mp4", "a-partial.mp4"), ("a.gif", "a-partial.gif"), ("a", "a")])
def test_ctrl_c_leaves_a_playable_video_of_what_was_done(name: str, left: str, tmp_path: Path) -> None:
    def interrupted() -> Iterator[Picture]:
        for index, frame in enumerate(frames(20)):
            if index == 6:
                os.kill(os.getpid(), signal.SIGINT)
            yield frame

    video = save_video(tmp_path / name, interrupted(), fps=25, text=TEXT)
    assert not video.complete and video.frames == 7
    assert os.listdir(tmp_path) == [left] and video.path == tmp_path / left
    if video.path.is_file():
        assert len(decoded(video.path, video.width, video.height)) == 7
    else:
        assert len(os.listdir(video.path)) == 7


def test_an_error_leaves_nothing_and_spares_the_video_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"before")

    def broken() -> Iterator[Picture]:
        yield from frames(3)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        save_video(tmp_path / "a.mp4", broken(), fps=25, text=TEXT)
    assert os.listdir(tmp_path) == ["a.mp4"] and (tmp_path / "a.mp4").read_bytes() == b"before"


def test_a_video_of_a_patient_is_for_its_owner_alone(tmp_path: Path) -> None:
    for name in ("a.mp4", "b"):
        path = save_video(tmp_path / name, frames(2), fps=25, text=TEXT, private=True).path
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("name, fps, words", [("a.avi", 30, ".mp4"), ("a.gif", 60, "50"), ("file/a.mp4", 30, "--out")])
def test_what_cannot_work_is_said_in_a_line(name: str, fps: float, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=re.escape(words)):
        save_video(tmp_path / name, frames(2), fps=fps, text=TEXT)
