"""Ranges of biomarkers: severity as a condition on the pictures."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dnnlib.config import Count, Finite, Name
from dnnlib.errors import ConfigError, DataError
from dnnlib.text import suggest
from stylegan_oct.latent.biomarkers.measure import NAMES, UNITS

THIRDS = ("lower-third", "middle-third", "upper-third")
LARGEST = 1e9       # of a limit, in any unit
LEAST_PILOT = 30    # pictures that a third is found on
LARGEST_THIRD = 0.5  # share that may lie in a third where values are equal: drusen of healthy eyes are all 0


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A condition on one biomarker, `low` <= value <= `high`."""

    biomarker: str
    class_name: Name | None     # None: for every class
    low: Finite | None = None
    high: Finite | None = None
    third: str = ""             # from which the limits were found, or are still to be found
    pilot: Count = 0            # pictures on which they were found

    def __post_init__(self) -> None:
        if self.biomarker not in NAMES or self.third not in ("", *THIRDS):
            raise ConfigError(f"a rule must name a biomarker of {', '.join(NAMES)}, and a third of {', '.join(THIRDS)} "
                              f"or none; got {self.biomarker!r} and {self.third!r}.")

    def holds(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which values [N] lie within; NaN never does."""
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        with np.errstate(invalid="ignore"):
            return (values >= low) & (values <= high)

    def resolved(self, class_name: str, values: NDArray[np.float64]) -> "Rule":
        """Return the rule of one class with the limits that its third has among the values of a pilot.

        Raises:
            DataError: too few of them are known.
        """
        known = values[~np.isnan(values)]
        if len(known) < LEAST_PILOT:
            raise DataError(f"{self.biomarker} can be measured in only {len(known)} of {len(values)} {class_name} "
                            f"pictures of the pilot; {LEAST_PILOT} are needed to find its {self.third}. Give limits: "
                            f"--biomarker {self.biomarker}=LOW-HIGH")
        first, second = np.quantile(known, (1 / 3, 2 / 3)).tolist()
        low, high = {THIRDS[0]: (None, first), THIRDS[1]: (first, second), THIRDS[2]: (second, None)}[self.third]
        rule = replace(self, class_name=class_name, low=low, high=high, pilot=len(known))
        share = float(rule.holds(known).mean())
        if share > LARGEST_THIRD:
            raise DataError(f"{self.biomarker} has the same value in so many {class_name} pictures that {share:.0%} "
                            f"would be its {self.third}. Give limits: --biomarker "
                            f"{class_name}:{self.biomarker}=LOW-HIGH")
        return rule

    def __str__(self) -> str:
        """Return it as a person would say it: DRUSEN drusen_area_mm2 at least 0.021 mm2 (upper-third of 240)."""
        unit = f" {UNITS[self.biomarker]}" if UNITS[self.biomarker] else ""
        low, high = ("" if limit is None else f"{limit:.4g}" for limit in (self.low, self.high))
        span = f"{low} to {high}{unit}" if low and high else f"at least {low}{unit}" if low else f"at most {high}{unit}"
        found = f" ({self.third} of {self.pilot} pictures drawn before)" if self.pilot else ""
        return f"{self.class_name or 'every class'}: {self.biomarker} {span}{found}"


def parse_rule(text: str, classes: Sequence[str]) -> Rule:
    """Return the rule of NAME=upper-third, NAME=0.02-0.1, NAME=0.02- or NAME=-0.1, for one class as CLASS:NAME=...

    Raises:
        ConfigError: the class or the biomarker does not exist, or the range is none.
    """
    where, _, span = text.partition("=")
    class_name, colon, name = where.rpartition(":")
    known = next((known for known in classes if known.lower() == class_name.strip().lower()), None)
    if colon and known is None:
        raise ConfigError(f"There is no class {class_name!r}.{suggest(class_name, classes)}")
    if name not in NAMES:
        raise ConfigError(f"There is no biomarker {name!r}.{suggest(name, NAMES)}")
    if span in THIRDS:
        return Rule(biomarker=name, class_name=known, third=span)
    number = r"\d*\.?\d+(?:e-?\d+)?"
    found = re.fullmatch(f"({number})?-({number})?", span)
    low, high = (None if part is None else float(part) for part in found.groups()) if found else (None, None)
    large = any(part is not None and part > LARGEST for part in (low, high))
    if large or (low is None and high is None) or (low is not None and high is not None and low > high):
        raise ConfigError(f"{span!r} in --biomarker {text} is no range. Give {', '.join(THIRDS)}, or limits such as "
                          f"0.02-0.1, 0.02- or -0.1{' in ' + UNITS[name] if UNITS[name] else ''}.")
    return Rule(biomarker=name, class_name=known, low=low, high=high)
