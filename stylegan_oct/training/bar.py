"""The line that says how far a run is, over all of its stages."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from dnnlib.progress import EVERY
from dnnlib.text import format_seconds
from stylegan_oct.config import TrainConfig


class Bar:
    """A progress bar on a terminal; elsewhere a line at each tick, and one a minute.

    Args:
        stages: of the run.
        costs: what an image of each stage costs, in any unit.
        nimg: images shown when it begins or goes on.
        console: where it goes.
        clock: tells the seconds.
    """

    def __init__(self, stages: Sequence[TrainConfig], costs: Sequence[float], nimg: int, console: Console,
                 *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stages, self._costs, self._console = stages, costs, console
        self._total = stages[-1].total_nimg
        self._clock, self._said = clock, clock()
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20),
                   TextColumn("{task.fields[text]}", markup=False))
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self.begin_stage(nimg)

    def __enter__(self) -> Self:
        if self._bar:
            self._task = self._bar.add_task("training", total=self._total, text="", completed=self._first)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def begin_stage(self, nimg: int) -> None:
        """Measure the speed anew from here on."""
        self._first, self._start = nimg, self._clock()

    def show(self, nimg: int, losses: str) -> None:
        """Move the bar; where there is none, print a line when the last is a minute old."""
        if self._bar:
            self._bar.update(self._task, completed=nimg, text=self._line(nimg, losses))
        elif self._clock() - self._said >= EVERY:
            self.tick(nimg, losses)

    def tick(self, nimg: int, losses: str) -> None:
        """Print a line where there is no bar."""
        if not self._bar:
            self._said = self._clock()
            self._console.print(self._line(nimg, losses), highlight=False, soft_wrap=True)

    def _line(self, nimg: int, losses: str) -> str:
        rate = (nimg - self._first) / max(self._clock() - self._start, 1e-9)
        here = stage_at(self._stages, nimg)
        cost = self._costs[self._stages.index(here)]
        left = format_seconds(work_left(self._stages, self._costs, nimg) / cost / rate) if rate else "?"
        stage = f"{here.data.resolution} px  " if len(self._stages) > 1 else ""
        return f"{nimg / 1000:.1f}/{self._total / 1000:g} kimg  {stage}{rate:.1f} images/s  {left} left{losses}"


def stage_at(stages: Sequence[TrainConfig], nimg: int) -> TrainConfig:
    """Return the stage that the last of so many images belongs to."""
    return next((stage for stage in stages if nimg <= stage.total_nimg), stages[-1])


def work_left(stages: Sequence[TrainConfig], costs: Sequence[float], nimg: int) -> float:
    """Return what is left to do, in the unit of the costs of an image."""
    work, begin = 0.0, nimg
    for stage, cost in zip(stages, costs, strict=True):
        if stage.total_nimg > begin:
            work += (stage.total_nimg - begin) * cost
            begin = stage.total_nimg
    return work
