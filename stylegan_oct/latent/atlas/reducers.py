"""Maps of vectors in two dimensions: fitted once, kept as tensors, and able to place vectors that come later."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Literal, Protocol, Self

import torch
from torch import Tensor

from dnnlib.config import Finite, Within
from dnnlib.errors import ConfigError
from stylegan_oct.latent.neighbours.index import ExactIndex
from torch_utils.tensor_file import take

Method = Literal["umap", "pca"]

ROOM = 1.25     # between the middles of two groups, in the sum of their radii
BLOCK = 512     # rows of a matrix of distances at once


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a file says of a map; the method decides which of the parameters count."""

    method: Method
    trustworthiness: Finite
    explained_x: Finite = 0.0   # shares of the variance
    explained_y: Finite = 0.0
    neighbours: Annotated[int, Within(1, 2**20)] = 1
    min_dist: Finite = 0.0
    seed: int = 0


class Reducer(Protocol):
    """A fitted map."""

    @property
    def facts(self) -> dict[str, str | float]:
        """Method and parameters."""
        ...

    def place(self, vectors: Tensor) -> Tensor:
        """Return places [N, 2], float32, of vectors [N, D]."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return what `from_tensors` takes beside the vectors that were fitted and their places."""
        ...


@dataclass(frozen=True)
class Pca:
    """The plane of largest variance."""

    mean: Tensor        # [D]
    components: Tensor  # [2, D], unit vectors; the largest entry of each is positive
    explained: tuple[float, ...]  # shares of the variance

    @classmethod
    def fit(cls, vectors: Tensor) -> Self:
        """Return the map of vectors [N, D]."""
        x = vectors.double()
        mean = x.mean(dim=0)
        values, axes = torch.linalg.eigh((x - mean).T @ (x - mean))        # rising
        first = axes.flip(1).T[:2]
        largest = first.gather(1, first.abs().argmax(dim=1, keepdim=True))
        shares = values.flip(0)[:2] / values.sum().clamp_min(1e-30)
        return cls(mean.float(), (first * largest.sign()).float(), tuple(shares.tolist()))

    @property
    def facts(self) -> dict[str, str | float]:
        """Method and shares of the variance."""
        return {"method": "pca", "explained_x": self.explained[0], "explained_y": self.explained[1]}

    def place(self, vectors: Tensor) -> Tensor:
        """Return the projections on the plane."""
        return (vectors.float() - self.mean) @ self.components.T

    def tensors(self) -> dict[str, Tensor]:
        """Return mean and components."""
        return {"mean": self.mean, "components": self.components}


@dataclass(frozen=True)
class Umap:
    """Uniform manifold approximation (McInnes et al. 2018, arXiv 1802.03426).

    New vectors are placed at the geometric median of their nearest neighbours' places, weighted by the strength of
    membership (Algorithm 3 there). UMAP itself starts from the mean, which between two groups lies in neither. This
    needs neither umap-learn nor its pickle, and gives the same place whatever else is placed.
    """

    vectors: Tensor     # [N, D], those fitted
    places: Tensor      # [N, 2], float32
    neighbours: int
    min_dist: float
    seed: int

    @classmethod
    def fit(cls, vectors: Tensor, *, neighbours: int = 15, min_dist: float = 0.1, seed: int = 0) -> Self:
        """Return the map of vectors [N, D], the same for the same seed.

        Raises:
            ConfigError: umap-learn is not installed.
        """
        check_method("umap")
        from umap import UMAP

        count = min(neighbours, len(vectors) - 1)
        reducer = UMAP(n_neighbors=count, min_dist=min_dist, random_state=seed, n_jobs=1)
        places = torch.from_numpy(reducer.fit_transform(vectors.float().numpy())).float()
        return cls(vectors, places, count, min_dist, seed)

    @property
    def facts(self) -> dict[str, str | float]:
        """Method and parameters."""
        return {"method": "umap", "neighbours": self.neighbours, "min_dist": self.min_dist, "seed": self.seed}

    def place(self, vectors: Tensor) -> Tensor:
        """Return the weighted medians of the neighbours' places."""
        if not len(vectors):
            return torch.zeros(0, 2)
        found = ExactIndex(self.vectors).search(vectors, self.neighbours)
        return geometric_median(self.places[found.positions], memberships(found.distances))

    def tensors(self) -> dict[str, Tensor]:
        """Return nothing: it is made of the vectors and their places alone."""
        return {}


def fit(method: Method, vectors: Tensor, *, seed: int = 0) -> Reducer:
    """Return the map of vectors [N, D] by a method.

    Raises:
        ConfigError: umap-learn is not installed.
    """
    return Pca.fit(vectors) if method == "pca" else Umap.fit(vectors, seed=seed)


