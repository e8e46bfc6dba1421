"""A trained generator as one object: `load_generator()` finds it, `G(z, "DRUSEN")` draws with it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from dnnlib.config import Count, FilePath, Hash, Name, Names, Within, from_dict, from_texts
from dnnlib.errors import CheckpointError, ConfigError
from dnnlib.files import sha256_of
from dnnlib.rundir import RunDir, runs_in
from dnnlib.stored import reading
from dnnlib.text import suggest
from stylegan_oct import limits
from stylegan_oct.batches import Layers
from stylegan_oct.config import TrainConfig
from stylegan_oct.data.preprocess import Preprocess, parse_preprocess
from stylegan_oct.networks.generator import Generator
from stylegan_oct.networks.layers import Architecture, Precision, block_dtype, set_precision
from stylegan_oct.networks.synthesis import CAMERAS, SynthesisLayer
from torch_utils.checkpoint import complete_checkpoints, load_network, read_header
from torch_utils.threads import for_work

INCLUDED = Path(__file__).parent / "demo"  # a folder for each generator that comes with the project, by its name
DEMO = INCLUDED / "demo64"                 # the one that is meant where none is named
GENERATOR_FILE = "G_ema.safetensors"
DISCRIMINATOR_FILE = "D.safetensors"
BESIDE = {"oct": "detector.safetensors", "copies": "copies.safetensors"}  # networks made for a generator, by detector

Label = str | int | Sequence[str | int] | Tensor


Width = Annotated[int, Within(1, 2**16)]  # of latents and feature maps; what a file holds bounds them together


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions:
    """Constructor arguments of the network, as the file of a generator holds them."""

    z_dim: Width
    c_dim: Annotated[int, Within(0, 4096)]
    w_dim: Width
    img_resolution: Literal[8, 16, 32, 64, 128, 256, 512, 1024]
    img_channels: Literal[1, 3]
    mapping_layers: Annotated[int, Within(0, 64)]
    channel_base: Annotated[int, Within(1, 2**24)]
    channel_max: Width
    channel_min: Width = 1
    architecture: Architecture = "skip"
    num_fp16_res: Annotated[int, Within(0, 1024)] = 0
    conv_clamp: Annotated[float, Within(0, 1e30)] | None = 256.0
    speckle: bool = False


@dataclass(frozen=True, kw_only=True)
class GeneratorHeader:
    """What the header of a generator's file holds."""

    kind: Literal["stylegan_oct generator"]
    format: Literal["1"]
    generator: GeneratorOptions
    classes: Names
    nimg: Count
    preset: Name
    data_source: Name
    archive: Hash = ""
    preprocess: dict[str, Any] | None = None  # files from before it was written lack it

    def __post_init__(self) -> None:
        if len(set(self.classes)) < len(self.classes) or len(self.classes) != self.generator.c_dim:
            raise ConfigError(f"classes must be {self.generator.c_dim} different names; got {len(self.classes)}.")


@dataclass(frozen=True)
class GeneratorInfo:
    """What the file of a generator says of itself."""

    path: Path
    sha256: str
    classes: tuple[str, ...]
    resolution: int
    channels: int
    nimg: int           # images shown in training
    preset: str
    data_source: str    # "phantom" or "scans"
    preprocess: Preprocess  # what makes a scan comparable with its pictures
    options: dict[str, Any]  # constructor arguments of the network
    archive: str = ""   # fingerprint of the archive it was trained on; "" in older files


