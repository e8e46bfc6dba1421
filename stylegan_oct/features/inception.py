"""Inception-v3 as the Frechet inception distance uses it.

Szegedy et al. 2016 ("Rethinking the Inception Architecture", Table 1), with what sets the network of Heusel et al. 2017
apart from the published one: averages leave padding out, the last block takes a maximum in place of the average, and
there are 1008 classes. Layers carry the names of the common PyTorch file, from which the weights are read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

from dnnlib.errors import CheckpointError
from stylegan_oct.features.detector import (
    Detector,
    as_rgb,
    checked_sha256,
    find_weights,
    fold_batch_norm,
    read_weights,
)
from torch_utils.checkpoint import load_module

FILE = "pt_inception-2015-12-05-6726825d.pth"
HASH_PREFIX = "6726825d"   # of its SHA-256, which the file's name gives
ORIGIN = ("It is found at https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
          "pt_inception-2015-12-05-6726825d.pth")
NORM_EPS = 1e-3

Kernel = int | tuple[int, int]
Spec = tuple[str, int, Kernel]          # name, output channels, kernel
Chain = tuple[Spec | tuple[Spec, Spec], ...]  # one after the other; a pair at the end works side by side


class Conv(nn.Conv2d):
    """A convolution, its batch norm folded in, and a rectifier."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H', W']."""
        return super().forward(x).relu()


class Mixed(nn.Module):
    """Chains of convolutions side by side, and a pooled branch, their outputs joined.

    Args:
        inputs: channels.
        chains: of the branches; with `stride` 2, their last convolutions halve the size.
        pool: what the last branch takes over 3 x 3 pixels.
        pooled: channels of the 1 x 1 convolution after the pooling; 0: none.
        stride: 1, which keeps the size, or 2.
    """

    def __init__(self, inputs: int, chains: Sequence[Chain], pool: Literal["average", "maximum"], pooled: int,
                 stride: int = 1) -> None:
        super().__init__()
        self.chains: list[list[list[str]]] = []
        self.pool, self.stride = pool, stride
        self.outputs = pooled or inputs
        for chain in chains:
            width, names = inputs, []
            for place, step in enumerate(chain):
                specs: Sequence[Spec] = (step,) if isinstance(step[0], str) else step
                last = stride if place == len(chain) - 1 else 1
                for name, outputs, kernel in specs:
                    self.add_module(name, _conv(width, outputs, kernel, last))
                names.append([name for name, _, _ in specs])
                width = sum(outputs for _, outputs, _ in specs)
            self.chains.append(names)
            self.outputs += width
        self.branch_pool = _conv(inputs, pooled, 1) if pooled else None

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H', W']."""
        found = []
        for chain in self.chains:
            y = x
            for names in chain:
                y = torch.cat([self.get_submodule(name)(y) for name in names], dim=1)
            found.append(y)
        if self.pool == "average":
            y = avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        else:
            y = max_pool2d(x, 3, stride=self.stride, padding=1 if self.stride == 1 else 0)
        found.append(y if self.branch_pool is None else self.branch_pool(y))
        return torch.cat(found, dim=1)


def _conv(inputs: int, outputs: int, kernel: Kernel, stride: int = 1) -> Conv:
    """Return a convolution that keeps the size at stride 1, and pads nothing at stride 2."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    return Conv(inputs, outputs, (height, width), stride, (height // 2, width // 2) if stride == 1 else 0)


def _fine(inputs: int, pooled: int) -> Mixed:
    return Mixed(inputs, ((("branch1x1", 64, 1),), (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
                          (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3))),
                 "average", pooled)


def _middle(width: int) -> Mixed:
    across, down = (1, 7), (7, 1)
    return Mixed(768, ((("branch1x1", 192, 1),),
                       (("branch7x7_1", width, 1), ("branch7x7_2", width, across), ("branch7x7_3", 192, down)),
                       (("branch7x7dbl_1", width, 1), ("branch7x7dbl_2", width, down),
                        ("branch7x7dbl_3", width, across), ("branch7x7dbl_4", width, down),
                        ("branch7x7dbl_5", 192, across))), "average", 192)


