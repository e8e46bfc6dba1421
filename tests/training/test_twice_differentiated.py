"""What R1 and the path length differentiate twice, PyTorch must be able to differentiate twice: also the oldest.

setup.cfg admits PyTorch 2.11, tests usually run on a later one. An op without a second derivative there, such as
`grid_sampler_2d_backward`, ends a training as soon as it is met, which with the adaptive augmentation is hours later.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stylegan_oct.augment.pipeline import AugmentPipe
from stylegan_oct.config import TrainConfig
from stylegan_oct.training.state import create_state
from stylegan_oct.training.steps import Microbatch, Steps
from torch_utils.distributed import World
from torch_utils.stats import Stats

LABELS = torch.tensor([0, 1] * 4)

# An op may join where derivatives.yaml of PyTorch 2.11 has a formula for it that is not `not_implemented`, or where it
# is made of such ops; a view has one of its own.
ATEN = {"_to_copy", "_unsafe_view", "add", "bmm", "clone", "detach", "div", "expand", "index_add", "index_fill",
        "index_select", "mean", "mm", "mul", "new_zeros", "ones_like", "pow", "select", "select_backward",
        "slice", "slice_backward", "squeeze", "sub", "sum", "t", "transpose", "unsqueeze", "view"}
OURS = {"bias_act_grad", "layer_end_grad", "conv2d", "conv2d_input", "upfirdn2d", "warp2d_adjoint"}
ADMITTED = {f"aten::{name}" for name in ATEN} | {f"torch_utils::{name}" for name in OURS}


class Differentiated(TorchDispatchMode):
    """Records the ops that run while a graph of gradients is made: autograd will differentiate them."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ops.add(func.overloadpacket._qualified_op_name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Record every op of a gradient that is itself to be differentiated."""
    mode, grad = Differentiated(), torch.autograd.grad

    def recording(*args: Any, create_graph: bool = False, **kwargs: Any) -> tuple[Tensor, ...]:
        if not create_graph:
            return grad(*args, **kwargs)  # type: ignore[no-any-return]
        with mode:
            return grad(*args, create_graph=True, **kwargs)  # type: ignore[no-any-return]

    monkeypatch.setattr(torch.autograd, "grad", recording)
    yield mode.ops


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_that_is_differentiated_twice_can_be(
        make_config: Callable[..., TrainConfig], recorded: set[str], channels: int, precision: str) -> None:
    config = make_config(augment__groups="bgcfnc", augment__mode="fixed", augment__p=0.7, precision=precision,
                         data__channels=channels, G__speckle=channels == 1)
    state = create_state(config, torch.device("cpu"), "phantom")
    state.augment = AugmentPipe("bgcfnc", channels=channels)
    state.p = 0.7
    steps = Steps(config, state, World(), Stats(World()), LABELS)
    images = torch.rand(config.batch, channels, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    batch = [Microbatch(i, images[i:i + config.batch_gpu], LABELS[i:i + config.batch_gpu])
             for i in range(0, config.batch, config.batch_gpu)]
    for step in (steps.generator, steps.path_length, steps.discriminator, steps.r1):
        for _ in range(4):  # the transformations that are drawn differ
            step(batch)
            state.nimg += config.batch
    assert recorded >= {f"torch_utils::{name}" for name in OURS}
    assert recorded <= ADMITTED, f"can PyTorch 2.11 differentiate {', '.join(sorted(recorded - ADMITTED))}?"
