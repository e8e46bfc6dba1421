"""`convert`: from a folder, zip or CSV of scans to an archive, with an audit beside it."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.data.archive import SPLITS, ArchiveWriter
from stylegan_oct.data.audit import Audit, remarks, write_audit
from stylegan_oct.data.decisions import Decision, decide, lacking, say_lacking
from stylegan_oct.data.layout import Folders
from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.data.privacy import Key
from stylegan_oct.data.readers.axes import Axes
from stylegan_oct.data.sources import Scan, open_source
from stylegan_oct.data.splits import Fractions, check_split, parse_fractions
from stylegan_oct.data.work import Progress, Row, WorkFolder, preprocess_all

EXCLUDED = "excluded.jsonl"


@dataclass(frozen=True)
class Report:
    """What a conversion made."""

    archive: Path
    audit: Path                       # the text; its picture has the suffix .png
    key: Path
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]  # split -> class ("" without classes) -> images written
    outcomes: dict[str, int]          # "kept", "refused", ... -> scans
    summary: tuple[str, ...]          # lines: how many scans have a class and a patient, and where that was read
    splits: tuple[str, ...]           # lines: that the split was made by class, and which splits lack classes
    remarks: tuple[str, ...] = ()     # what is odd about the brightness of the scans, a line for each kind

    def left_out(self) -> str:
        """Return how many scans were not taken, by reason, such as "2 refused, 1 duplicate"; "" for none."""
        others = {outcome: count for outcome, count in self.outcomes.items() if outcome != "kept" and count}
        return ", ".join(f"{count} {outcome}" for outcome, count in others.items())


def convert(source: Path, dest: Path, *, resolution: int, channels: int = 1,
            aspect: Literal["stretch", "fit", "crop"] = "stretch", border: bool = True, roi: bool = False,
            split: str = "80,10,10", only_split: str | None = None, patient_pattern: str | None = None,
            folders: Folders = "auto", key: Path | None = None, workers: int | None = None, overwrite: bool = False,
            stratify: bool | None = None, selection: str = "all", axes: Axes = "auto", class_name: str | None = None,
            progress: Progress | None = None) -> Report:
    """Write an archive of preprocessed scans; after an interruption the same call goes on where it was.

    Args:
        source: a folder of scans or volumes, a zip of scans, a CSV of paths and labels, a volume, a set with labels in
            a .npz such as OCTMNIST, or the dataset.json of StyleGAN tools.
        dest: the archive, NAME.zip; NAME-audit.md, NAME-audit.png and NAME.key come beside it, for the owner alone.
        resolution: width and height in pixels, a power of two.
        channels: 1 grey, 3 RGB.
        aspect: how a scan becomes square: "stretch", "fit" (padded with noise) or "crop".
        border: replace white wedges and black margins by the scan's noise.
        roi: keep a band around the retina.
        split: shares of the patients for train, val and test.
        only_split: write this split alone.
        patient_pattern: regular expression whose group 1 finds the patient in a path.
        folders: what the folders of scans are, "classes" or "patients", where their names do not tell.
        key: file of the secret key; default NAME.key, made when missing.
        workers: processes; default: all cores.
        overwrite: replace an archive that is there.
        stratify: share out the patients of each class by number, so that a small set has every class in every split;
            default: where a class would be missing from a split.
        selection: B-scans of each volume: "all", "middle", or numbers from 1 such as "3-9".
        axes: what the axes of MetaImage, NIfTI and NumPy files are, as of `read_scans`.
        class_name: class of the scans that have none by themselves.
        progress: called with (scans done, all scans).
    Raises:
        ConfigError: an option makes no sense.
        DataError: the source cannot be used, no scan is left, or the disk is full.
    """
    settings = Preprocess(resolution=resolution, channels=channels, aspect=aspect, border=border, roi=roi)
    fractions = parse_fractions(split)
    only = check_split(only_split) if only_split else None
    _check_dest(source, dest, overwrite)
    scans = open_source(source, patient_pattern=patient_pattern, folders=folders, selection=selection, axes=axes,
                        class_name=class_name)
    with _one_line(dest), WorkFolder(dest.parent / f".{dest.stem}-work", settings) as folder:
        secret = Key(key or dest.with_suffix(".key"))
        rows = preprocess_all(scans.scans, scans.files, settings, folder, workers=workers, progress=progress)
        decisions, told = _decide(scans.scans, rows, fractions, stratify)
        kept = [decision for decision in decisions if decision.outcome == "kept"]
        if not any(only in (None, decision.split) for decision in kept):
            raise _nothing_left(decisions, only)
        found = {decision.scan.label for decision in kept}
        classes = tuple(name for name in scans.classes if name in found)
        audit = Audit(source=source, dest=dest, listing=scans, settings=settings, fractions=fractions,
                      only_split=only, classes=classes, decisions=decisions, splits=told)
        text = write_audit(audit, folder)
        _write_archive(dest, decisions, classes, settings, secret, folder, only)
        folder.remove()
    written = [decision for decision in kept if only in (None, decision.split)]
    counts = {name: dict(Counter(d.scan.label or "" for d in written if d.split == name)) for name in SPLITS}
    outcomes = Counter(decision.outcome for decision in decisions) + Counter(refused=len(scans.refused))
    return Report(dest, text, key or dest.with_suffix(".key"), classes, counts, dict(outcomes), tuple(scans.summary()),
                  tuple(told), tuple(remarks(audit.read)))


def _decide(scans: Sequence[Scan], rows: Sequence[Row], fractions: Fractions,
            stratify: bool | None) -> tuple[list[Decision], list[str]]:
    """Return the decisions, and lines on how the split was made and what it lacks."""
    decisions = decide(scans, rows, fractions, stratify=bool(stratify))
    without, told = lacking(decisions, fractions), []
    if stratify is None and without:
        others = decide(scans, rows, fractions, stratify=True)
        if sum(map(len, lacking(others, fractions).values())) < sum(map(len, without.values())):
            decisions = others
            left_out = "; ".join(f"{', '.join(names)} out of {split}" for split, names in without.items())
            told = [f"split by class, patients kept apart: by chance it would leave {left_out} (--no-stratify does)"]
    return decisions, told + say_lacking(decisions, fractions)


def _check_dest(source: Path, dest: Path, overwrite: bool) -> None:
    if dest.suffix != ".zip":
        raise ConfigError(f"The destination must be named NAME.zip; got {dest}.")
    if dest.is_dir():
        raise DataError(f"{dest} is a folder. Give a file name for the archive.")
    if dest.exists() and source.exists() and dest.samefile(source):
        raise DataError(f"{dest} is the source itself. Give another destination.")
    if dest.exists() and not overwrite:
        raise DataError(f"{dest} exists. Give --overwrite to replace it, or another destination.")


def _nothing_left(decisions: Sequence[Decision], only: str | None) -> DataError:
    if only and any(decision.outcome == "kept" for decision in decisions):
        return DataError(f"No scan belongs to the split {only!r}. Give other shares with --split.")
    # Other reasons than those of refused files name files, and these may name patients.
    refused = [decision.reason for decision in decisions if decision.outcome == "refused"]
    others = Counter(decision.outcome for decision in decisions if decision.outcome != "refused")
    said = "".join(f", {count} {outcome}" for outcome, count in others.items())
    return DataError(f"None of the {len(decisions)} scans can be used{said}" +
                     (f"; the first {refused[0]}." if refused else "."))


@contextmanager
def _one_line(dest: Path) -> Iterator[None]:
    """Turn errors of the file system into one line; what is finished stays in the work folder."""
    try:
        yield
    except OSError as error:
        raise DataError(f"Cannot write beside {dest}: {error.strerror or error}. Make room or choose another "
                        "destination; the same command goes on from here.") from error


def _write_archive(dest: Path, decisions: Sequence[Decision], classes: Sequence[str], settings: Preprocess, key: Key,
                   folder: WorkFolder, only: str | None) -> None:
    """Write the kept scans, ordered by the hash of their pixels, so that the order of patients does not show."""
    kept = sorted((d for d in decisions if d.outcome == "kept" and only in (None, d.split)),
                  key=lambda d: (SPLITS.index(d.split), d.row["pixel_hash"]))
    numbers = {name: number for number, name in enumerate(classes)}
    extra = {"preprocess": asdict(settings)}
    with ArchiveWriter(dest, resolution=settings.resolution, channels=settings.channels, classes=classes,
                       source="scans", extra=extra) as writer:
        for decision in kept:
            label = numbers[decision.scan.label] if decision.scan.label is not None else None
            row = {**_hashes(decision, key), **decision.row["facts"], "near_duplicates": decision.near}
            writer.add_image(decision.split, folder.read_png(decision.row), label, row)
        left = sorted(json.dumps({**_hashes(d, key), "decision": d.outcome}) for d in decisions if d.outcome != "kept")
        writer.add_file(EXCLUDED, "".join(line + "\n" for line in left).encode())


def _hashes(decision: Decision, key: Key) -> dict[str, Any]:
    """Return what only the owner of the key can link: the source file and the patient."""
    content = decision.row.get("file_hash")
    return {"class": decision.scan.label, "source": key.hash("source", content) if content else None,
            "patient": key.hash("patient", decision.scan.patient), "patient_known": decision.scan.known_patient}
