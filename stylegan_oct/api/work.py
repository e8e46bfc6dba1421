"""Longer work that writes files: walks, atlases, evaluations, exports, trainings."""

import base64
import functools
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from dnnlib.config import to_json
from dnnlib.text import format_nimg
from stylegan_oct.api.progress import Progress, speaker, telling
from stylegan_oct.api.shown import as_html
from stylegan_oct.config import TrainConfig
from stylegan_oct.export import export as exporting
from stylegan_oct.export import report as export_report
from stylegan_oct.export.prepare import Settings as ExportSettings
from stylegan_oct.latent.atlas.make import Made, make_atlas
from stylegan_oct.latent.atlas.make import Settings as AtlasSettings
from stylegan_oct.latent.walk.film import film
from stylegan_oct.latent.walk.routes import plan
from stylegan_oct.metrics.evaluate import evaluate as measure_parts
from stylegan_oct.metrics.ground import USUAL_DETECTORS, Ground, choose_archive
from stylegan_oct.metrics.ground import Settings as EvaluateSettings
from stylegan_oct.metrics.report.lines import report_lines
from stylegan_oct.metrics.report.report import PARTS, Report
from stylegan_oct.model import OctGenerator
from stylegan_oct.training import launch
from stylegan_oct.video import Video
from torch_utils.distributed import World, pick_device

Paths = Sequence[str | Path]


@dataclass(frozen=True, eq=False, repr=False)
class Film:
    """A video that was written; a notebook plays it."""

    video: Video

    @property
    def path(self) -> Path:
        """The file, or the folder of the PNG files."""
        return self.video.path

    def __repr__(self) -> str:
        return f"<Film: synthetic, {self.video.frames} frames, {self.video.seconds:.1f} s in {self.path}>"

    def _repr_html_(self) -> str:
        kind = {".mp4": "video/mp4", ".gif": "image/gif"}.get(self.path.suffix)
        if kind is None:
            return html.escape(repr(self))
        source = f"data:{kind};base64,{base64.b64encode(self.path.read_bytes()).decode()}"
        shown = f'<img src="{source}">' if kind == "image/gif" else f'<video controls loop src="{source}"></video>'
        return f"{shown}<br>{html.escape(repr(self))}"


def walk(G: OctGenerator, path: str | Path, *, seeds: Sequence[int] = (), classes: Sequence[str] = (),
         morph: Sequence[str] = (), codes: Paths = (), grid: tuple[int, int] | None = None, psi: float = 1.0,
         closed: bool = True, speed: Literal["spline", "perceptual"] = "spline", frames: int = 240, fps: float = 30.0,
         scale: int | None = None, caption: bool = True, batch: int = 8, progress: Progress = False) -> Film:
    """Film a walk: through seeds, from class to class, or between projected scans.

    Args:
        G: the generator.
        path: ends in .mp4 or .gif; without an ending a folder of PNG files.
        seeds: to pass; default 4 a walk.
        classes: to walk in, side by side; default all.
        morph: classes to walk between, with z fixed.
        codes: files of projected scans to walk between.
        grid: walks in step, columns and rows; default a column a class.
        psi: truncation.
        closed: come back to the first place.
        speed: even in time from place to place, or in what is seen.
        frames, fps: how many, and how many a second.
        scale: whole factor of enlargement; default to 256 px a picture or more.
        caption: show that it is synthetic below the pictures; the file says it anyway.
        batch: pictures drawn at once.
        progress: True shows a bar; a function gets (done, total, what).
    Raises:
        ConfigError, DataError: options exclude each other, a file does not fit, or the place cannot be written to.
    """
    route = plan(G, seeds=seeds, classes=classes, morph=morph, codes=[Path(code) for code in codes], grid=grid, psi=psi,
                 closed=closed)
    with telling(progress, "drawing", frames) as update:
        return Film(film(G, route, Path(path), frames=frames, fps=fps, speed=speed, scale=scale, strip=caption,
                         batch=batch, progress=update))


@dataclass(frozen=True, eq=False, repr=False)
class Atlas:
    """Maps of synthetic pictures: `made.page` opens in a browser; a notebook shows the picture of them."""

    made: Made

    def __repr__(self) -> str:
        return f"<Atlas: synthetic, {self.made.figures['samples']} pictures, open {self.made.page}>"

    def _repr_png_(self) -> bytes:
        return self.made.picture.read_bytes()


