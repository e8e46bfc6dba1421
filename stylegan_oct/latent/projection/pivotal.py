"""Pivotal tuning: the generator's weights bent around a projection, so that it draws one scan as it is.

Roich et al. 2021, "Pivotal Tuning for Latent-based Editing of Real Images", Eq. 3. They store a whole generator a scan;
here every weight W [O, I, k, k] changes by a product A B of rank r, and the factors are kept beside the latents: a few
megabytes at any resolution (Hu et al. 2021, "LoRA").
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from stylegan_oct.latent.projection.noise import synthesize_with
from stylegan_oct.latent.projection.objective import Objective
from stylegan_oct.latent.projection.row_adam import RowAdam
from stylegan_oct.model import OctGenerator

MAX_BYTES = 4_800_000   # of the factors in float16
MAX_RANK = 16
STEPS = 150
LR = 3e-3
BETAS = (0.9, 0.99)

Progress = Callable[[int], object]


def tune(G: OctGenerator, objective: Objective, scan: int, w: Tensor, *, noise: Mapping[str, Tensor] | None = None,
         steps: int = STEPS, seed: int = 0, progress: Progress = lambda _: None) -> tuple[dict[str, Tensor], float]:
    """Return the factors of the changes of weights that bring a projection nearest to its scan, and its distance.

    Args:
        G: the generator; it stays as it is.
        objective: of the scans.
        scan: the index of this one.
        w: its projection, [layers, w_dim].
        noise: of the layers, where it was fitted.
        steps: of Adam.
        seed: of the factors.
        progress: called with the number of steps done.
    """
    names = _weights(G)
    rank = pick_rank(names)
    random = torch.Generator().manual_seed(seed)
    factors: dict[str, Tensor] = {}
    for name, weight in names.items():
        rows, columns = len(weight), weight[0].numel()
        factors[f"{name}.a"] = torch.zeros(rows, rank, device=G.device)
        factors[f"{name}.b"] = (torch.randn(rank, columns, generator=random) / rank**0.5).to(G.device)
    adam, which = RowAdam(list(factors.values()), BETAS), torch.tensor([scan], device=G.device)
    best, kept = float("inf"), dict(factors)
    for step in range(steps + 1):
        leaves = {name: value.clone().requires_grad_(True) for name, value in factors.items()}
        distance = objective(draw_tuned(G, w[None], leaves, noise), which).sum()
        if distance.item() < best:
            best, kept = distance.item(), {name: value.detach() for name, value in leaves.items()}
        if step < steps:
            gradients = torch.autograd.grad(distance, list(leaves.values()))
            adam.step(gradients, LR * min(1.0, 2 * (1 - step / steps)))
            progress(step + 1)
    return {name: value.to(torch.float16) for name, value in kept.items()}, best


def draw_tuned(G: OctGenerator, ws: Tensor, factors: Mapping[str, Tensor],
               noise: Mapping[str, Tensor] | None = None) -> Tensor:
    """Return images [N, C, R, R] of ws [N, layers, w_dim] with the weights changed by A B.

    Args:
        G: the generator.
        ws: latents.
        factors: "NAME.a" [O, r] and "NAME.b" [r, I k k] of each changed weight; none is the generator itself.
        noise: of the layers, name -> [1, 1, R, R].
    """
    changed = {name: weight + (factors[f"{name}.a"].to(weight) @ factors[f"{name}.b"].to(weight)).view_as(weight)
               for name, weight in _weights(G).items()} if factors else {}
    return synthesize_with(G, ws.to(G.device), {**changed, **(noise or {})})


def pick_rank(weights: Mapping[str, Tensor]) -> int:
    """Return the largest rank up to MAX_RANK whose factors stay within MAX_BYTES."""
    per_rank = sum(2 * (len(weight) + weight[0].numel()) for weight in weights.values())
    return max(1, min(MAX_RANK, MAX_BYTES // per_rank))


def _weights(G: OctGenerator) -> dict[str, Tensor]:
    """Return the convolutions of the synthesis network, toRGB among them, [O, I, k, k]."""
    return {name: weight for name, weight in G.network.synthesis.named_parameters()
            if name.endswith("weight") and weight.ndim == 4}
