"""One update of one network each: main and regularisation steps of G and of D.

A batch is worked on in micro-batches, each seeded by its place in the image stream, and losses are divided by the
size of the whole batch; so any number of processes takes the same step up to rounding.

Each kind of step is two functions: one adds the gradients of a micro-batch, one moves the weights. Both do the same in
every step but for the numbers in their tensors, so that a GPU runs them from records (`torch_utils.graphs`).
"""

import enum
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stylegan_oct.config import TrainConfig
from stylegan_oct.training import losses
from stylegan_oct.training.state import State
from torch_utils.distributed import World
from torch_utils.gradients import FlatGradients, flat_size, sanitise_
from torch_utils.graphs import Graphs
from torch_utils.seeding import seed_torch
from torch_utils.stats import Stats
from torch_utils.transfer import send


class Microbatch(NamedTuple):
    """Real images on the device and their place in the batch."""

    offset: int
    images: Tensor  # [n, C, H, W] float32 in [-1, 1]
    labels: Tensor  # [n] int64, on the host


class Phase(enum.IntEnum):
    """The four kinds of step, each with random numbers of its own."""

    GENERATOR = 0
    PATH_LENGTH = 1
    DISCRIMINATOR = 2
    R1 = 3


class Found(NamedTuple):
    """What a micro-batch tells beside its gradients."""

    reports: dict[str, Tensor]  # for the statistics, any shape
    sums: Tensor | None         # is added over the micro-batches of all processes


