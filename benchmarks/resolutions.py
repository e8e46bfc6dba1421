"""Peak memory and CPU seconds of every command that draws, looks or learns, at several resolutions, beside drawing.

    python -m benchmarks.resolutions                            # 64, 256 and 512 px; an hour on two quiet cores
    python -m benchmarks.resolutions --sizes 256 --only walk,export

Generators have random weights and the widths of the presets oct64, oct256 and oct512. Each command is a process of its
own with one thread and a limit on its memory, by which it fails rather than the machine. Its peak is that of the
process; its CPU seconds, less those of a process that only loads a generator, are shared among the pictures that it
draws, and compared with drawing alone. Limits to be kept: 2 GB at 256 px, 4 GB at 512, and 1.3 times drawing where a
command only draws and looks.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from stylegan_oct.batches import at_once
from stylegan_oct.config import DataConfig
from stylegan_oct.data.archive import Archive
from stylegan_oct.model import generator_header, load_generator
from stylegan_oct.networks.generator import Generator
from stylegan_oct.presets import PRESETS

SIZES = (64, 256, 512)
COUNTS = {64: 128, 256: 32, 512: 4}   # pictures of a command, about
SHOTS = 3                             # batches of plain drawing


@dataclass(frozen=True)
class Place:
    """What the commands of a resolution work with."""

    folder: Path
    size: int

    @property
    def n(self) -> int:
        """Pictures that a command draws, about."""
        return COUNTS[self.size]

    def __truediv__(self, name: str) -> str:
        return str(self.folder / name)


@dataclass(frozen=True)
class Case:
    """A command, and how many pictures it draws."""

    name: str
    args: Callable[[Place], list[str]]
    pictures: Callable[[Place], int] = lambda place: 0   # 0: it reads or learns, and is not compared with drawing


def cases() -> Iterator[Case]:
    """Yield the commands; later ones use what earlier ones leave."""
    def all_of(count: Callable[[Place], int]) -> Callable[[Place], str]:
        return lambda place: f"0-{count(place) // 4 - 1}"

    quarter = all_of(lambda place: place.n)
    yield Case("generate", lambda p: ["generate", "--seeds", quarter(p), "--out", p / "out"], lambda p: p.n)
    yield Case("library", lambda p: ["library", "--count", str(max(p.n, 8)), "--out", p / "library.zip"],
               lambda p: max(p.n, 8))
    yield Case("neighbours", lambda p: ["neighbours", "--library", p / "library.zip", "--out", p / "near"])
    yield Case("atlas", lambda p: ["atlas", "--library", p / "library.zip", "--samples", "32", "--method", "pca",
                                   "--out", p / "atlas"])
    yield Case("directions", lambda p: ["directions", "--method", "pca", "--components", "1", "--class", "CNV",
                                        "--samples", "10", "--out", p / "directions"], lambda _: 40)
    yield Case("traverse", lambda p: ["traverse", "--class", "CNV", "--seeds", "0-1", "--columns", "4", "--out",
                                      p / "out"], lambda _: 8)
    yield Case("traverse --video", lambda p: ["traverse", "--class", "CNV", "--seeds", "0-3", "--columns", "2",
                                              "--video", "gif", "--seconds", "0.08", "--out", p / "out"],
               lambda _: 16)
    yield Case("walk", lambda p: ["walk", "--frames", str(max(p.n // 4, 2)), "--format", "gif", "--out", p / "out"],
               lambda p: 4 * max(p.n // 4, 2))
    yield Case("biomarkers", lambda p: ["biomarkers", "--seeds", quarter(p), "--out", p / "marks"], lambda p: p.n)
    yield Case("export", lambda p: ["export", "--per-class", str(p.n // 4), "--oracle", "none", "--allow-unreviewed",
                                    "--out", p / "export"], lambda p: p.n)
    yield Case("evaluate", lambda p: ["evaluate", "--data", p / "scans.zip", "--count", "8", "--only",
                                      "fidelity,memorisation,consistency", "--out", p / "evaluate"], lambda _: 40)
    yield Case("project", lambda p: ["project", "--library", p / "library.zip", "--compare", "0", "--steps", "2",
                                     "--class", "CNV", "--out", p / "project"])
    yield Case("project --space pti", lambda p: ["project", p / "out/synthetic-CNV-seed00000.png", "--library",
                                                 p / "library.zip", "--compare", "0", "--steps", "1", "--class",
                                                 "CNV", "--space", "pti", "--out", p / "pti"])
    yield Case("train-encoder", lambda p: ["train-encoder", "--steps", "2", "--out", p / "encoder.safetensors"])
    yield Case("train", lambda p: ["train", "--data", p / "scans.zip", "--preset", f"oct{p.size}", "--batch", "4",
                                   "--kimg", "0.004", "--outdir", p / "runs"])


def main() -> None:
    """Print a line for each command and resolution, and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--only", default="", help="names of commands; default: all")
    parser.add_argument("--limit-gb", type=float, default=6.0, help="of address space, for each command")
    args = parser.parse_args()
    rows: dict[str, dict[int, str]] = {}
    sizes = [int(size) for size in args.sizes.split(",")]
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            place = Place(Path(folder), size)
            prepare(place)
            for name, text in measure(place, args.only.split(",") if args.only else [], args.limit_gb):
                rows.setdefault(name, {})[size] = text
                print(f"{size} px  {name:20} {text}", flush=True)
    print("| command | " + " | ".join(f"{size} px" for size in sizes) + " |\n|" + "---|" * (len(sizes) + 1))
    for name, found in rows.items():
        print(f"| {name} | " + " | ".join(found.get(size, "") for size in sizes) + " |")


