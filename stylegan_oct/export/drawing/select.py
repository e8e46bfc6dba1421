"""Which of the drawn pictures are kept: those that show their class, are no copies, and are as severe as asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.errors import ConfigError
from stylegan_oct.data.preprocess import to_grey
from stylegan_oct.export.drawing.clock import Clock
from stylegan_oct.export.drawing.measuring import Measure, measure_here
from stylegan_oct.export.drawing.rules import Rule
from stylegan_oct.export.plan import Plan
from stylegan_oct.features.oct import OctDetector
from stylegan_oct.latent.biomarkers.measure import NAMES
from stylegan_oct.metrics.memorisation.measure import CopyJudge

KEPT = "kept"
ELSEWHERE = "the oracle sees another class"
UNSURE = "the oracle is unsure"
COPY = "they may be copies of training scans"
UNKNOWN = "the biomarker cannot be measured"
OUTSIDE = "the biomarker is out of range"
REASONS = (ELSEWHERE, UNSURE, COPY, UNKNOWN, OUTSIDE)


@dataclass(kw_only=True, slots=True)
class Seen:
    """What was seen of a drawn picture; None where nobody looked."""

    reason: str = KEPT       # why it is rejected, one of REASONS
    oracle_class: str | None = None
    oracle_probabilities: dict[str, float] | None = None
    nearest: int | None = None           # row among the training scans
    distance: float | None = None
    percentile: float | None = None
    flagged: bool | None = None
    biomarkers: dict[str, float] | None = None


class Selection:
    """Looks at drawn pictures in the order of cost, and at those alone that nothing has rejected yet.

    Args:
        plan: says which class, probability and ranges are asked for.
        oracle: tells the classes apart; None: no picture is rejected for its class.
        copies: finds copies of training scans; None: nobody looks for them.
        rules: with their limits.
        um_per_px: (z, x) size of a pixel; None where it is not known, and then nothing is measured.
        clock: takes down the time.
        measure: measures biomarkers.
    Raises:
        ConfigError: the oracle does not know a class, or a range cannot be told without a scale.
    """

    def __init__(self, plan: Plan, *, oracle: OctDetector | None, copies: CopyJudge | None, rules: Sequence[Rule] = (),
                 um_per_px: tuple[float, float] | None, clock: Clock, measure: Measure = measure_here) -> None:
        self.plan, self.oracle, self.copies, self.rules, self.um_per_px = plan, oracle, copies, rules, um_per_px
        self._clock, self._measuring = clock, measure
        wanted = [plan.classes[label] for label, count in enumerate(plan.counts) if count and plan.classes]
        strange = [name for name in wanted if oracle is not None and name not in oracle.classes]
        if strange and oracle is not None:
            raise ConfigError(f"The oracle tells {', '.join(oracle.classes)} apart and does not know {strange[0]}. "
                              "Train one on the generator's archive (python -m tools train-detector ARCHIVE) and give "
                              "it with --oracle FILE, or --oracle none.")
        if plan.rules and um_per_px is None:
            raise ConfigError("The size of this generator's pixels is not known, since its scans were padded or cut to "
                              "a square; a range of a biomarker cannot be asked for.")

    def look(self, pixels: Tensor, label: int, wanted: int) -> list[Seen]:
        """Return what is seen of pictures drawn as one class.

        Args:
            pixels: uint8 [n, C, R, R], on the CPU.
            label: class.
            wanted: how many more are needed; biomarkers that decide nothing are measured for no more.
        """
        seen = [Seen() for _ in range(len(pixels))]
        if self.oracle is not None and self.plan.classes:
            with self._clock("oracle"):
                self._ask_oracle(self.oracle, pixels, label, seen)
        left = _left(seen)
        if self.copies is not None and left:
            with self._clock("copies"):
                self._look_for_copies(self.copies, pixels[left], [seen[i] for i in left])
        rules = [rule for rule in self.rules if rule.class_name in (None, self.plan.class_name(label))]
        left = _left(seen) if rules else _left(seen)[:wanted]
        if self.plan.biomarkers and self.um_per_px is not None and left:
            with self._clock("biomarkers"):
                self._measure(pixels[left], self.um_per_px, rules, [seen[i] for i in left])
        return seen

    def _ask_oracle(self, oracle: OctDetector, pixels: Tensor, label: int, seen: Sequence[Seen]) -> None:
        asked = oracle.classes.index(self.plan.classes[label])
        for one, row in zip(seen, oracle.classify(pixels).numpy(), strict=True):
            one.oracle_class = oracle.classes[int(row.argmax())]
            one.oracle_probabilities = dict(zip(oracle.classes, map(float, row), strict=True))
            if row.argmax() != asked:
                one.reason = ELSEWHERE
            elif row[asked] < self.plan.oracle_min:
                one.reason = UNSURE

    def _look_for_copies(self, copies: CopyJudge, pixels: Tensor, seen: Sequence[Seen]) -> None:
        verdicts = copies.judge(pixels)
        for number, one in enumerate(seen):
            one.nearest, one.distance = int(verdicts.nearest[number]), float(verdicts.distance[number])
            one.percentile, one.flagged = float(verdicts.percentile[number]), bool(verdicts.flagged[number])
            if one.flagged:
                one.reason = COPY

    def _measure(self, pixels: Tensor, um_per_px: tuple[float, float], rules: Sequence[Rule],
                 seen: Sequence[Seen]) -> None:
        values = self._measuring(grey(pixels), um_per_px)
        for number, one in enumerate(seen):
            one.biomarkers = {name: float(values[name][number]) for name in NAMES}
        for rule in rules:
            for one, value, holds in zip(seen, values[rule.biomarker], rule.holds(values[rule.biomarker]), strict=True):
                if not holds and one.reason == KEPT:
                    one.reason = UNKNOWN if np.isnan(value) else OUTSIDE


def grey(pixels: Tensor) -> NDArray[np.uint8]:
    """Return pictures uint8 [n, C, R, R] as grey [n, R, R]."""
    return np.stack([to_grey(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))
                     for picture in pixels.numpy()])


def _left(seen: Sequence[Seen]) -> list[int]:
    return [number for number, one in enumerate(seen) if one.reason == KEPT]
