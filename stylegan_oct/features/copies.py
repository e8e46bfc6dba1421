"""A small network that takes a scan and its near-copies for the same and any other eye for another: a copy detector.

What judges the quality of pictures does not see copies: it is taught that all healthy eyes look alike. This one is
trained on the user's own archive to tell its scans apart, whatever their speckle, place, contrast and sharpness. It
knows no patient's name and no class; but it derives from scans of patients, and is kept as they are.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from dnnlib.config import Count, Hash, Name, Within, from_dict
from dnnlib.errors import CheckpointError, ConfigError
from dnnlib.files import atomic_write
from dnnlib.stored import parse_json, reading
from stylegan_oct.data.privacy import write_private
from stylegan_oct.features.detector import Detector, as_grey, checked_sha256
from torch_utils.checkpoint import encode_tensors, load_network, read_header

KIND = "copy-detector-1"
MAKE = "Make one with: python -m tools train-copies ARCHIVE --out FILE"
INCLUDED = Path(__file__).parents[1] / "demo" / "demo64" / "copies.safetensors"
WIDTHS = (24, 32, 48, 64)  # channels of the layers
MAP = 16                   # side of the maps whose spectra are compared
CYCLES = 5                 # over a map: the highest frequency that is kept; of finer ones a small shift leaves nothing
DIM = 128
FAINT = 0.1                # magnitude below which a spectrum is noise


@dataclass(frozen=True, kw_only=True)
class CopyInfo:
    """What the file of a copy detector says of itself."""

    resolution: Annotated[int, Within(4, 1024)]  # px at which it looks
    archive: Hash    # fingerprint of what it was trained on
    source: Name     # "phantom" or "scans"
    nimg: Count      # pictures shown in training
    seed: int


class CopyNetwork(nn.Module):
    """Convolutions down to small maps, the magnitudes of the maps' low frequencies, and a linear layer over those.

    A shift changes the phases of a spectrum alone; without the phases the network need not learn to overlook it, but
    still sees what lies where in relation to what. Gain and offset are taken out of the picture first.
    """

    _across: Tensor  # [2, S, frequencies]: cosines and sines
    _down: Tensor    # [2, frequencies, S]

    def __init__(self, resolution: int) -> None:
        super().__init__()
        side = min(MAP, resolution // 2)
        halvings = (resolution // side).bit_length() - 2  # beyond that of the first layer
        widths = WIDTHS[:halvings + 2]
        self.stages = nn.ModuleList([_layer(1, widths[0], kernel=5, stride=2),
                                     *(_layer(*pair, pool=place < halvings)
                                       for place, pair in enumerate(zip(widths, widths[1:], strict=False)))])
        cycles = min(CYCLES, side // 2)
        across, down = torch.arange(cycles + 1), torch.arange(-cycles, cycles + 1)  # others are conjugates of these
        places = torch.arange(side) * (2 * math.pi / side)
        for name, angles in (("across", places[:, None] * across), ("down", down[:, None] * places)):
            self.register_buffer(f"_{name}", torch.stack([angles.cos(), angles.sin()]) / math.sqrt(side),
                                 persistent=False)
        size = widths[-1] * len(across) * len(down)
        self.scale = nn.BatchNorm1d(size, affine=False)
        self.head = nn.Linear(size, DIM)

    def taps(self, images: Tensor) -> list[Tensor]:
        """Return the output of every stage for images [N, 1, R, R]; their gain and offset do not count."""
        sd, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True)
        images = (images - mean) / (sd + 1e-3)
        found = []
        for stage in self.stages:
            images = stage(images)
            found.append(images)
        return found

    def spectrum(self, maps: Tensor) -> Tensor:
        """Return the magnitudes of the low frequencies of maps [N, C, S, S], [N, C, 11, 6] where S is 16.

        By the definition of the Fourier transform: for so few frequencies that is faster than a fast one.
        """
        cosines, sines = maps.contiguous() @ self._across[0], maps.contiguous() @ self._across[1]
        real = self._down[0] @ cosines - self._down[1] @ sines
        imaginary = self._down[0] @ sines + self._down[1] @ cosines
        return (real.square() + imaginary.square() + FAINT**2).sqrt()

    def forward(self, images: Tensor) -> Tensor:
        """Return features [N, 128] of images [N, 1, R, R] in [-1, 1]; they are compared at unit length."""
        features = self.head(self.scale(self.spectrum(self.taps(images)[-1]).log().flatten(1)))
        assert isinstance(features, Tensor)
        return features


def _layer(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, pool: bool = False) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs),
                         nn.ReLU(), *([nn.AvgPool2d(2)] if pool else []))


class CopyDetector(Detector):
    """A trained copy detector; the Euclidean distance of its features is small (0 to 2) between copies.

        detector = load_detector("copies", weights=Path("copies.safetensors"))
        features = detector.embed(pixels)     # unit vectors [N, 128]
    """

    name = "copies"

    def __init__(self, network: CopyNetwork, info: CopyInfo, sha256: str) -> None:
        super().__init__()
        self.network, self.info, self.sha256 = network, info, sha256
        self.dim, self.size = DIM, info.resolution

    @classmethod
    def load(cls, weights: Path | None) -> Self:
        """Return the detector of a file that `train-copies` wrote; default: the one trained on simulated scans."""
        file = weights or INCLUDED
        sha256 = checked_sha256(file)
        info = read_copy_info(file)
        network = load_network(lambda: CopyNetwork(info.resolution), file)
        return cls(network, info, sha256)

    def taps(self, images: Tensor) -> list[Tensor]:
        """Return the features of every stage, at 1/2, 1/4, ... of the size."""
        return self.network.taps(as_grey(images))

    def pool(self, images: Tensor) -> Tensor:
        """Return the unit vectors that are compared, the same for a picture and its mirror image."""
        grey = as_grey(images)
        return normalize(self.network(grey) + self.network(grey.flip(3)), dim=1)


def read_copy_info(file: Path) -> CopyInfo:
    """Return what the file of a copy detector says of itself.

    Raises:
        CheckpointError: it is another kind of file.
    """
    texts = read_header(file)
    if texts.get("kind") != KIND:
        raise CheckpointError(f"{file} is not a copy detector of this project. {MAKE}")
    with reading(file, CheckpointError, MAKE):
        return from_dict(CopyInfo, parse_json(texts.get("info", ""), "info"), where="info")


def save_copies(network: CopyNetwork, info: CopyInfo, file: Path) -> None:
    """Write the network, as float16, with its description; for the owner alone where it learned from scans.

    Raises:
        ConfigError: the file cannot be written.
    """
    tensors = {name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
               for name, tensor in network.state_dict().items()}
    data = encode_tensors(tensors, {"kind": KIND, "info": json.dumps(asdict(info))})
    try:
        if info.source == "phantom":
            with atomic_write(file, "wb") as opened:
                opened.write(data)
        else:
            write_private(file, data)
    except OSError as error:
        raise ConfigError(f"Cannot write {file}: {error.strerror}. Choose another place with --out.") from error
