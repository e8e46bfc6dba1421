"""SIGINT and SIGTERM as a wish that a loop grants at the end of a step, or amid one that takes long."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

PATIENCE = 2.0  # seconds that a step has for its end


class Timer(Protocol):
    """What `threading.Timer` is here."""

    daemon: bool

    def start(self) -> object:
        """Begin to wait."""

    def cancel(self) -> object:
        """Wait no more."""


class Interrupt:
    """Within the block the first signal sets `requested`, and says so at once; a second Ctrl-C stops at once.

    Signals reach the main thread alone: in any other the block changes nothing and `requested` stays False.

    Args:
        timer: makes what calls a function after some seconds.
    """

    _timer: Timer | None = None
    _within = False   # an abandonable block
    _woken = False    # the next signal is the timer's
    _late = False     # the timer's signal came, but in no abandonable block

    def __init__(self, *, timer: Callable[[float, Callable[[], None]], Timer] = threading.Timer) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}
        self._make_timer = timer

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def abandonable(self) -> "Abandonable":
        """Return a block that is left where it stands if it is not done `PATIENCE` seconds after the signal.

        What follows the block must see for itself whether it was done. Nothing may be written in it.
        """
        return Abandonable(self)

    def enter(self, within: bool) -> None:
        """Take note that an abandonable block begins or ends."""
        if within and self._late:
            self._wait()
        self._within = within

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._woken:
            self._woken, self._late = False, True
            if self._within:
                raise _Abandoned
            return
        if self.requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.requested = True
        with contextlib.suppress(OSError):  # past the buffers, which may be in use
            os.write(2, b"stopping; what is done is kept. Ctrl-C again stops at once.\n")
        self._wait()

    def _wait(self) -> None:
        self._late = False
        self._timer = self._make_timer(PATIENCE, self._wake)
        self._timer.daemon = True
        self._timer.start()

    def _wake(self) -> None:
        """Send the main thread the signal that ends an abandonable block."""
        self._woken = True
        if hasattr(signal, "pthread_kill"):  # also wakes it from waiting
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            signal.raise_signal(signal.SIGINT)


def end_children() -> None:
    """End the processes that this one started, which leave Ctrl-C to it, without waiting for what they are at."""
    for child in multiprocessing.active_children():
        child.terminate()


class Abandonable:
    """A block that `Interrupt` may leave."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def __enter__(self) -> None:
        self._interrupt.enter(True)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._interrupt.enter(False)
        return kind is not None and issubclass(kind, _Abandoned)


class _Abandoned(BaseException):
    """Ends an abandonable block."""
