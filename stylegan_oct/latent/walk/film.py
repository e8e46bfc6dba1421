"""Walks through the latent space, filmed."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.errors import ConfigError
from dnnlib.pictures import Picture, synthetic_text
from stylegan_oct.batches import at_once
from stylegan_oct.features.detector import load_detector
from stylegan_oct.features.perceptual import PerceptualDistance
from stylegan_oct.latent.walk.curves import Times, constant_speed, frame_times
from stylegan_oct.latent.walk.routes import Route
from stylegan_oct.model import OctGenerator
from stylegan_oct.video import Video, enlargement, save_video
from torch_utils.images import to_pictures

PIECES = 64     # of the way between two keys, over which the perceptual speed is taken as constant

Speed = Literal["spline", "perceptual"]


def film(G: OctGenerator, route: Route, path: Path, *, frames: int, fps: float = 30.0, speed: Speed = "spline",
         distance: PerceptualDistance | None = None, scale: int | None = None, strip: bool = True,
         batch: int | None = None, progress: Callable[[int], object] = lambda _: None) -> Video:
    """Write a walk as a video, drawn `batch` pictures at once, with the speckle held still.

    Args:
        path: as in `save_video`.
        frames: how many.
        fps: frames a second.
        speed: even in the spline's own time, or in perceptual distance, averaged over walks in step.
        distance: what the perceptual speed is measured with; default EfficientNet-Lite0.
        scale: whole factor of enlargement; default to at least 256 pixels a picture.
        strip: show the caption.
        batch: pictures drawn at once.
        progress: called with the number of frames done.
    Raises:
        ConfigError: there are no two frames, or the place cannot be written to.
    """
    if frames < 2:
        raise ConfigError(f"A video needs two frames or more; got {frames}. Raise --seconds or --frames.")
    times = frame_times(frames, closed=route.closed)
    if speed == "perceptual":
        distance = distance or PerceptualDistance(load_detector(device=G.device))
        times = constant_speed(step_lengths(G, route, distance, batch=batch))(times)
    text = synthetic_text("generator", walk=route.name, **route.facts, speed=speed, noise="const",
                          derived_from_patient=str(route.derived_from_patient).lower(),
                          checkpoint_sha256=G.info.sha256)
    return save_video(path, draw_frames(G, route, times, batch=batch), fps=fps, text=text,
                      scale=scale or enlargement(G.info.resolution), private=route.derived_from_patient,
                      caption=(lambda number: route.words(float(times[number]))) if strip else None,
                      progress=progress)


def draw_frames(G: OctGenerator, route: Route, times: Times, *, batch: int | None = None) -> Iterator[Picture]:
    """Yield the frame of each time: the walks' pictures in their grid."""
    columns, rows = route.grid
    pictures = (picture for images in _draw(G, route, times, batch) for picture in to_pictures(images))
    while cells := list(itertools.islice(pictures, route.cells)):
        yield np.concatenate([np.concatenate(cells[row * columns:(row + 1) * columns], axis=1)
                              for row in range(rows)])


def step_lengths(G: OctGenerator, route: Route, distance: PerceptualDistance, *, pieces: int | None = None,
                 batch: int | None = None) -> NDArray[np.float64]:
    """Return the perceptual length of pieces of a route that take equal times, [pieces], averaged over its cells.

    The distance is a square, its root adds up along the way.

    Args:
        pieces: how many; default `PIECES` for each stretch between keys.
    """
    count = pieces or PIECES * route.segments
    lengths: list[Tensor] = []
    carry: Tensor | None = None     # features of the moment before
    for images in _draw(G, route, np.linspace(0.0, 1.0, count + 1), batch):
        with torch.inference_mode():
            features = distance.features(images.clamp(-1, 1))
            known = features if carry is None else torch.cat([carry, features])
            lengths.append(distance.distance(known[route.cells:], known[:-route.cells]).sqrt())
        carry = known[-route.cells:]
    return torch.cat(lengths).reshape(count, route.cells).mean(dim=1).double().cpu().numpy()


def _draw(G: OctGenerator, route: Route, times: Times, batch: int | None) -> Iterator[Tensor]:
    """Yield images of all cells, moment by moment, `batch` at once, or as many as serve."""
    batch = at_once(G.layers, G.device, asked=batch)
    moments = max(1, batch // route.cells)
    for begin in range(0, len(times), moments):
        with torch.inference_mode():
            ws = route.ws(times[begin:begin + moments]).flatten(0, 1)
        for part in torch.split(ws, batch):
            with torch.inference_mode():
                images = G.synthesize(part, noise_mode="const")
            yield images