class OctGenerator(nn.Module):
    """A trained generator with the names of its classes.

        G = load_generator()
        images = G(G.z([0, 1, 2]), "DRUSEN", psi=0.7)    # [3, 1, 64, 64], float32, about [-1, 1]
    """

    def __init__(self, network: Generator, info: GeneratorInfo) -> None:
        super().__init__()
        self.network, self.info = network, info

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def layers(self) -> Layers:
        """What a picture takes, for `stylegan_oct.batches`."""
        return layers_of(self.network, self.device)

    @cached_property
    def layer_work(self) -> float:
        """Multiplications in a layer for one picture, on average."""
        layers = [layer for layer in self.network.modules() if isinstance(layer, SynthesisLayer)]
        return sum(layer.weight.numel() * layer.resolution**2 for layer in layers) / len(layers)

    def threads(self, pictures: int) -> AbstractContextManager[None]:
        """Compute with as many threads as drawing so many pictures at once is worth, where the CPU draws."""
        return for_work(self.layer_work * pictures) if self.device.type == "cpu" else nullcontext()

    def z(self, seeds: Sequence[int]) -> Tensor:
        """Return the latents [len(seeds), z_dim] of the seeds: the same on every computer, one seed one latent.

        Raises:
            ConfigError: a seed is negative or beyond 2**32 - 1.
        """
        for seed in seeds:
            limits.DRAWN_SEED.check("seed", int(seed))
        draws = [np.random.RandomState(seed).randn(self.network.z_dim) for seed in seeds]
        return torch.from_numpy(np.stack(draws)).to(torch.float32).to(self.device)

    def label(self, label: Label | None, n: int) -> Tensor:
        """Return a label as one-hot [n, classes].

        Args:
            label: a class name or its index, a sequence of n of them, int64 [n], or one-hot [n, classes].
            n: number of samples.
        Raises:
            ConfigError: the class does not exist, or there is none where one is needed.
        """
        classes = self.info.classes
        if not classes:
            if label is not None:
                raise ConfigError("This generator was trained without classes; leave the class out.")
            return torch.zeros(n, 0, device=self.device)
        if label is None:
            raise ConfigError(f"Say which class to draw: {', '.join(classes)}.")
        if isinstance(label, Tensor) and label.ndim == 2:
            return label.to(self.device, torch.float32)
        many = list(label.tolist()) if isinstance(label, Tensor) else label
        wanted = [many] * n if isinstance(many, str | int) else list(many)
        indices = torch.tensor([self.class_index(item) for item in wanted])
        return one_hot(indices, len(classes)).to(self.device, torch.float32)

    def class_index(self, name: str | int) -> int:
        """Return the index of a class by its name, in any case, or by its index.

        Raises:
            ConfigError: there is no such class; the nearest is named.
        """
        classes = self.info.classes
        if isinstance(name, int):
            if 0 <= name < len(classes):
                return name
            raise ConfigError(f"There is no class number {name}; there are {len(classes)}: {', '.join(classes)}.")
        for index, known in enumerate(classes):
            if name.lower() == known.lower():
                return index
        raise ConfigError(f"There is no class {name!r}.{suggest(name, classes)}")

    def forward(self, z: Tensor, label: Label | None = None, *, psi: float = 1.0, cutoff: int | None = None,
                center: Literal["class", "global"] = "class",
                noise_mode: Literal["const", "random", "none"] = "const") -> Tensor:
        """Return images [N, C, R, R], float32, about [-1, 1].

        Args:
            z: latents [N, z_dim], standard normal.
            label: as in `label`.
            psi: truncation; 1 is the full variety, smaller values draw nearer to the mean.
            cutoff: number of layers that are truncated; default all.
            center: truncate towards the mean of the class or of all classes.
            noise_mode: speckle that is fixed for each latent, new every time, or none.
        """
        return self.synthesize(self.ws(z, label, psi=psi, cutoff=cutoff, center=center), noise_mode=noise_mode,
                               speckle=self.speckle_of(z))

    def ws(self, z: Tensor, label: Label | None = None, *, psi: float = 1.0, cutoff: int | None = None,
           center: Literal["class", "global"] = "class") -> Tensor:
        """Return the intermediate latents [N, layers, w_dim], float32; without a cutoff the same w for every layer.

        Arguments as in `forward`.

        Raises:
            ConfigError: psi or cutoff is out of range, or as in `label`.
        """
        limits.PSI.check("psi", psi)
        if cutoff is not None:
            limits.CUTOFF.check("cutoff", cutoff)
        with self.threads(len(z)):
            ws = self.network.mapping(z.to(self.device), self.label(label, len(z)), psi=psi, cutoff=cutoff,
                                      center=center if self.info.classes else "global")
        assert isinstance(ws, Tensor)
        return ws

    def speckle_of(self, z: Tensor) -> Tensor:
        """Return which speckle [N, 3] the pictures of z [N, z_dim] have, by its bytes: the camera, and how far moved.

        Pictures of different latents would else share one speckle; that of the same latent has the same everywhere.
        """
        digests = [hashlib.blake2b(row.tobytes(), digest_size=12).digest() for row in z.detach().cpu().numpy()]
        numbers = np.frombuffer(b"".join(digests), dtype="<u4").reshape(-1, 3)
        return torch.from_numpy((numbers % (CAMERAS, self.info.resolution, self.info.resolution)).astype(np.int64))

    def synthesize(self, ws: Tensor, *, noise_mode: Literal["const", "random", "none"] = "const",
                   speckle: Tensor | None = None) -> Tensor:
        """Return images [N, C, R, R], float32, about [-1, 1], of intermediate latents.

        Args:
            ws: [N, w_dim], one w for all layers, or [N, layers, w_dim].
            noise_mode: as in `forward`.
            speckle: from `speckle_of`; default that of a typical scan, the same for all, as walks and comparisons need.
        """
        if ws.ndim == 2:
            ws = ws[:, None].expand(-1, self.network.num_ws, -1)
        with self.threads(len(ws)):
            images = self.network.synthesis(ws.to(self.device), noise_mode=noise_mode, speckle=speckle)
        assert isinstance(images, Tensor)
        return images


