"""Pictures that show the same: 64-bit difference hashes, and pairs of near ones among many."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stylegan_oct.data.preprocess import to_grey

MAX_DISTANCE = 4        # bits of 64
MIN_CORRELATION = 0.95  # of thumbnails: unrelated scans differ in 26 bits on average, and among 10^10 pairs of them
                        # tens of thousands lie within 4 by chance
THUMBNAIL = 16          # pixels
BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))  # (first bit, bits): one more than MAX_DISTANCE
BLOCK = 1 << 22         # distances computed at a time

Hashes = NDArray[np.uint64]


def dhash(pixels: NDArray[np.uint8]) -> int:
    """Return the 64-bit difference hash: whether each of 9 x 8 areas is darker than the one right of it."""
    # Means of areas of background differ by less than a grey level; rounded, they would tie.
    small = np.asarray(Image.fromarray(to_grey(pixels).astype(np.float32)).resize((9, 8), Image.Resampling.BOX))
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the picture as 16 x 16 grey areas."""
    size = (THUMBNAIL, THUMBNAIL)
    return np.asarray(Image.fromarray(to_grey(pixels)).resize(size, Image.Resampling.BOX))


def near_pairs(hashes: Hashes, thumbnails: NDArray[np.uint8], max_distance: int = MAX_DISTANCE) -> NDArray[np.int64]:
    """Return the pairs (i < j) of pictures whose hashes differ in few bits and whose thumbnails agree.

    If two hashes differ in at most four bits, one of five bands is equal in both, so only pictures that share a band
    are compared.

    Args:
        hashes: [N] uint64.
        thumbnails: [N, 16, 16] uint8.
        max_distance: bits, at most 4.
    Returns:
        [M, 2] int64, sorted.
    """
    assert max_distance < len(BANDS), max_distance
    found = [np.empty((0, 2), np.int64)]
    for shift, width in BANDS:
        band = (hashes >> np.uint64(shift)) & np.uint64((1 << width) - 1)
        for members in _equal(band):
            found += [pairs[_agree(thumbnails, pairs)] for pairs in _pairs_within(hashes, members, max_distance)]
    return np.unique(np.concatenate(found), axis=0)


def distance(a: Hashes, b: Hashes) -> NDArray[np.uint8]:
    """Return the number of differing bits."""
    x = a ^ b
    one, three, five = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
    x = x - ((x >> np.uint64(1)) & one)  # counts of bit pairs, then of groups of 4 and of bytes
    x = (x & three) + ((x >> np.uint64(2)) & three)
    x = (x + (x >> np.uint64(4))) & five
    return (x * np.uint64(0x0101010101010101) >> np.uint64(56)).astype(np.uint8)


def _equal(values: Hashes) -> Iterator[NDArray[np.int64]]:
    """Yield the indices that share a value, for values that occur more than once."""
    order = np.argsort(values, kind="stable")
    edges = np.flatnonzero(np.diff(values[order])) + 1
    for members in np.split(order, edges):
        if len(members) > 1:
            yield np.sort(members)


def _pairs_within(hashes: Hashes, members: NDArray[np.int64], max_distance: int) -> Iterator[NDArray[np.int64]]:
    """Yield the near pairs among the members, block by block, so that memory stays bounded."""
    rows = max(BLOCK // len(members), 1)
    for first in range(0, len(members), rows):
        part, later = members[first:first + rows], members[first:]
        i, j = np.nonzero(distance(hashes[part][:, np.newaxis], hashes[later][np.newaxis]) <= max_distance)
        yield np.stack([part[i], later[j]], axis=1)[i < j]


def _agree(thumbnails: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which pairs have thumbnails that correlate."""
    result = np.empty(len(pairs), bool)
    for first in range(0, len(pairs), 1 << 14):
        a, b = (thumbnails[side].reshape(len(side), -1).astype(np.float32) for side in pairs[first:first + (1 << 14)].T)
        a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
        size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
        result[first:first + (1 << 14)] = (a * b).sum(axis=1) >= MIN_CORRELATION * size
    return result
