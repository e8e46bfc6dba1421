"""The nearest of many vectors, exact and by a graph."""

from pathlib import Path

import pytest
import torch

from dnnlib.errors import ConfigError
from stylegan_oct.latent.neighbours import index as index
from stylegan_oct.latent.neighbours.index import ExactIndex, GraphIndex, open_index
from stylegan_oct.latent.neighbours.percentiles import percentile


@pytest.fixture
def vectors() -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(500, 16, generator=torch.Generator().manual_seed(0)), dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_exact_search_is_a_sort_by_distance_whatever_the_block(
        vectors: torch.Tensor, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "BLOCK", 7)
    vectors = vectors.to(dtype)
    queries = torch.randn(9, 16, generator=torch.Generator().manual_seed(1))
    found = ExactIndex(vectors).search(queries, 20)
    every = torch.cdist(queries.double(), vectors.double())
    torch.testing.assert_close(found.distances.double(), every.sort(dim=1).values[:, :20])
    torch.testing.assert_close(found.distances.double(), every.gather(1, found.positions))  # each at its own place
    assert all(len(set(row)) == 20 for row in found.positions.tolist())


def test_a_copy_has_the_distance_zero_however_long_the_vectors() -> None:
    vectors = torch.randint(0, 256, (50, 1024), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = ExactIndex(vectors).search(vectors[7:8], 2)
    assert found.positions[0, 0] == 7 and found.distances[0, 0] == 0 and found.distances[0, 1] > 1000


@pytest.mark.parametrize("k", [0, 501])
def test_k_beyond_the_number_of_vectors_is_refused(vectors: torch.Tensor, k: int) -> None:
    with pytest.raises(ConfigError, match=f"1 to 500.*got {k}"):
        ExactIndex(vectors).search(vectors[:1], k)


def test_the_graph_finds_what_the_exact_search_finds_and_is_mapped_from_its_file(
        vectors: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("usearch")
    monkeypatch.setattr(index, "EXACT_UP_TO", 100)
    done: list[int] = []
    monkeypatch.setattr(index, "ADD_AT_ONCE", 200)
    queries = torch.randn(50, 16, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "a.usearch"
    graph = open_index(vectors, path, progress=lambda n, _: done.append(n))
    assert isinstance(graph, GraphIndex) and done == [200, 400, 500]
    exact, found = ExactIndex(vectors).search(queries, 10), graph.search(queries, 10)
    recall = (exact.positions[:, :, None] == found.positions[:, None, :]).any(dim=2).double().mean()
    assert recall > 0.95  # threads build another graph each time
    assert (exact.distances - found.distances).abs().max() < 0.2
    built = path.stat().st_mtime_ns
    again = open_index(vectors, path).search(queries, 10)
    assert torch.equal(again.positions, found.positions) and path.stat().st_mtime_ns == built


def test_a_graph_of_other_vectors_or_a_damaged_one_is_refused(
        vectors: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("usearch")
    GraphIndex.build(tmp_path / "a.usearch", vectors[:400])
    with pytest.raises(ConfigError, match="400 vectors instead of 500"):
        GraphIndex(tmp_path / "a.usearch", vectors)
    with pytest.raises(ConfigError, match="of other vectors"):
        GraphIndex(tmp_path / "a.usearch", vectors[100:])
    (tmp_path / "b.usearch").write_bytes(b"no graph")
    with pytest.raises(ConfigError, match="cannot be read"):
        GraphIndex(tmp_path / "b.usearch", vectors)


def test_the_percentile_counts_what_lies_below_and_half_of_what_is_equal() -> None:
    known = torch.tensor([1.0, 2.0, 2.0, 4.0])
    assert percentile(known, torch.tensor([0.0, 1.0, 2.0, 3.0, 9.0])).tolist() == [0.0, 12.5, 50.0, 75.0, 100.0]


def test_a_graph_that_is_not_as_it_was_written_is_not_followed(vectors: torch.Tensor, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    class Graph:
        """As far as usearch is asked here; a graph whose file lies elsewhere in memory would take the process down."""

        def __init__(self, **_: object) -> None:
            self.read = False

        def add(self, *_: object, **__: object) -> None: ...

        def save(self, path: str) -> None:
            Path(path).write_bytes(b"graph")

        def view(self, path: str) -> None:
            self.read = True

        def __len__(self) -> int:
            return 500

        def get(self, key: int) -> object:
            return vectors[key].numpy()

    monkeypatch.setattr(index, "_usearch", lambda: type("usearch", (), {"Index": Graph}))
    path = tmp_path / "graph.usearch"
    GraphIndex.build(path, vectors)
    GraphIndex(path, vectors)
    path.write_bytes(b"grapH")
    with pytest.raises(ConfigError, match="not as it was written. Remove it"):
        GraphIndex(path, vectors)
    index.seal_path(path).unlink()  # as one of an earlier release
    GraphIndex(path, vectors)
