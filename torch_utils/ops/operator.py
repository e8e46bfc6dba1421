"""An op of ours with its gradient: cheap to call in a training, known to PyTorch where PyTorch must know it.

A call of an op registered with `torch.library` goes through several wrappers written in Python, which take longer than
the sums of a small layer. So plain tensors take an `autograd.Function`, or without gradients the function itself, and
the registered op is for those that look at ops: torch.compile, dispatch modes, functorch, tensors of other classes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = (Tensor, nn.Parameter)
_modes = torch._C._len_torch_dispatch_stack
_transforms = torch._C._are_functorch_transforms_active


class Operator:
    """A function of tensors and constants that returns tensors, registered as `torch_utils::<name>`.

    Args:
        schema: "name(Tensor x, int n) -> Tensor"; the first argument is a tensor and says the device.
        cpu, cuda: the function for tensors of that device; may not return an argument.
        fake: for tensors without numbers.
        save: (ctx, inputs, output), what the gradient needs; after the function.
        backward: (ctx, gradient), by differentiable operations.
    """

    def __init__(self, schema: str, *, cpu: Callable[..., Any], cuda: Callable[..., Any],
                 fake: Callable[..., Any], save: Callable[[Any, tuple[Any, ...], Any], None],
                 backward: Callable[..., Any]) -> None:
        name = schema.partition("(")[0]
        full = f"torch_utils::{name}"
        torch.library.define(full, schema.removeprefix(name))
        self._by_device = {"cpu": cpu, "cuda": cuda}
        for device, function in self._by_device.items():
            torch.library.impl(full, device)(function)
        torch.library.register_fake(full, fake)
        torch.library.register_autograd(full, backward, setup_context=save)
        self._registered = getattr(torch.ops.torch_utils, name)

        def forward(ctx: Any, *inputs: Any) -> Any:
            output = self._by_device[inputs[0].device.type](*inputs)
            save(ctx, inputs, output)
            return output

        functions = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        self._function: Any = type(name, (torch.autograd.Function,), functions)

    def __call__(self, *inputs: Any) -> Any:
        """Return the result; inputs by position, all of them."""
        if torch.compiler.is_compiling() or _modes() or _transforms():
            return self._registered(*inputs)
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        run = self._by_device.get(inputs[0].device.type)
        if run is None or any(type(x) not in _PLAIN for x in tensors):
            return self._registered(*inputs)
        if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
            return self._function.apply(*inputs)
        return run(*inputs)
