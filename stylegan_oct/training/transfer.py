"""Starting from the weights of another run: what fits is copied, what nearly fits adapted, the rest stays fresh."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from dnnlib.errors import CheckpointError
from dnnlib.stored import reading
from stylegan_oct.model import DISCRIMINATOR_FILE, find_generator, read_info
from stylegan_oct.networks.generator import Generator
from stylegan_oct.training.preserve import draw_the_picture_below, judge_the_picture_below, widened
from stylegan_oct.training.state import Counters, State
from torch_utils.checkpoint import load_module, load_network, read_meta, read_tensors
from torch_utils.tensor_file import take


@dataclass
class TransferReport:
    """Names of tensors by what became of them."""

    copied: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the report for the log; long lists are cut."""
        result = [f"{len(self.copied)} tensors copied"]
        for what, names in (("adapted", self.adapted), ("left fresh", self.fresh)):
            if names:
                shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
                result.append(f"{len(names)} {what}: {shown}")
        return result + self.notes


def grow_from(state: State, checkpoint: Path) -> TransferReport:
    """Begin a stage with the weights, the strength of augmentation and the image count of the one before.

    Args:
        state: fresh, of the new stage.
        checkpoint: the last of the stage before.
    Raises:
        CheckpointError: it is damaged, or nothing of it fits.
    """
    report = start_from(state, checkpoint)
    state.go_on_from(read_meta(checkpoint, Counters))
    return report


def start_from(state: State, source: Path) -> TransferReport:
    """Load the weights of a checkpoint of any run into a fresh state.

    G and its average start from the source's average, D from the source's D where the checkpoint still holds it.
    Networks may differ in classes (matched by name), channels, resolution and, where they become wider, feature maps.
    What is new begins without effect, as far as that is possible (`stylegan_oct.training.preserve`).

    Raises:
        CheckpointError: nothing of it fits.
    """
    file = find_generator(source)
    info, data = read_info(file), state.config.data
    report = TransferReport()
    G = load_network(lambda: Generator(**info.options), file)
    fits = _transfer(state.G_ema, G.state_dict(), info.classes, data.classes, "G", report)
    if not fits:
        raise CheckpointError(f"No layer of {file} fits this network. Choose a preset with the same channel_base, or "
                              "another checkpoint to start from.")
    grows = info.resolution < data.resolution
    if grows and draw_the_picture_below(state.G_ema, info.resolution):
        report.notes.append(f"G begins with the picture of {info.resolution} px, enlarged")
    state.G.load_state_dict(state.G_ema.state_dict())
    discriminator = file.parent / DISCRIMINATOR_FILE
    if not discriminator.is_file():
        report.fresh.append("the whole discriminator (the checkpoint holds none)")
        return report
    tensors = read_tensors(discriminator)
    _transfer(state.D, tensors, info.classes, data.classes, "D", report)
    prefix = f"b{info.resolution}.fromrgb."
    entry = {}
    if grows and {f"{prefix}weight", f"{prefix}bias"} <= tensors.keys():
        with reading(discriminator, CheckpointError, "Use another checkpoint, or remove the file."):
            weight = take(tensors, f"{prefix}weight", None, None, 1, 1)
            bias = take(tensors, f"{prefix}bias", weight.shape[0])
        entry = {"weight": weight.to(state.pl_mean), "bias": bias.to(state.pl_mean)}
    if entry and judge_the_picture_below(state.D, info.resolution, entry):
        report.notes.append(f"D begins with the judgement of {info.resolution} px")
    return report


def _transfer(network: nn.Module, tensors: Mapping[str, Tensor], old_classes: Sequence[str],
              new_classes: Sequence[str], prefix: str, report: TransferReport) -> bool:
    """Load what fits; return whether any weight did, not merely a bias."""
    result = {}
    for name, own in network.state_dict().items():
        old = tensors.get(name)
        value = None if old is None else _fit(name, old.to(own), own, old_classes, new_classes,
                                              is_generator=prefix == "G")
        result[name] = own if value is None else value
        same = old is not None and value is not None and value.shape == old.shape and torch.equal(value, old.to(own))
        bucket = report.fresh if value is None else report.copied if same else report.adapted
        bucket.append(f"{prefix}.{name}")
    load_module(network, result, source="the adapted checkpoint")
    weights = {f"{prefix}.{name}" for name, parameter in network.named_parameters() if parameter.ndim >= 2}
    return bool(weights & {*report.copied, *report.adapted})


def _fit(name: str, old: Tensor, own: Tensor, old_classes: Sequence[str], new_classes: Sequence[str], *,
         is_generator: bool) -> Tensor | None:
    """Return the old tensor in the shape of the new one, or None where that makes no sense."""
    if name.endswith("mapping.embed.weight") or name.endswith("w_avg_class"):
        axis = 1 if name.endswith("weight") else 0
        if (old.ndim != 2 or old.shape[1 - axis] != own.shape[1 - axis] or old.shape[axis] != len(old_classes)
                or not old_classes):
            return None
        return _match_classes(old, axis, old_classes, new_classes)
    if old.shape == own.shape:
        return old
    if old.ndim == own.ndim and (value := of_channels(name, old, own.shape)) is not None:
        return value
    return widened(name, old, own, is_generator=is_generator)


def of_channels(name: str, old: Tensor, shape: Sequence[int]) -> Tensor | None:
    """Return a tensor of toRGB or fromRGB for one channel in place of three or the reverse; None of any other.

    Args:
        name: of the tensor.
        old: as it is.
        shape: as it shall be, with as many axes.
    """
    if "torgb" in name or "fromrgb" in name:
        for axis, (before, after) in enumerate(zip(old.shape, shape, strict=True)):
            others_equal = [*old.shape[:axis], *old.shape[axis + 1:]] == [*shape[:axis], *shape[axis + 1:]]
            if others_equal and {before, after} == {1, 3}:
                value = old.mean(dim=axis, keepdim=True).expand(*shape)
                # A grey image must look the same to D: the sum over c inputs is scaled by 1 / sqrt(c) at run time.
                return value * (before / after) ** 0.5 if "fromrgb" in name else value
    return None


def _match_classes(old: Tensor, axis: int, old_classes: Sequence[str], new_classes: Sequence[str]) -> Tensor:
    """Return the columns of the new classes: by name where the name is known, else the mean of the old ones."""
    mean = old.mean(dim=axis)
    parts = [old.select(axis, old_classes.index(name)) if name in old_classes else mean for name in new_classes]
    return torch.stack(parts, dim=axis)