def _coarse(inputs: int, pool: Literal["average", "maximum"]) -> Mixed:
    across, down = (1, 3), (3, 1)
    return Mixed(inputs, ((("branch1x1", 320, 1),),
                          (("branch3x3_1", 384, 1), (("branch3x3_2a", 384, across), ("branch3x3_2b", 384, down))),
                          (("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3),
                           (("branch3x3dbl_3a", 384, across), ("branch3x3dbl_3b", 384, down)))), pool, 192)


class Inception(nn.Module):
    """The network without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Conv(3, 32, 3, 2), Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Conv(64, 80, 1), Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _fine(192, 32), _fine(256, 64), _fine(288, 64)
        self.Mixed_6a = Mixed(288, ((("branch3x3", 384, 3),), (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3),
                                                               ("branch3x3dbl_3", 96, 3))), "maximum", 0, 2)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_middle(width) for width in (128, 160, 160, 192))
        self.Mixed_7a = Mixed(768, ((("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)),
                                    (("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)),
                                     ("branch7x7x3_3", 192, (7, 1)), ("branch7x7x3_4", 192, 3))), "maximum", 0, 2)
        self.Mixed_7b, self.Mixed_7c = _coarse(1280, "average"), _coarse(2048, "maximum")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the taps of `InceptionDetector` for [N, 3, H, W] in [-1, 1]."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        taps = [max_pool2d(x, 3, 2)]
        taps.append(max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(taps[-1])), 3, 2))
        for names in (("5b", "5c", "5d"), ("6a", "6b", "6c", "6d", "6e"), ("7a", "7b", "7c")):
            y = taps[-1]
            for name in names:
                y = self.get_submodule(f"Mixed_{name}")(y)
            taps.append(y)
        return taps


class InceptionDetector(Detector):
    """Inception-v3; five taps, the 2048 pooled features of FID. Embedded pictures are resized to 299 px."""

    name = "inception"
    dim = 2048
    size = 299

    def __init__(self, network: Inception, sha256: str) -> None:
        super().__init__()
        self.network, self.sha256 = network, sha256

    @classmethod
    def load(cls, weights: Path | None) -> Self:
        """Return the detector with the weights that FID is defined by, and no others: results compare only so."""
        file = find_weights(weights, FILE, ORIGIN)
        sha256 = checked_sha256(file)
        if not sha256.startswith(HASH_PREFIX):
            raise CheckpointError(f"{file} is not the network of FID: its SHA-256 begins with {sha256[:8]}, not "
                                  f"{HASH_PREFIX}. {ORIGIN}")
        network = Inception()
        load_module(network, fold_batch_norms(read_weights(file), network), source=str(file))
        return cls(network, sha256)

    def taps(self, images: Tensor) -> list[Tensor]:
        """Return features of 64, 192, 288, 768 and 2048 channels at about 1/4, 1/8, 1/8, 1/16 and 1/32 of the size.

        Args:
            images: as in `Detector.taps`, of 75 px or more.
        """
        taps: list[Tensor] = self.network(as_rgb(images))
        return taps

    def pool(self, images: Tensor) -> Tensor:
        """Return the mean over the picture of the last tap."""
        return self.taps(images)[-1].mean(dim=(2, 3))


def fold_batch_norms(tensors: dict[str, Tensor], network: Inception) -> dict[str, Tensor]:
    """Return the file's convolutions with their batch norms folded in; the classifier is left out."""
    folded = {}
    for name, module in network.named_modules():
        if isinstance(module, Conv) and f"{name}.conv.weight" in tensors:
            folded[f"{name}.weight"], folded[f"{name}.bias"] = fold_batch_norm(
                tensors[f"{name}.conv.weight"], tensors, f"{name}.bn", NORM_EPS)
    return folded
