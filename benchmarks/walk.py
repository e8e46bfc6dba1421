"""`python -m benchmarks.walk`: memory of a long video, and how even the steps of a walk are at either speed."""

import dataclasses
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from stylegan_oct.config import GeneratorConfig
from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.features.detector import load_detector
from stylegan_oct.features.perceptual import PerceptualDistance
from stylegan_oct.latent.walk.curves import constant_speed
from stylegan_oct.latent.walk.film import film, step_lengths
from stylegan_oct.latent.walk.routes import Route, through_classes, through_seeds
from stylegan_oct.model import GeneratorInfo, OctGenerator, load_generator
from stylegan_oct.networks.generator import Generator

STEPS = 120     # other than the pieces over which the pace is found


def narrow_generator(resolution: int) -> OctGenerator:
    """Return a generator with few channels and random weights: its pictures are as large as those of a real one."""
    sizes = GeneratorConfig(z_dim=512, w_dim=512, mapping_layers=2, channel_base=1024, channel_max=64)
    options = {**dataclasses.asdict(sizes), "c_dim": 1, "img_resolution": resolution, "img_channels": 1}
    info = GeneratorInfo(path=Path("none"), sha256="0" * 64, classes=("ANY",), resolution=resolution, channels=1,
                         nimg=0, preset="none", data_source="phantom", preprocess=Preprocess(resolution=resolution),
                         options=options)
    torch.manual_seed(0)
    return OctGenerator(Generator(**options).eval().requires_grad_(False), info)


def memory(seconds: int) -> None:
    torch.set_num_threads(1)
    G = narrow_generator(256)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        film(G, through_seeds(G), Path(folder) / "walk.mp4", frames=30 * seconds)
        took = time.perf_counter() - begin
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"{seconds:3d} s of 256 px, 30 frames a second: drawn in {took:.0f} s, peak {peaks[0]:.0f} MiB, "
          f"of ffmpeg {peaks[1]:.0f} MiB")


def evenness(name: str, G: OctGenerator, route: Route, distance: PerceptualDistance) -> None:
    pace = constant_speed(step_lengths(G, route, distance))
    even = dataclasses.replace(route, ws=lambda times: route.ws(pace(times)))
    found = [step_lengths(G, one, distance, pieces=STEPS) for one in (route, even)]
    spread = [float(np.std(steps) / np.mean(steps)) for steps in found]
    ratio = [float(steps.max() / steps.min()) for steps in found]
    print(f"{name:34s} spread of the steps {spread[0]:.2f} -> {spread[1]:.2f}, largest / smallest "
          f"{ratio[0]:.1f} -> {ratio[1]:.1f}")


if __name__ == "__main__":
    for seconds in (2, 30):
        process = multiprocessing.get_context("spawn").Process(target=memory, args=(seconds,))
        process.start()
        process.join()
    torch.set_num_threads(1)
    G = load_generator()
    distance = PerceptualDistance(load_detector())
    names = G.info.classes
    evenness(f"seeds 0-3, {names[0]}", G, through_seeds(G, [0, 1, 2, 3], names[:1]), distance)
    evenness(f"{' to '.join(names[:3])}, seed 7", G, through_classes(G, names[:3], [7]), distance)
    evenness("seeds 0-3, all classes in step", G, through_seeds(G), distance)
