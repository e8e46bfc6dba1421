"""How far the work is, on the error stream: a bar on a terminal, gone when the work is done, else a line a minute."""

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


@contextlib.contextmanager
def progress_bar(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Show progress and yield `update(done, total=None, what=None)`; what is not given stays as it was."""
    console = Console(stderr=True)
    if not console.is_terminal:
        lines = Lines(what, total, sys.stderr)
        with lines.every(EVERY):
            yield lines.update
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total=None, what=None: bar.update(task, completed=done, total=total, description=what)


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
