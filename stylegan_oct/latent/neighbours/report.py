"""What was found near scans as pictures, a table and lines; what shows patients' scans is for the owner alone."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dnnlib.errors import DataError
from dnnlib.escape import csv_cells
from dnnlib.files import atomic_write
from dnnlib.pictures import encode_png, sheet, synthetic_text
from stylegan_oct.data.privacy import write_private
from stylegan_oct.latent.library import Library
from stylegan_oct.latent.looks import Pixels
from stylegan_oct.latent.neighbours.answers import Answer, Neighbour
from stylegan_oct.latent.neighbours.copies import SUSPICIOUS, TrainingScans
from stylegan_oct.latent.neighbours.search import Query

CELL = 128   # width of a picture in the report
LINE = 14    # height of a line of its caption
NOTE = ("Shows a patient's scan beside synthetic pictures, which a generator drew and which are no scans. "
        "Keep it as you keep the scan; not for diagnosis.")


def save_report(out: Path, queries: Sequence[Query], answers: Sequence[Answer], library: Library, *, space: str,
                training: TrainingScans | None = None) -> list[Path]:
    """Write a picture of each answer and one table of all; return their paths.

    Their names begin with `private-` where they show or derive from a patient's scan, and none tells the scan's name.

    Raises:
        DataError: they cannot be written.
    """
    secret = training is not None and training.archive.source == "scans"
    names = ["private" if query.private or secret else "synthetic" for query in queries]
    anyone = "private" if "private" in names else "synthetic"
    paths = [out / f"{name}-neighbours-{number:04d}.png" for number, name in enumerate(names, 1)]
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o700 if anyone == "private" else 0o777)
        for name, path, query, answer in zip(names, paths, queries, answers, strict=True):
            text = picture_text(name == "private", library, space)
            _write(path, encode_png(draw(query, answer, library, training), text), private=name == "private")
        table = out / f"{anyone}-neighbours.csv"
        _write(table, _table(answers), private=anyone == "private")
    except OSError as error:
        raise DataError(f"Cannot write to {out}: {error.strerror}. Choose another place with --out.") from error
    return [*paths, table]


def draw(query: Query, answer: Answer, library: Library, training: TrainingScans | None = None) -> Pixels:
    """Return a picture: the scan and its nearest, the nearest of each class, and of training scans where known."""
    def cell(neighbour: Neighbour) -> Pixels:
        return _captioned(library.picture(neighbour.position), f"synthetic {neighbour.class_name}".strip(),
                          f"{neighbour.distance:.3f}, {_percent(neighbour.percentile)}")

    rows = [[_captioned(query.picture, query.what, ""), *map(cell, answer.nearest)]]
    labels = ["nearest"]
    if library.classes:
        rows.append([_blank(rows[0][0]), *map(cell, answer.by_class)])
        labels.append("each class")
    if training is not None:
        rows.append([_blank(rows[0][0])])
        labels.append("training")
        for neighbour in answer.nearest:
            assert neighbour.copy is not None, neighbour
            shares = "" if neighbour.copy.percentile is None else f", {_percent(neighbour.copy.percentile)}"
            rows[-1].append(_captioned(training.archive.read_pixels(neighbour.copy.name),
                                       f"training {neighbour.copy.class_name}".strip(),
                                       f"{neighbour.copy.distance:.3f}{shares}"))
    title = "distance, and its percentile among pairs of generated pictures"
    if training is not None:
        title += "; of training scans: one minus correlation, and its percentile among held-out scans"
    return sheet(rows, row_labels=labels, title=title)


def lines(number: int, query: Query, answer: Answer) -> Iterator[str]:
    """Yield what a person reads about one answer."""
    nearest = answer.nearest
    votes = ", ".join(f"{count} {name}" for name, count in answer.votes.items() if name)
    yield f"{query.what} {number}: nearest {nearest[0].distance:.3f}{f'; of {len(nearest)}: {votes}' if votes else ''}"
    if query.coloured > 0.05:
        yield f"  warning: {query.coloured:.0%} of its pixels are coloured; an OCT scan is grey"
    if answer.outside:
        yield (f"  warning: outside what the library knows: farther from its nearest than {answer.percentile:.1f} % of "
               "generated pictures are from theirs")
    yield "     class       seed  distance  among pairs  in a class" + ("  training scan" if nearest[0].copy else "")
    for rank, neighbour in enumerate(nearest, 1):
        yield f"  {rank:>2} {_row(neighbour)}"
    others = [neighbour for neighbour in answer.by_class if neighbour.class_name not in answer.votes]
    for neighbour in others:
        yield f"   - {_row(neighbour)}"
    suspects = sum(neighbour.copy is not None and neighbour.copy.suspicious for neighbour in nearest)
    if suspects:
        yield (f"  warning: {suspects} of these pictures lie nearer to a training scan than {100 - SUSPICIOUS:g} % of "
               "held-out scans do: look at them beside each other")


def facts(query: Query, answer: Answer) -> dict[str, Any]:
    """Return the numbers of an answer as JSON types."""
    def of(neighbour: Neighbour) -> dict[str, Any]:
        found: dict[str, Any] = {"class": neighbour.class_name, "seed": neighbour.seed, "distance": neighbour.distance,
                                 "percentile": neighbour.percentile, "class_percentile": neighbour.class_percentile}
        if neighbour.copy is not None:
            found["training"] = {
                "class": neighbour.copy.class_name, "distance": neighbour.copy.distance,
                "percentile": neighbour.copy.percentile, "feature_distance": neighbour.copy.feature_distance,
                "feature_percentile": neighbour.copy.feature_percentile, "suspicious": neighbour.copy.suspicious}
        return found

    return {"coloured": query.coloured, "nearest_percentile": answer.percentile, "outside": answer.outside,
            "votes": answer.votes, "nearest": [of(neighbour) for neighbour in answer.nearest],
            "by_class": [of(neighbour) for neighbour in answer.by_class]}


def _row(neighbour: Neighbour) -> str:
    share = "" if neighbour.class_percentile is None else _percent(neighbour.class_percentile)
    copy = neighbour.copy
    training = ""
    if copy is not None:
        training = f"  {copy.distance:.3f}" + ("" if copy.percentile is None else
                                                           f", {_percent(copy.percentile)} of held-out")
    return (f"{neighbour.class_name:<8} {neighbour.seed:>7}  {neighbour.distance:>8.3f}  "
            f"{_percent(neighbour.percentile):>11}  {share:>10}{training}")


def _table(answers: Sequence[Answer]) -> bytes:
    buffer = io.StringIO(newline="")
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["scan", "of", "rank", "class", "seed", "distance", "percentile", "class_percentile",
                    "training_distance", "training_percentile", "training_feature_distance",
                    "training_feature_percentile"])
    for number, answer in enumerate(answers, 1):
        for of, found in (("all", answer.nearest), ("class", answer.by_class)):
            for rank, one in enumerate(found, 1):
                copy = one.copy
                compared = [] if copy is None else [copy.distance, copy.percentile, copy.feature_distance,
                                                    copy.feature_percentile]
                table.writerow(csv_cells([number, of, rank if of == "all" else 1, one.class_name, one.seed,
                                          one.distance, one.percentile, one.class_percentile, *compared]))
    return buffer.getvalue().encode()


def picture_text(private: bool, library: Library, space: str) -> dict[str, str]:
    """Return the text chunks of a report's picture."""
    origin = {"space": space, "psi": library.origin.psi, "checkpoint_sha256": library.origin.checkpoint_sha256}
    if not private:
        return synthetic_text("neighbours", **origin)
    return {"Title": "synthetic neighbours of a scan", "Description": NOTE, "Software": "stylegan_oct",
            "derived_from_patient": "true", **{key: str(value) for key, value in origin.items()}}


def _write(path: Path, data: bytes, *, private: bool) -> None:
    if private:
        write_private(path, data)
        return
    with atomic_write(path, "wb") as file:
        file.write(data)


def _captioned(picture: Pixels, *caption: str) -> Pixels:
    """Return the picture CELL wide with lines of text below it, [H, CELL] or [H, CELL, 3]."""
    image = Image.fromarray(picture)
    shrinks = image.width >= CELL
    image = image.resize((CELL, CELL), Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST)
    whole = Image.new(image.mode, (CELL, CELL + LINE * len(caption)), "white")
    whole.paste(image, (0, 0))
    font = ImageFont.load_default(size=12)
    for number, line in enumerate(caption):
        ImageDraw.Draw(whole).text((2, CELL + LINE * number), line, fill="black", font=font)
    return np.asarray(whole)


def _blank(like: Pixels) -> Pixels:
    return np.full_like(like, 255)


def _percent(share: float) -> str:
    """Return a percentile as it can be read: fine near the ends, where neighbours lie."""
    return f"{share:.2f} %" if share < 1 else f"{share:.1f} %" if share < 10 or share > 99 else f"{share:.0f} %"
