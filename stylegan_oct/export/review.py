"""The evaluation without which nothing is exported."""

import shlex
from pathlib import Path

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.metrics.report.report import FILE, Report, read_report
from stylegan_oct.model import GeneratorInfo

USUAL = Path("out/evaluate")  # where `evaluate` writes


def find_review(info: GeneratorInfo, given: Path | None = None, *, allow_unreviewed: bool = False) -> Report | None:
    """Return the evaluation of exactly this generator's file, or None where none is needed and none is found.

    Args:
        info: of the generator.
        given: report.json or its folder; default: beside the generator's file, in its run, in out/evaluate.
        allow_unreviewed: do without.
    Raises:
        ConfigError: there is none, or the given one is of another generator, or not finished.
        DataError: the given one cannot be read.
    """
    if given is not None:
        report = read_report(given)
        if report.subject.sha256 != info.sha256:
            raise ConfigError(f"{given} is the evaluation of another generator (checkpoint "
                              f"{report.subject.sha256[:12]}, not {info.sha256[:12]}). Evaluate this one: "
                              f"python -m tools evaluate -c {shlex.quote(str(info.path))}")
        if not report.complete:
            raise ConfigError(f"The evaluation in {given} was stopped before its end. Evaluate again, which goes on: "
                              f"python -m tools evaluate -c {shlex.quote(str(info.path))}")
        return report
    places = [*dict.fromkeys([info.path.parent, *info.path.resolve().parents[2:3], USUAL])]
    for place in places:
        found = _read(place / FILE)
        if found is not None and found.complete and found.subject.sha256 == info.sha256:
            return found
    if allow_unreviewed:
        return None
    raise ConfigError(f"There is no evaluation of this generator (checkpoint {info.sha256[:12]}) in "
                      f"{', '.join(str(place) for place in places)}. Evaluate it first: python -m tools evaluate -c "
                      f"{shlex.quote(str(info.path))}; or name the file with --report, or export without one: "
                      "--allow-unreviewed")


def _read(file: Path) -> Report | None:
    """Return a report that lies where reports usually do; None where there is none that can be read."""
    try:
        return read_report(file) if file.is_file() else None
    except DataError:
        return None
