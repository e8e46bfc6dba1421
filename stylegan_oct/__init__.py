"""Class-conditional StyleGAN2-ADA for retinal OCT scans; docs/api.md shows what can be called."""

import importlib
from typing import TYPE_CHECKING, Any

from stylegan_oct import _siblings

__version__ = "0.1.0"
__all__ = ["__version__", "atlas", "directions", "draw", "evaluate", "export", "generate", "load_generator", "measure",
           "neighbours", "project", "read_scan", "train", "train_config", "walk"]

_siblings.check("dnnlib", "torch_utils")

if TYPE_CHECKING:
    from stylegan_oct.api.drawing import draw, generate
    from stylegan_oct.api.latent import directions, neighbours, project
    from stylegan_oct.api.scans import measure, read_scan
    from stylegan_oct.api.work import atlas, evaluate, export, train, train_config, walk
    from stylegan_oct.model import load_generator

# Imported on first use, so that the phantom and the data tools start without torch.
_PLACES = {
    "model": ["load_generator"],
    "api.scans": ["measure", "read_scan"],
    "api.drawing": ["draw", "generate"],
    "api.latent": ["directions", "neighbours", "project"],
    "api.work": ["atlas", "evaluate", "train", "train_config", "walk"],
    "export": ["export"],
}


def __getattr__(name: str) -> Any:
    for place, names in _PLACES.items():
        if name in names:
            module = importlib.import_module(f"stylegan_oct.{place}")
            return module if name == place else getattr(module, name)
    raise AttributeError(f"module 'stylegan_oct' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