def layers_of(network: Generator, device: torch.device) -> Layers:
    """Return the feature maps of a picture of a generator on a device."""
    blocks = list(network.synthesis.blocks())
    numbers = [len(block.conv1.weight) * block.conv1.resolution**2 for block in blocks]
    largest = blocks[numbers.index(max(numbers))]
    dtype = block_dtype(device.type, largest.in_half, largest.precision)
    return Layers(widest=max(numbers), total=sum(numbers), bytes_each=dtype.itemsize)


def load_generator(path: str | Path | None = None, *, device: str | torch.device = "cpu",
                   precision: Precision = "auto") -> OctGenerator:
    """Return a trained generator, ready to draw.

    Args:
        path: a G_ema.safetensors, a checkpoint, a run, a folder of runs (its newest), or the name of a generator that
            comes with the project: demo64 or demo256; default the demo generator.
        device: where to put it.
        precision: of its blocks: auto is float16 on a GPU and float32 on a CPU; fp32, fp16, or bf16 on either.
            PyTorch lets float32 convolutions on a GPU round their factors (TF32); all commands end that by
            `torch_utils.precision.allow_tf32(False)`.
    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    file = find_generator(Path(path) if path is not None else DEMO)
    info = read_info(file)
    network = load_network(lambda: Generator(**info.options), file)
    set_precision(network, precision)
    return OctGenerator(network.eval().requires_grad_(False), info).to(device)


def find_generator(path: Path) -> Path:
    """Return the generator's file for a path as `load_generator` takes it. What is on the disk comes before a name.

    Raises:
        CheckpointError: there is none.
    """
    if not path.exists() and path.name == str(path) and (INCLUDED / path / GENERATOR_FILE).is_file():
        path = INCLUDED / path
    if path.is_file():
        return path
    if (path / GENERATOR_FILE).is_file():
        return path / GENERATOR_FILE
    for run in [RunDir(path), *runs_in(path)]:
        complete = complete_checkpoints(run.checkpoints)
        if complete:
            return (run.path / "best" if _ends_at_its_best(run) else complete[-1]) / GENERATOR_FILE
    names = sorted(file.parent.name for file in INCLUDED.glob(f"*/{GENERATOR_FILE}"))
    raise CheckpointError(f"There is no generator in {path}. Give a {GENERATOR_FILE}, a checkpoint, a run, or the name "
                          f"of one that comes with the project: {', '.join(names)}.")


def _ends_at_its_best(run: RunDir) -> bool:
    """Whether a run goes on past its best only to see that it gets no better, and has a best checkpoint."""
    save = (run.read_config() or {}).get("save")
    return isinstance(save, dict) and bool(save.get("patience")) and (run.path / "best" / GENERATOR_FILE).is_file()


def weights_beside(info: GeneratorInfo, detector: str) -> Path | None:
    """Return the weights of a detector that were made for a generator and lie beside its file; None without any."""
    file = info.path.parent / BESIDE.get(detector, "")
    return file if file.is_file() else None


def generator_header(config: TrainConfig, nimg: int, data_source: str,
                     preprocess: Preprocess | None = None) -> dict[str, str]:
    """Return what the file of a generator says of itself, so that the file alone is enough to draw and to project."""
    options = {**dataclasses.asdict(config.G), "c_dim": len(config.data.classes),
               "img_resolution": config.data.resolution, "img_channels": config.data.channels}
    settings = {} if preprocess is None else {"preprocess": json.dumps(dataclasses.asdict(preprocess))}
    return {**header_of(options, config.data.classes, nimg=nimg, preset=config.preset, data_source=data_source),
            "archive": config.data.fingerprint, **settings}


def header_of(options: Mapping[str, Any], classes: Sequence[str], *, nimg: int, preset: str,
              data_source: str) -> dict[str, str]:
    """Return the header of a generator's file, from the constructor arguments of its network."""
    return {"kind": "stylegan_oct generator", "format": "1", "generator": json.dumps(dict(options)),
            "classes": json.dumps(list(classes)), "nimg": str(nimg), "preset": preset, "data_source": data_source,
            "archive": "", "note": "Draws synthetic pictures; not for diagnosis."}


