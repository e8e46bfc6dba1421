"""Whether an export is what it says: every file by its hash, every picture of the manifest, and some drawn again."""

import csv
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from dnnlib.errors import ConfigError, DataError
from dnnlib.files import sha256_of
from dnnlib.stored import brief, is_inside, is_line
from stylegan_oct.batches import at_once, steady
from stylegan_oct.export.description.hashes import SUMS
from stylegan_oct.export.description.manifest import CSV
from stylegan_oct.export.description.marks import Marker
from stylegan_oct.export.drawing.draw import draw_pixels, to_picture
from stylegan_oct.export.folder.folder import is_complete, read_record
from stylegan_oct.export.folder.stored import Stored
from stylegan_oct.export.plan import LARGEST_SEED, Plan
from stylegan_oct.model import OctGenerator, load_generator

COUNT = 20
NEAR = 1     # grey level: what rounding on another processor does

Row = dict[str, str]
Progress = Callable[..., object]  # called with (done, all, what)


@dataclass
class Verdict:
    """What was found; empty lists where all is well."""

    files: int = 0                                            # in the list of hashes
    pictures: int = 0                                         # in the manifest
    wrong: list[str] = field(default_factory=list)            # what is damaged, missing or unknown, with the reason
    same: int = 0                                             # drawn again, to the bit
    near: list[str] = field(default_factory=list)             # drawn again, within one grey level
    other: list[str] = field(default_factory=list)            # drawn again, and another picture

    @property
    def good(self) -> bool:
        """Whether the export is what it says."""
        return not self.wrong and not self.other


def verify(out: Path, *, checkpoint: str | None = None, count: int = COUNT, device: torch.device | str = "cpu",
           progress: Progress = lambda *_: None) -> Verdict:
    """Check an export.

    Args:
        out: its folder.
        checkpoint: the generator that it was drawn with, as for `load_generator`.
        count: pictures, chosen at random, to draw again; 0 needs no generator.
        device: where the generator runs.
        progress: called with (done, all, what).
    Raises:
        DataError: it is no export, or not complete.
        ConfigError: the generator is another one.
    """
    record = read_record(out)
    if not is_complete(out):
        raise DataError(f"The export in {out} is not complete. The command that began it goes on with it.")
    G = load_generator(checkpoint, device=device) if count else None
    if G is not None and G.info.sha256 != record.plan.checkpoint_sha256:
        raise ConfigError(f"{out} was drawn by another generator (checkpoint {record.plan.checkpoint_sha256[:12]}, not "
                          f"{G.info.sha256[:12]}). Give that one with --checkpoint, or check hashes alone: --count 0")
    verdict = Verdict()
    hashes = _check_files(out, verdict, progress)
    rows = _read_manifest(out, record.plan, verdict)
    with Stored(out) as stored:
        _check_pictures(rows, hashes, stored, verdict, progress)
        if G is not None and rows:
            chosen = np.random.default_rng().permutation(len(rows))[:count]
            _draw_again(G, record.plan, [rows[i] for i in sorted(chosen)], stored, verdict, progress)
    return verdict


def _check_files(out: Path, verdict: Verdict, progress: Progress) -> dict[str, str]:
    """Compare the files with the list of hashes; return the hash that each has now."""
    listed: dict[str, str] = {}
    for line in (out / SUMS).read_bytes().decode("utf-8", "replace").splitlines():
        sha256, _, name = line.partition("  ")
        if not is_inside(name) or not re.fullmatch("[0-9a-f]{64}", sha256) or name in listed:
            verdict.wrong.append(f"{SUMS}: {brief(line)} is no hash of one more file")
        else:
            listed[name] = sha256
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} - {SUMS}
    now: dict[str, str] = {}
    for number, name in enumerate(sorted(listed)):
        progress(number, len(listed), "checking hashes")
        if name not in found:
            verdict.wrong.append(f"{name}: missing")
            continue
        now[name] = sha256_of(out / name)
        if now[name] != listed[name]:
            verdict.wrong.append(f"{name}: not as it was written")
    verdict.wrong += [f"{name}: not part of the export" for name in sorted(found - set(listed))]
    verdict.files = len(listed)
    return now


def _read_manifest(out: Path, plan: Plan, verdict: Verdict) -> list[Row]:
    try:
        with open(out / CSV, encoding="utf-8", newline="") as file:
            rows = [_checked(row, plan) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        verdict.wrong.append(f"{CSV}: cannot be read")
        return []
    verdict.pictures = len(rows)
    if len(rows) != plan.total or len({row["file_name"] for row in rows}) != plan.total:
        verdict.wrong.append(f"{CSV}: {len(rows)} pictures, {plan.total} were planned")
    return rows


def _checked(row: Row, plan: Plan) -> Row:
    """Return a row of the manifest.

    Raises:
        ValueError, KeyError, TypeError: it is none of this plan.
    """
    seed, label = (int(row[name]) if len(row[name]) < 20 else -1 for name in ("seed", "label_id"))
    known = (0 <= label < len(plan.counts) and plan.seed <= seed <= LARGEST_SEED
             and (seed - plan.seed) % len(plan.counts) == label)
    texts = [row["file_name"], row["sha256"], row["pixels_sha256"]]
    if not known or not is_inside(texts[0]) or not all(map(is_line, texts)):
        raise ValueError(row)
    return row


def _check_pictures(rows: Sequence[Row], hashes: Mapping[str, str], stored: Stored, verdict: Verdict,
                    progress: Progress) -> None:
    """Compare what the manifest says of each picture with the picture."""
    for number, row in enumerate(rows):
        progress(number, len(rows), "checking pictures")
        name = row["file_name"]
        try:
            found = hashes.get(name) or stored.sha256(name)
            expected = row["sha256"] or row["pixels_sha256"]
        except DataError as error:
            verdict.wrong.append(f"{name}: {error}")
            continue
        if found != expected:
            verdict.wrong.append(f"{name}: not the picture that the manifest describes")


def _company(G: OctGenerator, plan: Plan, seed: int) -> list[int]:
    """Return the seeds that were drawn together with one; fewer where memory has no room for all, as after a GPU."""
    seeds = plan.batch_of(seed)
    size = min(plan.batch, max(at_once(G.layers, G.device), steady(G.layers, G.device)))
    begin = seeds.index(seed) // size * size
    return seeds[begin:begin + size]


def _draw_again(G: OctGenerator, plan: Plan, rows: Sequence[Row], stored: Stored, verdict: Verdict,
                progress: Progress) -> None:
    """Draw pictures in the company in which they were drawn, and compare their hashes."""
    marker = Marker(corner=plan.corner_mark)
    for number, row in enumerate(rows):
        progress(number, len(rows), "drawing again")
        seeds = _company(G, plan, int(row["seed"]))
        pixels = draw_pixels(G, seeds, int(row["label_id"]), plan.psi)[seeds.index(int(row["seed"]))]
        again = marker.pixels(to_picture(pixels))
        if hashlib.sha256(again.tobytes()).hexdigest() == row["pixels_sha256"]:
            verdict.same += 1
            continue
        try:
            difference = int(np.abs(again.astype(int) - stored.pixels(row["file_name"])).max())
        except (DataError, ValueError):  # cannot be read, or is of another size
            difference = 255
        (verdict.near if difference <= NEAR else verdict.other).append(row["file_name"])
