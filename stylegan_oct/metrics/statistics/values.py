"""A measured number with all that is needed to judge it."""

from dataclasses import dataclass

from dnnlib.config import Measured

Interval = tuple[Measured, Measured]


@dataclass(frozen=True, kw_only=True)
class Value:
    """One number of a report.

    Its name carries what saw the pictures: `fd_lite0`, `kd_oct`, `recall_lite0`; `fid50k_full` and the other official
    names are for the official detector, resizing and counts alone.
    """

    metric: str
    value: Measured                   # NaN where it cannot be measured; the note says why
    class_name: str | None = None     # None: all classes together
    interval: Interval | None = None  # 95 %
    floor: Measured | None = None     # what a perfect generator would get: real against real at equal counts
    floor_interval: Interval | None = None
    n: int | None = None              # synthetic pictures
    n_real: int | None = None
    better: str = ""                  # "lower", "higher", "floor" (the nearer the better), "" where neither
    detector: str | None = None       # identity of the network that looked: name and hash
    resize: str = ""                  # what was done to pictures before it looked
    seed: int | None = None           # of what was drawn to measure it
    note: str = ""
