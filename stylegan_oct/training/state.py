"""Everything that changes while training, to and from a checkpoint."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dnnlib.config import Count, Share, to_dict
from dnnlib.errors import CheckpointError
from dnnlib.stored import reading
from stylegan_oct.augment.controller import AdaController
from stylegan_oct.augment.pipeline import AugmentPipe
from stylegan_oct.config import OptimizerConfig, TrainConfig
from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.model import generator_header
from stylegan_oct.networks.discriminator import Discriminator
from stylegan_oct.networks.generator import Generator
from stylegan_oct.networks.layers import set_precision
from stylegan_oct.networks.synthesis import SpeckleLayer
from stylegan_oct.training.speckle import Speckle
from torch_utils import checkpoint
from torch_utils.ema import ema_beta, update_ema
from torch_utils.seeding import seed_torch
from torch_utils.tensor_file import take
from torch_utils.transfer import fetch


@dataclass(frozen=True, kw_only=True)
class Controller:
    """What `AdaController.state_dict` returns."""

    p: Share


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What a checkpoint's meta.json says of how far a run is."""

    nimg: Count
    augment_p: Share
    controller: Controller


@dataclass
class State:
    """Networks, optimizers, strength of augmentation and counters of a run."""

    config: TrainConfig
    G: Generator
    D: Discriminator
    G_ema: Generator
    opt_G: torch.optim.Optimizer
    opt_D: torch.optim.Optimizer
    augment: AugmentPipe
    controller: AdaController
    p: float           # strength of augmentation
    pl_mean: Tensor    # running mean path length, scalar
    sign_sums: Tensor  # [2] sum of signs of D on reals since p last moved, and their number
    data_source: str   # "phantom" or "scans", said by the archive
    preprocess: Preprocess | None = None  # how scans became the archive's pictures
    nimg: int = 0      # images shown so far
    _signs: Callable[[], Tensor] | None = None  # `sign_sums` on their way to the host

    @property
    def step(self) -> int:
        """Updates done so far."""
        return self.nimg // self.config.batch

    def trainable_D(self) -> list[nn.Parameter]:
        """Return the discriminator's parameters that are not frozen."""
        frozen = {id(parameter) for parameter in self.D.frozen_parameters(self.config.D.freeze_layers)}
        return [parameter for parameter in self.D.parameters() if id(parameter) not in frozen]

    def update_average(self) -> None:
        """Move the averaged generator, at the end of a step."""
        ema = self.config.ema
        ramp = None if self.config.start_sha256 else ema.ramp
        update_ema(self.G_ema, self.G, ema_beta(self.config.batch, ema.kimg * 1000, nimg=self.nimg, ramp=ramp))

    def set_speckle(self, speckle: Speckle) -> None:
        """Let the speckle of G be as it was measured."""
        for network in (self.G, self.G_ema):
            for layer in network.modules():
                if isinstance(layer, SpeckleLayer):
                    speckle.give_to(layer)

    def fetch_signs(self) -> None:
        """Begin to bring `sign_sums` to the host, where `update_strength` needs them."""
        if self.config.augment.mode == "ada":
            self._signs = fetch(self.sign_sums)

    def update_strength(self) -> None:
        """Move the strength of augmentation by what D said of the reals since the last move, if it said anything."""
        if self.config.augment.mode != "ada":
            return
        total, count = (self._signs or fetch(self.sign_sums))().tolist()
        self._signs = None
        if count:
            self.p = self.controller.update(total / count, self.config.batch * self.config.augment.interval)
            self.sign_sums.zero_()

    def save(self, directory: Path, facts: dict[str, Any]) -> Path:
        """Write a checkpoint and return its path.

        Raises:
            TrainingError: it cannot be written.
        """
        path = directory / f"nimg-{self.nimg:08d}"
        parts = {name: getattr(self, name).state_dict() for name in ("G", "D", "G_ema")}
        parts["G_opt"] = checkpoint.optimizer_tensors(self.opt_G, self.G)
        parts["D_opt"] = checkpoint.optimizer_tensors(self.opt_D, self.D)
        parts["training"] = {"pl_mean": self.pl_mean, "sign_sums": self.sign_sums}
        meta = {"nimg": self.nimg, "augment_p": self.p, "controller": self.controller.state_dict(),
                "config": to_dict(self.config), **facts}
        header = generator_header(self.config, self.nimg, self.data_source, self.preprocess)
        checkpoint.save(path, parts, meta, headers={"G_ema": header})
        return path

    def load(self, path: Path) -> None:
        """Go back to a checkpoint of this run.

        Raises:
            CheckpointError: it is damaged or does not fit.
        """
        counters = checkpoint.read_meta(path, Counters)
        for name in ("G", "D", "G_ema"):
            file = path / f"{name}.safetensors"
            checkpoint.load_module(getattr(self, name), checkpoint.read_tensors(file), source=str(file))
        for name, optimizer, network in (("G_opt", self.opt_G, self.G), ("D_opt", self.opt_D, self.D)):
            tensors = checkpoint.read_tensors(path / f"{name}.safetensors")
            checkpoint.load_optimizer_tensors(optimizer, network, tensors)
        extra = checkpoint.read_tensors(path / "training.safetensors")
        with reading(path / "training.safetensors", CheckpointError, "Use an older checkpoint of the run."):
            self.pl_mean.copy_(take(extra, "pl_mean"))
            self.sign_sums.copy_(take(extra, "sign_sums", 2))
        self.go_on_from(counters)

    def go_on_from(self, counters: Counters) -> None:
        """Take over the image count and the strength of augmentation of a checkpoint."""
        self.nimg, self.p = counters.nimg, counters.augment_p
        self.controller.load_state_dict({"p": counters.controller.p})


