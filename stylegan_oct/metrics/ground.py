"""What an evaluation stands on: a generator, an archive to compare it with, and the networks that look."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnnlib.errors import ConfigError, DataError
from dnnlib.progress import progress_bar
from dnnlib.text import suggest
from stylegan_oct import limits
from stylegan_oct.batches import at_once
from stylegan_oct.data.archive import SYNTHETIC, Archive
from stylegan_oct.data.prepare import LARGE, prepare_archive
from stylegan_oct.features.detector import DETECTORS, Detector, load_detector
from stylegan_oct.features.oct import OctDetector
from stylegan_oct.limits import check_fields
from stylegan_oct.metrics.memorisation.measure import CopyJudge, open_judge
from stylegan_oct.metrics.observers.pictures import ArchivePictures, DrawnPictures, spread_labels
from stylegan_oct.metrics.report.report import PARTS, Reference, Seer, Split, Subject
from stylegan_oct.metrics.usefulness.measure import UsefulnessSettings
from stylegan_oct.model import OctGenerator, training_archive, weights_beside
from torch_utils.distributed import World

USUAL_DETECTORS = ("lite0", "oct")
USUAL_COUNT = 4000   # samples, where there are not more held-out scans
FEW = 100            # held-out scans of a class below which a warning is given

Progress = Callable[[int, int, str], object]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and how."""

    detectors: tuple[str, ...] = USUAL_DETECTORS
    weights: Mapping[str, Path] = field(default_factory=dict)  # by the detector's name
    count: int | None = None      # samples; None: as many as held-out scans, at least USUAL_COUNT
    psi: float = 1.0
    only: tuple[str, ...] = PARTS
    official: bool = False        # the official metrics too
    seed: int = 0                 # of the first sample
    batch: int | None = None      # pictures at once; None: as many as serve
    usefulness: UsefulnessSettings | None = None   # None: by what a CPU or a GPU can do

    def __post_init__(self) -> None:
        for name in self.only:
            if name not in PARTS:
                raise ConfigError(f"There is no part {name!r}.{suggest(name, PARTS)}")
        for names, known in ((self.detectors, DETECTORS), (self.weights, (*DETECTORS, "vgg16"))):
            for name in names:
                if name not in known:
                    raise ConfigError(f"There is no detector {name!r}.{suggest(name, known)}")
        check_fields(self, {"count": limits.SAMPLES.at_least(8), "psi": limits.PSI, "seed": limits.SEED,
                            "batch": limits.BATCH})


