"""Class-conditional StyleGAN2-ADA for retinal OCT scans."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_generator"]


def __getattr__(name: str) -> Any:
    # Deferred, so that the phantom and the data tools start without importing torch.
    if name == "load_generator":
        from stylegan_oct.model import load_generator

        return load_generator
    raise AttributeError(f"module 'stylegan_oct' has no attribute {name!r}")
