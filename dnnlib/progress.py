"""How far the work is, on the error stream: a bar on a terminal, gone when the work is done, else a line a minute.

Once some of it is done, a line says how long all will take and what would make it shorter, so that nobody waits for
hours unawares.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dnnlib.text import format_seconds

EVERY = 60.0  # seconds between two lines
SURE = 3.0    # seconds of work after which it can be told how long all will take
LONG = 60.0   # seconds that are worth a line


@contextlib.contextmanager
def progress_bar(what: str, total: int | None = None, *, shorter: str = "") -> Iterator[Callable[..., None]]:
    """Show progress and yield `update(done, total=None, what=None)`; what is not given stays as it was.

    Args:
        what: is done.
        total: how many pieces it has.
        shorter: what a user can do about long work, such as "--count makes it shorter".
    """
    console = Console(stderr=True)
    forecast = Forecast(lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True), what, total,
                        shorter=shorter)
    if not console.is_terminal:
        lines = Lines(what, total, sys.stderr)
        with lines.every(EVERY):
            yield _both(lines.update, forecast.update)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield _both(lambda done, total=None, what=None: bar.update(task, completed=done, total=total, description=what),
                    forecast.update)


def _both(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    def update(done: int, total: int | None = None, what: str | None = None) -> None:
        first(done, total, what)
        second(done, total, what)

    return update


class Forecast:
    """Says once of each kind of long work how long it will take.

    Args:
        say: gets the line.
        what, total, shorter: as for `progress_bar`.
        clock: tells the seconds.
    """

    def __init__(self, say: Callable[[str], object], what: str, total: int | None, *, shorter: str = "",
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._what, self._total, self._shorter, self._clock = say, what, total, shorter, clock
        self._first: int | None = None  # that were done at the start
        self._start, self._done, self._told = clock(), 0, False

    def update(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Take note that so many pieces are done; another `what` begins other work."""
        now = self._clock()
        if what not in (None, self._what) or done < self._done:
            self._what, self._first, self._told = what or self._what, None, False
        self._total, self._done = total or self._total, done
        if self._first is None:  # what was done before tells nothing of the speed
            self._start, self._first = now, done
        elif not self._told and done > self._first and self._total and now - self._start >= SURE:
            self._told = True
            left = (now - self._start) * (self._total - done) / (done - self._first)
            if left >= LONG:
                more = f"; {self._shorter}" if self._shorter else ""
                self._say(f"{self._what}: about {format_seconds(left)} for {self._total - done} more{more}")


class Lines:
    """Progress as lines of text.

    Args:
        what: is done.
        total: how many there are to do; None where that is not known.
        stream: gets the lines.
        clock: tells the seconds.
    """

    def __init__(self, what: str, total: int | None, stream: TextIO, *,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._total, self._stream, self._clock = what, total, stream, clock
        self._done = 0
        self._begin()

    def update(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Take note of what is done; what is not given stays as it was."""
        anew = done < self._done or what not in (None, self._what)
        self._done = done
        self._total = self._total if total is None else total
        self._what = self._what if what is None else what
        if anew or self._first is None:
            self._begin(done)

    def line(self) -> str:
        """Return how far the work is: "drawing: 120 of 2000, 3 min 05 s left"."""
        here = f"{self._done} of {self._total}" if self._total else str(self._done)
        speed = (self._done - (self._first or 0)) / max(self._clock() - self._start, 1e-9)
        if not self._total or speed <= 0:
            return f"{self._what}: {here}"
        return f"{self._what}: {here}, {format_seconds((self._total - self._done) / speed)} left"

    @contextlib.contextmanager
    def every(self, seconds: float) -> Iterator[None]:
        """Print the line every so many seconds while the block runs, also where nothing is reported for long."""
        ended = threading.Event()
        thread = threading.Thread(target=self.print_until, args=(lambda: ended.wait(seconds),), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def print_until(self, wait: Callable[[], bool]) -> None:
        """Print the line after every wait until one returns True, or until nobody can read it any more."""
        with contextlib.suppress(OSError, ValueError):
            while not wait():
                self._stream.write(self.line() + "\n")
                self._stream.flush()

    def _begin(self, done: int | None = None) -> None:
        """Measure the speed from here on."""
        self._first, self._start = done, self._clock()
