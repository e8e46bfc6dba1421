"""Soft labels of a network that the user names."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dnnlib.errors import CheckpointError, ConfigError, UserError
from stylegan_oct.export.drawing.teacher import NORMALISATIONS, Teacher, TeacherInput, parse_input

CLASSES = ("CNV", "DRUSEN")


class Means(nn.Module):
    """Logits are the means of the first two rows."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, :2].mean(dim=2)


class Pair(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


class Three(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, 2, 8)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images).flatten(1)


def save(module: nn.Module, path: Path, channels: int = 1) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module.eval(), torch.zeros(2, channels, 8, 8), strict=False).save(str(path))
    return path


def rows(first: int, second: int) -> Tensor:
    pixels = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    pixels[:, :, 0], pixels[:, :, 1] = first, second
    return pixels


def test_logits_and_their_softmax_are_told_by_class(tmp_path: Path) -> None:
    teacher = Teacher(save(Means(), tmp_path / "mine.pt"), CLASSES, parse_input("samex1-unit"), resolution=8)
    (labels,) = teacher.labels(rows(255, 51))
    assert labels == pytest.approx({"logit_CNV": 1.0, "logit_DRUSEN": 0.2, "p_CNV": 1 / (1 + np.exp(-0.8)),
                                    "p_DRUSEN": 1 / (1 + np.exp(0.8))})
    assert teacher.identity == f"mine-{teacher.sha256[:8]}"


@pytest.mark.parametrize("norm", NORMALISATIONS)
def test_pictures_are_shown_as_the_teacher_knows_them(norm: str) -> None:
    shown = TeacherInput(size=16, channels=3, norm=norm)(torch.full((2, 1, 8, 8), 51, dtype=torch.uint8))
    mean, sd = (torch.tensor(values) for values in NORMALISATIONS[norm])
    assert shown.shape == (2, 3, 16, 16) and shown.dtype == torch.float32
    assert torch.allclose(shown.mean(dim=(0, 2, 3)), (0.2 - mean) / sd, atol=1e-5)


@pytest.mark.parametrize("text", ["224", "224x3", "224x2-unit", "0x3-unit", "x3-unit", "224x3-imagnet"])
def test_a_wrong_input_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="224x3-imagenet"):
        parse_input(text)


def test_a_teacher_of_other_classes_or_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gives \[2, 2\].*\[2, 3\].*CNV, DME, DRUSEN"):
        Teacher(save(Means(), tmp_path / "a.pt"), ("CNV", "DME", "DRUSEN"), parse_input("samex1-unit"), resolution=8)
    three = save(Three(3), tmp_path / "b.pt", channels=3)
    with pytest.raises(CheckpointError, match=r"fails on float32 \[2, 1, 8, 8\].*--teacher-input"):
        Teacher(three, CLASSES, parse_input("samex1-unit"), resolution=8)
    with pytest.raises(CheckpointError, match="not one tensor"):
        Teacher(save(Pair(), tmp_path / "c.pt"), CLASSES, parse_input("samex1-unit"), resolution=8)


def test_what_is_no_teacher_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("not a network")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "state.pt")
    for name in ("text.pt", "state.pt"):
        with pytest.raises(CheckpointError, match=r"no TorchScript module.*torch\.jit\.trace") as error:
            Teacher(tmp_path / name, CLASSES, TeacherInput(), resolution=8)
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        Teacher(tmp_path / "nowhere.pt", CLASSES, TeacherInput(), resolution=8)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, 0, :2].mean(dim=2).log()

    with pytest.raises(CheckpointError, match="not finite"):
        Teacher(save(Broken(), tmp_path / "a.pt"), CLASSES, parse_input("samex1-unit"), resolution=8)


def message(*fields: tuple[int, bytes | int]) -> bytes:
    """Return fields in the encoding of protocol buffers; numbers below 128, lengths below 16384."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += bytes([number << 3, value])
        else:
            size = [len(value)] if len(value) < 128 else [len(value) & 127 | 128, len(value) >> 7]
            out += bytes([number << 3 | 2, *size]) + value
    return out


def onnx_means() -> bytes:
    """Return a model in ONNX: the mean over all places, for inputs [N, 2, H, W] (flattened to [N, 2])."""
    def value(name: bytes, rank: int) -> bytes:
        dims = message(*[(1, message((2, b"d%d" % i))) for i in range(rank)])
        return message((1, name), (2, message((1, message((1, 1), (2, dims))))))

    pool = message((1, b"x"), (2, b"p"), (4, b"GlobalAveragePool"))
    flat = message((1, b"p"), (2, b"y"), (4, b"Flatten"))
    graph = message((1, pool), (1, flat), (2, b"g"), (11, value(b"x", 4)), (12, value(b"y", 2)))
    return message((1, 8), (7, graph), (8, message((1, b""), (2, 13))))


def test_onnx_gives_the_same_kind_of_labels(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(onnx_means())
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r"stylegan-oct\[onnx\]"):
            Teacher(tmp_path / "mine.onnx", ("A", "B", "C"), TeacherInput(norm="unit"), resolution=8)
        return
    teacher = Teacher(tmp_path / "mine.onnx", ("A", "B", "C"), TeacherInput(norm="unit"), resolution=8)
    (labels,) = teacher.labels(torch.full((1, 1, 8, 8), 51, dtype=torch.uint8))
    assert labels["logit_A"] == pytest.approx(0.2) and labels["p_B"] == pytest.approx(1 / 3)
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(CheckpointError, match="no ONNX model"):
        Teacher(tmp_path / "text.onnx", ("A", "B", "C"), TeacherInput(norm="unit"), resolution=8)
