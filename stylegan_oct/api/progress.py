"""How far the work is: nothing is told unless asked for."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dnnlib.progress import progress_bar

log = logging.getLogger("stylegan_oct")

Progress = bool | Callable[[int, int | None, str], object]   # True: a bar; a function: gets done, total, what


@contextmanager
def telling(progress: Progress, what: str, total: int | None = None) -> Iterator[Callable[..., object]]:
    """Yield `update(done, total=None, what=None)`, which shows a bar, calls the function, or does nothing."""
    if progress is True:
        with progress_bar(what, total) as update:
            yield update
    elif callable(progress):
        yield lambda done, of=None, kind=None: progress(done, total if of is None else of, kind or what)
    else:
        yield lambda *_: None


def speaker(progress: Progress) -> Callable[[str], object]:
    """Return what takes lines for the user: the error stream beside a bar, else the log."""
    return (lambda line: print(line, file=sys.stderr)) if progress is True else log.info
