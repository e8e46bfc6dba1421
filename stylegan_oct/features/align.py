"""Moving the retina of a scan to the middle, so that its depth in the scan, which means nothing, does not count."""

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]

BLOCKS = 64           # rows and columns to which a picture is averaged first: speckle goes, layers stay
FLOOR_PERCENTILE = 60  # retina and choroid fill less than the rest of a scan; below this is background


def align(picture: Grey) -> Grey:
    """Return the picture [H, W] rolled up or down so that the retina's centroid lies in its middle row.

    The rows that leave on one side come in on the other: both are dark background, with the scan's own speckle. White
    wedges and black margins must have been repaired before (`stylegan_oct.data.preprocess.process` does).
    """
    rolled: Grey = np.roll(picture, round((picture.shape[0] - 1) / 2 - retina_row(picture)), axis=0)
    return rolled


def retina_row(picture: Grey) -> float:
    """Return the row of the retina's centroid in a picture [H, W]: 0 the top row, H - 1 the bottom one.

    The mean row of the light above the background, squared, which favours the bright layers over the choroid.
    """
    step = tuple(max(size // BLOCKS, 1) for size in picture.shape)
    rows, columns = (size // one for size, one in zip(picture.shape, step, strict=True))
    cut = picture[:rows * step[0], :columns * step[1]]
    small = cut.reshape(rows, step[0], columns, step[1]).mean(axis=(1, 3), dtype=np.float32)
    light = np.square(np.maximum(small - np.percentile(small, FLOOR_PERCENTILE), 0)).sum(axis=1)  # [rows]
    if not light.any():
        return (picture.shape[0] - 1) / 2
    return float(light @ np.arange(rows) / light.sum() * step[0] + (step[0] - 1) / 2)
