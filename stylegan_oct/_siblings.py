"""Whether the packages that came with this one are those that Python finds: others have the same names."""

import importlib.util
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]   # the checkout, or site-packages


def foreign(name: str) -> str | None:
    """Return where Python finds a package of this name that is not ours; None where it finds ours."""
    if name in sys.modules:
        found = list(getattr(sys.modules[name], "__path__", [getattr(sys.modules[name], "__file__", None) or "?"]))
    else:
        spec = importlib.util.find_spec(name)
        found = [] if spec is None else list(spec.submodule_search_locations or [spec.origin or "?"])
    ours = any(Path(place).resolve() == HOME / name for place in found)
    return None if ours else found[0] if found else "nowhere"


def complaint(name: str) -> str | None:
    """Return a line about a package of this name that stands before ours; None where there is none."""
    place = foreign(name)
    return None if place is None else (
        f"stylegan_oct needs the package {name!r} that came with it, in {HOME}, but Python finds that of another "
        f"project first: {place}. Start Python in another folder, or put {HOME} first on PYTHONPATH; one process "
        "cannot hold both.")


def check(*names: str) -> None:
    """Refuse packages of other projects.

    Raises:
        ImportError: says whose was found.
    """
    for name in names:
        line = complaint(name)
        if line is not None:
            raise ImportError(line)