def create_state(config: TrainConfig, device: torch.device, data_source: str,
                 preprocess: Preprocess | None = None) -> State:
    """Return the state at the start of a run, its weights drawn from the seed."""
    seed_torch(config.seed)
    G, D = build_networks(config, device)
    for network in (G, D):
        network.train().requires_grad_(False)
    augment = config.augment
    ada_kimg = min(augment.ada_kimg, 100.0) if config.start_sha256 else augment.ada_kimg
    controller = AdaController(target=augment.target, ada_nimg=round(ada_kimg * 1000), p=augment.p,
                               p_max=augment.p_max)
    path_length = config.path_length.interval if config.path_length.weight > 0 else None
    return State(
        config=config, G=G, D=D, G_ema=copy.deepcopy(G).eval(),
        opt_G=_adam(G, config.optimizer, config.optimizer.G_lr, path_length),
        opt_D=_adam(D, config.optimizer, config.optimizer.D_lr, config.r1.interval),
        augment=AugmentPipe(augment.groups, channels=config.data.channels).to(device), controller=controller,
        p=0.0 if augment.mode == "off" else augment.p,
        pl_mean=torch.zeros((), device=device), sign_sums=torch.zeros(2, dtype=torch.float64, device=device),
        data_source=data_source, preprocess=preprocess)


def build_networks(config: TrainConfig, device: torch.device) -> tuple[Generator, Discriminator]:
    """Return G and D with fresh weights, in the precision of the run."""
    shape: dict[str, Any] = {"c_dim": len(config.data.classes), "img_resolution": config.data.resolution,
             "img_channels": config.data.channels}
    G_options, D_options = dataclasses.asdict(config.G), dataclasses.asdict(config.D)
    del D_options["freeze_layers"]
    G, D = Generator(**shape, **G_options).to(device), Discriminator(**shape, **D_options).to(device)
    for network in (G, D):
        set_precision(network, config.precision)
    return G, D


def _adam(network: nn.Module, options: OptimizerConfig, lr: float, interval: int | None) -> torch.optim.Optimizer:
    """Return Adam with the learning rate and decays corrected for a lazy regularisation step every `interval`.

    Karras et al. 2020 (SG2), appendix B: one update more in `interval` must not change the effective step.
    """
    ratio = interval / (interval + 1) if interval else 1.0
    betas = (options.beta1**ratio if options.beta1 else 0.0, options.beta2**ratio)
    on_gpu = next(network.parameters()).is_cuda
    return torch.optim.Adam(network.parameters(), lr=lr * ratio, betas=betas, eps=options.eps, fused=True,
                            capturable=on_gpu)