@dataclass(frozen=True)
class Ground:
    """Everything that the parts of an evaluation share.

    Args:
        G: generator.
        archive: path of what it is compared with.
        settings: what is measured.
        world: the processes that take part.
        cache: folder of what is seen of samples.
        progress: called with (done, of how many, what).
    Raises:
        ConfigError, DataError: the archive does not fit the generator.
    """

    G: OctGenerator
    archive: Path
    settings: Settings
    cache: Path
    world: World = field(default_factory=World)
    progress: Progress = lambda *_: None

    def __post_init__(self) -> None:
        check_fit(Archive(self.archive), self.G)

    @cached_property
    def training(self) -> ArchivePictures:
        """The scans that the generator was trained on, if this is the archive."""
        return ArchivePictures(self.archive, ["train"])

    @cached_property
    def held_out(self) -> ArchivePictures | None:
        """The scans of the other splits; None where there are none."""
        others = [split for split in self.training.archive.splits if split != "train"]
        return ArchivePictures(self.archive, others) if others else None

    @cached_property
    def fake(self) -> DrawnPictures:
        """The samples, the classes as frequent as among the scans."""
        held_out = self.held_out.labels if self.held_out else np.zeros(0, np.int64)
        counts = class_counts(self.training.labels, held_out, len(self.training.classes), self.settings.count)
        return DrawnPictures(self.G, spread_labels(counts), seed=self.settings.seed, psi=self.settings.psi,
                             batch=self.settings.batch)

    @property
    def batch(self) -> int:
        """How many pictures are drawn and looked at at once."""
        return at_once(self.G.layers, self.G.device, asked=self.settings.batch)

    @cached_property
    def scans_cache(self) -> Path:
        """The private folder of what is seen of the scans, beside their archive."""
        return self.archive.with_name(f"{self.archive.stem}-seen")

    @cached_property
    def detectors(self) -> list[Detector]:
        """The networks whose features are compared."""
        return [self.load(name) for name in dict.fromkeys(self.settings.detectors)]

    @cached_property
    def oracle(self) -> OctDetector:
        """The classifier that says which class a picture shows.

        Raises:
            DataError: there is none for these scans.
        """
        if self.training.archive.source != "phantom" and "oct" not in self.settings.weights:
            raise DataError("the class oracle that comes with the project knows simulated scans alone; train one on "
                            "the training scans (python -m tools train-detector ARCHIVE --out oct.safetensors) and "
                            "give --weights oct=oct.safetensors")
        oracle = self.load("oct")
        assert isinstance(oracle, OctDetector)
        return oracle

    @cached_property
    def judge(self) -> CopyJudge:
        """What tells copies of training scans."""
        return open_judge(self.archive, weights=self.weights("copies"), device=self.G.device,
                          cache=self.scans_cache, world=self.world, progress=self.telling("looking for copies"))

    @property
    def usefulness(self) -> UsefulnessSettings:
        """How classifiers are trained: small and short, but where a GPU can do more for large scans."""
        large = self.G.device.type == "cuda" and self.G.info.resolution > 64
        usual = UsefulnessSettings(resolution=128, nimg=64000) if large else UsefulnessSettings()
        return self.settings.usefulness or usual

    def load(self, name: str) -> Detector:
        """Return a network with the weights of `weights`, or its usual ones."""
        return load_detector(name, weights=self.weights(name), device=self.G.device)

    def weights(self, name: str) -> Path | None:
        """Return the file of weights that the user names; else, for simulated scans, the one beside the generator."""
        made = weights_beside(self.G.info, name) if self.training.archive.source == "phantom" else None
        return self.settings.weights.get(name, made)

    def telling(self, what: str) -> Callable[[int, int], object]:
        """Return a progress that says what is done."""
        return lambda done, total: self.progress(done, total, what)

    def subject(self) -> Subject:
        """Return what is said of the generator."""
        info = self.G.info
        place = info.path.parent.name
        return Subject(file=f"{place}/{info.path.name}" if place.startswith("nimg-") else info.path.name,
                       sha256=info.sha256, nimg=info.nimg, preset=info.preset, classes=info.classes,
                       resolution=info.resolution, channels=info.channels, data_source=info.data_source,
                       training_archive=training_archive(info).fingerprint, psi=self.settings.psi)

    def reference(self) -> Reference:
        """Return what is said of the archive."""
        found = self.training.archive
        names = found.classes or ("all",)
        splits = []
        for split in found.splits:
            counts = np.bincount(found.labels(split), minlength=len(names))
            splits.append(Split(name=split, scans=dict(zip(names, counts.tolist(), strict=True)),
                                patients=_patients(found, split)))
        return Reference(file=found.path.name, fingerprint=found.fingerprint, source=found.source,
                         splits=tuple(splits))

    def seers(self) -> tuple[Seer, ...]:
        """Return what is said of the networks that looked."""
        return tuple(Seer(name=detector.name, identity=detector.identity, sha256=detector.sha256, dim=detector.dim,
                          resize=f"bilinear to {detector.size} px, antialiased" if detector.size else "as they are")
                     for detector in self.detectors)

    def warnings(self) -> tuple[str, ...]:
        """Return what a reader must know before believing a number."""
        info, scans = self.G.info, self.training.archive
        known = training_archive(info).fingerprint
        held_out = self.held_out.labels if self.held_out else np.zeros(0, np.int64)
        found = []
        if not known:
            found.append("The generator's file does not say which archive it was trained on. If it is not this one, "
                         "held-out scans may have been seen in training, and copies cannot be found.")
        elif known != scans.fingerprint:
            found.append("The generator was trained on another archive than this one: copies of its training scans "
                         "cannot be found here, and scans held out here may have been seen in training.")
        if self.held_out is None:
            found.append("The archive holds no held-out scans (val or test). Samples are compared with training scans, "
                         "which a generator that copies fools.")
        for label, name in enumerate(info.classes):
            n = int((held_out == label).sum())
            if not n and not int((self.training.labels == label).sum()):
                found.append(f"The archive holds no {name}; nothing is measured of that class.")
            elif self.held_out is not None and not n:
                found.append(f"There are no held-out scans of {name}: that class is compared with none, and the "
                             "numbers of all classes together leave it out.")
            elif self.held_out is not None and n < FEW:
                found.append(f"Only {n} held-out scan{'s' * (n > 1)} of {name}: its numbers are uncertain; see the "
                             "intervals.")
        if scans.source != "phantom" and not _patients(scans, "train"):
            found.append("The archive does not tell patients apart: scans of one patient may lie on both sides.")
        if self.settings.psi < 1:
            found.append(f"psi {self.settings.psi:g} trades variety for typical pictures: recall and coverage are "
                         "lower by choice.")
        return tuple(found)


