"""One update of one network each: main and regularisation steps of G and of D.

A batch is worked on in micro-batches, each seeded by its place in the image stream, and losses are divided by the
size of the whole batch; so any number of processes takes the same step up to rounding.
"""

import enum
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from stylegan_oct.config import TrainConfig
from stylegan_oct.training import losses
from stylegan_oct.training.state import State
from torch_utils.distributed import World
from torch_utils.gradients import FlatGradients, flat_size, sanitise_
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
        self._labels = labels
        self._gradients = _gradients(state, world)
        self._microbatches = config.batch // config.batch_gpu  # over all processes

    def generator(self, batch: Sequence[Microbatch]) -> None:
        """Non-saturating loss on augmented fakes; also moves `w_avg`."""
        state = self._state
        moments = []
        with self._gradients[Phase.GENERATOR] as gradients:
            for micro in batch:
                images, c, ws = self._fakes(Phase.GENERATOR, micro.offset, len(micro.images))
                moments.append(state.G.mapping.w_sums(ws, c))
                logits = state.D(state.augment(images, state.p), c)
                loss = losses.generator_loss(logits)
                self._report("loss/G", loss)
                self._report("logits/fake", logits)
                gradients.backward(loss.sum() / self._config.batch, last=micro is batch[-1])
            sums = self._update(state.opt_G, gradients, "G", torch.stack(moments).sum(dim=0))
        state.G.mapping.update_w_avg(sums)

    def path_length(self, batch: Sequence[Microbatch]) -> None:
        """Path length regularisation on part of each micro-batch; the gradient is multiplied by the interval."""
        state, cfg = self._state, self._config.path_length
        mean_sum = torch.zeros_like(state.pl_mean)
        with self._gradients[Phase.PATH_LENGTH] as gradients:
            for micro in batch:
                n = max(len(micro.images) // cfg.batch_shrink, 1)
                images, _, ws = self._fakes(Phase.PATH_LENGTH, micro.offset, n)
                noise = torch.randn_like(images) / (images.shape[2] * images.shape[3]) ** 0.5
                lengths = losses.path_lengths(images, ws, noise)
                penalty, _ = losses.path_length_penalty(lengths, state.pl_mean, decay=cfg.decay)
                self._report("loss/path_length", penalty)
                mean_sum += lengths.detach().mean()
                gradients.backward(penalty.mean() * (cfg.weight * cfg.interval / self._microbatches),
                                   last=micro is batch[-1])
            mean_sum = self._update(state.opt_G, gradients, "G", mean_sum)
        state.pl_mean.lerp_(mean_sum / self._microbatches, cfg.decay)

    def discriminator(self, batch: Sequence[Microbatch]) -> None:
        """Logistic loss on augmented fakes and reals; also counts the signs that drive ADA."""
        state = self._state
        signs = torch.zeros_like(state.sign_sums)
        with self._gradients[Phase.DISCRIMINATOR] as gradients:
            for micro in batch:
                with torch.no_grad():
                    fakes, c, _ = self._fakes(Phase.DISCRIMINATOR, micro.offset, len(micro.images))
                fake_logits = state.D(state.augment(fakes, state.p), c)
                fake_loss = losses.discriminator_fake_loss(fake_logits)
                gradients.backward(fake_loss.sum() / self._config.batch, last=False)
                real_logits = state.D(state.augment(micro.images, state.p), self._one_hot(micro.labels))
                real_loss = losses.discriminator_real_loss(real_logits)
                gradients.backward(real_loss.sum() / self._config.batch, last=micro is batch[-1])
                self._report("loss/D", fake_loss.detach() + real_loss.detach())
                self._report("logits/real", real_logits)
                signs += torch.stack([real_logits.detach().sign().sum(),
                                      torch.full((), len(real_logits), device=signs.device)]).to(signs)
            signs = self._update(state.opt_D, gradients, "D", signs)
        state.sign_sums += signs

    def r1(self, batch: Sequence[Microbatch]) -> None:
        """Gradient penalty with respect to the unaugmented reals; the gradient is multiplied by the interval."""
        state, cfg = self._state, self._config.r1
        with self._gradients[Phase.R1] as gradients:
            for micro in batch:
                seed_torch(self._config.seed, state.nimg + micro.offset, Phase.R1)
                images = micro.images.detach().requires_grad_(True)
                logits = state.D(state.augment(images, state.p), self._one_hot(micro.labels))
                penalty = losses.r1_penalty(logits, images)
                self._report("loss/r1_penalty", penalty)
                gradients.backward(penalty.sum() * (cfg.gamma * cfg.interval / self._config.batch),
                                   last=micro is batch[-1])
            self._update(state.opt_D, gradients, "D")

    def _fakes(self, phase: Phase, offset: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return images [n, C, H, W], their labels one-hot, and ws [n, L, D], drawn for a place in the stream."""
        config, G = self._config, self._state.G
        seed_torch(config.seed, self._state.nimg + offset, phase)
        c = self._one_hot(self._draw_labels(n))
        z = torch.randn(2 * n, G.z_dim, device=self._world.device)
        ws = G.mapping(z[:n], c)  # [n, L, D]
        if config.style_mixing > 0 and G.num_ws > 1:
            crossover = int(torch.randint(1, G.num_ws, ()))
            if float(torch.rand(())) < config.style_mixing:
                ws = torch.cat([ws[:, :crossover], G.mapping(z[n:], c)[:, crossover:]], dim=1)
        return G.synthesis(ws, noise_mode="random"), c, ws

    def _draw_labels(self, n: int) -> Tensor:
        """Return labels of fakes as frequent as in the data, or equally frequent with balanced sampling."""
        if self._config.data.balanced:
            return torch.randint(len(self._config.data.classes), (n,))
        return self._labels[torch.randint(len(self._labels), (n,))]

    def _one_hot(self, labels: Tensor) -> Tensor:
        """Return labels of the host as float32 [n, classes] on the device."""
        classes = len(self._config.data.classes)
        vectors = one_hot(labels, classes).to(torch.float32) if classes else torch.zeros(len(labels), 0)
        return send(vectors, self._world.device)

    def _report(self, name: str, values: Tensor) -> None:
        self._stats.add(name, values)

    def _update(self, optimizer: torch.optim.Optimizer, gradients: FlatGradients, name: str,
                further: Tensor | None = None) -> Tensor:
        """Sum gradients over the processes, replace those that are not finite, and step; return further sums."""
        sums = gradients.reduce(further)
        self._report(f"nonfinite/{name}", sanitise_(gradients.flat))
        optimizer.step()
        return sums


def _gradients(state: State, world: World) -> dict[Phase, FlatGradients]:
    """Return the gradients of each kind of step, in one piece of memory: no two kinds are under way at once."""
    G = [*state.G.mapping.parameters(), *state.G.synthesis.parameters()]
    D = state.trainable_D()
    G_sums = (1 + state.G.c_dim) * (state.G.w_dim + 1)
    storage = torch.empty(max(flat_size(G) + G_sums, flat_size(D) + 2), device=world.device)
    return {phase: FlatGradients(parameters, world, extra=extra, storage=storage)
            for phase, parameters, extra in ((Phase.GENERATOR, G, G_sums), (Phase.PATH_LENGTH, G, 1),
                                             (Phase.DISCRIMINATOR, D, 2), (Phase.R1, D, 0))}
