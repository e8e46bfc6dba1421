"""Between uint8 pictures and network images in [-1, 1]."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_unit(pixels: Tensor) -> Tensor:
    """Return uint8 [N, C, H, W] as float32 in [-1, 1]: x / 127.5 - 1."""
    assert pixels.dtype == torch.uint8, pixels.dtype
    return pixels.to(torch.float32) / 127.5 - 1.0


def to_uint8(images: Tensor) -> Tensor:
    """Return images in [-1, 1] as uint8, rounded and clipped; the inverse of `to_unit`."""
    return (images.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def to_pictures(images: Tensor) -> list[NDArray[np.uint8]]:
    """Return images [N, C, H, W] in [-1, 1] as a list of uint8 arrays, [H, W] for one channel, else [H, W, 3]."""
    pixels = to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()  # [N, H, W, C]
    return [picture[:, :, 0] if picture.shape[2] == 1 else picture for picture in pixels]
