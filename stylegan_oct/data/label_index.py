"""The dataset.json of StyleGAN tools, as a list of the classes of pictures."""

import json
from typing import Any

from dnnlib.errors import DataError
from stylegan_oct.data.archive import INDEX
from stylegan_oct.data.names import clean_path, fold_class


def read_index(raw: bytes, where: str) -> dict[str, tuple[str, ...]]:
    """Return the classes that a dataset.json gives each picture, by its path as `clean_path` writes it.

    A class is the name in "classes" where there are such, else the number. A picture that is listed with several has
    them all. {} for a file of another kind, or where "labels" is null.

    Raises:
        DataError: it is no JSON, or a label is neither a number from 0 nor a name.
    """
    try:
        index = json.loads(raw)
    except (ValueError, RecursionError):
        raise DataError(f"{INDEX} in the {where} is not JSON. Mend it, or remove it to take classes from "
                        "folders.") from None
    pairs = index.get("labels") if isinstance(index, dict) else None
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)
                                              for pair in pairs):
        return {}
    given = index.get("classes")
    names = given if isinstance(given, list) and all(isinstance(name, str) for name in given) else None
    found: dict[str, dict[str, str]] = {}
    for number, (path, label) in enumerate(pairs, 1):
        name = _name(label, names)
        if name is None:
            raise DataError(f"{INDEX} in the {where} has a label at place {number} that is neither a class number "
                            "from 0 nor the name of a class. Mend it, or remove it to take classes from folders.")
        found.setdefault(clean_path(path), {})[fold_class(name)] = name
    return {path: tuple(labels.values()) for path, labels in found.items()}


def _name(label: Any, names: list[str] | None) -> str | None:
    if isinstance(label, str):
        return label.strip() or None
    if not isinstance(label, int) or isinstance(label, bool) or label < 0:
        return None
    if names is not None:
        return names[label] if label < len(names) else None
    return str(label)