def check_fit(archive: Archive, G: OctGenerator) -> None:
    """Refuse an archive with which the generator's pictures cannot be compared.

    Raises:
        DataError: it holds synthetic pictures or no training scans, or is of another resolution or other classes.
    """
    info = G.info
    if archive.source == SYNTHETIC:
        raise DataError(f"{archive.path} is a library of pictures that a generator drew. Give the archive of scans "
                        "that the generator was trained on.")
    if "train" not in archive.splits:
        raise DataError(f"{archive.path} has no training split. Give the archive that the generator was trained on.")
    for what, theirs, ours in (("resolution", archive.resolution, info.resolution),
                               ("channels", archive.channels, info.channels)):
        if theirs != ours:
            raise DataError(f"{archive.path} has the {what} {theirs}, the generator {ours}. Convert the scans with "
                            f"--resolution {info.resolution}, or give the archive that it was trained on.")
    if archive.classes != info.classes:
        raise DataError(f"{archive.path} has the classes {', '.join(archive.classes) or 'none'}, the generator "
                        f"{', '.join(info.classes) or 'none'}. Give the archive that it was trained on.")


def class_counts(training: Labels, held_out: Labels, classes: int, count: int | None) -> list[int]:
    """Return how many samples of each class to draw: in the shares of the scans, at least one of each that there is.

    Args:
        training, held_out: labels of the scans.
        classes: their number, 0 without classes.
        count: samples in all; None: USUAL_COUNT, or more where a class would have less than its held-out scans.
    """
    scans = np.bincount(np.concatenate([training, held_out]), minlength=max(classes, 1))
    shares = scans / scans.sum()
    total = count
    if total is None:
        wanted = np.bincount(held_out, minlength=len(shares))
        total = int(max(USUAL_COUNT, np.ceil(np.max(wanted[shares > 0] / shares[shares > 0]))))
    counts = np.floor(shares * total).astype(int)
    counts[np.argsort(counts - shares * total, kind="stable")[:total - counts.sum()]] += 1
    return [max(int(n), int(share > 0)) for n, share in zip(counts, shares, strict=True)]


def choose_archive(G: OctGenerator, data: Path | None, *, cache: Path,
                   say: Callable[[str], object] = lambda _: None,
                   bar: Callable[..., AbstractContextManager[Callable[..., object]]] = progress_bar) -> Path:
    """Return the archive to compare with: the one given, else the one that the generator was trained on.

    For a generator of simulated scans they are simulated, once, where that archive is not there.

    Raises:
        ConfigError: there is none.
    """
    if data is not None:
        return data
    known = training_archive(G.info)
    if known.path is not None and known.path.exists() and Archive(known.path).fingerprint == known.fingerprint:
        return known.path
    if G.info.data_source == "phantom":
        return prepare_archive(None, G.info.resolution, preset=None, cache=cache, simulate=LARGE, say=say,
                               bar=bar)
    lies = f" It was {known.path}." if known.path else ""
    raise ConfigError(f"Say with --data which archive the generator is compared with: the one it was trained on.{lies}")


def _patients(archive: Archive, split: str) -> int | None:
    rows = archive.rows()
    found = {rows.get(name, {}).get("patient") for name in archive.names(split)}
    return None if None in found else len(found)


def parse_weights(settings: Sequence[str]) -> dict[str, Path]:
    """Return the files of NAME=FILE by name.

    Raises:
        ConfigError: one is of another form.
    """
    found = {}
    for text in settings:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise ConfigError(f"--weights takes NAME=FILE, such as oct=oct.safetensors; got {text!r}.")
        if name in found:
            raise ConfigError(f"--weights names {name} twice. Give one file for it.")
        found[name] = Path(file)
    return found
