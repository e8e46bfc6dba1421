"""How far work is, on the error stream: a bar with the time left, gone when the work is done; elsewhere lines.

Once some work is done, a line says how long all of it will take and what would make it shorter, so that nobody waits
for hours unawares.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dnnlib.text import format_seconds

SURE_SEC = 3.0     # of work, after which it can be told how long all will take
LONG_SEC = 60.0    # that are worth a line
EVERY_SEC = 60.0   # between two lines where there is no terminal


@contextlib.contextmanager
def progress_bar(what: str, total: int | None = None, *, shorter: str = "") -> Iterator[Callable[..., None]]:
    """Show a bar and yield `update(done, total=None, what=None)`; what is not given stays as it was.

    Args:
        what: is done.
        total: how many pieces it has.
        shorter: what a user can do about long work, such as "--count makes it shorter".
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        lines = Lines(lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True), what, total,
                      shorter=shorter, every=None if console.is_terminal else EVERY_SEC)

        def update(done: int, total: int | None = None, what: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=what)
            lines.update(done, total, what)

        yield update


class Lines:
    """What is said of work in lines.

    Args:
        say: gets them.
        what, total, shorter: as for `progress_bar`.
        every: seconds between two lines that say how far the work is; None: there are none.
        clock: tells the time in seconds.
    """

    def __init__(self, say: Callable[[str], object], what: str, total: int | None, *, shorter: str = "",
                 every: float | None = EVERY_SEC, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._what, self._total, self._shorter = say, what, total, shorter
        self._every, self._clock = every, clock
        self._start = self._said = clock()
        self._first: int | None = None  # that were done at the start
        self._done, self._told = 0, False

    def update(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Take note that so many pieces are done; another `what` begins other work."""
        now = self._clock()
        if what not in (None, self._what) or done < self._done:
            self._what, self._first, self._told = what or self._what, None, False
        self._total = total or self._total
        if self._first is None:  # what was done before tells nothing of the speed
            self._start, self._first = now, done
        elif done > self._first and self._total:
            self._tell(now, done, self._total, (now - self._start) * (self._total - done) / (done - self._first))
        self._done = done

    def _tell(self, now: float, done: int, total: int, left: float) -> None:
        if not self._told and now - self._start >= SURE_SEC:
            self._told, self._said = True, now
            if left >= LONG_SEC:
                more = f"; {self._shorter}" if self._shorter else ""
                self._say(f"{self._what}: about {format_seconds(left)} for {total - done} more{more}")
        elif self._every is not None and now - self._said >= self._every:
            self._said = now
            self._say(f"{self._what}: {done} of {total}, {format_seconds(left)} left")
