"""All that a GPU can tell of this project in a few minutes, the most important first.

    make gpu-report MINUTES=8 OUT=out/gpu
    python -m benchmarks.gpu_report --minutes 8 --out out/gpu

Each part is a process with a time of its own (`benchmarks.gpu_parts`); what fails is a line and ends nothing. The
report grows as it is made, report.txt for people and report.json for programs, so that a cut leaves what was done.
Needs PyTorch and what its images usually carry beside it; no installation, no repository.

Expected before measuring, one H100 or H200, 256 px, channel base 16384, batch 32, p 0.3: 3 s/kimg with graphs and 6 to
10 without, the device busy for 90 % and 40 % of the time, 3 ms of the host a step with graphs; 512 px, base 32768,
batch 16: 10 s/kimg.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from dnnlib.files import atomic_write
from dnnlib.text import format_seconds

KIMG = {256: ("oct256", 10_000), 512: ("oct512", 10_000)}  # presets whose length is foretold, in kimg


@dataclass
class Part:
    """Something to measure."""

    arguments: tuple[str, ...]      # of benchmarks.gpu_parts
    limit: float                    # seconds that it may take
    facts: list[dict[str, Any]] = field(default_factory=list)
    seconds: float | None = None
    failed: str = ""

    @property
    def name(self) -> str:
        """What it is called in the report."""
        return " ".join(self.arguments)


def parts() -> list[Part]:
    """Return all parts in the order of their worth."""
    steps = [("256", "32", "graphs"), ("512", "16", "graphs"), ("256", "32", "plain"), ("512", "32", "graphs"),
             ("256", "16", "graphs"), ("256", "64", "graphs"), ("512", "16", "plain")]
    return [Part(("machine",), 60), Part(("kernel_tests",), 170), Part(("agreement",), 90),
            *(Part(("step", *sizes), 90) for sizes in steps[:3]), Part(("bandwidth",), 150),
            Part(("costliest", "256", "32"), 60), *(Part(("step", *sizes), 90) for sizes in steps[3:]),
            Part(("project",), 90), Part(("memory_checker",), 150), Part(("levers",), 600)]


def command_of(part: Part) -> list[str]:
    """Return the command of a part."""
    return [sys.executable, "-u", "-m", "benchmarks.gpu_parts", *part.arguments]


def run(part: Part, seconds: float, text: TextIO) -> None:
    """Run a part for at most so long, writing its lines down as they come."""
    begin = time.monotonic()
    last = ""
    with subprocess.Popen(command_of(part), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          start_new_session=True) as process:
        stop = threading.Timer(seconds, lambda: _kill(process))
        stop.start()
        try:
            for line in process.stdout or ():
                last = line.strip() or last
                if not _is_fact(line, part.facts):
                    _say(line.rstrip(), text)
                else:
                    _say(_readable(part.facts[-1]), text)
        finally:
            stop.cancel()
            if process.poll() is None and sys.exc_info()[0] is not None:
                _kill(process)
    part.seconds = time.monotonic() - begin
    if process.returncode:
        cut = part.seconds >= seconds
        part.failed = f"cut off after {seconds:.0f} s" if cut else last or f"ended with {process.returncode}"


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process and all that it has started."""
    os.killpg(process.pid, signal.SIGKILL)


def _is_fact(line: str, facts: list[dict[str, Any]]) -> bool:
    if not line.startswith("{"):
        return False
    try:
        facts.append(json.loads(line))
    except ValueError:
        return False
    return True


def _readable(values: dict[str, Any]) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, dict):
            return "(" + ", ".join(f"{key} {shown(each)}" for key, each in value.items()) + ")"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return "  " + ", ".join(f"{key} {shown(value)}" for key, value in values.items())


def _say(line: str, text: TextIO) -> None:
    print(line, flush=True)
    text.write(line + "\n")
    text.flush()


def verdict(done: Iterable[Part]) -> list[str]:
    """Return three lines: what is wrong, how fast a training is, and how long a run takes here."""
    done = list(done)
    wrong = [fact["wrong"] for part in done for fact in part.facts if "wrong" in fact]
    wrong += [f"{part.name}: {part.failed}" for part in done if part.failed]
    left_out = [part.name for part in done if part.seconds is None]
    steps = [fact for part in done for fact in part.facts if "s_per_kimg" in fact]
    speeds = [f"{fact['resolution']} px, batch {fact['batch']}{'' if fact['graphs'] else ', plain'}: "
              f"{fact['s_per_kimg']:.2f} s/kimg" + (f", busy {fact['busy']:.0%}" if fact["busy"] is not None else "")
              for fact in steps]
    lengths = []
    for resolution, (preset, kimg) in KIMG.items():
        here = [fact["s_per_kimg"] for fact in steps if fact["resolution"] == resolution]
        lengths.append(f"{preset} ({kimg} kimg) " + (format_seconds(min(here) * kimg) if here else "not measured"))
    not_done = f" (no time for {', '.join(left_out)})" if left_out else ""
    return [f"wrong: {'; '.join(wrong) or 'nothing'}{not_done}", f"speed: {'; '.join(speeds) or 'not measured'}",
            f"a run on this machine: {', '.join(lengths)}"]


def main() -> None:
    """Run what fits into the time and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--only", help="names of parts, by commas")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * args.minutes
    wanted = [part for part in parts() if args.only is None or part.arguments[0] in args.only.split(",")]
    with (args.out / "report.txt").open("w", encoding="utf-8") as text:
        for part in wanted:
            left = end - time.monotonic()
            if left < 5:
                break
            _say(f"\n== {part.name}", text)
            run(part, min(part.limit, left), text)
            _say(f"   {f'failed: {part.failed}, ' if part.failed else ''}{part.seconds or 0:.0f} s", text)
            _write(args.out / "report.json", wanted)
        _say("\n" + "\n".join(verdict(wanted)), text)
    _write(args.out / "report.json", wanted)
    if any("wrong" in fact for part in wanted for fact in part.facts):
        sys.exit(1)


def _write(path: Path, done: list[Part]) -> None:
    rows = [{"part": part.name, "seconds": part.seconds, "failed": part.failed, "facts": part.facts} for part in done]
    with atomic_write(path, "w") as file:
        json.dump({"parts": rows, "verdict": verdict(done)}, file, indent=1)


if __name__ == "__main__":
    main()
