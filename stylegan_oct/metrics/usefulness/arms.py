"""The classifiers that tell of what use synthetic scans are: which are trained on what, and what they say.

Three arms are compared: trained on synthetic scans, on real ones, and on both, the last two with several amounts of
real data. All are the network of `features.oct`, trained for as many steps; the classes, and of both sources the two,
are drawn equally often. What they say of held-out scans is what they say after the last step: nothing is chosen by it.

An amount is a share of the patients of each class, with all their scans; smaller amounts lie within larger ones. Every
seed draws patients, first weights and the order of training anew, so that the spread over the seeds holds all of them;
within a seed the arms begin alike, and the same patients serve two of them, so that differences are the data's.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.arrays import holds_array, map_array
from dnnlib.errors import ConfigError, DataError
from dnnlib.stored import reading
from stylegan_oct.data.privacy import write_private
from stylegan_oct.features import oct as network_code
from stylegan_oct.features import oct_training as training_code
from stylegan_oct.features.oct import OctNetwork
from stylegan_oct.features.oct_training import OctTraining, Split, fit, shrink
from stylegan_oct.metrics.observers.observe import observe
from stylegan_oct.metrics.observers.pictures import Pictures
from stylegan_oct.metrics.observers.sources import source_hash
from stylegan_oct.metrics.statistics.resampling import main_classes
from torch_utils.distributed import World
from torch_utils.images import to_unit

Progress = Callable[[int, int], object]
Places = NDArray[np.int64]
Probabilities = NDArray[np.float32]

BATCH = 256  # pictures that are read or classified at once


@dataclass(frozen=True, kw_only=True, slots=True)
class UsefulnessSettings:
    """How many classifiers are trained, on how much, and for how long."""

    seeds: int = 5
    shares: tuple[float, ...] = (0.01, 0.1, 1.0)   # of the patients of each class; at least one patient
    nimg: int = 6400        # images shown to each classifier
    batch: int = 32
    resolution: int = 32    # px; the most, smaller pictures stay as they are
    resamples: int = 1000   # of the bootstrap
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.resamples < 100:
            raise ConfigError(f"Usefulness needs a seed and 100 resamples or more; got {self.seeds} and "
                              f"{self.resamples}.")
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise ConfigError(f"Shares of the real scans lie above 0 and up to 1; got {self.shares}. Try 0.01, 0.1, 1.")
        OctTraining(nimg=self.nimg, batch=self.batch, resolution=self.resolution)


QUICK = UsefulnessSettings(seeds=2, shares=(1.0,), nimg=1600, resamples=300)  # while a generator is being trained


@dataclass(frozen=True)
class Arm:
    """A classifier by what it is trained on."""

    name: str            # "synthetic", "real" or "both"
    share: float = 0.0   # of the real patients
    patients: int = 0
    scans: int = 0       # real ones, in the mean over the seeds


def amounts(labels: Places, groups: Places, share: float, seed: list[int]) -> Places:
    """Return the places of the scans of a share of the patients of each class, the same first patients for any share.

    A patient belongs to the class of most of its scans. At least one of each class is there.
    """
    patients, main = main_classes(labels, groups)
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(main), bool)
    for label in range(labels.max(initial=0) + 1):
        members = rng.permutation(np.flatnonzero(main == label))
        chosen[members[:max(round(share * len(members)), 1)]] = True
    return np.flatnonzero(chosen[patients])


def arms_of(train: Pictures, settings: UsefulnessSettings) -> list[Arm]:
    """Return the arms; shares that come to the same patients count once."""
    arms, before = [Arm("synthetic")], 0
    for share in sorted(set(settings.shares)):
        drawn = [amounts(train.labels, train.groups, share, [settings.seed, seed]) for seed in range(settings.seeds)]
        patients = len(np.unique(train.groups[drawn[0]]))
        if patients > before:
            scans = round(float(np.mean([len(places) for places in drawn])))
            arms += [Arm(name, share, patients, scans) for name in ("real", "both")]
        before = patients
    return arms


class Classifiers:
    """Trains the classifiers of all arms and seeds, or reads what those of an earlier call said.

    Args:
        train: real scans.
        held_out: real scans of other patients.
        fake: synthetic pictures.
        settings: see there.
        cache, fake_cache: folders for what is kept of real and of synthetic pictures.
        world: the processes, all of one computer, that share the work.
    """

    def __init__(self, train: Pictures, held_out: Pictures, fake: Pictures, settings: UsefulnessSettings, *,
                 cache: Path, fake_cache: Path, world: World) -> None:
        self._train, self._held_out, self._fake = train, held_out, fake
        self._settings, self._cache, self._fake_cache, self._world = settings, cache, fake_cache, world
        shape = train.read([0]).shape
        self.side, self.channels = min(settings.resolution, shape[-1]), shape[1]
        self.arms = arms_of(train, settings)
        self.identity = f"classifier{self.side}-{source_hash(CODE)}"

    def say(self, progress: Progress) -> dict[Arm, Probabilities]:
        """Return the probabilities of the classes that each arm gives the held-out scans, [seeds, N, classes].

        Raises:
            DataError: the pictures have other channels, or files cannot be written.
        """
        seen = Thumbnails(self.side, self.channels)
        rows = observe(self._fake, [seen], self._fake_cache, world=self._world)[seen.identity]
        jobs = [(arm, seed) for arm in self.arms for seed in range(self._settings.seeds)]
        mine = [job for job in jobs[self._world.rank::self._world.size]
                if not holds_array(self._file(*job), self._shape, np.float32)]
        if mine:
            real, held_out = (self._read(pictures) for pictures in (self._train, self._held_out))
            fakes = torch.from_numpy(np.asarray(rows).astype(np.uint8)).view(-1, self.channels, self.side, self.side)
            data = Split(torch.cat([real, fakes]),
                         torch.from_numpy(np.concatenate([self._train.labels, self._fake.labels])))
            for number, (arm, seed) in enumerate(mine):
                def told(done: int, total: int, begun: int = number) -> None:
                    progress(begun * total + done, len(mine) * total)

                self._keep(arm, seed, self._ask(arm, seed, data, held_out, told))
        self._world.barrier()
        with reading(self._cache, DataError, "Remove what is kept there; the same command trains anew."):
            return {arm: np.stack([map_array(self._file(arm, seed), self._shape, np.float32)
                                   for seed in range(self._settings.seeds)]) for arm in self.arms}

    @property
    def _shape(self) -> tuple[int, int]:
        """Of what one classifier says."""
        return len(self._held_out), len(self._train.classes)

    def _ask(self, arm: Arm, seed: int, data: Split, held_out: Tensor, progress: Progress) -> Probabilities:
        """Train one classifier and return what it says of the held-out scans."""
        settings, count = self._settings, len(self._train.classes)
        device = self._world.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed + seed)
            network = OctNetwork(self.side, self.channels, count)
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            fit(network, data, list(self._pools(arm, seed)),
                OctTraining(nimg=settings.nimg, batch=settings.batch, seed=settings.seed + seed), progress)
        network.eval()
        with torch.no_grad():
            logits = [network(to_unit(part.to(device))).cpu() for part in torch.split(held_out, BATCH)]
        probabilities: Probabilities = torch.cat(logits).softmax(dim=1).numpy()
        return probabilities

    def _pools(self, arm: Arm, seed: int) -> Iterator[Places]:
        """Yield places of the training pictures, real ones first, in pools to be drawn from equally often.

        In the arm with both sources each class has a pool of either; where one source lacks it, the other's twice.
        """
        sources = []
        if arm.name != "synthetic":
            real = amounts(self._train.labels, self._train.groups, arm.share, [self._settings.seed, seed])
            sources.append((real, self._train.labels[real]))
        if arm.name != "real":
            sources.append((len(self._train) + np.arange(len(self._fake)), self._fake.labels))
        for label in range(len(self._train.classes)):
            pools = [places[labels == label] for places, labels in sources]
            filled = [pool for pool in pools if len(pool)]
            for pool in pools if filled else []:
                yield pool if len(pool) else filled[0]

    def _read(self, pictures: Pictures) -> Tensor:
        pixels = torch.empty(len(pictures), self.channels, self.side, self.side, dtype=torch.uint8)
        for begin in range(0, len(pictures), BATCH):
            rows = range(begin, min(begin + BATCH, len(pictures)))
            pixels[rows.start:rows.stop] = shrink(checked(pictures.read(rows), self.channels), self.side)
        return pixels

    def _file(self, arm: Arm, seed: int) -> Path:
        settings = self._settings
        used = [pictures.identity for pictures, unused in ((self._train, "synthetic"), (self._fake, "real"))
                if arm.name != unused]
        facts = [self.identity, str(self._world.device.type), arm.name, arm.share, seed, settings.seed, settings.nimg,
                 settings.batch, self._held_out.identity, *used]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        return (self._cache if arm.name == "real" else self._fake_cache) / f"said-{arm.name}-{key}.npy"

    def _keep(self, arm: Arm, seed: int, said: Probabilities) -> None:
        buffer = io.BytesIO()
        np.save(buffer, said)
        file = self._file(arm, seed)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_private(file, buffer.getvalue())
        except OSError as error:
            raise DataError(f"Cannot write what the classifiers say into {file.parent}: {error.strerror}. Free some "
                            "space; the same command goes on from here.") from error


class Thumbnails:
    """Pictures averaged by area to a small size, as rows of grey values 0 to 255."""

    def __init__(self, side: int, channels: int) -> None:
        self._side, self._channels = side, channels
        self.identity, self.dim = f"thumbnails{side}", channels * side * side

    def __call__(self, pixels: Tensor) -> Tensor:
        """As in `Observer`."""
        return shrink(checked(pixels, self._channels), self._side).flatten(1).float()


def checked(pixels: Tensor, channels: int) -> Tensor:
    """Return the pictures.

    Raises:
        DataError: they have another number of channels.
    """
    if pixels.shape[1] != channels:
        raise DataError(f"The training scans have {channels} channels, other pictures {pixels.shape[1]}. Give the "
                        "archive that the generator was trained on.")
    return pixels


CODE = tuple(Path(str(code)) for code in (network_code.__file__, training_code.__file__, __file__))
