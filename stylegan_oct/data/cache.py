"""The pictures of an archive decoded once: a file of bytes beside it, mapped into memory.

A fast GPU sees pictures faster than a few processes can decode PNGs. The file is read at random without a lock by any
number of processes, and what is read often stays in the memory of the computer, once for all of them. Its name carries
the hash of the archive; it can be deleted at any time.
"""

import contextlib
import logging
import os
import secrets
import shutil
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dnnlib.arrays import holds_array, map_array
from dnnlib.errors import DataError
from dnnlib.stored import reading
from dnnlib.text import format_bytes
from stylegan_oct.data.archive import Archive
from torch_utils.distributed import World

MOST_OF_DISK = 0.5  # of what is free
ROUND = 256         # pictures of a process between two words to the others, who would else give it up

Pixels = NDArray[np.uint8]

log = logging.getLogger(__name__)


def decoded_pixels(archive: Archive, split: str, *, world: World = World()) -> Pixels | None:  # noqa: B008 (frozen)
    """Return the pictures of a split, uint8 [N, C, R, R] in the order of `Archive.names`, mapped from the file.

    The file is made on the first use, each process decoding its share. None where it would take more than half of the
    free disk, or cannot be written: the pictures are then read from the archive.

    Args:
        archive: where the pictures are.
        split: of it.
        world: the processes that read it; they must see the same folder.
    Raises:
        DataError: a picture cannot be decoded.
    """
    path = cache_path(archive, split)
    names = archive.names(split)
    shape = (len(names), archive.channels, archive.resolution, archive.resolution)
    if not world.any(not holds_array(path, shape, np.uint8)) or _make(archive, names, shape, path, world):
        with reading(path, DataError, "Remove it to have it made anew."):
            return cast(Pixels, map_array(path, shape, np.uint8))
    return None


def cache_path(archive: Archive, split: str) -> Path:
    """Return where the decoded pictures are kept."""
    return archive.path.with_name(f"{archive.path.stem}-{split}-{archive.fingerprint[:16]}.pixels")


def _make(archive: Archive, names: list[str], shape: tuple[int, ...], path: Path, world: World) -> bool:
    """Decode all pictures into the file; return whether there is one."""
    size = int(np.prod(shape, dtype=np.int64))
    temporary = path.with_name(f".tmp-{path.name}-{world.share(secrets.token_hex(4) if world.is_first else '')}")
    if world.any(world.is_first and not _begin(temporary, shape, size)):
        return False
    if world.is_first:
        log.info("decoding %d pictures once, into %s (%s)", len(names), path, format_bytes(size))
    try:
        pixels = np.lib.format.open_memmap(temporary, "r+")
        step = ROUND * world.size
        for begin in range(0, len(names), step):
            for i in range(begin + world.rank, min(begin + step, len(names)), world.size):
                picture = archive.read_pixels(names[i])
                pixels[i] = picture if picture.ndim == 2 else picture.transpose(2, 0, 1)
            world.barrier()
        pixels.flush()
        world.barrier()
        if world.is_first:
            os.replace(temporary, path)
            _remove_earlier(path)
        world.barrier()
    finally:
        if world.is_first:
            temporary.unlink(missing_ok=True)
    return True


def _begin(temporary: Path, shape: tuple[int, ...], size: int) -> bool:
    """Make the file that is to be filled, for the owner alone; return whether it can be."""
    try:
        free = shutil.disk_usage(temporary.parent).free
        if size > MOST_OF_DISK * free:
            log.info("pictures are decoded again each time: %s of them would take more than half of the free disk (%s)",
                     format_bytes(size), format_bytes(free))
            return False
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        np.lib.format.open_memmap(temporary, "w+", np.uint8, shape).flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        log.info("pictures are decoded again each time: %s cannot be written (%s)", temporary.parent, error.strerror)
        return False
    return True


def _remove_earlier(path: Path) -> None:
    """Remove what was made of an earlier archive of this name."""
    stem = path.name.rpartition("-")[0]
    for other in path.parent.glob(f"{stem}-{'[0-9a-f]' * 16}.pixels"):
        if other != path:
            other.unlink(missing_ok=True)
