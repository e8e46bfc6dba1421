"""Resampled and modulated convolutions, with their gradients, against the official implementation."""

import pytest
import torch

from reference.official import assert_agrees
from stylegan_oct.networks.modulation import modulated_conv2d
from torch_utils.ops.conv2d_resample import conv2d_resample

LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def leaf(tensor, layout=torch.contiguous_format):
    return tensor.detach().clone(memory_format=layout).requires_grad_()


@LAYOUTS
@pytest.mark.reference_cases("ops", op="conv2d_resample")
def test_conv2d_resample(reference, case, layout):
    t = reference.tensors("ops", f"{case['case']}/")
    x, w = leaf(t["x"], layout), leaf(t["w"])
    y = conv2d_resample(x, w, t.get("f"), up=case["up"], down=case["down"], padding=case["padding"],
                        groups=case["groups"], flip_weight=case["flip_weight"])
    assert_agrees(y, t["y"], "y")
    dx, dw = torch.autograd.grad((y * t["dy"]).sum(), (x, w))
    assert_agrees(dx, t["dx"], "dx")
    assert_agrees(dw, t["dw"], "dw")


@LAYOUTS
@pytest.mark.reference_cases("ops", op="modulated_conv2d")
def test_modulated_conv2d(reference, case, layout):
    t = reference.tensors("ops", f"{case['case']}/")
    x, weight, styles = leaf(t["x"], layout), leaf(t["weight"]), leaf(t["styles"])
    y = modulated_conv2d(x, weight, styles, noise=t.get("noise"), up=case["up"], padding=case["padding"],
                         resample_filter=t.get("resample_filter"), demodulate=case["demodulate"],
                         flip_weight=case["flip_weight"])
    assert_agrees(y, t["y"], "y")
    gradients = torch.autograd.grad((y * t["dy"]).sum(), (x, weight, styles))
    for name, gradient in zip(("dx", "dweight", "dstyles"), gradients, strict=True):
        assert_agrees(gradient, t[name], name)
