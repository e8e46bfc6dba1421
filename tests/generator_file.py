"""The file of a small generator with random weights."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny import tiny_config, write_archive

from stylegan_oct.model import OctGenerator, generator_header, load_generator, read_info
from stylegan_oct.networks.generator import Generator


def write_generator(folder: Path, *, seed: int = 0, resolution: int = 16, classes: tuple[str, ...] = ("CNV", "DRUSEN"),
                    ) -> OctGenerator:
    """Write folder/G_ema.safetensors and return it loaded; another seed gives another one."""
    archive = write_archive(folder / "tiny.zip", resolution=resolution, classes=classes)
    header = generator_header(tiny_config(archive), 0, "phantom")
    file = folder / "G_ema.safetensors"
    save_file({"none": torch.zeros(1)}, file, metadata=header)
    torch.manual_seed(seed)
    weights = Generator(**read_info(file).options).state_dict()
    save_file(weights, file, metadata=header)
    return load_generator(file)
