"""Which patient belongs to which split."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from dnnlib.errors import ConfigError
from dnnlib.text import suggest
from stylegan_oct.data.archive import SPLITS


class Fractions(NamedTuple):
    """Shares of the patients, adding up to 1."""

    train: float = 0.8
    val: float = 0.1
    test: float = 0.1


def parse_fractions(text: str) -> Fractions:
    """Return the shares of "80,10,10", in the order train, val, test; two numbers leave out test, one val as well.

    Raises:
        ConfigError: the text is not one to three numbers of which the first is above zero.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or min(numbers) < 0 or not 0 < numbers[0] < float("inf") or sum(numbers) > 1e9:
        raise ConfigError(f"The shares of train, val and test are numbers such as 80,10,10; got {text!r}.")
    numbers += [0.0] * (3 - len(numbers))
    return Fractions(*(number / sum(numbers) for number in numbers))


def check_split(name: str) -> str:
    """Return the name of a split.

    Raises:
        ConfigError: it is not one.
    """
    if name not in SPLITS:
        raise ConfigError(f"There is no split {name!r}.{suggest(name, SPLITS)}")
    return name


def position(patient: str) -> float:
    """Return the place of a patient in [0, 1): evenly spread, the same everywhere, dependent on the number alone."""
    digest = hashlib.sha256(b"stylegan_oct split\0" + patient.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign(patients: Iterable[str], official_test: Set[str], fractions: Fractions, *,
           classes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the split of each patient.

    Patients of an official test set are its own; then nobody else goes to test, and train and val share the others in
    their proportion. Where a split that was asked for got nobody, as happens with a dozen patients, it takes from the
    largest the patient whose place is nearest.

    Args:
        patients: all patients.
        official_test: those with a scan in the official test set.
        fractions: shares wanted.
        classes: of the patients; those of each class are then shared out by number, in the order of their places: for
            small sets, where chance would leave a class out of a split. A class with as many patients as there are
            splits is in each. A patient may change splits as others come.
    """
    places = {patient: position(patient) for patient in patients if patient not in official_test}
    if classes is not None:
        places = _evenly(places, classes)
    share = fractions
    if official_test:
        both = fractions.train + fractions.val
        share = Fractions(fractions.train / both, fractions.val / both, 0.0)
    edges = {"train": 0.0, "val": share.train, "test": share.train + share.val}
    result = {patient: "test" if place >= edges["test"] and share.test > 0 else
              "val" if place >= edges["val"] and share.val > 0 else "train" for patient, place in places.items()}
    for split, middle in (("train", share.train / 2), ("val", share.train + share.val / 2), ("test", 1.0)):
        largest, size = Counter(result.values()).most_common(1)[0] if result else ("", 0)
        if getattr(share, split) > 0 and split not in result.values() and size > (split != "train"):
            donors = [patient for patient, name in result.items() if name == largest]
            result[min(donors, key=lambda patient: (abs(places[patient] - middle), patient))] = split
    if classes is not None:
        _complete(result, places, classes, share)
    return result | dict.fromkeys(official_test, "test")


def _complete(result: dict[str, str], places: Mapping[str, float], classes: Mapping[str, str],
              share: Fractions) -> None:
    """Give each class a patient in every split, as far as it has patients: train first, then val, then test."""
    wanted = [split for split in SPLITS if getattr(share, split) > 0]
    for name in sorted(set(classes.values())):
        own = sorted((patient for patient in result if classes[patient] == name), key=lambda p: (places[p], p))
        for split in wanted[:len(own)]:
            counts = Counter(result[patient] for patient in own)
            if not counts[split]:
                givers = [giver for giver in reversed(SPLITS) if counts[giver] > 1 or giver not in wanted[:len(own)]]
                giver = max(givers, key=lambda giver: counts[giver])
                result[next(patient for patient in reversed(own) if result[patient] == giver)] = split


def _evenly(places: Mapping[str, float], classes: Mapping[str, str]) -> dict[str, float]:
    """Return places in which the patients of each class are evenly spread over [0, 1), in the order they had."""
    spread: dict[str, float] = {}
    for name in set(classes.values()):
        order = sorted((patient for patient in places if classes[patient] == name),
                       key=lambda patient: (places[patient], patient))
        spread |= {patient: (rank + 0.5) / len(order) for rank, patient in enumerate(order)}
    return spread
