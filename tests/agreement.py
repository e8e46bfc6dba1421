"""Do two ways to compute train alike? As closely as runs do that differ by one rounding of their weights."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stylegan_oct.config import DataConfig, DiscriminatorConfig, GeneratorConfig, TrainConfig
from stylegan_oct.training.state import create_state
from stylegan_oct.training.steps import Microbatch, Steps
from torch_utils.distributed import World
from torch_utils.stats import Stats

Train = Callable[[int | None], Tensor]
SLACK = 0.5  # in log10: a factor of three between two runs of the same kind is common


def train(device: torch.device, *, precision: str = "auto", resolution: int = 32, steps: int = 100,
          rounding: int | None = None, graphs: bool = True) -> Tensor:
    """Return the losses of G and of D in each step, [steps, 2].

    Args:
        rounding: seed of the other rounding that the weights start with; None takes them as they are.
        graphs: let a GPU run the steps from records.
    """
    config = TrainConfig(
        preset="test", graphs=graphs, precision=precision, batch=8, batch_gpu=8, total_kimg=1,  # type: ignore[arg-type]
        data=DataConfig(path="", fingerprint="", resolution=resolution, classes=("a", "b")),
        G=GeneratorConfig(z_dim=32, w_dim=32, mapping_layers=2, channel_base=512, channel_max=32),
        D=DiscriminatorConfig(mapping_layers=1, channel_base=512, channel_max=32))
    state, stats, world = create_state(config, device, "phantom"), Stats(World(device=device)), World(device=device)
    if rounding is not None:
        half = precision != "fp32" and (device.type == "cuda" or precision == "bf16")
        eps = torch.finfo((torch.bfloat16 if precision == "bf16" else torch.float16) if half else torch.float32).eps
        random = torch.Generator().manual_seed(rounding)
        with torch.no_grad():
            for weight in (*state.G.parameters(), *state.D.parameters()):
                weight *= 1 + eps * (torch.rand(weight.shape, generator=random) - 0.5).to(device)
    state.p = 0.3
    updates = Steps(config, state, world, stats, torch.arange(2).repeat(8))
    images = torch.rand(8, 1, resolution, resolution, generator=torch.Generator().manual_seed(0)).to(device)
    batch = [Microbatch(0, images, torch.arange(8) % 2)]
    found = []
    for step in range(steps):
        updates.generator(batch)
        if step % 4 == 0:
            updates.path_length(batch)
        updates.discriminator(batch)
        if step % 16 == 0:
            updates.r1(batch)
        state.update_average()
        state.nimg += config.batch
        row = stats.flush()
        found.append([row["loss/G"].mean, row["loss/D"].mean])
    return torch.tensor(found, dtype=torch.float64)


def distance(one: Tensor, other: Tensor) -> float:
    """Return the mean log10 of the difference of two runs over their steps.

    The logarithm, as differences grow with the steps until they are as large as the losses: so each step counts.
    """
    return float((one - other).abs().amax(dim=1).clamp(min=1e-12).log10().mean())


def check_agreement(reference: Train, other: Train, *, roundings: Sequence[int] = (1, 2, 3)) -> None:
    """Fail where `other` is further from the reference than runs of the reference with other roundings are.

    Args:
        reference: called with a `rounding` of `train`.
        other: the way to compute that is judged, called with None.
    """
    plain = reference(None)
    far = max(distance(plain, reference(rounding)) for rounding in roundings)
    found = distance(plain, other(None))
    assert math.isfinite(found) and found <= far + SLACK, (
        f"10^{found:.2f} from the reference; runs with other roundings at most 10^{far:.2f}")
