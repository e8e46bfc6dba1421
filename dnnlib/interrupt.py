"""SIGINT and SIGTERM as a wish that a loop grants at the end of a step."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """Within the block the first signal sets `requested`; a second Ctrl-C stops at once.

    Signals reach the main thread alone: in any other the block changes nothing and `requested` stays False.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
