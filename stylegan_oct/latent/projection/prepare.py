"""From the wishes of a user to an engine, its calibration and the scans."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from stylegan_oct import limits
from stylegan_oct.data.readers.axes import Axes
from stylegan_oct.data.readers.scan import check_selection
from stylegan_oct.features.detector import load_detector
from stylegan_oct.latent.intake import Refused, load_targets
from stylegan_oct.latent.library import open_library
from stylegan_oct.latent.projection import run
from stylegan_oct.latent.projection.calibration import Calibration, calibrate
from stylegan_oct.latent.projection.encoder import default_encoder_path, load_encoder
from stylegan_oct.latent.projection.engine import Engine, Progress, configure
from stylegan_oct.latent.projection.projector import PRESETS
from stylegan_oct.latent.projection.report import Task
from stylegan_oct.limits import check_fields
from stylegan_oct.model import OctGenerator


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """Options of a projection; None is the default."""

    preset: str = "standard"
    space: Literal["w", "w+", "pti"] | None = None
    steps: int | None = None
    noise: bool = False
    library: Path | None = None
    encoder: Path | None = None
    reference: Path | None = None
    compare: int | None = None
    seed: int = 0
    batch: int | None = None

    def __post_init__(self) -> None:
        check_fields(self, {"steps": limits.STEPS, "compare": limits.SHOWN, "seed": limits.SEED})


def prepare_engine(G: OctGenerator, wishes: Wishes, *, say: Callable[[str], object] = lambda _: None,
                   progress: Progress = lambda *_: None) -> tuple[Engine, Calibration]:
    """Return the engine and what distances are usual for it.

    Args:
        G: the generator.
        wishes: of the user.
        say: called with lines about what is done once.
        progress: called with (done, total, what).
    Raises:
        UserError: a file does not fit.
    """
    config = configure(PRESETS[wishes.preset], space=wishes.space, steps=wishes.steps, noise=wishes.noise)
    detector = load_detector("lite0", device=G.device)
    library = None if wishes.preset == "official" else open_library(
        wishes.library, G, batch=wishes.batch, say=say, progress=lambda done, total: progress(done, total, "drawing"))
    own = default_encoder_path(G)
    file = wishes.encoder or (own if own.exists() and wishes.preset != "official" else None)
    encoder = None if file is None else load_encoder(file, G, detector)
    engine = Engine(G, detector, config, tuned=wishes.space == "pti", library=library, encoder=encoder,
                    seed=wishes.seed, batch=wishes.batch)
    return engine, calibrate(engine, wishes.reference, count=wishes.compare, progress=progress)


def tasks_of(paths: Sequence[Path], G: OctGenerator, *, selection: str, class_name: str | None,
             axes: Axes = "auto") -> Iterator[Task | Refused]:
    """Return the scans of files and folders; without any, simulated ones.

    Raises:
        ConfigError: the class or the selection does not exist.
        DataError: there is no file.
    """
    check_selection(selection)
    name = None if class_name is None else G.info.classes[G.class_index(class_name)]
    settings = G.info.preprocess
    if not paths:
        return (replace(task, class_name=name) for task in run.simulated(settings, G.info.classes))
    items = load_targets(list(paths), selection, settings, axes=axes)
    return (item if isinstance(item, Refused) else Task(item, name) for item in items)
