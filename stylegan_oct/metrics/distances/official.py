"""The metrics under their official names: networks, resizing, counts and constants of the published code.

They compare 50,000 pictures with all training scans: fid50k_full (Heusel et al. 2017), kid50k_full (Binkowski et al.
2018), pr50k3_full (Kynkaanniemi et al. 2019) and ppl2_wend (Karras et al. 2020, "Analyzing and Improving the Image
Quality of StyleGAN"). Their networks do not come with the project.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from dnnlib.errors import CheckpointError, ConfigError
from dnnlib.text import suggest
from stylegan_oct.batches import seen_at_once
from stylegan_oct.features.detector import as_rgb, checked_sha256, find_weights, load_detector
from stylegan_oct.features.inception import InceptionDetector
from stylegan_oct.metrics.distances.frechet import frechet_of_moments
from stylegan_oct.metrics.distances.kernel import kernel_distance_of_subsets
from stylegan_oct.metrics.distances.moments import Moments, Rows
from stylegan_oct.metrics.distances.path_length import path_lengths, trimmed_mean
from stylegan_oct.metrics.distances.prdc import manifold
from stylegan_oct.metrics.observers.observe import Observer, Progress, observe
from stylegan_oct.metrics.observers.pictures import DrawnPictures, Pictures
from stylegan_oct.metrics.statistics.values import Value
from stylegan_oct.model import OctGenerator
from torch_utils.distributed import World

OFFICIAL = ("fid50k_full", "kid50k_full", "pr50k3_full", "ppl2_wend")
COUNT = 50_000
SUBSETS, SUBSET = 100, 1000   # of kid50k_full
NEIGHBOURS, MOST_REAL = 3, 200_000   # of pr50k3_full
LARGEST = 256                 # side from which pictures are averaged down for ppl2_wend
VGG16 = "vgg16.pt"
VGG16_DIM = 4096
VGG16_ORIGIN = ("It is found at "
                "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/vgg16.pt; it is a program "
                "(TorchScript), so take it from nowhere else.")


def measure_official(G: OctGenerator, real: Pictures, *, cache: Path, fake_cache: Path | None = None,
                     metrics: Sequence[str] = OFFICIAL, inception: Path | None = None, vgg16: Path | None = None,
                     world: World = World(), seed: int = 0, batch: int = 64,  # noqa: B008
                     progress: Progress = lambda *_: None) -> list[Value]:
    """Return the official metrics; those whose network is missing are NaN with a note that names the file.

    Args:
        G: generator; pictures are drawn without truncation, classes with the shares of `real`.
        real: the training scans, all of them, without flips.
        cache: folder for what the networks see of scans.
        fake_cache: the same for synthetic pictures; default `cache`.
        metrics: of OFFICIAL.
        inception: file of the network of FID; default: in the folder that $STYLEGAN_OCT_WEIGHTS names.
        vgg16: the same for pr50k3_full and ppl2_wend.
        world: the processes that share the work; all return the same.
        seed: of the first picture.
        batch: pictures at once.
        progress: called with the number of pictures seen, and of all.
    Raises:
        ConfigError: there is no such metric.
        DataError: files cannot be written.
    """
    for name in metrics:
        if name not in OFFICIAL:
            raise ConfigError(f"There is no official metric {name!r}.{suggest(name, OFFICIAL)}")
    labels = draw_labels(real, seed)
    fake = DrawnPictures(G, labels, seed=seed, batch=batch)

    def look(observer: Observer) -> tuple[Rows, Rows]:
        rows = [observe(pictures, [observer], folder, world=world, batch=batch, progress=progress)[observer.identity]
                for pictures, folder in ((real, cache), (fake, fake_cache or cache))]
        return rows[0], rows[1]

    def inception_metrics(wanted: Sequence[str]) -> list[Value]:
        return _by_inception(wanted, OfficialInception.load(inception, G.device), look, world, seed)

    def vgg16_metrics(wanted: Sequence[str]) -> list[Value]:
        return _by_vgg16(wanted, OfficialVgg16.load(vgg16, G.device), look, G, labels, world, seed, batch, progress)

    values: list[Value] = []
    for names, measure in ((OFFICIAL[:2], inception_metrics), (OFFICIAL[2:], vgg16_metrics)):
        wanted = [name for name in names if name in metrics]
        try:
            values += measure(wanted) if wanted else []
        except CheckpointError as error:
            values += [Value(metric=part, value=math.nan, note=str(error)) for name in wanted for part in _parts(name)]
    return values


def draw_labels(real: Pictures, seed: int) -> NDArray[np.int64]:
    """Return the classes of the pictures: those of scans drawn at random, as in training."""
    return real.labels[np.random.default_rng(seed).integers(0, len(real), COUNT)]


def _parts(metric: str) -> tuple[str, ...]:
    return (f"{metric}_precision", f"{metric}_recall") if metric == "pr50k3_full" else (metric,)


def _by_inception(wanted: Sequence[str], observer: "OfficialInception", look: Callable[[Observer], tuple[Rows, Rows]],
                  world: World, seed: int) -> list[Value]:
    real, fake = look(observer)
    common: dict[str, Any] = {"n": len(fake), "n_real": len(real), "better": "lower", "detector": observer.identity,
                              "resize": observer.resize, "seed": seed}
    values = []
    if "fid50k_full" in wanted:
        sums = [Moments.of(rows, world=world) for rows in (real, fake)]
        values.append(Value(metric="fid50k_full", value=frechet_of_moments(*sums, ddof=0), **common))
    if "kid50k_full" in wanted:
        found = kernel_distance_of_subsets(real, fake, subsets=SUBSETS, size=SUBSET, seed=seed)
        values.append(Value(metric="kid50k_full", value=found.mean, **common,
                            note=f"{SUBSETS} subsets of {min(SUBSET, len(real), len(fake))}, spread {found.sd:.2g}"))
    return values


def _by_vgg16(wanted: Sequence[str], observer: "OfficialVgg16", look: Callable[[Observer], tuple[Rows, Rows]],
              G: OctGenerator, labels: NDArray[np.int64], world: World, seed: int, batch: int,
              progress: Progress) -> list[Value]:
    values = []
    if "pr50k3_full" in wanted:
        real, fake = look(observer)
        real = real[np.sort(np.random.default_rng(seed).permutation(len(real))[:MOST_REAL])]
        found = manifold(real, fake, k=NEIGHBOURS, device=G.device)
        values += [Value(metric=metric, value=share, n=len(fake), n_real=len(real), better="higher", seed=seed,
                         detector=observer.identity, resize=observer.resize)
                   for metric, share in zip(_parts("pr50k3_full"), (found.precision, found.recall), strict=True)]
    if "ppl2_wend" in wanted:
        lengths = path_lengths(G, observer.lpips, labels, space="w", sampling="end", noise_mode="random", seed=seed,
                               batch=batch, world=world, progress=progress)
        values.append(Value(metric="ppl2_wend", value=trimmed_mean(lengths), n=len(lengths), better="lower", seed=seed,
                            detector=observer.identity, resize=f"averaged down to {LARGEST} px where larger"))
    return values


class OfficialInception:
    """The network of FID on pictures resized as TensorFlow 1 did it, and scaled as (x - 128) / 128."""

    resize = "bilinear as TensorFlow 1, corners at the upper left, to 299 px"

    def __init__(self, detector: InceptionDetector) -> None:
        self._detector = detector
        self.identity, self.dim = f"{detector.identity}-tf1", detector.dim

    @classmethod
    def load(cls, weights: Path | None, device: torch.device) -> "OfficialInception":
        """Return the observer.

        Raises:
            CheckpointError: the weights are missing or others.
        """
        detector = load_detector("inception", weights=weights, device=device)
        assert isinstance(detector, InceptionDetector)
        return cls(detector)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """As in `Observer`."""
        found = []
        for part in torch.split(pixels, seen_at_once(299, self._detector.device)):
            images = resize_as_tensorflow(part.to(self._detector.device).float(), 299)
            found.append(self._detector.pool((images - 128) / 128).cpu())
        return torch.cat(found)


def resize_as_tensorflow(images: Tensor, side: int) -> Tensor:
    """Return images [N, C, H, W] at side x side pixels as TensorFlow 1 resized them: bilinear, without antialiasing.

    Output pixel i lies at i * size / side: the pixels' corners are aligned, not their middles.
    """
    across, down = (_weights(size, side).to(images) for size in (images.shape[3], images.shape[2]))
    return down @ images @ across.t()


def _weights(size: int, side: int) -> Tensor:
    """Return the weight of each of `size` pixels in each of `side`, [side, size]."""
    place = torch.arange(side, dtype=torch.float64) * (size / side)
    lower = place.floor().long().clamp_max(size - 1)
    share = place - lower
    weights = torch.zeros(side, size, dtype=torch.float64)
    rows = torch.arange(side)
    weights[rows, lower] += 1 - share
    weights[rows, (lower + 1).clamp_max(size - 1)] += share
    return weights


class OfficialVgg16:
    """VGG16 of the published code, which brings its own resizing: features for precision and recall, and LPIPS."""

    dim, resize = VGG16_DIM, "by the network's own program"

    def __init__(self, program: Callable[..., Tensor], sha256: str, device: torch.device) -> None:
        self._program, self._device = program, device
        self.identity = f"vgg16-{sha256[:8]}"

    @classmethod
    def load(cls, weights: Path | None, device: torch.device) -> "OfficialVgg16":
        """Return the observer.

        Raises:
            CheckpointError: the file is missing or no TorchScript program.
        """
        file = find_weights(weights, VGG16, VGG16_ORIGIN)
        sha256 = checked_sha256(file)
        try:
            with warnings.catch_warnings():
                # It is deprecated, but the published file is of this kind.
                warnings.simplefilter("ignore", DeprecationWarning)
                program = torch.jit.load(file, map_location=device)  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{file} is no TorchScript program ({str(error).splitlines()[0]}). "
                                  f"{VGG16_ORIGIN}") from error
        return cls(program.eval(), sha256, device)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """As in `Observer`."""
        return torch.cat([self._program(as_rgb(part.to(self._device)), return_features=True).float().cpu()
                          for part in torch.split(pixels, seen_at_once(pixels.shape[-1], self._device))])

    def lpips(self, images: Tensor) -> Tensor:
        """Return features [N, F] of images in [-1, 1] whose squared differences sum to LPIPS."""
        if images.shape[-1] > LARGEST:
            images = interpolate(images, (LARGEST, LARGEST), mode="area")
        return self._program(as_rgb((images + 1) * 127.5), resize_images=False, return_lpips=True)
