"""VGG16 with the learned weights of LPIPS, the perceptual distance that papers on projection report.

Simonyan and Zisserman 2015 ("Very Deep Convolutional Networks", configuration D); Zhang et al. 2018 ("The Unreasonable
Effectiveness of Deep Features as a Perceptual Metric", Eq. 1). With this detector `PerceptualDistance` is LPIPS.
"""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from dnnlib.errors import CheckpointError
from stylegan_oct.features.detector import Detector, checked_sha256, find_weights, read_weights, standardise
from torch_utils.checkpoint import load_module

FILE = "lpips-vgg.pth"
ORIGIN = ("Make it where the package lpips is installed: "
          "torch.save(lpips.LPIPS(net='vgg').state_dict(), 'lpips-vgg.pth').")
WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels


class Vgg16Lpips(nn.Module):
    """The thirteen convolutions, and a weight for each channel at the end of each of the five blocks."""

    def __init__(self) -> None:
        super().__init__()
        inputs = [3, *(width for block in WIDTHS for width in block)]
        layers = iter(zip(inputs[:-1], inputs[1:], strict=True))
        self.blocks = nn.ModuleList(nn.ModuleList(nn.Conv2d(*next(layers), 3, padding=1) for _ in block)
                                    for block in WIDTHS)
        self.heads = nn.ParameterList(torch.zeros(block[-1]) for block in WIDTHS)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the rectified output of each block, before the pooling."""
        taps: list[Tensor] = []
        for block in self.blocks:
            x = max_pool2d(x, 2) if taps else x
            assert isinstance(block, nn.ModuleList)
            for conv in block:
                x = conv(x).relu()
            taps.append(x)
        return taps


class Vgg16LpipsDetector(Detector):
    """VGG16; five taps with the channel weights of LPIPS, 512 pooled features. Images of 16 px and more."""

    name = "vgg16-lpips"
    dim = WIDTHS[-1][-1]
    size = None

    def __init__(self, network: Vgg16Lpips, sha256: str) -> None:
        super().__init__()
        self.network, self.sha256 = network, sha256

    @classmethod
    def load(cls, weights: Path | None) -> Self:
        """Return the detector with the weights of a state dict of `lpips.LPIPS(net="vgg")`."""
        file = find_weights(weights, FILE, ORIGIN)
        sha256 = checked_sha256(file)
        network = Vgg16Lpips()
        load_module(network, rename(read_weights(file), file), source=str(file))
        return cls(network, sha256)

    def taps(self, images: Tensor) -> list[Tensor]:
        """Return features of 64, 128, 256, 512 and 512 channels at 1, 1/2, 1/4, 1/8 and 1/16 of the size."""
        taps: list[Tensor] = self.network(standardise(images, MEAN, SD))
        return taps

    def pool(self, images: Tensor) -> Tensor:
        """Return the mean over the picture of the 512 channels of the last tap."""
        return self.taps(images)[-1].mean(dim=(2, 3))

    def channel_weights(self) -> list[Tensor]:
        """Return what LPIPS learned from judgements of photographs."""
        return list(self.network.heads)


def rename(tensors: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Return the tensors of an LPIPS state dict under the names of `Vgg16Lpips`.

    The package numbers the convolutions as they stand among the other layers of VGG16: 0 and 2, 5 and 7, ...

    Raises:
        CheckpointError: it is another state dict.
    """
    renamed, number = {}, 0
    try:
        for block, widths in enumerate(WIDTHS):
            for place in range(len(widths)):
                for kind in ("weight", "bias"):
                    renamed[f"blocks.{block}.{place}.{kind}"] = tensors[f"net.slice{block + 1}.{number}.{kind}"]
                number += 2  # a convolution and its rectifier
            number += 1      # the pooling
            renamed[f"heads.{block}"] = tensors[f"lin{block}.model.1.weight"].flatten()
    except KeyError as error:
        raise CheckpointError(f"{file} lacks {error.args[0]}: it is no state dict of LPIPS with VGG16. "
                              f"{ORIGIN}") from error
    return renamed
