"""Filters, upfirdn2d and bias_act against the official implementation."""

import pytest
import torch

from reference.official import assert_agrees
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.filters import setup_filter
from torch_utils.ops.upfirdn2d import downsample2d, filter2d, upfirdn2d, upsample2d

IMPLS = pytest.mark.parametrize("impl", ["auto", "reference"])


@pytest.mark.reference_cases("ops", op="setup_filter")
def test_setup_filter(reference, case):
    options = {key: case[key] for key in ("normalize", "gain", "separable") if key in case}
    f = setup_filter(case["f"], flip=case.get("flip_filter", False), **options)
    assert_agrees(f, reference.tensors("ops", f"{case['case']}/")["f"])


@IMPLS
@pytest.mark.reference_cases("ops", op="upfirdn2d")
def test_upfirdn2d(reference, case, impl):
    t = reference.tensors("ops", f"{case['case']}/")
    x = t["x"].clone().requires_grad_()
    y = upfirdn2d(x, t.get("f"), up=case["up"], down=case["down"], padding=case["padding"],
                  flip_filter=case["flip_filter"], gain=case["gain"], impl=impl)
    assert_agrees(y, t["y"], "y")
    if "dy" in t:
        (dx,) = torch.autograd.grad((y * t["dy"]).sum(), x)
        assert_agrees(dx, t["dx"], "dx")


@pytest.mark.reference_cases("ops", op=("upsample2d", "downsample2d", "filter2d"))
def test_resampling(reference, case):
    t = reference.tensors("ops", f"{case['case']}/")
    run = {"upsample2d": upsample2d, "downsample2d": downsample2d, "filter2d": filter2d}[case["op"]]
    assert_agrees(run(t["x"], t["f"]), t["y"])


@IMPLS
@pytest.mark.reference_cases("ops", op="bias_act")
def test_bias_act(reference, case, impl):
    t = reference.tensors("ops", f"{case['case']}/")
    x, b, dy = (t[key].clone().requires_grad_() for key in ("x", "b", "dy"))
    y = bias_act(x, b, dim=case["dim"], act=case["act"], alpha=case["alpha"], gain=case["gain"], clamp=case["clamp"],
                 impl=impl)
    assert_agrees(y, t["y"], "y")
    dx, db = torch.autograd.grad((y * dy).sum(), (x, b), create_graph=True)
    assert_agrees(dx, t["dx"], "dx")
    assert_agrees(db, t["db"], "db")
    d_dy, d_x = torch.autograd.grad((dx * t["ddx"]).sum(), (dy, x), allow_unused=True, materialize_grads=True)
    assert_agrees(d_dy, t["d_dy"], "d_dy")
    # Absent where the official implementation has no such gradient: it is 0.
    assert_agrees(d_x, t.get("d_x", torch.zeros_like(d_x)), "d_x")
