"""latents.safetensors: w [N, w_dim] (float32), seed and label [N], in the order of the manifest."""

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnnlib.files import atomic_path
from stylegan_oct.export.description.manifest import Item, Rows

FILE = "latents.safetensors"
BATCH = 512


def write_latents(out: Path, rows: Rows, latents_of: Callable[[list[Item]], NDArray[np.float32]], *,
                  facts: Mapping[str, str]) -> None:
    """Write the latents of all pictures, a batch at a time: memory does not grow with their number.

    The format is written here, since `safetensors` takes whole tensors alone: the length of the header (8 bytes, little
    endian), the header in JSON, then the values one tensor after the other.

    Args:
        out: folder of the export.
        rows: all pictures, at least one.
        latents_of: returns float32 [n, w_dim] for n pictures.
        facts: what the file says of itself.
    Raises:
        OSError: the file cannot be written.
    """
    seeds, labels = array("q"), array("q")
    for item in rows():
        seeds.append(item.seed)
        labels.append(item.label_id)
    count, dim = len(seeds), latents_of([next(rows())]).shape[1]
    with atomic_path(out / FILE) as temporary, open(temporary, "wb") as file:
        file.write(_header(count, dim, facts))
        for items in _batches(rows()):
            file.write(latents_of(items).astype("<f4").tobytes())
        for numbers in (seeds, labels):
            file.write(np.asarray(numbers, "<i8").tobytes())


def _header(count: int, dim: int, facts: Mapping[str, str]) -> bytes:
    tensors: dict[str, object] = {"__metadata__": dict(facts)}
    end = 0
    for name, kind, shape in (("w", "F32", [count, dim]), ("seed", "I64", [count]), ("label", "I64", [count])):
        begin, end = end, end + count * (4 * dim if name == "w" else 8)
        tensors[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(tensors).encode()
    text += b" " * (-len(text) % 8)  # so that the values lie at multiples of their size
    return len(text).to_bytes(8, "little") + text


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    while batch := list(islice(items, BATCH)):
        yield batch
