"""What every network that looks at images offers, and `load_detector`, which finds one by its name."""

import importlib
import os
import pickle
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dnnlib.errors import CheckpointError, ConfigError
from dnnlib.files import sha256_of
from dnnlib.text import suggest
from stylegan_oct.batches import seen_at_once
from torch_utils.checkpoint import read_tensors
from torch_utils.images import to_unit

FOLDER_VARIABLE = "STYLEGAN_OCT_WEIGHTS"
LUMA = (0.299, 0.587, 0.114)

# Name -> module and class; imported when asked for.
DETECTORS = {
    "lite0": ("stylegan_oct.features.lite0", "Lite0Detector"),
    "vgg16-lpips": ("stylegan_oct.features.vgg16_lpips", "Vgg16LpipsDetector"),
    "inception": ("stylegan_oct.features.inception", "InceptionDetector"),
    "oct": ("stylegan_oct.features.oct", "OctDetector"),
    "copies": ("stylegan_oct.features.copies", "CopyDetector"),
}


class Detector(nn.Module):
    """A fixed network that turns images into features.

    What it computes is identified by `name` and `sha256`, the hash of its file of weights. The weights are frozen;
    gradients flow to the images.
    """

    name: ClassVar[str]
    dim: int          # length of the pooled features
    sha256: str       # of the file of weights, 64 hexadecimal digits
    size: int | None  # side to which `embed` resizes its images; None: as they are

    @classmethod
    @abstractmethod
    def load(cls, weights: Path | None) -> Self:
        """Return the detector with the weights of a file, or with those that the project knows where to find.

        Raises:
            CheckpointError: there are none, or the file is another one than it should be.
        """

    @abstractmethod
    def taps(self, images: Tensor) -> list[Tensor]:
        """Return features of several depths, shallow to deep, [N, c, h, w] each.

        Args:
            images: [N, C, H, W], float32 in [-1, 1], C = 1 or 3.
        """

    @abstractmethod
    def pool(self, images: Tensor) -> Tensor:
        """Return one vector for each image, [N, dim], for images as in `taps`."""

    def channel_weights(self) -> list[Tensor] | None:
        """Return how much each channel of each tap counts in a perceptual distance, [c] each; None: by depth alone."""
        return None

    @property
    def identity(self) -> str:
        """The name with the first digits of the hash: lite0-57934424."""
        return f"{self.name}-{self.sha256[:8]}"

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    @torch.no_grad()
    def embed(self, pixels: Tensor, *, batch: int | None = None) -> Tensor:
        """Return one vector for each picture, float32 [N, dim], on the CPU.

        Args:
            pixels: uint8 [N, C, H, W], C = 1 or 3, of any size.
            batch: pictures at once; None: as many as serve.
        """
        assert pixels.dtype == torch.uint8 and pixels.ndim == 4, (pixels.dtype, pixels.shape)
        parts = [torch.zeros(0, self.dim)]
        batch = batch or seen_at_once(self.size or max(pixels.shape[2:]), self.device)
        for part in torch.split(pixels, batch) if len(pixels) else ():
            parts.append(self.pool(resize(to_unit(part.to(self.device)), self.size)).cpu())
        return torch.cat(parts)


def load_detector(name: str = "lite0", *, weights: Path | None = None, device: str | torch.device = "cpu") -> Detector:
    """Return a detector, ready to use.

    Args:
        name: lite0, vgg16-lpips, inception, oct or copies.
        weights: file of its weights; lite0 needs none, oct and copies take those of simulated scans.
        device: where to put it.
    Raises:
        ConfigError: there is no detector of that name.
        CheckpointError: its weights are missing or not those that it needs.
    """
    if name not in DETECTORS:
        raise ConfigError(f"There is no detector {name!r}.{suggest(name, DETECTORS)}")
    module, kind = DETECTORS[name]
    cls: type[Detector] = getattr(importlib.import_module(module), kind)
    return cls.load(weights).eval().requires_grad_(False).to(device)


def checked_sha256(file: Path, expected: str | None = None) -> str:
    """Return the hash of a file of weights.

    Raises:
        CheckpointError: the file is missing, or not the expected one.
    """
    try:
        found = sha256_of(file)
    except OSError as error:
        raise CheckpointError(f"The weights {file} cannot be read: {error.strerror}.") from error
    if expected is not None and found != expected:
        raise CheckpointError(f"{file} is damaged or another file: its SHA-256 is {found}, not {expected}. "
                              "Get it again.")
    return found


def find_weights(weights: Path | None, file_name: str, origin: str) -> Path:
    """Return the file that the user names, or the one of that name in the folder $STYLEGAN_OCT_WEIGHTS.

    Raises:
        CheckpointError: neither is there; says where the file comes from.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if weights is not None:
        return weights
    if folder and (Path(folder) / file_name).is_file():
        return Path(folder) / file_name
    raise CheckpointError(f"The weights of this detector do not come with the project. Name the file, or put "
                          f"{file_name} into the folder that ${FOLDER_VARIABLE} names. {origin}")


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file or of a state dict that torch saved; nothing in it is executed.

    Raises:
        CheckpointError: it is missing, damaged, or holds other things than tensors.
    """
    if file.suffix == ".safetensors":
        return read_tensors(file)
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{file} holds no weights that can be read safely ({reason}). Get it again.") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise CheckpointError(f"{file} is no state dict: tensors under their names.")
    return tensors


def fold_batch_norm(weight: Tensor, norm: Mapping[str, Tensor], prefix: str, eps: float) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the one convolution that does what convolution and batch norm do in turn.

    gamma (W x - mean) / sqrt(var + eps) + beta is a convolution again (Jacob et al. 2018, Section 3.2). The norm's
    tensors are found as `prefix`.weight, .bias, .running_mean and .running_var.
    """
    gain = norm[f"{prefix}.weight"] / (norm[f"{prefix}.running_var"] + eps).sqrt()
    return weight * gain[:, None, None, None], norm[f"{prefix}.bias"] - norm[f"{prefix}.running_mean"] * gain


def resize(images: Tensor, side: int | None) -> Tensor:
    """Return images [N, C, H, W] at side x side pixels, antialiased; as they are where `side` is None or fits."""
    if side is None or images.shape[-2:] == (side, side):
        return images
    return interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)


def centred(features: Tensor, mean: Tensor | None = None) -> Tensor:
    """Return pooled features [N, dim] less a mean [dim], at unit length; squared distances are then 2 - 2 cosine.

    What all scans have in common, most of an embedding, goes with the mean: take that of a large set, such as the
    library that is searched. Default: the mean of these features themselves.
    """
    moved = features - (features.mean(dim=0) if mean is None else mean)
    unit: Tensor = moved / torch.linalg.vector_norm(moved, dim=1, keepdim=True).clamp_min(1e-12)
    return unit


def standardise(images: Tensor, mean: Sequence[float], sd: Sequence[float]) -> Tensor:
    """Return images [N, C, H, W] in [-1, 1] as [N, 3, H, W] with (x - mean) / sd, both of channels in [0, 1]."""
    centre, spread = (images.new_tensor(values)[:, None, None] for values in (mean, sd))
    return as_rgb(images) * (0.5 / spread) + (0.5 - centre) / spread


def as_rgb(images: Tensor) -> Tensor:
    """Return grey images [N, 1, H, W] with three equal channels; RGB as it is."""
    assert images.shape[1] in (1, 3), images.shape
    return images.expand(-1, 3, -1, -1)


def as_grey(images: Tensor) -> Tensor:
    """Return RGB images [N, 3, H, W] as their luma [N, 1, H, W] (ITU-R BT.601); grey as it is."""
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
