"""Class-conditional StyleGAN2-ADA for retinal OCT scans; docs/api.md shows what can be called."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Imported on first use, so that the phantom and the data tools start without torch.
_PLACES = {
    "load_generator": "model",
    "read_scan": "api.scans", "measure": "api.scans",
    "generate": "api.drawing", "draw": "api.drawing",
    "project": "api.latent", "neighbours": "api.latent", "directions": "api.latent",
}
__all__ = ["__version__", "directions", "draw", "generate", "load_generator", "measure", "neighbours", "project",
           "read_scan"]

if TYPE_CHECKING:
    from stylegan_oct.api.drawing import draw, generate
    from stylegan_oct.api.latent import directions, neighbours, project
    from stylegan_oct.api.scans import measure, read_scan
    from stylegan_oct.model import load_generator


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'stylegan_oct' has no attribute {name!r}")
    return getattr(importlib.import_module(f"stylegan_oct.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
