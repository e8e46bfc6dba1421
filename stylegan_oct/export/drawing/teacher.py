"""Soft labels of a teacher: what a network that the user names says of each picture, for distillation.

A teacher maps float32 [N, 1 or 3, S, S] to logits [N, K]. TorchScript holds a program for PyTorch's own interpreter,
and ONNX a graph of operators: neither is a pickle, but run only what you trust.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dnnlib.errors import CheckpointError, ConfigError, UserError
from dnnlib.files import sha256_of
from stylegan_oct import limits
from stylegan_oct.features.detector import as_rgb, resize, standardise
from torch_utils.images import to_unit

NORMALISATIONS = {
    "unit": ((0.0,) * 3, (1.0,) * 3),                                # 0 to 1
    "signed": ((0.5,) * 3, (0.5,) * 3),                              # -1 to 1
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),      # as torchvision's models
}

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class TeacherInput:
    """What a teacher is shown."""

    size: int | None = None      # side in pixels; None: as the pictures are
    channels: int = 3
    norm: str = "imagenet"

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return float32 [N, channels, size, size] of pictures uint8 [N, C, R, R]."""
        images = standardise(as_rgb(resize(to_unit(pixels), self.size)), *NORMALISATIONS[self.norm])
        return images if self.channels == 3 else images.mean(dim=1, keepdim=True)

    def __str__(self) -> str:
        return f"{self.size or 'same'}px x {self.channels}, {self.norm}"


class Teacher:
    """A network that gives soft labels.

    Args:
        path: .onnx, or any other name for TorchScript.
        classes: names of its outputs in order.
        shown: what it is shown.
        device: where a TorchScript teacher runs.
    Raises:
        CheckpointError: it cannot be read, or does not take such pictures or give such outputs.
    """

    def __init__(self, path: Path, classes: Sequence[str], shown: TeacherInput, *, resolution: int,
                 device: str | torch.device = "cpu") -> None:
        self.path, self.classes, self.shown = path, tuple(classes), shown
        try:
            self.sha256 = sha256_of(path)
        except OSError as error:
            raise CheckpointError(f"The teacher {path} cannot be read: {error.strerror}.") from error
        self.identity = f"{path.stem}-{self.sha256[:8]}"
        self._network = _onnx(path) if path.suffix.lower() == ".onnx" else _torchscript(path, torch.device(device))
        self._logits(torch.zeros(2, 1, resolution, resolution, dtype=torch.uint8))

    def labels(self, pixels: Tensor) -> Iterator[dict[str, float]]:
        """Yield for each picture, uint8 [N, C, R, R], logit_CLASS and p_CLASS, the softmax of the logits."""
        logits = self._logits(pixels)
        for row, shares in zip(logits.tolist(), logits.double().softmax(dim=1).tolist(), strict=True):
            yield {**{f"logit_{name}": value for name, value in zip(self.classes, row, strict=True)},
                   **{f"p_{name}": value for name, value in zip(self.classes, shares, strict=True)}}

    def _logits(self, pixels: Tensor) -> Tensor:
        """Return logits, float32 [N, K], on the CPU."""
        images = self.shown(pixels)
        try:
            logits = self._network(images)
        except Exception as error:  # whatever a foreign program raises
            raise CheckpointError(f"The teacher {self.path} fails on float32 {list(images.shape)}: {_brief(error)}. "
                                  "Say what it takes with --teacher-input, such as 224x3-imagenet.") from error
        if logits.shape != (len(pixels), len(self.classes)):
            raise CheckpointError(f"The teacher {self.path} gives {list(logits.shape)} for {len(pixels)} pictures; "
                                  f"logits [{len(pixels)}, {len(self.classes)}] are needed, in the order "
                                  f"{', '.join(self.classes)}.")
        if not bool(logits.isfinite().all()):
            raise CheckpointError(f"The teacher {self.path} gives values that are not finite.")
        return logits


def parse_input(text: str) -> TeacherInput:
    """Return the input of SIZExCHANNELS-NORM, such as 224x3-imagenet; SIZE may be "same".

    Raises:
        ConfigError: it is none.
    """
    shape, _, norm = text.partition("-")
    size, _, channels = shape.partition("x")
    side = None if size == "same" else limits.TAKEN.parse(size)
    if norm not in NORMALISATIONS or channels not in ("1", "3") or (side is None and size != "same"):
        raise ConfigError(f"{limits.shortened(text)} is no input of a teacher. Give SIZExCHANNELS-NORM, such as "
                          f"224x3-imagenet or samex1-unit; NORM is one of {', '.join(NORMALISATIONS)}, CHANNELS 1 or "
                          f"3, SIZE {limits.TAKEN}.")
    return TeacherInput(size=None if side is None else int(side), channels=int(channels), norm=norm)


def _torchscript(path: Path, device: torch.device) -> Network:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            load: Any = torch.jit.load
            module = load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is no TorchScript module ({_brief(error)}). Save the teacher with "
                              "torch.jit.trace(...).save(FILE), or export it to FILE.onnx.") from error

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits = module(images.to(device))
        if not isinstance(logits, Tensor):
            raise TypeError(f"it returns {type(logits).__name__}, not one tensor")
        return logits.float().cpu()

    return run


def _onnx(path: Path) -> Network:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("A teacher in ONNX needs onnxruntime: pip install 'stylegan-oct[onnx]'") from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common kind
        raise CheckpointError(f"{path} is no ONNX model that can be run ({_brief(error)}).") from error

    def run(images: Tensor) -> Tensor:
        found = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        return torch.from_numpy(np.asarray(found[0], dtype=np.float32))

    return run


def _brief(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
