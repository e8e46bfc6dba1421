"""Generators and discriminators with given weights against the official implementation."""

import pytest

from reference.official import assert_agrees, build


@pytest.mark.reference_cases("networks", kind="Generator")
def test_generator(reference, case):
    G, t = build(reference, case), reference.tensors("networks_outputs", f"{case['net']}/")
    z, c = t["z"], t["c"]
    assert G.num_ws == case["num_ws"]
    assert_agrees(G.mapping(z, c), t["ws"], "ws")
    assert_agrees(G.mapping(z, c, psi=0.7), t["ws_psi07"], "ws at psi 0.7")
    assert_agrees(G.mapping(z, c, psi=0.5, cutoff=3), t["ws_psi05_cut3"], "ws at psi 0.5 in 3 layers")
    assert_agrees(G.synthesis(t["ws"], noise_mode="const"), t["img_const"], "synthesis")
    assert_agrees(G(z, c, noise_mode="const"), t["img_const"], "image")
    assert_agrees(G(z, c, noise_mode="none"), t["img_none"], "image without noise")
    assert_agrees(G(z, c, psi=0.7, noise_mode="const"), t["img_psi07_const"], "image at psi 0.7")


@pytest.mark.reference_cases("networks", kind="Discriminator")
def test_discriminator(reference, case):
    t = reference.tensors("networks_outputs", f"{case['net']}/")
    assert_agrees(build(reference, case)(t["img"], t["c"]), t["logits"])


@pytest.mark.reference_cases("networks", kind=("Generator", "Discriminator"))
def test_parameters_have_the_official_names_and_shapes(reference, case):
    network = build(reference, case)
    ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    ours.pop("mapping.w_avg_class", None)  # the class means are our own
    official = reference.tensors("networks", f"{case['net']}/")
    assert ours == {name: tuple(tensor.shape) for name, tensor in official.items()}