def read_info(file: Path) -> GeneratorInfo:
    """Return what a generator's file says of itself.

    Raises:
        CheckpointError: it is not one, or of another format.
    """
    texts = read_header(file)
    if texts.get("kind") != "stylegan_oct generator" or texts.get("format") != "1":
        raise CheckpointError(f"{file} is not a generator of this project. Give a {GENERATOR_FILE}.")
    with reading(file, CheckpointError, f"Give another {GENERATOR_FILE}."):
        header = from_texts(GeneratorHeader, texts)
        options = header.generator
        preprocess = parse_preprocess(header.preprocess, options.img_resolution, options.img_channels)
    return GeneratorInfo(path=file, sha256=sha256_of(file), classes=header.classes,
                         resolution=options.img_resolution, channels=options.img_channels,
                         nimg=header.nimg, preset=header.preset, data_source=header.data_source,
                         preprocess=preprocess, options=dataclasses.asdict(options), archive=header.archive)


def run_config(generator: Path) -> dict[str, Any]:
    """Return the config.json of the run of a generator's file, or beside it; {} where there is none."""
    places = generator.resolve().parents
    for folder in (places[0], *places[2:3]):  # run/checkpoints/nimg-00200000/G_ema.safetensors
        config = RunDir(folder).read_config()
        if config is not None and isinstance(config.get("data"), dict):
            return config
    return {}


@dataclass(frozen=True)
class TrainingArchive:
    """The archive that a generator was trained on, as far as it is known."""

    fingerprint: str   # "" where nothing tells
    path: Path | None  # where it was then; None where nothing tells


def training_archive(info: GeneratorInfo) -> TrainingArchive:
    """Return what the generator's file says of its training archive, and the config.json of its run or beside it."""
    try:
        known = from_dict(_Known, run_config(info.path).get("data", {}), strict=False)
    except ConfigError:
        known = _Known()
    if info.archive and known.fingerprint != info.archive:  # the configuration of another generator
        return TrainingArchive(info.archive, None)
    return TrainingArchive(known.fingerprint, Path(known.path) if known.path else None)


@dataclass(frozen=True)
class _Known:
    """What a configuration says of its archive."""

    fingerprint: Hash = ""
    path: FilePath = ""
