"""The nearest of many vectors: exact up to some 100,000, by a graph on disk (usearch, float16) beyond."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dnnlib.errors import ConfigError
from dnnlib.files import atomic_path, atomic_write, sha256_of
from dnnlib.stored import reading

EXACT_UP_TO = 100_000
BLOCK = 16_384           # vectors compared at once
CONNECTIVITY, EXPANSION_ADD = 16, 128
# Of a million in clusters of 1000, 128 finds .930 of the ten nearest, 256 .980, this one .990 (docs/neighbours.md).
EXPANSION_SEARCH = 384
HALF = 0.01              # more than float16 rounds off a unit vector, less than other features differ by
ADD_AT_ONCE = 4096       # so that a build shows how far it is and can be stopped

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Found:
    """The nearest vectors of each query, nearest first."""

    positions: Tensor  # [Q, k], int64
    distances: Tensor  # [Q, k], float32, Euclidean


class Index(Protocol):
    """What answers queries."""

    def search(self, queries: Tensor, k: int) -> Found:
        """Return the k nearest for queries [Q, D].

        Raises:
            ConfigError: k is more than there are vectors.
        """
        ...


class ExactIndex:
    """Compares a query with every vector, a block at a time.

    Args:
        vectors: [N, D], any floating type; may be mapped from a file, each block is converted as it is read.
    """

    def __init__(self, vectors: Tensor) -> None:
        self._vectors = vectors

    def search(self, queries: Tensor, k: int) -> Found:
        """As in `Index`."""
        _check_k(k, len(self._vectors))
        queries = queries.float()
        values, places = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
        for begin in range(0, len(self._vectors), BLOCK):
            block = self._vectors[begin:begin + BLOCK].float()
            # |v|^2 - 2 q v, which orders as |q - v|^2 does.
            scores = torch.addmm(block.square().sum(dim=1), queries, block.T, alpha=-2)  # [Q, block]
            best, at = scores.topk(min(k, len(block)), dim=1, largest=False)
            values, places = torch.cat([values, best], dim=1), torch.cat([places, at + begin], dim=1)
            values, order = values.topk(min(k, values.shape[1]), dim=1, largest=False)
            places = places.gather(1, order)
        return _measured(self._vectors, queries, places)


class GraphIndex:
    """A graph of near vectors (HNSW; Malkov and Yashunin 2018) in a file that is mapped into memory.

    Args:
        path: of the graph, as `build` writes it.
        vectors: [N, D], from which the distances of what is found are measured.
        expansion_search: candidates that a search keeps; more find more of the nearest and take longer.
    Raises:
        ConfigError: usearch is not installed, or the file holds other vectors or cannot be read.
    """

    def __init__(self, path: Path, vectors: Tensor, *, expansion_search: int = EXPANSION_SEARCH) -> None:
        self._vectors = vectors
        self._graph = _usearch().Index(ndim=vectors.shape[1], metric="l2sq", dtype="f16")
        _check_seal(path)
        try:
            self._graph.view(str(path))
        except (RuntimeError, OSError) as error:
            raise ConfigError(f"The index {path} cannot be read ({error}). Remove it to have it built anew.") from error
        self._graph.expansion_search = expansion_search
        if len(self._graph) != len(vectors):
            raise ConfigError(f"The index {path} holds {len(self._graph)} vectors instead of {len(vectors)}. Remove it "
                              "to have it built anew.")
        if not all(torch.allclose(torch.from_numpy(self._graph.get(key)).float(), vectors[key].float(), atol=HALF)
                   for key in (0, len(vectors) - 1)):
            raise ConfigError(f"The index {path} was built of other vectors. Remove it to have it built anew.")

    @staticmethod
    def build(path: Path, vectors: Tensor, *, threads: int = 0, progress: Progress = lambda *_: None) -> None:
        """Write the graph of vectors [N, D]; threads 0 takes every core.

        Raises:
            ConfigError: usearch is not installed.
        """
        graph = _usearch().Index(ndim=vectors.shape[1], metric="l2sq", dtype="f16", connectivity=CONNECTIVITY,
                                 expansion_add=EXPANSION_ADD, expansion_search=EXPANSION_SEARCH)
        for begin in range(0, len(vectors), ADD_AT_ONCE):
            part = vectors[begin:begin + ADD_AT_ONCE].to(torch.float16).numpy()
            graph.add(torch.arange(begin, begin + len(part)).numpy(), part, threads=threads)
            progress(begin + len(part), len(vectors))
        seal_path(path).unlink(missing_ok=True)
        with atomic_path(path) as temporary:
            graph.save(str(temporary))
        with atomic_write(seal_path(path)) as file:
            file.write(sha256_of(path) + "\n")

    def search(self, queries: Tensor, k: int) -> Found:
        """As in `Index`; may miss some of the nearest."""
        _check_k(k, len(self._vectors))
        queries = queries.float()
        keys = self._graph.search(queries.to(torch.float16).numpy(), k).keys.reshape(len(queries), k)
        return _measured(self._vectors, queries, torch.from_numpy(keys.astype("int64")))


def seal_path(path: Path) -> Path:
    """Return where the hash of a graph is kept."""
    return path.with_name(f"{path.name}.sha256")


def _check_seal(path: Path) -> None:
    """Refuse a graph that is not as it was written: usearch follows what stands in it without looking.

    Graphs of earlier releases have no hash beside them, and are taken as they are.

    Raises:
        ConfigError: it is damaged.
    """
    seal = seal_path(path)
    with reading(path, ConfigError, "Remove it to have it built anew."):
        if seal.is_file() and seal.read_bytes()[:65].strip() != sha256_of(path).encode():
            raise ConfigError("it is not as it was written.")


def open_index(vectors: Tensor, path: Path, *, progress: Progress = lambda *_: None) -> Index:
    """Return an exact index, or beyond EXACT_UP_TO vectors a graph, built once and kept at `path`.

    Raises:
        ConfigError: a graph is needed and usearch is not installed, or the file cannot be read.
    """
    if len(vectors) <= EXACT_UP_TO:
        return ExactIndex(vectors)
    if not path.exists():
        GraphIndex.build(path, vectors, progress=progress)
    return GraphIndex(path, vectors)


def _measured(vectors: Tensor, queries: Tensor, positions: Tensor) -> Found:
    """Return positions [Q, k] by their distance, taken from differences: exact for near copies too."""
    distances = torch.stack([(vectors[row].float() - query).norm(dim=1)
                             for query, row in zip(queries, positions, strict=True)])
    distances, order = distances.sort(dim=1, stable=True)
    return Found(positions.gather(1, order), distances)


def _check_k(k: int, count: int) -> None:
    if not 1 <= k <= count:
        raise ConfigError(f"k must be 1 to {count}, the number of pictures to search; got {k}.")


def _usearch() -> Any:
    try:
        from usearch import index
    except ImportError:
        raise ConfigError(f"More than {EXACT_UP_TO} pictures are searched with usearch, which is not installed. "
                          "Install it: pip install 'stylegan-oct[index]'") from None
    return index
