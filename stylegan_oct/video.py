"""Frames -> mp4, GIF or PNG files, one frame in memory at a time; every video says that it is synthetic."""

import dataclasses
import errno
import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dnnlib.errors import ConfigError
from dnnlib.interrupt import Interrupt
from dnnlib.pictures import Picture, save_png
from stylegan_oct import limits

WATCHABLE = 256         # pixels; smaller pictures are enlarged to at least this
GIF_FASTEST = 50        # frames a second; browsers slow down anything faster to 10
LARGEST = 8192          # pixels of a side that players take
STRIP = 20              # height of the caption, pixels, even
COMPRESSION = {
    # yuv420p and even sizes are what browsers play; faststart lets them begin before the whole file is there.
    ".mp4": {"codec": "libx264", "pixelformat": "yuv420p",
             "output_params": ["-f", "mp4", "-crf", "18", "-movflags", "+faststart"]},
    ".gif": {"codec": "gif", "pixelformat": "gray", "output_params": ["-f", "gif", "-loop", "0"]},
}
# One palette a frame: a common one would need all frames in memory.
GIF_IN_COLOUR = {"codec": "gif", "pixelformat": "pal8", "output_params": [
    "-f", "gif", "-loop", "0", "-filter_complex",
    "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"]}

Caption = Callable[[int], Sequence[str]]


@dataclass(frozen=True)
class Video:
    """What was written."""

    path: Path      # a file, or the folder of the PNG files
    frames: int
    fps: float
    width: int
    height: int
    complete: bool  # False where Ctrl-C ended it

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return self.frames / self.fps

    def facts(self) -> dict[str, str | float | bool]:
        """Return all of it as JSON takes it."""
        return {**dataclasses.asdict(self), "path": str(self.path), "seconds": self.seconds}


def save_video(path: Path, frames: Iterable[Picture], *, fps: float, text: Mapping[str, str], scale: int = 1,
               caption: Caption | None = lambda _: ("synthetic",), private: bool = False,
               progress: Callable[[int], object] = lambda _: None) -> Video:
    """Write frames as they come.

    The video gets its name when it is whole. After Ctrl-C the frames that came so far are finished as a playable
    file, `NAME-partial.mp4`; PNG files stay as they are. Any other exception leaves no file.

    Args:
        path: ends in .mp4 (H.264) or .gif; without an ending a folder of `frame-00001.png`.
        frames: uint8 [H, W] or [H, W, 3], all alike.
        fps: frames a second.
        text: as `dnnlib.pictures.synthetic_text` gives it; goes into title and comment of the file.
        scale: whole factor by which frames are enlarged, without smoothing.
        caption: number of the frame -> words for the strip below it, side by side; None leaves the strip out.
        private: readable by the owner alone, for what was made from a patient's scan.
        progress: called with the number of frames done.
    Raises:
        ConfigError: the ending is another, the GIF too fast, the frames too large, or the place cannot be written to.
        KeyboardInterrupt: stopped before the first frame was there.
    """
    limits.FPS.check("fps", fps)
    if path.suffix not in (*COMPRESSION, ""):
        raise ConfigError(f"{path.name} ends in {path.suffix}; videos are .mp4, .gif or a folder without an ending.")
    if path.suffix == ".gif" and fps > GIF_FASTEST:
        raise ConfigError(f"A GIF shows at most {GIF_FASTEST} frames a second; got {fps:g}. Lower --fps or take mp4.")
    save = _save_file if path.suffix else _save_folder
    pages = (finish_frame(frame, scale, caption(number) if caption else ()) for number, frame in enumerate(frames))
    try:
        with Interrupt() as interrupt:
            return save(path, _until(pages, interrupt, progress), fps, text, private, interrupt)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or 'ffmpeg stopped'}. "
                          "Choose another place with --out.") from error


def enlargement(side: int) -> int:
    """Return the whole factor that makes a picture of `side` pixels large enough to watch."""
    return max(1, math.ceil(WATCHABLE / side))


