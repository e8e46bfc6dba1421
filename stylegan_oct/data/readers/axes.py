"""What the axes of a file are, in its order: n counts the B-scans, h goes down in depth, w along a B-scan."""

from typing import Literal, get_args

Axes = Literal["auto", "nhw", "nwh", "hnw", "hwn", "wnh", "whn"]
AXES: tuple[Axes, ...] = get_args(Axes)