def measure(place: Place, only: list[str], limit_gb: float) -> Iterator[tuple[str, str]]:
    """Yield name and result of plain drawing and of each command."""
    idle = run([sys.executable, "-c", DRAW, place / "G_ema.safetensors", "0"], place, limit_gb)
    drawn = run([sys.executable, "-c", DRAW, place / "G_ema.safetensors", str(SHOTS)], place, limit_gb)
    G = load_generator(place / "G_ema.safetensors")
    batch = at_once(G.layers, torch.device("cpu"))
    each = (drawn.cpu - idle.cpu) / (SHOTS * batch)
    yield "drawing alone", f"{drawn.mb:.0f} MB, {each:.3g} s a picture, {batch} at once"
    for case in cases():
        if not only or case.name in only:
            command = [sys.executable, "-m", "tools", *case.args(place)]
            if case.name != "train":
                command += ["--checkpoint", place / "G_ema.safetensors"]
            found = run(command, place, limit_gb)
            cpu, count = max(found.cpu - idle.cpu, 0.0), case.pictures(place)
            compared = f", {cpu / count:.3g} s a picture, {cpu / count / each:.2f}" if count else f", {cpu:.0f} s"
            yield case.name, f"**fails**, {found.mb:.0f} MB" if found.failed else f"{found.mb:.0f} MB{compared}"


DRAW = """
import sys, torch
from stylegan_oct.batches import at_once
from stylegan_oct.model import load_generator
from torch_utils.memory import keep_freed_memory
keep_freed_memory()
G = load_generator(sys.argv[1])
n = at_once(G.layers, G.device)
for number in range(int(sys.argv[2])):
    with torch.inference_mode():
        G(G.z(range(n)), "CNV")
"""


@dataclass(frozen=True)
class Used:
    """What a process used."""

    mb: float       # MiB at the peak
    cpu: float      # seconds
    failed: bool


def run(command: list[str], place: Place, limit_gb: float) -> Used:
    """Run a process with one thread and bounded memory."""
    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (int(limit_gb * 2**30),) * 2)

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    with open(place / "log.txt", "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                                   cwd=place.folder, preexec_fn=bound)  # noqa: PLW1509
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        print(Path(place / "log.txt").read_text()[-600:], file=sys.stderr)
    return Used(used.ru_maxrss / 1024, used.ru_utime + used.ru_stime, process.returncode != 0)


def prepare(place: Place) -> None:
    """Write an archive of simulated scans and a generator with random weights."""
    command = [sys.executable, "-m", "tools", "phantom", place / "scans.zip", "--count", "48", "--resolution",
               str(place.size), "--val", "0.3", "--test", "0"]
    subprocess.run(command, check=True, capture_output=True)
    found = Archive(place.folder / "scans.zip")
    data = DataConfig(path=place / "scans.zip", fingerprint=found.fingerprint, resolution=place.size,
                      channels=found.channels, classes=tuple(found.classes))
    header = generator_header(PRESETS[f"oct{place.size}"](data, 1), 0, "phantom")
    torch.manual_seed(0)
    weights = Generator(**json.loads(header["generator"])).state_dict()
    save_file(weights, place / "G_ema.safetensors", metadata=header)


if __name__ == "__main__":
    main()