def finish_frame(picture: Picture, scale: int, words: Sequence[str] = ()) -> Picture:
    """Return the picture enlarged by a whole factor, padded to even sizes, with words on a dark strip below.

    Args:
        picture: [H, W] or [H, W, 3].
        scale: each pixel becomes scale x scale.
        words: side by side; empty leaves the strip out.
    """
    height, width = (side * scale for side in picture.shape[:2])
    if max(height, width) > LARGEST:
        raise ConfigError(f"Frames of {width} x {height} pixels are too large for a video; a side has at most "
                          f"{LARGEST}. Take a smaller grid, or a smaller --scale.")
    large = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    odd = [(0, side % 2) for side in large.shape[:2]] + [(0, 0)] * (large.ndim - 2)
    large = np.pad(large, odd, mode="edge")
    if not words:
        return large
    height, width = large.shape[:2]
    image = Image.new("L" if large.ndim == 2 else "RGB", (width, height + STRIP))
    image.paste(Image.fromarray(large))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=13)
    for index, word in enumerate(words):
        draw.text((index * width // len(words) + 4, height + 2), word, fill="white", font=font)
    return np.asarray(image)


def _until(pages: Iterator[Picture], interrupt: Interrupt, progress: Callable[[int], object]) -> Iterator[Picture]:
    for number in itertools.count(1):
        page = None
        with interrupt.abandonable():
            page = next(pages, None)
        if page is None:
            return
        yield page
        progress(number)
        if interrupt.requested:
            return


def _save_file(path: Path, pages: Iterator[Picture], fps: float, text: Mapping[str, str], private: bool,
               interrupt: Interrupt) -> Video:
    path.parent.mkdir(parents=True, exist_ok=True)
    first = next(pages, None)
    if first is None:
        raise KeyboardInterrupt
    count = 0
    # The folder is the owner's alone, and takes an unfinished file with it.
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=path.parent) as folder:
        unnamed = Path(folder) / "video.mp4"  # imageio asks for this ending; "-f" decides what is inside
        with _encoder(unnamed, path.suffix, first.ndim == 3, fps, text) as write:
            for count, page in enumerate(itertools.chain([first], pages), 1):  # noqa: B007 (counts the frames)
                write(page)
        if not _is_whole(unnamed, path.suffix):  # ffmpeg ends a file that it could not write as if all were well
            raise OSError(errno.EIO, "not all of it could be written, perhaps for lack of room")
        if path.suffix == ".gif":
            _append_comment(unnamed, _comment(text))
        unnamed.chmod(0o600 if private else 0o644)
        final = path.with_stem(f"{path.stem}-partial") if interrupt.requested else path
        unnamed.replace(final)
    return Video(final, count, fps, first.shape[1], first.shape[0], complete=not interrupt.requested)


@contextmanager
def _encoder(path: Path, suffix: str, colour: bool, fps: float,
             text: Mapping[str, str]) -> Iterator[Callable[[Picture], object]]:
    """Yield a function that takes frame after frame to ffmpeg."""
    import imageio.v2 as imageio

    options: dict[str, Any] = dict(GIF_IN_COLOUR if suffix == ".gif" and colour else COMPRESSION[suffix])
    about = ["-metadata", f"title={text['Title']}", "-metadata", f"comment={_comment(text)}"]
    options["output_params"] = [*options["output_params"], *about]
    writer = imageio.get_writer(path, format="FFMPEG", mode="I", fps=fps, quality=None,
                                macro_block_size=1, ffmpeg_log_level="error", **options)
    try:
        yield writer.append_data
    except OSError as error:
        raise OSError(errno.EIO, error.strerror or "ffmpeg stopped") from error
    finally:
        writer.close()


def _save_folder(path: Path, pages: Iterator[Picture], fps: float, text: Mapping[str, str], private: bool,
                 interrupt: Interrupt) -> Video:
    path.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o777)
    for old in path.glob("frame-[0-9]*.png"):
        old.unlink()
    count, shape = 0, (0, 0)
    for count, page in enumerate(pages, 1):
        shape = page.shape[:2]
        save_png(path / f"frame-{count:05d}.png", page, {**text, "frame": str(count), "fps": f"{fps:g}"})
    if not count:
        raise KeyboardInterrupt
    return Video(path, count, fps, shape[1], shape[0], complete=not interrupt.requested)


def _comment(text: Mapping[str, str]) -> str:
    facts = "; ".join(f"{key}={value}" for key, value in text.items() if key not in ("Title", "Description"))
    return f"{text['Description']} {facts}"


def _is_whole(file: Path, suffix: str) -> bool:
    """Tell whether a video has its end: the trailer of a GIF, or all boxes of an mp4 (ISO 14496-12, section 4.2)."""
    if not file.is_file():
        return False
    size, place, kinds = file.stat().st_size, 0, set()
    with open(file, "rb") as data:
        if suffix == ".gif":
            data.seek(max(size - 1, 0))
            return data.read(1) == b";"
        while place + 8 <= size:
            data.seek(place)
            length, kind = int.from_bytes(data.read(4), "big"), data.read(4)
            length = int.from_bytes(data.read(8), "big") if length == 1 else length
            if length < 8:
                return False
            place += length
            kinds.add(kind)
    return place == size and {b"moov", b"mdat"} <= kinds


def _append_comment(gif: Path, comment: str) -> None:
    """Put a comment extension before the trailer of a GIF; ffmpeg writes none (GIF89a, section 24)."""
    data = comment.encode("ascii", "replace")
    blocks = b"".join(bytes([len(part)]) + part for part in (data[i:i + 255] for i in range(0, len(data), 255)))
    with open(gif, "r+b") as file:
        file.seek(-1, 2)
        assert file.read(1) == b";", "a GIF ends in a semicolon"
        file.seek(-1, 2)
        file.write(b"!\xfe" + blocks + b"\0;")
