"""The 64-bit difference hash as an observer: a second judge of copies that shares nothing with a network."""

import numpy as np
import torch
from torch import Tensor

from stylegan_oct.data.duplicates import dhash


class HashObserver:
    """The bits of a picture's difference hash, 0 or 1 each; squared Euclidean distances are numbers of differing bits.
    """

    identity, dim = "dhash", 64

    def __call__(self, pixels: Tensor) -> Tensor:
        """As in `Observer`."""
        shown = pixels.permute(0, 2, 3, 1).numpy()  # [n, H, W, C]
        hashes = np.array([dhash(picture[:, :, 0] if picture.shape[2] == 1 else picture) for picture in shown],
                          dtype=">u8")
        return torch.from_numpy(np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1).astype(np.float32))
