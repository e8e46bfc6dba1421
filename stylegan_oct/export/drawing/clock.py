"""Where the time goes."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator


class Clock:
    """Seconds by kind of work: `with clock("drawing"): ...`."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def __call__(self, work: str) -> Iterator[None]:
        """Add the time within the block to a kind of work."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[work] += time.perf_counter() - begin

    def shares(self) -> dict[str, float]:
        """Return the share of each kind of work, largest first."""
        whole = sum(self.seconds.values()) or 1.0
        return {work: seconds / whole for work, seconds in sorted(self.seconds.items(), key=lambda pair: -pair[1])}
