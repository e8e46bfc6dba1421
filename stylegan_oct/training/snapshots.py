"""Sample grids with fixed seeds, and how varied the samples of each class are against the real ones."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dnnlib.pictures import save_png, sheet, synthetic_text
from stylegan_oct.batches import Layers, at_once, usual_count
from stylegan_oct.config import TrainConfig
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.model import GeneratorInfo, OctGenerator
from stylegan_oct.networks.generator import Generator
from torch_utils.images import to_pictures, to_unit

COLUMNS = 8
DRAWS = 16  # samples of each class from which the diversity is taken, where a picture takes little time


class Snapshots:
    """Draws the same latents of every class at each snapshot.

    Args:
        config: of the run.
        G: the averaged generator.
        dataset: for the real scans beside which the samples are judged.
        stopped: says whether to leave a grid unfinished.
    """

    def __init__(self, config: TrainConfig, G: Generator, dataset: ArchiveDataset, *,
                 stopped: Callable[[], bool] = lambda: False) -> None:
        self._config, self._stopped = config, stopped
        info = GeneratorInfo(Path(), "", config.data.classes, config.data.resolution, config.data.channels, 0,
                             config.preset, "", dataset.preprocess, {})
        self.G = OctGenerator(G, info)
        self._rows = config.data.classes or ("samples",)
        self._draws = draws_of_a_class(self.G.layers, self.G.device)
        self._reals = [self._real_images(dataset, row) for row in range(len(self._rows))]
        self._real_diversity = [diversity(images) for images in self._reals]

    def save_reals(self, path: Path, data_source: str) -> None:
        """Write a grid of training images, for comparison."""
        text = synthetic_text("simulated training images") if data_source == "phantom" else {"Title": "training images"}
        pictures = [to_pictures(images[:COLUMNS]) for images in self._reals]
        save_png(path, sheet(pictures, row_labels=self._rows, title="training images"), text)

    def save(self, path: Path, nimg: int) -> dict[str, float]:
        """Write the grid of samples; return the diversity of each class as a share of that of the real images.

        Nothing is written, and {} returned, where `stopped` says so meanwhile.
        """
        samples = []
        for row in range(len(self._rows)):
            found = self._samples(row)
            if found is None:
                return {}
            samples.append(found)
        pictures = [to_pictures(images[:COLUMNS]) for images in samples]
        title = f"synthetic, after {nimg / 1000:g} kimg"
        save_png(path, sheet(pictures, row_labels=self._rows, title=title),
                 synthetic_text("generator in training", nimg=nimg))
        return {name: diversity(images) / max(real, 1e-9)
                for name, images, real in zip(self._rows, samples, self._real_diversity, strict=True) if real > 0}

    @torch.no_grad()
    def _samples(self, row: int) -> Tensor | None:
        """Return [n, C, R, R] of one class, drawn in pieces no larger than a micro-batch; None when stopped."""
        label = row if self._config.data.classes else None
        seeds = [row * DRAWS + i for i in range(self._draws)]
        size = min(self._config.batch_gpu, at_once(self.G.layers, self.G.device))
        images = []
        for begin in range(0, len(seeds), size):
            if self._stopped():
                return None
            images.append(self.G(self.G.z(seeds[begin:begin + size]), label).cpu())
        return torch.cat(images)

    def _real_images(self, dataset: ArchiveDataset, row: int) -> Tensor:
        """Return up to DRAWS training images of one class."""
        indices: Sequence[int] = range(len(dataset))
        if self._config.data.classes:
            indices = np.flatnonzero(dataset.labels == row).tolist()
        chosen = np.random.default_rng(row).permutation(np.asarray(indices, dtype=np.int64))[:DRAWS]
        if not len(chosen):
            return torch.zeros(1, self._config.data.channels, dataset.resolution, dataset.resolution)
        return to_unit(torch.stack([dataset[int(i)][0] for i in chosen]))


def draws_of_a_class(layers: Layers, device: torch.device) -> int:
    """Return how many samples of each class are drawn for a grid: fewer where each takes a CPU long."""
    return usual_count(layers, device, DRAWS, least=COLUMNS)


def diversity(images: Tensor) -> float:
    """Return the mean distance of two of the images [N, C, H, W], root mean square at 16 x 16; 0 for a single one.

    Small sizes see anatomy and not speckle. A class that has collapsed draws near zero whatever the quality.
    """
    small = interpolate(images.float(), size=(16, 16), mode="area").flatten(1) if images.shape[-1] > 16 else \
        images.float().flatten(1)
    if len(small) < 2:
        return 0.0
    return float(torch.pdist(small).mean() / small.shape[1] ** 0.5)
