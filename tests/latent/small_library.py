"""A small generator with random weights, for tests of what is done with its pictures."""

import dataclasses
from pathlib import Path

import torch

from stylegan_oct.config import GeneratorConfig
from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.model import GeneratorInfo, OctGenerator
from stylegan_oct.networks.generator import Generator

CLASSES = ("CNV", "DRUSEN")


def make_generator(*, seed: int = 0, classes: tuple[str, ...] = CLASSES, resolution: int = 16) -> OctGenerator:
    """A generator whose file's hash is that of its seed."""
    sizes = GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=2, channel_base=64, channel_max=8)
    options = {**dataclasses.asdict(sizes), "c_dim": len(classes), "img_resolution": resolution, "img_channels": 1}
    torch.manual_seed(seed)
    network = Generator(**options).eval().requires_grad_(False)
    info = GeneratorInfo(path=Path("none"), sha256=f"{seed:064x}", classes=classes, resolution=resolution, channels=1,
                         nimg=0, preset="test", data_source="phantom", preprocess=Preprocess(resolution=resolution),
                         options=options)
    return OctGenerator(network, info)
