"""From the options of an export to all that is needed for it; every mistake is found here, before a file is written."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dnnlib.errors import ConfigError
from stylegan_oct import limits
from stylegan_oct.batches import steady
from stylegan_oct.data.archive import SPLITS, Archive
from stylegan_oct.data.privacy import Key
from stylegan_oct.data.splits import parse_fractions
from stylegan_oct.export.description.card import Facts
from stylegan_oct.export.description.manifest import NO_PARQUET, Collection, has_parquet
from stylegan_oct.export.drawing.clock import Clock
from stylegan_oct.export.drawing.draw import TRIES, Artist
from stylegan_oct.export.drawing.measuring import Measure, measure_here
from stylegan_oct.export.drawing.rules import Rule, parse_rule
from stylegan_oct.export.drawing.select import Selection
from stylegan_oct.export.drawing.teacher import Teacher, parse_input
from stylegan_oct.export.folder import folder
from stylegan_oct.export.folder.folder import Record
from stylegan_oct.export.layouts import make_layout
from stylegan_oct.export.plan import Plan, counts_like, parse_counts
from stylegan_oct.export.review import find_review
from stylegan_oct.features.detector import load_detector
from stylegan_oct.features.oct import OctDetector
from stylegan_oct.latent.intake import pixel_size
from stylegan_oct.limits import check_fields
from stylegan_oct.metrics.memorisation.measure import CopyJudge, open_judge
from stylegan_oct.metrics.report.report import Report
from stylegan_oct.model import OctGenerator, load_generator, weights_beside

PER_CLASS = 50
NONE = "none"

Progress = Callable[..., object]  # called with (done, all, what)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked for; see the command's help."""

    out: Path
    checkpoint: str | None = None
    per_class: int = PER_CLASS
    classes: str | None = None          # NORMAL=2000,DRUSEN=500
    like: Path | None = None            # archive whose shares of classes are matched
    psi: float = 1.0
    seed: int = 0
    tries: int = TRIES
    batch: int | None = None            # pictures at once; None: as many as serve
    split: str = "90,10"
    layout: str = "imagefolder"
    mapping: str | None = None          # CNV=WAMD,DME=DR
    corner_mark: bool = False
    latents: bool = False
    biomarkers: bool = True
    oracle: str | None = None           # file, "none", or None: the included one where it fits
    oracle_min: float = 0.0
    training: Path | None = None        # archive in which copies are looked for
    copies: Path | None = None          # weights of the copy detector
    rules: tuple[str, ...] = ()         # [CLASS:]NAME=RANGE
    teacher: Path | None = None
    teacher_input: str = "samex3-imagenet"
    teacher_classes: str | None = None  # outputs of the teacher; None: the generator's classes
    data_name: str = ""
    data_licence: str = ""
    licence: str = "other"
    report: Path | None = None
    allow_unreviewed: bool = False

    def __post_init__(self) -> None:
        check_fields(self, {"per_class": limits.PICTURES, "psi": limits.PSI, "seed": limits.SEED, "tries": limits.TRIES,
                            "batch": limits.BATCH, "oracle_min": limits.SHARE})


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that an export needs."""

    settings: Settings
    G: OctGenerator
    plan: Plan
    collection: Collection
    review: Report | None
    oracle: OctDetector | None
    copies: CopyJudge | None
    teacher: Teacher | None
    clock: Clock

    @property
    def um_per_px(self) -> tuple[float, float] | None:
        """(z, x) size of a pixel where it is known."""
        return pixel_size(self.G.info.preprocess)

    @property
    def mapping(self) -> dict[str, str] | None:
        """Names of the classes in the lists of fddm and multieye, where others than usual are asked for."""
        return parse_mapping(self.settings.mapping) if self.settings.mapping else None

    def facts(self, record: Record) -> Facts:
        """Return what the card tells.

        Raises:
            ConfigError: the licence cannot be one.
        """
        plan, info = self.plan, self.G.info
        return Facts(layout=plan.layout, collection=self.collection, checkpoint_sha256=info.sha256, nimg=info.nimg,
                     data_source=info.data_source, psi=plan.psi, data_name=plan.data_name,
                     data_licence=plan.data_licence, licence=plan.licence, drawn=record.drawn,
                     conditions=[str(rule) for rule in record.rules], report=self.review,
                     corner_mark=plan.corner_mark, latents=plan.latents,
                     teacher=self.teacher.identity if self.teacher else "")

    def artist(self, rules: Sequence[Rule] = (), measure: Measure = measure_here) -> Artist:
        """Return what draws the parts, under rules with their limits; `measure` measures biomarkers."""
        selection = Selection(self.plan, oracle=self.oracle, copies=self.copies, rules=rules,
                              um_per_px=self.um_per_px, clock=self.clock, measure=measure)
        training = self.settings.training
        key = Key(training.with_suffix(".key")) if training is not None else None
        return Artist(G=self.G, plan=self.plan, selection=selection, tries=self.settings.tries, key=key,
                      teacher=self.teacher, clock=self.clock)


def prepare(settings: Settings, *, device: torch.device | str = "cpu", progress: Progress = lambda *_: None,
            say: Callable[[str], object] = lambda _: None) -> Job:
    """Return what an export with these settings needs.

    Args:
        settings: what is asked for.
        device: where the networks run.
        progress: of looking at the training archive.
        say: gets warnings, a line each.
    Raises:
        ConfigError, DataError, CheckpointError: something is wrong or missing.
    """
    G = load_generator(settings.checkpoint, device=device)
    review = find_review(G.info, settings.report, allow_unreviewed=settings.allow_unreviewed)
    plan = _plan(settings, G)
    collection = Collection(classes=G.info.classes, resolution=G.info.resolution, channels=G.info.channels)
    mapping = parse_mapping(settings.mapping) if settings.mapping else None
    make_layout(settings.layout, settings.out, collection, mapping=mapping)
    oracle = _oracle(settings, G, device)
    teacher = _teacher(settings, G, device)
    copies = _copies(settings, G, device, progress)
    for line in _warnings(settings, G, plan, review):
        say(line)
    plan = dataclasses.replace(
        plan, oracle_sha256=oracle.sha256 if oracle else None, teacher_sha256=teacher.sha256 if teacher else None,
        training=copies.training.archive.fingerprint if copies else None,
        copies_sha256=copies.detector.sha256 if copies else None)
    job = Job(settings=settings, G=G, plan=plan, collection=collection, review=review, oracle=oracle, copies=copies,
              teacher=teacher, clock=Clock())
    job.artist()
    job.facts(Record(plan=plan))
    return job


def _plan(settings: Settings, G: OctGenerator) -> Plan:
    classes = G.info.classes
    if settings.classes is not None and settings.like is not None:
        raise ConfigError("--classes and --like both say how many pictures of each class there should be; give one.")
    if settings.classes is not None:
        counts = parse_counts(settings.classes, classes)
    elif settings.like is not None:
        counts = counts_like(settings.like, classes, settings.per_class * len(classes))
    else:
        counts = (settings.per_class,) * max(len(classes), 1)
    fractions = parse_fractions(settings.split)
    rules = tuple(parse_rule(text, classes) for text in settings.rules)
    if rules and not settings.biomarkers:
        raise ConfigError("--biomarker needs biomarkers; leave --no-biomarkers out.")
    return Plan(checkpoint_sha256=G.info.sha256, classes=classes, counts=counts, psi=settings.psi, seed=settings.seed,
                batch=_batch(settings, G), split=(fractions.train, fractions.val, fractions.test),
                layout=settings.layout, mapping=settings.mapping or "", corner_mark=settings.corner_mark,
                latents=settings.latents, biomarkers=settings.biomarkers, oracle_min=settings.oracle_min, rules=rules,
                teacher_input=settings.teacher_input if settings.teacher else "",
                teacher_classes=settings.teacher_classes or "" if settings.teacher else "",
                data_name=settings.data_name, data_licence=settings.data_licence, licence=settings.licence)


def _batch(settings: Settings, G: OctGenerator) -> int:
    """Return how many pictures are drawn together: as asked for, as in an export begun there, or as many as serve."""
    if settings.batch is None and folder.is_begun(settings.out):
        return folder.read_record(settings.out).plan.batch
    return steady(G.layers, G.device, asked=settings.batch)


def parse_mapping(text: str) -> dict[str, str]:
    """Return the pairs of CNV=WAMD,DME=DR.

    Raises:
        ConfigError: they are none.
    """
    pairs = [pair.strip().rpartition("=") for pair in text.split(",")]
    names = {name for name, _, _ in pairs}
    if not all(name and target for name, _, target in pairs) or len(names) < len(pairs):
        raise ConfigError(f"--mapping wants each class once, such as CNV=WAMD,DME=DR; got {text!r}.")
    return {name: target for name, _, target in pairs}


def _oracle(settings: Settings, G: OctGenerator, device: torch.device | str) -> OctDetector | None:
    if settings.oracle == NONE or (settings.oracle is None and not G.info.classes):
        if settings.oracle_min:
            raise ConfigError("--oracle-min needs an oracle; leave --oracle none out.")
        return None
    if settings.oracle is None and G.info.data_source != "phantom":
        raise ConfigError("This generator learned from scans, and the included oracle knows simulated ones alone. "
                          "Train one (python -m tools train-detector ARCHIVE --out FILE) and give it with --oracle, or "
                          "export without: --oracle none")
    weights = Path(settings.oracle) if settings.oracle else weights_beside(G.info, "oct")
    oracle = load_detector("oct", weights=weights, device=device)
    assert isinstance(oracle, OctDetector)
    return oracle


def _teacher(settings: Settings, G: OctGenerator, device: torch.device | str) -> Teacher | None:
    shown = parse_input(settings.teacher_input)
    if settings.teacher is None:
        return None
    classes = settings.teacher_classes.split(",") if settings.teacher_classes else G.info.classes
    return Teacher(settings.teacher, [name.strip() for name in classes], shown,
                   resolution=G.info.resolution, device=device)


def _copies(settings: Settings, G: OctGenerator, device: torch.device | str, progress: Progress) -> CopyJudge | None:
    training = settings.training
    if training is None:
        if settings.copies is not None:
            raise ConfigError("--copies names the network that looks for copies; --training the archive it looks in. "
                              "Give both.")
        return None
    archive = Archive(training)
    if archive.resolution != G.info.resolution or archive.channels != G.info.channels:
        raise ConfigError(f"{training} holds scans of {archive.resolution} px and {archive.channels} channels, the "
                          f"generator draws {G.info.resolution} px and {G.info.channels}. Give the archive that it was "
                          "trained on.")
    if G.info.archive and archive.fingerprint != G.info.archive:
        raise ConfigError(f"{training} is not the archive that this generator was trained on (fingerprint "
                          f"{archive.fingerprint[:12]}, not {G.info.archive[:12]}), so it cannot tell what is copied.")
    return open_judge(training, weights=settings.copies, device=device,
                      progress=lambda done, total: progress(done, total, "looking at the archive"))


def _warnings(settings: Settings, G: OctGenerator, plan: Plan, review: Report | None) -> list[str]:
    """Return what the user should know before."""
    found = []
    if settings.training is None:
        found.append("Copies of training scans are not looked for; give --training ARCHIVE.")
    if review is None:
        found.append("This generator has not been evaluated; the card says so.")
    else:
        if review.subject.psi != plan.psi:
            found.append(f"The generator was evaluated at psi {review.subject.psi:g}, this export draws at "
                         f"{plan.psi:g}.")
        memorisation = review.part("memorisation")
        if memorisation is None or memorisation.reason:
            found.append("The evaluation of this generator did not look for memorisation.")
    if not has_parquet():
        found.append(NO_PARQUET)
    for split, share in zip(SPLITS, plan.split, strict=True):
        lacking = [plan.class_name(label) or "any kind" for label, count in enumerate(plan.counts)
                   if count and share and split not in plan.splits(label)]
        if lacking:
            found.append(f"No picture of {', '.join(lacking)} goes to {split}: they are too few for this --split.")
    if plan.split[2]:
        found.append("Some pictures go to a split \"test\": results on synthetic pictures say little about scans.")
    return found
