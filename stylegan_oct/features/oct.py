"""A small classifier of retinal scans, trained on the user's own archive: class oracle, and features that know OCT."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

import torch
from torch import Tensor, nn

from dnnlib.config import Count, Hash, Name, Within, from_dict
from dnnlib.errors import CheckpointError, ConfigError
from dnnlib.files import atomic_path
from dnnlib.stored import parse_json, reading
from stylegan_oct.features.detector import Detector, as_grey, as_rgb, checked_sha256
from torch_utils.checkpoint import encode_tensors, load_network, read_header

KIND = "oct-detector-1"
MAKE = "Make one with: python -m tools train-detector ARCHIVE --out FILE"
INCLUDED = Path(__file__).parents[1] / "demo" / "demo64" / "detector.safetensors"
WIDTHS = (24, 48, 96, 128, 128, 128, 128, 128)  # channels of the stages; the first log2(resolution) - 2 are used


@dataclass(frozen=True, kw_only=True)
class OctInfo:
    """What the file of a classifier says of itself."""

    classes: Annotated[tuple[Name, ...], Within(1, 4096)]
    resolution: Annotated[int, Within(8, 1024)]
    channels: Annotated[int, Within(1, 3)]
    archive: Hash          # fingerprint of what it was trained on
    source: Name           # "phantom" or "scans"
    nimg: Count            # images shown in training
    right: dict[Name, dict[Name, Count]]   # split -> class -> scans that it names rightly
    count: dict[Name, dict[Name, Count]]   # split -> class -> scans

    def __post_init__(self) -> None:
        for split, counts in self.count.items():
            if self.right.get(split, {}).keys() != counts.keys():
                raise ConfigError(f"right and count must tell of the same classes of {split}.")

    def accuracy(self, split: str) -> float:
        """Return the share of scans of a split that are named rightly, each class counting alike."""
        shares = [self.right[split][name] / n for name, n in self.count[split].items() if n]
        return sum(shares) / len(shares)


def stage_count(resolution: int) -> int:
    """Return the number of stages, each halving the size, that lead to 4 x 4."""
    return resolution.bit_length() - 3


class OctNetwork(nn.Module):
    """Stages of two 3 x 3 convolutions and a maximum over 2 x 2, then the maximum over the picture."""

    def __init__(self, resolution: int, channels: int, classes: int) -> None:
        super().__init__()
        widths = WIDTHS[:stage_count(resolution)]
        self.stages = nn.ModuleList(self._stage(*pair) for pair in zip((channels, *widths), widths, strict=False))
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(widths[-1], classes)

    @staticmethod
    def _stage(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                             nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                             nn.MaxPool2d(2))

    def taps(self, images: Tensor) -> list[Tensor]:
        """Return the output of every stage."""
        found = []
        for stage in self.stages:
            images = stage(images)
            found.append(images)
        return found

    def pool(self, images: Tensor) -> Tensor:
        """Return the maximum of each channel of the last stage, [N, width]: a lesion is small."""
        return self.taps(images)[-1].amax(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] of images [N, C, R, R] in [-1, 1]."""
        logits = self.classifier(self.dropout(self.pool(images)))
        assert isinstance(logits, Tensor)
        return logits


class OctDetector(Detector):
    """A trained classifier; its features are those before the last layer.

        oracle = load_detector("oct", weights=Path("detector.safetensors"))
        oracle.classify(pixels)     # probabilities [N, classes] in the order of oracle.classes
    """

    name = "oct"

    def __init__(self, network: OctNetwork, info: OctInfo, sha256: str) -> None:
        super().__init__()
        self.network, self.info, self.sha256 = network, info, sha256
        self.dim, self.size = network.classifier.in_features, info.resolution

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the probabilities."""
        return self.info.classes

    @classmethod
    def load(cls, weights: Path | None) -> Self:
        """Return the detector of a file that `train-detector` wrote; default: the one trained on simulated scans."""
        file = weights or INCLUDED
        sha256 = checked_sha256(file)
        info = read_oct_info(file)
        network = load_network(lambda: OctNetwork(info.resolution, info.channels, len(info.classes)), file)
        return cls(network, info, sha256)

    def taps(self, images: Tensor) -> list[Tensor]:
        """Return the features of every stage, at 1/2, 1/4, ... of the size."""
        return self.network.taps(self._channels(images))

    def pool(self, images: Tensor) -> Tensor:
        """Return the features before the last layer."""
        return self.network.pool(self._channels(images))

    @torch.no_grad()
    def classify(self, pixels: Tensor, *, batch: int | None = None) -> Tensor:
        """Return the probability of each class, float32 [N, classes], on the CPU.

        Args:
            pixels: uint8 [N, C, H, W], C = 1 or 3, of any size.
            batch: pictures at once; None: as many as serve.
        """
        logits = self.network.classifier(self.embed(pixels, batch=batch).to(self.device))
        probabilities: Tensor = logits.softmax(dim=1).cpu()
        return probabilities

    def _channels(self, images: Tensor) -> Tensor:
        """Return the images with as many channels as the network was trained with."""
        return as_rgb(images) if self.info.channels == 3 else as_grey(images)


def read_oct_info(file: Path) -> OctInfo:
    """Return what the file of a classifier says of itself.

    Raises:
        CheckpointError: it is another kind of file.
    """
    texts = read_header(file)
    if texts.get("kind") != KIND:
        raise CheckpointError(f"{file} is not a detector of this project. {MAKE}")
    with reading(file, CheckpointError, MAKE):
        return from_dict(OctInfo, parse_json(texts.get("info", ""), "info"), where="info")


def save_oct(network: OctNetwork, info: OctInfo, file: Path) -> None:
    """Write the network, as float16, with its description.

    Raises:
        ConfigError: the file cannot be written.
    """
    tensors = {name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
               for name, tensor in network.state_dict().items()}
    try:
        with atomic_path(file) as temporary:
            temporary.write_bytes(encode_tensors(tensors, {"kind": KIND, "info": json.dumps(asdict(info))}))
    except OSError as error:
        raise ConfigError(f"Cannot write {file}: {error}. Choose another place with --out.") from error
