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
    height, width = picture.shape
    down, across = max(height // BLOCKS, 1), max(width // BLOCKS, 1)
    rows, columns = height // down, width // across
    cut = picture[:rows * down, :columns * across]
    small = cut.reshape(rows, down, columns, across).mean(axis=(1, 3), dtype=np.float32)
    light = np.square(np.maximum(small - np.percentile(small, FLOOR_PERCENTILE), 0)).sum(axis=1)  # [rows]
    centroid = float(np.average(np.arange(rows), weights=light)) if light.any() else (rows - 1) / 2
    row: float = centroid * down + (down - 1) / 2
    return row
