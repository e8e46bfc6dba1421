"""Run directories: runs/00007-oct256/ with fixed file names, found again by their configuration."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from dnnlib.errors import ConfigError
from dnnlib.files import hold_lock
from dnnlib.stored import read_json


class RunDir:
    """The files of one training run.

    config.json, log.txt, stats.jsonl, metrics.jsonl, events/ (TensorBoard), samples/nimg-*.png, checkpoints/nimg-*/,
    best.json and the link `best` to the checkpoint that it names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.log = path / "log.txt"
        self.stats = path / "stats.jsonl"
        self.metrics = path / "metrics.jsonl"
        self.best = path / "best.json"
        self.events = path / "events"
        self.samples = path / "samples"
        self.checkpoints = path / "checkpoints"

    def read_config(self) -> dict[str, Any] | None:
        """Return the stored configuration, or None where there is none that can be read."""
        try:
            data = read_json(self.config, nan=True)
        except (OSError, ConfigError):
            return None
        return data if isinstance(data, dict) else None

    def lock(self) -> IO[str]:
        """Hold the run for this process until the returned file is closed; a kill releases it too.

        Raises:
            ConfigError: another process trains this run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = hold_lock(self.path / ".lock")
        if file is None:
            raise ConfigError(f"{self.path} is being trained by another process. Wait for it, stop it, "
                              "or start another run with --new.")
        return file


def runs_in(outdir: Path) -> Iterator[RunDir]:
    """Yield the runs below `outdir`, newest number first."""
    found = [(int(match[1]), path) for path in outdir.glob("*-*")
             if path.is_dir() and (match := re.match(r"(\d{5})-", path.name))]
    for _, path in sorted(found, reverse=True):
        yield RunDir(path)


def find_run(outdir: Path, matches: Callable[[dict[str, Any]], bool]) -> RunDir | None:
    """Return the newest run whose configuration matches, or None."""
    for run in runs_in(outdir):
        config = run.read_config()
        if config is not None and matches(config):
            return run
    return None


def create_run(outdir: Path, name: str) -> RunDir:
    """Make the next numbered run directory, safe against another process doing the same.

    Raises:
        ConfigError: the directory cannot be made.
    """
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        while True:
            number = 1 + max((int(run.path.name[:5]) for run in runs_in(outdir)), default=-1)
            path = outdir / f"{number:05d}-{name}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return RunDir(path)
    except OSError as error:
        raise ConfigError(f"Cannot make a run directory in {outdir}: {error.strerror}. "
                          "Choose another place with --outdir.") from error
