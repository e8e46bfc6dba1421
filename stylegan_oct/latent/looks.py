"""How the pictures of an archive look to a detector, computed once and kept beside the archive.

Pictures are aligned on the retina first: small pictures are compared place by place, and the retina's depth in a scan
means nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from dnnlib.errors import ConfigError, DataError
from stylegan_oct.data.archive import Archive
from stylegan_oct.data.preprocess import resample, to_grey
from stylegan_oct.data.privacy import write_private
from stylegan_oct.features.align import align
from stylegan_oct.features.detector import Detector, centred
from torch_utils.tensor_file import load_header, load_tensors, take

FORMAT = "3"        # of the file
THUMBNAIL = 16      # side of the small pictures whose correlation finds copies; docs/neighbours.md says how well
BATCH = 64
BLOCK = 16_384
SAME = 0.01         # two looks at the probe differ less by rounding, on any processor, and more by any other detector

Pixels = NDArray[np.uint8]
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Looks:
    """What is compared of pictures."""

    features: Tensor    # [N, dim], float16: pooled, as the detector gives them
    thumbnails: Tensor  # [N, 16 * 16], float16: small pictures less their mean, as unit vectors

    def __getitem__(self, rows: slice) -> "Looks":
        """Return some of them."""
        return Looks(self.features[rows], self.thumbnails[rows])

    def directions(self, centre: Tensor) -> Tensor:
        """Return the features seen from `centre` [dim] as unit vectors [N, dim], float16.

        Half the squared distance of two is one minus their cosine: the centred cosine distance, 0 to 2.
        """
        seen = torch.empty_like(self.features)
        for begin in range(0, len(seen), BLOCK):  # a million in float32 would fill the memory
            rows = slice(begin, begin + BLOCK)
            seen[rows] = centred(self.features[rows].float(), centre)
        return seen


def look(pictures: Sequence[Pixels], detector: Detector) -> Looks:
    """Return the looks of pictures, uint8 [H, W] or [H, W, 3], all of one size."""
    aligned = [align(to_grey(picture)) for picture in pictures]
    small = torch.from_numpy(np.stack([resample(picture, THUMBNAIL).reshape(-1) for picture in aligned])).float()
    thumbnails = normalize(small - small.mean(dim=1, keepdim=True), dim=1)
    features = detector.embed(torch.from_numpy(np.stack(aligned))[:, None])
    return Looks(features.to(torch.float16), thumbnails.to(torch.float16))


def archive_looks(archive: Archive, detector: Detector, *, progress: Progress = lambda *_: None) -> dict[str, Looks]:
    """Return the looks of every picture by split, in the order of `Archive.names`.

    They are kept in a file beside the archive, for the owner alone where the pictures may be of patients, and computed
    anew when the archive, the detector or what is done to pictures before it has changed: the file holds the look of a
    probe, which is looked at again.
    """
    names = [name for split in archive.splits for name in archive.names(split)]
    path = looks_path(archive, detector)
    header = {"kind": "stylegan_oct looks", "format": FORMAT, "archive": archive.fingerprint,
              "detector": detector.name, "detector_sha256": detector.sha256}
    probe = look([_probe(archive.resolution)], detector)
    looks = _read(path, header, probe, len(names))
    if looks is None:
        looks = _compute(archive, names, detector, progress)
        tensors = {"features": looks.features, "thumbnails": looks.thumbnails,
                   "probe_features": probe.features, "probe_thumbnails": probe.thumbnails}
        try:
            write_private(path, safetensors.torch.save(tensors, metadata=header))
        except OSError as error:
            raise DataError(f"Cannot write {path}: {error.strerror}. Make room, or move the archive to where files can "
                            "be written.") from error
        looks = _read(path, header, probe, len(names)) or looks
    ends = np.cumsum([len(archive.names(split)) for split in archive.splits]).tolist()
    return {split: looks[begin:end] for split, begin, end in zip(archive.splits, [0, *ends], ends, strict=False)}


def looks_path(archive: Archive, detector: Detector) -> Path:
    """Return where the looks of an archive are kept."""
    return archive.path.with_name(f"{archive.path.stem}-{detector.identity}.safetensors")


def _probe(resolution: int) -> Pixels:
    """Return a picture with a bright band above the middle and noise: whatever is done to pictures changes it."""
    light = np.random.default_rng(0).integers(0, 80, (resolution, resolution), dtype=np.uint8)
    light[resolution // 8:resolution // 4 + 1] += 120
    return light


def _alike(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and bool(
        (found.float() - expected.float()).norm() <= SAME * expected.float().norm())


def _read(path: Path, header: dict[str, str], probe: Looks, count: int) -> Looks | None:
    """Return what the file holds, mapped into memory, or None where it is not there or of something else."""
    try:
        if not path.exists() or load_header(path).texts != header:
            return None
        tensors = load_tensors(path)
        if not (_alike(take(tensors, "probe_features", *probe.features.shape), probe.features) and
                _alike(take(tensors, "probe_thumbnails", *probe.thumbnails.shape), probe.thumbnails)):
            return None
        return Looks(take(tensors, "features", count, probe.features.shape[1]),
                     take(tensors, "thumbnails", count, probe.thumbnails.shape[1]))
    except (ConfigError, OSError):  # cut short by a full disk
        return None


def _compute(archive: Archive, names: Sequence[str], detector: Detector, progress: Progress) -> Looks:
    # Filled in place: the lists of a million pictures would need twice the memory.
    features = torch.empty(len(names), detector.dim, dtype=torch.float16)
    thumbnails = torch.empty(len(names), THUMBNAIL ** 2, dtype=torch.float16)
    for begin in range(0, len(names), BATCH):
        rows = slice(begin, min(begin + BATCH, len(names)))
        part = look([archive.read_pixels(name) for name in names[rows]], detector)
        features[rows], thumbnails[rows] = part.features, part.thumbnails
        progress(rows.stop, len(names))
    return Looks(features, thumbnails)