def close_gaps(places: Tensor, labels: Tensor) -> Tensor:
    """Return places [N, 2] with groups moved towards each other until the nearest two almost touch.

    UMAP puts groups that share no neighbours at distances that say nothing and leave each a speck. Groups that overlap
    stay where they are. Within a group nothing changes.

    Args:
        places: [N, 2].
        labels: [N] int64, the group of each.
    """
    groups = sorted(set(labels.tolist()))
    centres = torch.stack([places[labels == group].mean(dim=0) for group in groups])
    radii = torch.stack([(places[labels == group] - centre).norm(dim=1).quantile(0.98)
                         for group, centre in zip(groups, centres, strict=True)])
    i, j = torch.triu_indices(len(groups), len(groups), offset=1)
    if not len(i):
        return places
    factors = ROOM * (radii[i] + radii[j]) / (centres[i] - centres[j]).norm(dim=1).clamp_min(1e-9)
    shift = (factors.max().clamp(max=1.0) - 1.0) * (centres - centres.mean(dim=0))
    moved = places.clone()
    for group, by in zip(groups, shift, strict=True):
        moved[labels == group] += by
    return moved


def check_method(method: Method) -> None:
    """Refuse a method that is not installed, without importing it: the first import of UMAP takes many seconds.

    Raises:
        ConfigError: umap-learn is not installed.
    """
    if method == "umap" and find_spec("umap") is None:
        raise ConfigError("UMAP needs umap-learn: pip install 'stylegan-oct[atlas]'. "
                          "Or take the map that needs nothing more: --method pca")


def from_tensors(facts: Facts, tensors: Mapping[str, Tensor]) -> Reducer:
    """Return a map from its facts and its tensors, with `vectors` and `places` among them.

    Raises:
        ConfigError: a tensor is missing or does not fit.
    """
    count, width = take(tensors, "vectors", None, None).shape
    if facts.method == "pca":
        return Pca(take(tensors, "mean", width), take(tensors, "components", 2, width),
                   (facts.explained_x, facts.explained_y))
    if facts.neighbours > count:
        raise ConfigError(f"neighbours must be at most the {count} vectors; got {facts.neighbours}.")
    return Umap(tensors["vectors"], tensors["places"], facts.neighbours, facts.min_dist, facts.seed)


def memberships(distances: Tensor) -> Tensor:
    """Return exp(-(d - rho) / sigma) for the distances [N, k] of nearest neighbours, nearest first.

    rho is the distance of the nearest, sigma such that each row sums to log2(k) (McInnes et al. 2018, Algorithm 3).
    """
    beyond = (distances - distances[:, :1]).double()
    target = torch.log2(torch.tensor(float(distances.shape[1]), dtype=torch.float64))
    low = torch.zeros(len(beyond), 1, dtype=torch.float64)
    high = beyond.amax(dim=1, keepdim=True).clamp_min(1e-12) * 1e3
    for _ in range(64):
        sigma = (low + high) / 2
        too_many = torch.exp(-beyond / sigma).sum(dim=1, keepdim=True) > target
        low, high = torch.where(too_many, low, sigma), torch.where(too_many, sigma, high)
    return torch.exp(-beyond / high).float()


def geometric_median(points: Tensor, weights: Tensor) -> Tensor:
    """Return the places [N, 2] with the least weighted sum of distances to points [N, k, 2], weights [N, k].

    Weiszfeld's iteration, from the weighted mean.
    """
    place = (weights[:, :, None] * points).sum(dim=1) / weights.sum(dim=1, keepdim=True)
    for _ in range(64):
        pull = weights / (points - place[:, None]).norm(dim=2).clamp_min(1e-6)
        place = (pull[:, :, None] * points).sum(dim=1) / pull.sum(dim=1, keepdim=True)
    return place


def trustworthiness(vectors: Tensor, places: Tensor, *, k: int = 10) -> float:
    """Return how far neighbours on a map are neighbours indeed: 1 all, about 0.5 for a map by chance.

    Venna and Kaski 2001 ("Neighborhood preservation in nonlinear projection methods", Eq. 2): each of the k nearest on
    the map costs as many ranks as it lies beyond the k nearest among the vectors.
    """
    n = len(vectors)
    assert 0 < k < n / 2, (k, n)
    x, y = vectors.float(), places.float()
    cost = 0.0
    for begin in range(0, n, BLOCK):
        rows = torch.arange(begin, min(begin + BLOCK, n))
        far = torch.cdist(x[rows], x)
        far[torch.arange(len(rows)), rows] = -1.0                           # each is nearest to itself, of rank 0
        ranks = far.argsort(dim=1).argsort(dim=1)
        near = torch.cdist(y[rows], y)
        near[torch.arange(len(rows)), rows] = torch.inf
        chosen = near.topk(k, dim=1, largest=False).indices
        cost += float((ranks.gather(1, chosen) - k).clamp_min(0).sum())
    return 1.0 - cost * 2.0 / (n * k * (2 * n - 3 * k - 1))
