"""What a checkpoint, a run or an archive holds, as facts by name."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dnnlib.config import Share
from stylegan_oct.data.archive import Archive
from stylegan_oct.model import DEMO, find_generator, load_generator
from torch_utils.checkpoint import META, is_complete, read_meta


@dataclass(frozen=True)
class Augmented:
    """What is told of a checkpoint's meta.json."""

    augment_p: Share


def describe(path: Path | None) -> dict[str, Any]:
    """Return the facts of an archive (.zip), else of the generator that `path` leads to; None is the demo.

    Raises:
        UserError: there is neither.
    """
    return _archive(path) if path is not None and path.suffix == ".zip" else _generator(path or DEMO)


def _archive(path: Path) -> dict[str, Any]:
    archive = Archive(path)
    facts: dict[str, Any] = {"archive": str(path), "source": archive.source, "resolution": archive.resolution,
                             "channels": archive.channels, "fingerprint": archive.fingerprint}
    for split in archive.splits:
        counts = Counter(archive.labels(split).tolist())
        by_class = {name: counts[label] for label, name in enumerate(archive.classes)}
        facts[f"images in {split}"] = {"all": len(archive.names(split)), **by_class}
    return facts


def _generator(path: Path) -> dict[str, Any]:
    G = load_generator(find_generator(path))
    info = G.info
    facts: dict[str, Any] = {
        "generator": str(info.path), "sha256": info.sha256, "trained on": info.data_source, "preset": info.preset,
        "images shown": info.nimg, "resolution": info.resolution, "channels": info.channels,
        "classes": list(info.classes), "parameters": sum(p.numel() for p in G.network.parameters()),
        "latent sizes": {"z": G.network.z_dim, "w": G.network.w_dim, "layers": G.network.num_ws},
        "scans are prepared by": asdict(info.preprocess)}
    directory = info.path.parent
    if (directory / META).is_file():
        facts["augmentation p"] = round(read_meta(directory, Augmented).augment_p, 4)
        facts["can be trained on"] = is_complete(directory)
    return facts
