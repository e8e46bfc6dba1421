"""The kinds of options, and the options that several commands share; `stylegan_oct.limits` has the bounds."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from dnnlib.errors import ConfigError
from dnnlib.text import parse_int_list
from stylegan_oct import limits
from stylegan_oct.data.readers.axes import AXES
from stylegan_oct.limits import Limits, shortened

LONGEST_TEXT = 2000       # characters
LONGEST_NAME = 255        # bytes, of a file
LONGEST_PATH = 4000       # bytes


class Whole(click.IntRange):
    """A whole number within limits."""

    def __init__(self, allowed: Limits) -> None:
        super().__init__(int(allowed.least), int(allowed.most))
        self.limits = allowed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        return int(_number(self, value, param, ctx))


class Real(click.FloatRange):
    """A number within limits."""

    def __init__(self, allowed: Limits) -> None:
        super().__init__(allowed.least, allowed.most)
        self.limits = allowed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        return float(_number(self, value, param, ctx))


def _number(kind: Whole | Real, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
    number = kind.limits.parse(value) if isinstance(value, str) else value
    if number is None or not kind.limits.allow(number):
        kind.fail(f"{shortened(value)} is not {kind.limits}.", param, ctx)
    return float(number) if isinstance(kind, Real) else int(number)


class Grid(click.ParamType[tuple[int, int]]):
    """Columns x rows, such as 4x2."""

    name = "grid"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return columns and rows."""
        columns, rows = (limits.SIDE.parse(part) for part in value.lower().partition("x")[::2])
        if columns is None or rows is None:
            self.fail(f"{shortened(value)} is not COLUMNSxROWS, such as 4x2, each {limits.SIDE}.", param, ctx)
        return int(columns), int(rows)


class Layers(click.ParamType[tuple[int, int]]):
    """First and last layer, such as 0-3, or one layer, such as 5."""

    name = "layers"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return first and last layer."""
        begin, _, end = value.partition("-")
        first, last = limits.LAYER.parse(begin), limits.LAYER.parse(end or begin)
        if first is None or last is None or first > last:
            self.fail(f"{shortened(value)} is not a range of layers, such as 0-3, each {limits.LAYER}.", param, ctx)
        return int(first), int(last)


class Seeds(click.ParamType[Sequence[int]]):
    """Numbers and rising ranges, such as 0-63 or 1,5,9-12."""

    name = "seeds"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Sequence[int]:
        """Return the seeds in the order given."""
        try:
            return parse_int_list(value, largest=int(limits.DRAWN_SEED.most), most=int(limits.SEEDS.most))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class Text(click.ParamType[str]):
    """Words, or a name: not blank, nor longer than any can be."""

    name = "text"

    def __init__(self, *, blank: bool = False) -> None:
        self.blank = blank

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        if not value.strip() and not self.blank:
            self.fail("it is blank; give a value, or leave the option out.", param, ctx)
        if len(value) > LONGEST_TEXT:
            self.fail(f"it has {len(value)} characters; at most {LONGEST_TEXT} are allowed.", param, ctx)
        return value


class FilePath(click.Path):
    """A path that a file system can take; whether it exists is the command's to see."""

    def __init__(self, *, dir_okay: bool = True, path_type: type[Any] = Path) -> None:
        super().__init__(dir_okay=dir_okay, path_type=path_type)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        name = os.fsencode(value)
        if not name.strip():
            self.fail("the path is blank; give one, or leave the option out.", param, ctx)
        if b"\0" in name or len(name) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in Path(value).parts):
            self.fail(f"no file can have such a path of {len(name)} bytes.", param, ctx)
        return super().convert(value, param, ctx)


def once(_ctx: click.Context, _param: click.Parameter, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values of an option that may be repeated, each of them once."""
    return tuple(dict.fromkeys(values))


GRID, LAYERS, SEEDS, TEXT = Grid(), Layers(), Seeds(), Text()
PATH, FILE = FilePath(), FilePath(dir_okay=False)
NAME_OR_PATH = FilePath(path_type=str)
SEED, BATCH, KIMG, SHARE = Whole(limits.SEED), Whole(limits.BATCH), Real(limits.KIMG), Real(limits.SHARE)

Option = Callable[[Any], Any]

device_option = click.option("--device", type=TEXT, metavar="NAME",
                             help="cpu or cuda. [default: cuda where there is a GPU]")
checkpoint_option = click.option("-c", "--checkpoint", type=NAME_OR_PATH, metavar="PATH",
                                 help="Generator file, checkpoint, run or folder of runs. [default: the demo]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
psi_option = click.option("--psi", type=Real(limits.PSI), default=1.0, show_default=True,
                          help="Truncation: below 1 nearer to the mean.")
classes_option = click.option("--class", "classes", type=TEXT, multiple=True, callback=once, metavar="NAME",
                              help="Class; repeat for several. [default: all]")
seed_option = click.option("--seed", type=SEED, default=0, show_default=True, help="Of all that is random.")
first_seed_option = click.option("--seed", type=SEED, default=0, show_default=True, help="Of the first picture.")
batch_option = click.option("--batch", type=BATCH, help="Pictures at once. [default: as many as serve]")
selection_option = click.option("--scans", "selection", type=TEXT, default="all", show_default=True, metavar="WHICH",
                                help="B-scans of a volume: all, middle, or numbers such as 3-9.")
axes_option = click.option("--axes", type=click.Choice(AXES), default="auto", show_default=True, help=(
    "Axes of MetaImage, NIfTI and NumPy files in their order: n counts the B-scans, h goes down, w along. auto is whn, "
    "of NumPy nhw."))


def learning_options(*, kimg: float, batch: int, least: int) -> Option:
    """Return the options of how long a network that looks at pictures learns, and from how many pictures at once."""
    def both(command: Any) -> Any:
        command = click.option("--batch", type=Whole(limits.BATCH.at_least(least)), default=batch, show_default=True,
                               help="Images per update.")(command)
        return click.option("--kimg", type=KIMG, default=kimg, show_default=True,
                            help="Length in 1000 images.")(command)
    return both


def seeds_option(default: str | None, words: str = "Numbers and ranges: 0-63 or 1,5,9-12.") -> Option:
    """Return the option of a list of seeds."""
    return click.option("--seeds", type=SEEDS, default=default, show_default=default is not None, metavar="LIST",
                        help=words)


def seconds_option(default: float) -> Option:
    """Return the option of how long a video lasts."""
    return click.option("--seconds", type=Real(limits.SECONDS), default=default, show_default=True,
                        help="Length of the video.")


def fps_option(default: float) -> Option:
    """Return the option of the pace of a video."""
    return click.option("--fps", type=Real(limits.FPS), default=default, show_default=True, help="Frames a second.")


def out_option(default: str) -> Option:
    """Return the option of the folder where the files go."""
    return click.option("--out", type=PATH, default=Path(default), show_default=True, help="Folder.")


def resolution_option(words: str, *, allowed: Limits = limits.RESOLUTION, default: int | None = None,
                      required: bool = False) -> Option:
    """Return the option of the width and height of pictures."""
    given: dict[str, Any] = {} if default is None else {"default": default, "show_default": True}
    return click.option("-r", "--resolution", type=Whole(allowed), required=required, help=words, **given)


def workers_option() -> Option:
    """Return the option of how many processes prepare pictures."""
    return click.option("--workers", type=Whole(limits.PROCESSES), help="Processes. [default: one a core]")
