"""What float32 means on a GPU: switches that can be set and read without one."""

from collections.abc import Iterator

import pytest
import torch

from torch_utils import distributed
from torch_utils.precision import allow_tf32


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True  # PyTorch's defaults


def switches() -> set[bool]:
    new = [torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision]
    return {name == "tf32" for name in new} | {torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32,
                                               torch.get_float32_matmul_precision() == "high"}


def test_old_and_new_switches_agree_for_products_and_convolutions() -> None:
    for on in (True, False, True, False):
        allow_tf32(on)
        assert switches() == {on}


def test_commands_on_a_gpu_begin_with_true_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert switches() == {False, True}
    assert distributed.init_world("cuda").device == torch.device("cuda", 0)
    assert switches() == {False}