def atlas(G: OctGenerator, out: str | Path, *, samples: int = 2000, psi: float = 1.0,
          method: Literal["umap", "pca"] = "umap", codes: Paths = (), colour: str = "class", biomarkers: bool = True,
          seed: int = 0, library: str | Path | None = None, progress: Progress = False) -> Atlas:
    """Lay synthetic pictures out on maps of w and of what a detector sees.

    Args:
        G: the generator.
        out: folder of the page, the picture and the maps.
        samples: pictures.
        psi: truncation.
        method: UMAP shows groups, and needs the extra "atlas"; PCA is there at once.
        codes: files of projected scans to place.
        colour: of the dots in the picture: class or a biomarker.
        biomarkers: measure them too.
        seed: of all that is random.
        library: pictures drawn before; default the generator's own in data/.
        progress: True shows a bar; a function gets (done, total, what).
    Raises:
        ConfigError, DataError: a setting cannot work, or a file does not fit or cannot be written.
    """
    settings = AtlasSettings(samples=samples, psi=psi, method=method, biomarkers=biomarkers, seed=seed)
    with telling(progress, "drawing") as update:
        return Atlas(make_atlas(G, settings, Path(out), codes=[Path(code) for code in codes], colour=colour,
                                library=None if library is None else Path(library), progress=update))


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What was measured of a generator; `report` holds every number, `out` the page."""

    report: Report
    out: Path

    def __repr__(self) -> str:
        return "\n".join(report_lines(self.report, self.out))

    def _repr_html_(self) -> str:
        return as_html([f"synthetic pictures of {self.report.subject.title}", *report_lines(self.report, self.out)])


def evaluate(G: OctGenerator, out: str | Path = "out/evaluate", *, data: str | Path | None = None,
             parts: Sequence[str] = PARTS, count: int | None = None, psi: float = 1.0,
             detectors: Sequence[str] = USUAL_DETECTORS, weights: Mapping[str, str | Path] | None = None,
             official: bool = False, show_scans: bool = False, seed: int = 0, batch: int = 64,
             progress: Progress = False) -> Evaluation:
    """Measure a generator against scans, and write report.json and report.html.

    Args:
        G: the generator.
        out: folder.
        data: archive that it was trained on; default that of its run, or simulated scans where it learned from such.
        parts: of fidelity, usefulness, memorisation, consistency.
        count: samples; default as many as held-out scans, 4000 or more.
        psi: truncation.
        detectors: whose features are compared.
        weights: files of detectors' weights by their name.
        official: the official metrics too.
        show_scans: show scans of patients in the page, which is then private.
        seed: of the first sample.
        batch: pictures at once.
        progress: True shows a bar; a function gets (done, total, what).
    Raises:
        ConfigError, DataError: a value or the archive does not fit, or a file cannot be written.
    """
    settings = EvaluateSettings(detectors=tuple(detectors), count=count, psi=psi, only=tuple(parts), official=official,
                                weights={name: Path(file) for name, file in (weights or {}).items()}, seed=seed,
                                batch=batch)
    out, say = Path(out), speaker(progress)
    archive = choose_archive(G, None if data is None else Path(data), cache=Path("data"), say=say,
                             bar=functools.partial(telling, progress))
    with telling(progress, "evaluating") as update:
        ground = Ground(G, archive, settings, out / "seen", World(device=G.device), update)
        return Evaluation(measure_parts(ground, out, show_scans=show_scans, say=say), out)


@dataclass(frozen=True, eq=False, repr=False)
class Export:
    """Synthetic pictures in a folder, with manifest, marks, hashes and a card."""

    summary: exporting.Summary

    @property
    def out(self) -> Path:
        """The folder."""
        return self.summary.out

    @property
    def facts(self) -> dict[str, Any]:
        """The numbers, as the command tells them."""
        return export_report.facts(self.summary)

    def __repr__(self) -> str:
        return export_report.text(self.summary)

    def _repr_html_(self) -> str:
        return as_html([export_report.text(self.summary)])


def export(G: OctGenerator, out: str | Path, *, per_class: int = 50, classes: Mapping[str, int] | None = None,
           psi: float = 1.0, seed: int = 0, layout: str = "imagefolder", progress: Progress = False,
           **more: Any) -> Export:
    """Export samples for training and for other people, or go on with an export that was stopped.

    Args:
        G: the generator.
        out: folder.
        per_class: pictures of each class.
        classes: numbers of pictures by class instead.
        psi: truncation.
        seed: of the first picture.
        layout: of the folder; docs/layouts.md has them all.
        progress: True shows a bar; a function gets (done, total, what).
        more: the other fields of `stylegan_oct.export.prepare.Settings`, named as the options of the command, such as
            training=Path("scans.zip"), oracle="none", rules=("drusen_area_mm2=upper-third",).
    Raises:
        ConfigError, DataError, CheckpointError: something is wrong, or the disk is full; what is written stays.
    """
    counts = None if classes is None else ",".join(f"{name}={count}" for name, count in classes.items())
    settings = ExportSettings(out=Path(out), checkpoint=str(G.info.path), per_class=per_class, classes=counts, psi=psi,
                              seed=seed, layout=layout, **more)
    with telling(progress, "preparing") as update:
        return Export(exporting.export(settings, world=World(device=G.device), progress=update, say=speaker(progress)))


def train_config(data: str | Path | None = None, *, preset: str | None = None, resolution: int | None = None,
                 simulate: int | None = None, device: str | None = None, progress: Progress = False,
                 **changes: Any) -> TrainConfig:
    """Return the configuration of a run, as `train --dry-run` prints it; the archive is made where it is not there.

    Args:
        data: archive, or folder, zip or CSV of scans; default simulated scans.
        preset: sizes and constants; default by resolution.
        resolution: in pixels; default that of the archive, else 64.
        simulate: how many scans to simulate without data.
        device: cpu or cuda; default cuda where there is a GPU.
        progress: True shows a bar; a function gets (done, total, what).
        changes: options of the command that set a field, such as total_kimg=100, batch=16, gamma=4, seed=1; fields of
            the parts with two underscores, such as r1__interval=8.
    Raises:
        UserError: an option cannot work, or the data cannot be used.
    """
    alone = World(device=torch.device(pick_device(device)))
    fields = {launch.OPTION_FIELDS.get(name, name.replace("__", ".")): value for name, value in changes.items()}
    archive = launch.archive_for(None if data is None else str(data), resolution, preset, fields, alone,
                                 simulate=simulate, say=speaker(progress), bar=functools.partial(telling, progress))
    return launch.resolve(launch.data_config(archive, alone), preset, fields, alone)


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """How a training ended; `load_generator(trained.run)` gives the generator."""

    run: Path
    finished: bool
    nimg: int                 # images shown
    grid: Path | None         # of samples
    config: TrainConfig

    def __repr__(self) -> str:
        return f"{'finished' if self.finished else 'stopped'} after {format_nimg(self.nimg)} in {self.run}"

    def _repr_html_(self) -> str:
        shown = ""
        if self.grid is not None and self.grid.suffix == ".png":
            shown = f'<img alt="synthetic" src="data:image/png;base64,{_encoded(self.grid)}"><br>synthetic samples'
        return f"{shown}{as_html([str(self)])}<details>{as_html([to_json(self.config)])}</details>"


def train(config: TrainConfig, outdir: str | Path = "runs", *, new: bool = False, device: str | None = None,
          progress: bool = False) -> Trained:
    """Train in this process, or go on with the newest unfinished run of the same configuration.

    Args:
        config: from `train_config`.
        outdir: where the runs are.
        new: start another run.
        device: cpu or cuda; default cuda where there is a GPU.
        progress: show a bar and the log; the run's log.txt has it anyway.
    Raises:
        UserError: the run cannot go on.
    """
    world = World(device=torch.device(pick_device(device)))
    choice, outcome = launch.run(config, Path(outdir), new=new, world=world, console=Console(quiet=not progress))
    if outcome is None:
        return Trained(choice.run.path, True, config.total_nimg, None, config)
    return Trained(choice.run.path, outcome.finished, outcome.nimg, outcome.grid, config)


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
