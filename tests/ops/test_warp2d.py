"""Images read under affine maps, and the adjoint of that."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.dispatch import KernelUnavailable
from torch_utils.ops.warp2d import warp2d

F12 = torch.tensor([0.02, 0.01, -0.1, -0.05, 0.5, 0.8, 0.3, -0.1, -0.02, 0.04, 0.0, -0.01], dtype=torch.float64)
F12 /= F12.sum()
TURNED = [[1.3, 0.9, -9.0], [-0.8, 1.1, 11.0]]      # shrunk; it reads beyond the mirror images on both sides
ENLARGED = [[0.4, 0.05, 3.3], [0.1, 0.5, 1.7]]
FLAT = [[0.5, 0.5, 1.0], [0.5, 0.5, 2.0]]            # has no inverse
MAPS = torch.tensor([TURNED, ENLARGED, FLAT], dtype=torch.float64)
SIZE = (14, 11)


def random_images(*shape: int, **options: bool) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64, **options)


def oracle(x: Tensor, maps: Tensor, f: Tensor, size: tuple[int, int]) -> Tensor:
    """Loop over results; every sample that the upsampling filter meets is looked up, mirrored or 0."""

    def sample(j: int, length: int) -> dict[int, float]:
        """Return the samples of a signal with their weights in place j of the upsampled one."""
        if not -2 * (length - 1) <= j < 2 * (2 * length - 1):
            return {}
        weights: dict[int, float] = {}
        for s in range(-length + 1, 2 * length - 1):
            k = len(f) // 2 - 1 + j - 2 * s
            if 0 <= k < len(f):
                at = abs(s) if s < length else 2 * (length - 1) - s
                weights[at] = weights.get(at, 0.0) + 2 * float(f[k])
        return weights

    y = x.new_zeros(*x.shape[:2], *size)
    for n, row, column in ((n, r, c) for n in range(len(x)) for r in range(size[0]) for c in range(size[1])):
        u, v = (maps[n] @ maps.new_tensor([column, row, 1])).tolist()
        for i, along_x in ((math.floor(u), 1 - u % 1), (math.floor(u) + 1, u % 1)):
            for j, along_y in ((math.floor(v), 1 - v % 1), (math.floor(v) + 1, v % 1)):
                for s, a in sample(i, x.shape[3]).items():
                    for t, b in sample(j, x.shape[2]).items():
                        y[n, :, row, column] += along_x * along_y * a * b * x[n, :, t, s]
    return y


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("f, shape", [(F12, (5, 6)), (F12[4:8], (4, 3)), (F12[4:6], (1, 2))])
def test_forward_equals_the_loop(f: Tensor, shape: tuple[int, int], impl: str) -> None:
    x = random_images(3, 2, *shape)
    torch.testing.assert_close(warp2d(x, MAPS, f, size=SIZE, impl=impl), oracle(x, MAPS, f, SIZE))


def test_each_map_alone_gives_the_same_as_among_others() -> None:
    x = random_images(3, 1, 5, 6)
    together = warp2d(x, MAPS, F12, size=SIZE)
    alone = [warp2d(x[i:i + 1], MAPS[i:i + 1], F12, size=SIZE) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_gradients_of_both_orders() -> None:
    x = random_images(3, 1, 3, 4, requires_grad=True)
    assert gradcheck(lambda x: warp2d(x, MAPS, F12, size=(5, 6)), (x,))
    assert gradgradcheck(lambda x: warp2d(x, MAPS, F12, size=(5, 6)), (x,))
    y = random_images(3, 1, 5, 6, requires_grad=True)
    assert gradcheck(lambda y: torch.ops.torch_utils.warp2d_adjoint(y, MAPS, F12, [3, 4]), (y,))


def test_the_backward_pass_is_the_adjoint() -> None:
    x = random_images(3, 2, 5, 6, requires_grad=True)
    y = warp2d(x, MAPS, F12, size=SIZE)
    other = torch.randn_like(y)
    (back,) = torch.autograd.grad(y, x, other)
    torch.testing.assert_close((y * other).sum(), (x * back).sum())


def test_registration() -> None:
    x, y = random_images(3, 1, 4, 5, requires_grad=True), random_images(3, 1, 6, 7, requires_grad=True)
    torch.library.opcheck(torch.ops.torch_utils.warp2d.default, (x, MAPS, F12, [6, 7]))
    torch.library.opcheck(torch.ops.torch_utils.warp2d_adjoint.default, (y, MAPS, F12, [4, 5]))


def test_places_far_outside_are_0_and_none_is_read() -> None:
    far = torch.tensor([[[1.0, 0.0, 1e12], [0.0, 1.0, 0.0]]], dtype=torch.float64)
    assert (warp2d(random_images(1, 1, 4, 4), far, F12, size=(5, 5)) == 0).all()


def test_no_kernel_for_the_cpu() -> None:
    with pytest.raises(KernelUnavailable, match="cpu"):
        warp2d(random_images(3, 1, 4, 4), MAPS, F12, size=(5, 5), impl="kernel")
