"""From scans to latents, to their neighbours, and along directions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dnnlib.errors import ConfigError
from dnnlib.pictures import sheet
from dnnlib.text import suggest
from stylegan_oct.api.drawing import Latents, to_latents
from stylegan_oct.api.progress import Progress, speaker, telling
from stylegan_oct.api.scans import Drawn, read_scan, to_target
from stylegan_oct.api.shown import Shown, as_html
from stylegan_oct.features.detector import load_detector
from stylegan_oct.latent.biomarkers.measure import UNITS
from stylegan_oct.latent.codes import Codes, save_codes
from stylegan_oct.latent.directions.file import Direction, file_beside, load_directions, pick
from stylegan_oct.latent.directions.search import METHODS, Search, classes_of, find_directions, samples_to_measure
from stylegan_oct.latent.library import open_library
from stylegan_oct.latent.neighbours import report as neighbour_report
from stylegan_oct.latent.neighbours.answers import Answer, Neighbour
from stylegan_oct.latent.neighbours.search import Query, search
from stylegan_oct.latent.projection import report as projection_report
from stylegan_oct.latent.projection.prepare import Wishes, prepare_engine
from stylegan_oct.latent.projection.projector import PRESETS
from stylegan_oct.latent.projection.report import Task
from stylegan_oct.latent.projection.run import find_latents, summary_lines
from stylegan_oct.model import OctGenerator


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Projection(Shown):
    """The latents whose picture comes nearest to a scan; shown as the scan and, right of it, that picture."""

    drawn: Drawn             # the synthetic picture
    codes: Codes
    facts: dict[str, Any]    # as the command writes them: distance, PSNR, biomarkers before and after, notes
    page: Shown              # the command's report with the differences

    @property
    def latents(self) -> Latents:
        """What `draw`, `Directions.move` and `neighbours` go on from.

        Raises:
            ConfigError: weights were tuned or noise was fitted, which latents alone do not tell.
        """
        if self.codes.delta:
            raise ConfigError("This scan was projected with weights or noise of its own, which latents do not hold. "
                              "Project it with space='w' or 'w+', without noise, to go on from it.")
        return Latents(self.codes.w[None], self.codes.class_name, self.private)

    @property
    def distance(self) -> float:
        """Of the picture to the scan."""
        return float(self.facts["distance"])

    def save_codes(self, path: str | Path) -> Path:
        """Write the latents as the command does, for `walk`, `atlas` and `traverse`; return the path.

        Raises:
            DataError: the file cannot be written.
        """
        save_codes(Path(path), self.codes)
        return Path(path)

    def lines(self) -> Iterable[str]:
        """Return the numbers."""
        return summary_lines(1, self.facts)


def project(G: OctGenerator, scan: Any, *, class_name: str | None = None, space: Literal["w", "w+", "pti"] = "w+",
            preset: str = "standard", steps: int | None = None, noise: bool = False, compare: int = 0, seed: int = 0,
            library: str | Path | None = None, encoder: str | Path | None = None,
            progress: Progress = False) -> Projection:
    """Return the latents whose picture comes nearest to a scan.

    Args:
        G: the generator.
        scan: from `read_scan`, or what it takes; also a picture that was drawn.
        class_name: under which to look; default all are compared.
        space: one w, a w for each layer, or one w with tuned weights.
        preset: quick, standard, thorough or official.
        steps: of Adam; default those of the preset.
        noise: also fit the noise of the layers.
        compare: own samples to compare the distance with, projected once; 0 leaves it out.
        seed: of all that is random.
        library: pictures to begin from; default the generator's own in data/, drawn on the first use.
        encoder: that guesses w; default the generator's, where there is one.
        progress: True shows a bar; a function gets (done, total, what).
    Raises:
        ConfigError, DataError: the scan, a file or a value does not fit.
    """
    if preset not in PRESETS:
        raise ConfigError(f"There is no preset {preset!r}.{suggest(preset, PRESETS)}")
    target, private = to_target(scan, G.info.preprocess)
    name = None if class_name is None else G.info.classes[G.class_index(class_name)]
    wishes = Wishes(preset=preset, space=space, steps=steps, noise=noise, compare=compare, seed=seed,
                    library=None if library is None else Path(library),
                    encoder=None if encoder is None else Path(encoder))
    task = Task(target, name, private)
    with telling(progress, "projecting") as update:
        engine, calibration = prepare_engine(G, wishes, say=speaker(progress), progress=update)
        result = find_latents(engine, [task], progress=update)[0]
    seen = projection_report.look_at(task, result, engine, calibration)
    text = {**seen.text, "Description": projection_report.NOTE}
    drawn = Drawn(picture=result.picture.permute(1, 2, 0).squeeze(2).numpy(), text=seen.text, private=private,
                  title=Drawn.caption(result.codes.class_name, None), class_name=result.codes.class_name, seed=None,
                  preprocess=G.info.preprocess)
    page = Shown(picture=seen.page(), title="a scan and its synthetic projection", text=text, private=private)
    return Projection(picture=sheet([[target.pixels, drawn.picture]]), title="left a scan, right its synthetic "
                      f"projection, distance {seen.facts['distance']:.4f}", text=text, private=private, drawn=drawn,
                      codes=result.codes, facts=seen.facts, page=page)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Found(Shown):
    """The synthetic pictures nearest to a scan, shown beside it."""

    answer: Answer
    query: Query

    def __len__(self) -> int:
        return len(self.answer.nearest)

    def __getitem__(self, index: int) -> Neighbour:
        return self.answer.nearest[index]

    @property
    def facts(self) -> dict[str, Any]:
        """The numbers, as the command tells them."""
        return neighbour_report.facts(self.query, self.answer)

    def lines(self) -> Iterable[str]:
        """Return the table of the command."""
        return neighbour_report.lines(1, self.query, self.answer)


def neighbours(G: OctGenerator, scan: Any, *, k: int = 10, library: str | Path | None = None, detector: str = "lite0",
               weights: str | Path | None = None, training: str | Path | None = None,
               progress: Progress = False) -> Found:
    """Return the synthetic pictures nearest to a scan, and how near that is.

    Args:
        G: the generator.
        scan: from `read_scan`, or what it takes; a projection is compared in w.
        k: how many.
        library: pictures to search in; default the generator's own in data/, drawn on the first use.
        detector: lite0, inception or oct; of it the features that are compared.
        weights: of the detector.
        training: archive that the generator was trained on, to tell copies of its scans.
        progress: True shows a bar; a function gets (done, total, what).
    Raises:
        ConfigError, DataError: the scan, a file or a value does not fit.
    """
    if isinstance(scan, Projection):
        query = Query(scan.drawn.picture, private=scan.private, what="projection", w=scan.latents.w[0])
    else:
        found = read_scan(scan)
        target, private = to_target(found, G.info.preprocess)
        query = Query(target.pixels, private=private, coloured=target.coloured)
    seer = load_detector(detector, weights=None if weights is None else Path(weights), device=G.device)
    with telling(progress, "drawing") as update:
        pictures = open_library(None if library is None else Path(library), G, progress=update, say=speaker(progress))
    with telling(progress, "looking") as update:
        result = search([query], pictures, seer, k=k, training=None if training is None else Path(training),
                        progress=update)
    answer, scans = result.answers[0], result.training
    private = query.private or (scans is not None and scans.archive.source == "scans")
    return Found(picture=neighbour_report.draw(query, answer, pictures, scans), private=private,
                 title=f"a {query.what} and the synthetic pictures nearest to it", query=query, answer=answer,
                 text=neighbour_report.picture_text(private, pictures, result.space))


@dataclass(frozen=True, eq=False, repr=False)
class Directions(Mapping[str, Direction]):
    """Directions in w by name: `directions["drusen_area_mm2"]`, or moved along by `move`."""

    G: OctGenerator
    found: tuple[Direction, ...]

    def __getitem__(self, name: str) -> Direction:
        for direction in self.found:
            if direction.name == name:
                return direction
        raise KeyError(name)

    def __iter__(self) -> Any:
        return iter([direction.name for direction in self.found])

    def __len__(self) -> int:
        return len(self.found)

    def move(self, latents: Any, **changes: float) -> Latents:
        """Return latents moved along directions.

            found.move(w, drusen_area=+0.02)     # mm2, the unit of the biomarker
            found.move(w, pca1=-2)               # steps, of a direction that has no unit

        Args:
            latents: what `draw` takes.
            changes: by name of the direction, with or without its unit at the end (`_um`, `_mm2`). Those named after a
                biomarker take the change that is predicted in its unit, others steps.
        Raises:
            ConfigError: there is no such direction, or the latents do not fit the generator.
        """
        start = to_latents(self.G, latents)
        w = start.w
        for name, change in changes.items():
            direction = self._named(name)
            w = direction.move(w, direction.steps_for(float(change)))
        return Latents(w, start.class_name, start.private)

    def _named(self, name: str) -> Direction:
        with_unit = [f"{name}_{unit}" for unit in dict.fromkeys(UNITS.values()) if unit]
        return next((self[full] for full in (name, *with_unit) if full in self), None) or pick(self.found, name)

    def lines(self) -> Iterable[str]:
        """Return a line for each direction: what a change of 1 means."""
        width = max((len(name) for name in self), default=0)
        for direction in self.found:
            unit = UNITS.get(direction.target, "") if direction.has_unit else "steps"
            yield (f"{direction.name:<{width}}  {unit or 'count':5}  layers {direction.layers[0]}-"
                   f"{direction.layers[1]}  {direction.class_name}".rstrip())

    def __repr__(self) -> str:
        return "\n".join([f"<Directions: {len(self)}, each with the unit of its change>", *self.lines()])

    def _repr_html_(self) -> str:
        return f"{len(self)} directions, each with the unit of its change{as_html(self.lines())}"


def directions(G: OctGenerator, class_name: str | None = None, *, file: str | Path | None = None,
               methods: Sequence[Literal["pca", "sefa", "boundary", "regression"]] = (), samples: int = 1000,
               seed: int = 0, progress: Progress = False) -> Directions:
    """Return directions within a class, or over all: those of a file, those beside the generator, or found now.

    Args:
        G: the generator.
        class_name: within which; default over all classes.
        file: written by the command `directions`.
        methods: how to find them; given, they are found anew. Default those that are there, else all.
        samples: to find them with.
        seed: of the samples.
        progress: True shows a bar; a function gets (done, total, what).
    Raises:
        ConfigError: the class does not exist, or a value is out of range.
        DataError: the file cannot be used.
    """
    beside = None
    if class_name is not None and not methods:
        beside = file_beside(G, classes_of(G, class_name)[0])
    if file is not None:
        return Directions(G, tuple(load_directions(Path(file), G)))
    if beside is not None and beside.is_file():
        return Directions(G, tuple(load_directions(beside, G)))
    wanted = Search(class_name=class_name, methods=tuple(methods) or METHODS, samples=samples, seed=seed)
    with telling(progress, "finding", samples_to_measure(G, wanted)) as update:
        return Directions(G, tuple(find_directions(G, wanted, progress=update)))

