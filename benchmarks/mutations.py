"""Damaged files of every kind that is read back: each must be read, or refused in one line.

    python -m benchmarks.mutations                # 100 of each kind, some minutes
    python -m benchmarks.mutations --each 10 --only archive

A damage counts as wrong where reading ends in another error than one of the user's, says more than a line, takes more
than 2 s of a core, or asks for more than 1 GB. Files that are made anew where they are damaged count as read.
"""

import argparse
import contextlib
import random
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from click.testing import CliRunner

from benchmarks.mutators import damage
from benchmarks.victims import Victim, make_victims
from dnnlib.errors import UserError
from dnnlib.stored import is_line
from tools.__main__ import main as commands

SECONDS, BYTES = 2.0, 2**30
COMMAND_EVERY = 20  # damages of a kind after which the command is tried too


@dataclass
class Tally:
    """What became of the damaged files of a kind."""

    kind: str
    read: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All of them."""
        return self.read + self.refused + len(self.wrong)


def try_kind(victim: Victim, each: int, seed: int) -> Tally:
    """Damage the files of a kind `each` times, and tell what became of them."""
    tally, rng = Tally(victim.kind), random.Random(f"{seed} {victim.kind}")
    whole = {file: file.read_bytes() for file in victim.files}
    for number in range(each):
        file = rng.choice(list(victim.files))
        name, data = damage(whole[file], file.suffix, rng)
        for other, content in whole.items():  # what was made anew is the damaged file again
            other.write_bytes(data if other == file else content)
        try:
            _try_once(victim, tally, f"{file.name}, {name} ({number})", number)
        finally:
            for other, content in whole.items():
                other.parent.mkdir(parents=True, exist_ok=True)
                other.write_bytes(content)
    return tally


def _try_once(victim: Victim, tally: Tally, what: str, number: int) -> None:
    begin = time.process_time()
    refusal = ""
    try:
        victim.read()
    except UserError as error:
        refusal = str(error)
        if not is_line(refusal) or len(refusal) > 2000:
            tally.wrong.append(f"{what}: more than a line: {refusal[:300]!r}")
            return
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        tally.wrong.append(f"{what}: {type(error).__name__}: {str(error)[:200]!r} at {place.filename}:{place.lineno}")
        if isinstance(error, KeyboardInterrupt):
            raise
        return
    taken = time.process_time() - begin
    if taken > SECONDS:
        tally.wrong.append(f"{what}: {taken:.1f} s")
    elif victim.command and number % COMMAND_EVERY == 0 and (fault := _command_fault(victim.command)):
        tally.wrong.append(f"{what}: {fault}")
    elif refusal:
        tally.refused += 1
    else:
        tally.read += 1


def _command_fault(command: Sequence[str]) -> str:
    """Return what is wrong with how a command ends; "" where it ends well, or with one line and 1 or 2."""
    result = CliRunner().invoke(commands, list(command))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return f"{command[0]} ends in {type(result.exception).__name__}: {result.exception}"
    lines = [line for line in result.stderr.splitlines() if line]  # a bar that goes leaves an empty one
    ends_well = result.exit_code == 0 or (result.exit_code == 1 and not lines) or (
        result.exit_code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and is_line(lines[0]))
    return "" if ends_well else f"{command[0]} ends with {result.exit_code} and says {result.stderr[:300]!r}"


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Let this process ask for no more than BYTES beyond what it has, and make errors of warnings."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, before[1]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def main() -> None:
    """Print a table of kinds, and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=100, help="damages of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a word of the kinds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        victims = [victim for victim in make_victims(folder) if not args.only or args.only in victim.kind]
        for victim in victims:
            victim.read()  # whole, it is read; and what is imported late is there
        print(f"{'kind':26s} mutations    read  refused  wrong")
        tallies = []
        for victim in victims:
            with limited():
                tallies.append(try_kind(victim, args.each, args.seed))
            tally = tallies[-1]
            print(f"{tally.kind:26s} {tally.total:9d} {tally.read:7d} {tally.refused:8d} {len(tally.wrong):6d}",
                  flush=True)
        print(f"{'all':26s} {sum(tally.total for tally in tallies):9d} {sum(tally.read for tally in tallies):7d} "
              f"{sum(tally.refused for tally in tallies):8d} {sum(len(tally.wrong) for tally in tallies):6d}")
        for tally in tallies:
            print(*(f"{tally.kind}: {line}" for line in tally.wrong), sep="\n", end="\n" * bool(tally.wrong))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