class Steps:
    """The updates of a run.

    Args:
        config: of the run.
        state: networks and optimizers, changed in place.
        world: the processes that train together.
        stats: collects losses, logits and the share of gradients that were not finite.
        labels: [N] int64 on the CPU, those of the data set, from which the labels of fakes are drawn.
    """

    def __init__(self, config: TrainConfig, state: State, world: World, stats: Stats, labels: Tensor) -> None:
        self._config, self._state, self._world, self._stats = config, state, world, stats
        self._labels = send(labels, world.device)
        self._strength = torch.zeros((), dtype=torch.float64, device=world.device)  # of augmentation
        self._gradients = _gradients(state, world)
        self._ends_batch = True
        self._graphs = Graphs(world.device, on=config.graphs)
        kinds = {Phase.GENERATOR: (self._generator, self._move_G),
                 Phase.PATH_LENGTH: (self._path_length, self._move_pl),
                 Phase.DISCRIMINATOR: (self._discriminator, self._move_D), Phase.R1: (self._r1, self._move_r1)}
        self._add, self._move = ({phase: self._graphs.recorded(kind[part]) for phase, kind in kinds.items()}
                                 for part in (0, 1))

    @property
    def uses_records(self) -> bool:
        """Whether a GPU runs these steps from records, or will."""
        return self._graphs.on

    def generator(self, batch: Sequence[Microbatch]) -> None:
        """Non-saturating loss on augmented fakes; also moves `w_avg`."""
        self._step(Phase.GENERATOR, batch)

    def path_length(self, batch: Sequence[Microbatch]) -> None:
        """Path length regularisation on part of each micro-batch; the gradient is multiplied by the interval."""
        self._step(Phase.PATH_LENGTH, batch)

    def discriminator(self, batch: Sequence[Microbatch]) -> None:
        """Logistic loss on augmented fakes and reals; also counts the signs that drive ADA."""
        self._step(Phase.DISCRIMINATOR, batch)

    def r1(self, batch: Sequence[Microbatch]) -> None:
        """Gradient penalty with respect to the unaugmented reals; the gradient is multiplied by the interval."""
        self._step(Phase.R1, batch)

    def _step(self, phase: Phase, batch: Sequence[Microbatch]) -> None:
        """Gather the gradients of a batch, of all processes, and move the weights."""
        state, add = self._state, self._add[phase]
        self._strength.fill_(state.p)
        with self._gradients[phase] as gradients:
            sums: list[Tensor] = []
            for micro in batch:
                seed_torch(self._config.seed, state.nimg + micro.offset, phase)
                # A record cannot tell the processes that gradients are complete: they are sent after it.
                self._ends_batch = micro is batch[-1] and not self._graphs.on
                found: Found = add(micro.images, send(micro.labels, self._world.device))
                for name, values in found.reports.items():
                    self._stats.add(name, values)
                sums += [] if found.sums is None else [found.sums]
            total = gradients.reduce(torch.stack(sums).sum(dim=0) if sums else None)
            not_finite = self._move[phase](total)
        self._stats.add("nonfinite/G" if phase <= Phase.PATH_LENGTH else "nonfinite/D", not_finite)

    def _generator(self, images: Tensor, _: Tensor) -> Found:
        fakes, c, ws = self._fakes(len(images))
        logits = self._state.D(self._augmented(fakes), c)
        loss = losses.generator_loss(logits)
        self._backward(Phase.GENERATOR, loss.sum() / self._config.batch)
        return Found({"loss/G": loss.detach(), "logits/fake": logits.detach()}, self._state.G.mapping.w_sums(ws, c))

    def _move_G(self, w_sums: Tensor) -> Tensor:
        not_finite = self._update(self._state.opt_G, Phase.GENERATOR)
        self._state.G.mapping.update_w_avg(w_sums)
        return not_finite

    def _path_length(self, images: Tensor, _: Tensor) -> Found:
        state, cfg = self._state, self._config.path_length
        fakes, _, ws = self._fakes(max(len(images) // cfg.batch_shrink, 1))
        noise = torch.randn_like(fakes) / (fakes.shape[2] * fakes.shape[3]) ** 0.5
        lengths = losses.path_lengths(fakes, ws, noise)
        penalty, _ = losses.path_length_penalty(lengths, state.pl_mean, decay=cfg.decay)
        self._backward(Phase.PATH_LENGTH, penalty.mean() * (cfg.weight * cfg.interval / self._microbatches))
        return Found({"loss/path_length": penalty.detach()}, lengths.detach().mean())

    def _move_pl(self, mean_sum: Tensor) -> Tensor:
        self._state.pl_mean.lerp_(mean_sum / self._microbatches, self._config.path_length.decay)
        return self._update(self._state.opt_G, Phase.PATH_LENGTH)

    def _discriminator(self, images: Tensor, labels: Tensor) -> Found:
        D, batch = self._state.D, self._config.batch
        with torch.no_grad():
            fakes, c, _ = self._fakes(len(images))
        fake_loss = losses.discriminator_fake_loss(D(self._augmented(fakes), c))
        self._backward(Phase.DISCRIMINATOR, fake_loss.sum() / batch, more=True)
        logits = D(self._augmented(images), self._one_hot(labels))
        real_loss = losses.discriminator_real_loss(logits)
        self._backward(Phase.DISCRIMINATOR, real_loss.sum() / batch)
        logits = logits.detach()
        signs = torch.stack([logits.sign().sum(), torch.full_like(logits[0, 0], len(logits))])
        return Found({"loss/D": fake_loss.detach() + real_loss.detach(), "logits/real": logits}, signs)

    def _move_D(self, signs: Tensor) -> Tensor:
        self._state.sign_sums += signs
        return self._update(self._state.opt_D, Phase.DISCRIMINATOR)

    def _r1(self, images: Tensor, labels: Tensor) -> Found:
        cfg = self._config.r1
        images = images.detach().requires_grad_(True)
        penalty = losses.r1_penalty(self._state.D(self._augmented(images), self._one_hot(labels)), images)
        self._backward(Phase.R1, penalty.sum() * (cfg.gamma * cfg.interval / self._config.batch))
        return Found({"loss/r1_penalty": penalty.detach()}, None)

    def _move_r1(self, _: Tensor) -> Tensor:
        return self._update(self._state.opt_D, Phase.R1)

    def _fakes(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return images [n, C, H, W], their labels one-hot, and ws [n, L, D]."""
        mixing, G, device = self._config.style_mixing, self._state.G, self._world.device
        c = self._one_hot(self._draw_labels(n))
        z = torch.randn(2 * n, G.z_dim, device=device)
        ws = G.mapping(z[:n], c)  # [n, L, D]
        if mixing > 0 and G.num_ws > 1:
            crossover = torch.randint(1, G.num_ws, (), device=device)
            mixed = (torch.arange(G.num_ws, device=device) >= crossover) & (torch.rand((), device=device) < mixing)
            ws = torch.where(mixed[:, None], G.mapping(z[n:], c), ws)
        return G.synthesis(ws, noise_mode="random"), c, ws

    def _draw_labels(self, n: int) -> Tensor:
        """Return labels of fakes as frequent as in the data, or equally frequent with balanced sampling."""
        if self._config.data.balanced:
            return torch.randint(len(self._config.data.classes), (n,), device=self._world.device)
        return self._labels[torch.randint(len(self._labels), (n,), device=self._world.device)]

    def _one_hot(self, labels: Tensor) -> Tensor:
        """Return labels as float32 [n, classes]; [n, 0] without classes."""
        return (labels[:, None] == torch.arange(len(self._config.data.classes), device=labels.device)).float()

    def _augmented(self, images: Tensor) -> Tensor:
        """Return what D sees of images."""
        return images if self._config.augment.mode == "off" else self._state.augment(images, self._strength)

    @property
    def _microbatches(self) -> int:
        """How many make a batch, over all processes."""
        return self._config.batch // self._config.batch_gpu

    def _backward(self, phase: Phase, loss: Tensor, *, more: bool = False) -> None:
        """Add the gradients of a scalar; `more` of the same micro-batch will come."""
        self._gradients[phase].backward(loss, last=self._ends_batch and not more)

    def _update(self, optimizer: torch.optim.Optimizer, phase: Phase) -> Tensor:
        """Replace gradients that are not finite and step; return 1.0 if there were any."""
        not_finite = sanitise_(self._gradients[phase].flat)
        optimizer.step()
        return not_finite


def _gradients(state: State, world: World) -> dict[Phase, FlatGradients]:
    """Return the gradients of each kind of step, in one piece of memory: no two kinds are under way at once."""
    G = [*state.G.mapping.parameters(), *state.G.synthesis.parameters()]
    D = state.trainable_D()
    G_sums = (1 + state.G.c_dim) * (state.G.w_dim + 1)
    storage = torch.empty(max(flat_size(G) + G_sums, flat_size(D) + 2), device=world.device)
    return {phase: FlatGradients(parameters, world, extra=extra, storage=storage)
            for phase, parameters, extra in ((Phase.GENERATOR, G, G_sums), (Phase.PATH_LENGTH, G, 1),
                                             (Phase.DISCRIMINATOR, D, 2), (Phase.R1, D, 0))}
